"""The interface between the datapath and the kernel: read a batch from one end, write a batch to many.

An implementation moves bytes and keeps the delivery counters (`rx_packets`, `rx_bytes`, drop points 6 to 8); it decides
nothing. It says which ends have frames, the worker's loop takes them when it wants::

    start -> attach(dev) -> ready([dev, ...]), once per turn of the loop while any has something -> receive(dev, quota)
                 pause, resume                                                                      deliver(batch)
             detach(dev) -> close

With `busy_poll` the loop does not sleep for so long after the last frame, and so is not to be woken for the next.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import Final, Protocol

from vethd.datapath.netdev import NetDevice
from vethd.datapath.skb import Skb
from vethd.datapath.softnet import SoftnetData
from vethd.drops import DropPoint

DEV_READY: Final = int(DropPoint.DEV_READY)
HDR_INVALID: Final = int(DropPoint.HDR_INVALID)
WRITE_FAILED: Final = int(DropPoint.WRITE_FAILED)


class DeviceGone(Exception):
    """Raised by `receive` when an end can't be read any more; its cause is the OSError.

    EBADFD means that the TAP was deleted or its namespace died; the supervisor finds out.
    """


class FrameIO(Protocol):
    """What a worker asks of a frame I/O implementation."""

    @property
    def name(self) -> str:
        """`syscalls` or `uring`, as shown by daemon.info."""

    @property
    def gone(self) -> list[NetDevice]:
        """Ends that a write found gone (EBADFD); the loop takes them out."""

    def start(self, loop: asyncio.AbstractEventLoop, ready: Callable[[list[NetDevice]], bool]) -> None:
        """Say from now on, on this loop, which attached ends have frames or can't be read any more; never [].

        ready: returns True when it may be called again before the loop turns.
        """

    def attach(self, dev: NetDevice) -> None:
        """Watch an end; its fd must be non-blocking."""

    def detach(self, dev: NetDevice) -> list[Skb]:
        """Read an end no more, and let go of its fd; nothing happens when it is not attached.

        Returns the frames that were read and that nobody has received yet, oldest first.
        """

    def pause(self, dev: NetDevice) -> None:
        """Say nothing of an attached end until `resume`; its frames wait."""

    def resume(self, dev: NetDevice) -> None:
        """Watch a paused end again."""

    def close(self) -> None:
        """Detach everything and give every Skb back to the pool; nothing happens the second time."""

    def receive(self, dev: NetDevice, quota: int) -> list[Skb]:
        """Take up to `quota` frames that wait at `dev`, oldest first; [] when none waits.

        Raises DeviceGone when the end can't be read.
        """

    def deliver(self, batch: list[Skb]) -> None:
        """Write each frame to its `skb.dev`, in order, count the outcome, and give every Skb back to the pool."""


def drop_point(error: int) -> int:
    """The drop point of a write that failed with this errno."""
    if error == errno.EIO:
        return DEV_READY
    if error == errno.EINVAL:
        return HDR_INVALID
    return WRITE_FAILED


def undelivered(skb: Skb, error: int, softnet: SoftnetData, gone: list[NetDevice]) -> None:
    """Count a write to `skb.dev` that failed with this errno, at the end where the frame came from.

    Of a frame that others were merged into each of them is dropped, and none of them counts as merged any more.
    """
    dev = skb.dev
    sender = None if dev is None else dev.peer
    if dev is None or sender is None:
        raise AssertionError("a frame in the backlog has no sender")
    sender.drops[drop_point(error)] += skb.gso_segs
    sender.merged -= skb.gso_segs - 1
    softnet.touch(sender)
    if error == errno.EBADFD and dev not in gone:
        gone.append(dev)
