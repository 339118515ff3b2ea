"""A link under test: two fresh network namespaces joined by kernel veth or by vethd, and nothing else in them.

Both kinds are made the same way and keep every default: MTU 1500, queue length 1000, offloads as the devices come, no
pinning of anything to a CPU. Names begin with `vtb` and this process's id, so that runs beside each other do not meet.
"""

from __future__ import annotations

import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from benchmarks.daemon import Daemon, private_daemon
from benchmarks.generators import BenchmarkError, call

PREFIX: Final = f"vtb{os.getpid()}"


@dataclass(frozen=True)
class End:
    """One end of a link.

    netns: the name of its network namespace, which is also the name of its device (at most 15 bytes).
    address: its IPv4 address.
    """

    netns: str
    address: str


class Link(ABC):
    """A link between two ends. Traffic "A to B" goes from `a` to `b`."""

    #: What stands in the table.
    name: str

    def __init__(self, a: End, b: End) -> None:
        """`a` and `b` are up and reach each other."""
        self.a = a
        self.b = b

    @abstractmethod
    def about(self) -> str:
        """One line that says what this link is made of."""

    @abstractmethod
    def drops(self) -> dict[str, int]:
        """Frames the link itself dropped so far, by place."""

    def drops_since(self, before: dict[str, int]) -> dict[str, int]:
        """Frames dropped since `before` (an earlier `drops()`), by place; places without any are left out."""
        grown = {place: frames - before.get(place, 0) for place, frames in self.drops().items()}
        return {place: frames for place, frames in grown.items() if frames}


class KernelVeth(Link):
    """The reference: a veth pair of the running kernel."""

    name = "kernel veth"

    def about(self) -> str:
        return f"kernel {os.uname().release}"

    def drops(self) -> dict[str, int]:
        # veth charges a drop on both ends (reference: drivers/net/veth.c, veth_xmit), so the senders' side is enough.
        return {"tx_dropped": sum(_tx_dropped(end) for end in (self.a, self.b))}


class VethdPair(Link):
    """A vethd pair, over a daemon of its own."""

    def __init__(self, name: str, a: End, b: End, daemon: Daemon) -> None:
        """`daemon` made the pair; `name` stands in the table."""
        super().__init__(a, b)
        self.name = name
        self._daemon = daemon

    def about(self) -> str:
        return self._daemon.engine()

    def drops(self) -> dict[str, int]:
        return self._daemon.drops()


@contextmanager
def kernel_veth(index: int, directory: Path) -> Iterator[Link]:
    """A veth pair between two fresh namespaces; `index` keeps the names of several links apart."""
    del directory
    with _namespaces(index) as (a, b):
        call(
            *("ip", "link", "add", a.netns, "netns", a.netns, "up"),
            *("type", "veth", "peer", "name", b.netns, "netns", b.netns),
        )
        call("ip", "-n", b.netns, "link", "set", b.netns, "up")
        _address(a, b)
        yield KernelVeth(a, b)


@contextmanager
def vethd_pair(name: str, env: Mapping[str, str], index: int, directory: Path) -> Iterator[Link]:
    """A vethd pair between two fresh namespaces, by a private daemon that keeps its socket in `directory`.

    name: what stands in the table. env: what makes its engine another than the default.
    """
    with ExitStack() as stack:
        a, b = stack.enter_context(_namespaces(index))
        daemon = stack.enter_context(private_daemon(directory, env))
        daemon.vethctl(
            *("link", "add", a.netns, "netns", a.netns, "up"),
            *("type", "veth", "peer", "name", b.netns, "netns", b.netns, "up"),
        )
        _address(a, b)
        yield VethdPair(name, a, b, daemon)
        # Not after an error, which it would hide when the daemon is what failed: the namespaces take the ends along.
        daemon.vethctl("link", "del", a.netns, "netns", a.netns)


LinkFactory: TypeAlias = Callable[[int, Path], AbstractContextManager[Link]]

#: Links by the word that chooses them on the command line; the first is the one the others are compared with.
LINKS: Final[dict[str, LinkFactory]] = {
    "kernel": kernel_veth,
    "vethd": partial(vethd_pair, "vethd", {}),
    "syscalls": partial(vethd_pair, "vethd, syscalls", {"VETHD_FRAMEIO": "syscalls"}),
    "interpreted": partial(vethd_pair, "vethd, interpreted", {"VETHD_NO_EXTENSIONS": "1"}),
}


@contextmanager
def _namespaces(index: int) -> Iterator[tuple[End, End]]:
    """Two namespaces, deleted whatever happens, and with them every device in them."""
    ends = tuple(End(f"{PREFIX}-{index}{side}", f"10.199.0.{host}") for host, side in ((1, "a"), (2, "b")))
    with ExitStack() as stack:
        for end in ends:
            call("ip", "netns", "add", end.netns)
            stack.callback(call, "ip", "netns", "del", end.netns)
            call("ip", "-n", end.netns, "link", "set", "lo", "up")
        yield ends[0], ends[1]


def _address(a: End, b: End) -> None:
    """Give both ends their addresses and return when one reaches the other."""
    for end in (a, b):
        call("ip", "-n", end.netns, "address", "add", f"{end.address}/24", "dev", end.netns)
    deadline = time.monotonic() + 10
    while True:
        try:
            call("ip", "netns", "exec", a.netns, "ping", "-q", "-c", "1", "-W", "1", b.address)
        except BenchmarkError:
            if time.monotonic() > deadline:
                raise
        else:
            return


def _tx_dropped(end: End) -> int:
    """The tx_dropped counter of the device of `end`."""
    shown = json.loads(call("ip", "-j", "-s", "-n", end.netns, "link", "show", end.netns))
    return int(shown[0]["stats64"]["tx"]["dropped"])
