"""A runtime with a network, its daemon and its host, and the check that nothing of it is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cni.plugin import Runtime
from tests.kit.commands import in_netns, ip_json
from tests.kit.daemon import Daemon
from tests.kit.netns import Namespaces, set_sysctl

NETWORK: dict[str, Any] = {"cniVersion": "1.1.0", "name": "lab"}
V4 = [{"subnet": "10.81.0.0/24"}]
V6 = [{"subnet": "fd81::/64"}]


@pytest.fixture
def host(netns: Namespaces) -> str:
    """The namespace that plays the host."""
    return netns.make(ipv6=True)


@pytest.fixture
def leases(tmp_path: Path) -> Path:
    """Where host-local keeps what it gave to whom."""
    return tmp_path / "leases"


@pytest.fixture
def runtime(shared_daemon: Daemon, host: str, leases: Path) -> Iterator[Callable[..., Runtime]]:
    """A function that makes a runtime with one network: its fields, beside those that give out addresses.

    ranges: of addresses; none: no IPAM plugin. When the test is over no pair, lease, rule or route of it may be there.
    """

    def make(ranges: list[Any] | None = None, **fields: Any) -> Runtime:
        ranges = [V4] if ranges is None else ranges
        ipam = {"type": "host-local", "dataDir": str(leases), "ranges": ranges, "routes": default_routes(ranges)}
        return Runtime(host, shared_daemon.socket, NETWORK | ({"ipam": ipam} if ranges else {}) | fields)

    yield make
    assert shared_daemon.pairs() == []
    assert leased(leases) == {}
    assert in_netns(host, "nft", "list", "tables").out == ""
    assert [route for route in ip_json(host, "route") if "veth" in route["dev"]] == []


@pytest.fixture
def container(netns: Namespaces) -> Callable[[], str]:
    """A function that makes the namespace of a container."""

    def make() -> str:
        name = netns.make(ipv6=True)
        set_sysctl(name, "net.ipv6.conf.default.accept_dad", 0)
        return name

    return make


def default_routes(ranges: list[Any]) -> list[dict[str, str]]:
    """A default route for each family that there are addresses of."""
    families = {":" in each["subnet"] for subnets in ranges for each in subnets}
    return [{"dst": "::/0" if six else "0.0.0.0/0"} for six in sorted(families)]


def leased(leases: Path) -> dict[str, str]:
    """Address and container of each lease."""
    found = {}
    for path in leases.glob("*/*"):
        if path.name[0] in "0123456789f" and ("." in path.name or ":" in path.name):
            found[path.name] = path.read_text().split()[0]
    return found
