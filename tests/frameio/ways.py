"""Every frame I/O that this process can run; the tests of the interface run on each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from vethd.datapath import speed
from vethd.datapath.netdev import NetDevice
from vethd.datapath.softnet import SoftnetData
from vethd.frameio.base import FrameIO
from vethd.frameio.syscalls import INTERPRETED, Syscalls, compiled

MakeFrameIO = Callable[[SoftnetData], FrameIO]


def _ways() -> dict[str, MakeFrameIO]:
    """By name. Interpreted ones alone where nothing is compiled, which the tests of `choice` insist on."""
    found: dict[str, MakeFrameIO] = {"syscalls in Python": lambda softnet: Syscalls(softnet, INTERPRETED)}
    if speed() == "interpreted":
        return found
    if compiled() is not None:
        found["syscalls in C"] = Syscalls
    try:
        from vethd.frameio.ring import SETUPS
        from vethd.frameio.uring import Uring
    except ImportError:
        return found
    return found | {
        "uring": Uring,
        "uring without multishot": lambda softnet: Uring(softnet, multishot=False),
        "uring before 6.1": lambda softnet: Uring(softnet, multishot=False, setups=SETUPS[1:]),
    }


WAYS: Final = _ways()


class NoLoop:
    """In place of an event loop, for tests that ask for frames themselves."""

    def add_reader(self, *_arguments: object) -> None: ...
    def remove_reader(self, *_arguments: object) -> None: ...
    def call_soon(self, *_arguments: object) -> None: ...


def start_without_loop(frameio: FrameIO, *devices: NetDevice) -> None:
    """Attach ends to a frame I/O that nobody waits for."""
    loop: asyncio.AbstractEventLoop = NoLoop()  # type: ignore[assignment]  # all that a frame I/O asks of a loop
    frameio.start(loop, lambda _ends: True)
    for dev in devices:
        frameio.attach(dev)
