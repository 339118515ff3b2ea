"""A link under test: two fresh network namespaces joined by something, and nothing else in them.

All kinds keep every default: MTU 1500, queue length 1000, offloads as the devices come, no pinning of anything to a
CPU. Names begin with `vtb` and this process's id, so that runs beside each other do not meet.
"""

from __future__ import annotations

import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.generators import BenchmarkError, call

PREFIX: Final = f"vtb{os.getpid()}"
REACH_SECONDS: Final = 10.0


@dataclass(frozen=True)
class End:
    """One end of a link.

    netns: the name of its network namespace, which is also the name of its device (at most 15 bytes).
    address: its IPv4 address.
    """

    netns: str
    address: str


class Link(ABC):
    """A link between two ends. Traffic "A to B" goes from `a` to `b`.

    name: what stands in the table.
    about: one line that says what this link is made of.
    forwarders: pids of the processes that carry it; none when the kernel does.
    """

    def __init__(self, name: str, about: str, a: End, b: End, forwarders: Sequence[int] = ()) -> None:
        """`a` and `b` are up and reach each other."""
        self.name = name
        self.about = about
        self.a = a
        self.b = b
        self.forwarders = tuple(forwarders)

    @abstractmethod
    def drops(self) -> dict[str, int]:
        """Frames the link itself dropped so far, by place."""

    def drops_since(self, before: dict[str, int]) -> dict[str, int]:
        """Frames dropped since `before` (an earlier `drops()`), by place; places without any are left out."""
        grown = {place: frames - before.get(place, 0) for place, frames in self.drops().items()}
        return {place: frames for place, frames in grown.items() if frames}


class DeviceLink(Link):
    """A link of which only the devices count what they drop."""

    def drops(self) -> dict[str, int]:
        # The sending side: kernel veth charges a drop on both ends (drivers/net/veth.c, veth_xmit), and a TAP counts
        # there what its ring had no room for (drivers/net/tun.c, tun_net_xmit).
        return {"tx_dropped": sum(_tx_dropped(end) for end in (self.a, self.b))}


@contextmanager
def kernel_veth(index: int, directory: Path) -> Iterator[Link]:
    """A veth pair of the running kernel, the reference; `index` keeps the names of several links apart."""
    del directory
    with namespaces(index) as (a, b):
        call(
            *("ip", "link", "add", a.netns, "netns", a.netns, "up"),
            *("type", "veth", "peer", "name", b.netns, "netns", b.netns),
        )
        call("ip", "-n", b.netns, "link", "set", b.netns, "up")
        address(a, b)
        yield DeviceLink("kernel veth", f"kernel {os.uname().release}", a, b)


@contextmanager
def namespaces(index: int) -> Iterator[tuple[End, End]]:
    """Two namespaces, deleted whatever happens, and with them every device in them."""
    ends = tuple(End(f"{PREFIX}-{index}{side}", f"10.199.0.{host}") for host, side in ((1, "a"), (2, "b")))
    with ExitStack() as stack:
        for end in ends:
            call("ip", "netns", "add", end.netns)
            stack.callback(call, "ip", "netns", "del", end.netns)
            call("ip", "-n", end.netns, "link", "set", "lo", "up")
        yield ends[0], ends[1]


def address(a: End, b: End) -> None:
    """Give both ends their addresses and return when one reaches the other; BenchmarkError when it does not."""
    for end in (a, b):
        call("ip", "-n", end.netns, "address", "add", f"{end.address}/24", "dev", end.netns)
    deadline = time.monotonic() + REACH_SECONDS
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
