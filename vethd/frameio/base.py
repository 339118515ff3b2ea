"""The interface between the datapath and the kernel: read a batch from one end, write a batch to many.

An implementation moves bytes and keeps the delivery counters (`rx_packets`, `rx_bytes`, drop points 6 to 8); it decides
nothing. The worker's loop tells it when to read.
"""

from __future__ import annotations

import errno
from typing import Final, Protocol

from vethd.datapath.netdev import NetDevice
from vethd.datapath.skb import Skb
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

    #: `syscalls` or `uring`, as shown by daemon.info.
    name: str
    #: Ends that a write found gone (EBADFD); the loop takes them out.
    gone: list[NetDevice]

    def receive(self, dev: NetDevice, quota: int) -> list[Skb]:
        """Read up to `quota` frames that wait at `dev`, oldest first; [] when none waits.

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
