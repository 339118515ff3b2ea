"""Two namespaces of the host, joined by a pair whose ends are eth0, with addresses of both families."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.kit.host import ContainerHost

_subnets = itertools.count(1)


@dataclass(frozen=True)
class Place:
    """A namespace. path: where it is found inside the host."""

    name: str
    addresses: tuple[str, ...]

    @property
    def path(self) -> str:
        return f"/run/netns/{self.name}"


@contextmanager
def wire(host: ContainerHost) -> Iterator[tuple[Place, Place]]:
    """Make them, and take them away again with the pair."""
    subnet = next(_subnets)
    places = [Place(host.name("n"), (f"10.90.{subnet}.{side}", f"fd00:90:{subnet}::{side}")) for side in (1, 2)]
    red, blue = places
    for place in places:
        host.run("ip", "netns", "add", place.name)
    try:
        host.daemon.ctl(
            *("link", "add", "eth0", "netns", red.name, "up", "type", "veth"),
            *("peer", "name", "eth0", "netns", blue.name, "up"),
        )
        for place in places:
            v4, v6 = place.addresses
            host.run("ip", "-n", place.name, "address", "add", f"{v4}/24", "dev", "eth0")
            host.run("ip", "-n", place.name, "address", "add", f"{v6}/64", "dev", "eth0", "nodad")
        yield red, blue
    finally:
        for place in places:
            host.run("ip", "netns", "del", place.name)
