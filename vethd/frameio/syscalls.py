"""Frame I/O by read and write on pooled buffers: any kernel, always there.

The batches run in C where the extension was built (`_batch.pyx`) and the datapath is compiled, else in Python
(`batch.py`); both do the same to the last counter.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from vethd.datapath import speed
from vethd.datapath.netdev import NetDevice
from vethd.datapath.skb import Skb, SkbPool
from vethd.datapath.softnet import SoftnetData
from vethd.frameio import batch
from vethd.frameio.base import DeviceGone, undelivered


class Batches(NamedTuple):
    """How a batch is read and written; see batch.py."""

    read: Callable[[NetDevice, int, SkbPool], list[Skb]]
    write: Callable[[list[Skb], SoftnetData], list[tuple[Skb, int]]]


INTERPRETED: Final = Batches(batch.read_batch, batch.write_batch)


def compiled() -> Batches | None:
    """The batches in C; None where they were not built or the datapath is interpreted.

    Raises ImportError when VETHD_REQUIRE_EXTENSIONS asks for what is not there.
    """
    if speed() == "interpreted":  # C code takes the compiled Skb alone
        return None
    try:
        from vethd.frameio import _batch
    except ImportError:
        if os.environ.get("VETHD_REQUIRE_EXTENSIONS") == "1":
            raise
        return None
    return Batches(_batch.read_batch, _batch.write_batch)


#: The fastest there is. Looked up at import: later a worker may not be able to read its own program any more.
FASTEST: Final = compiled() or INTERPRETED


class Syscalls:
    """One read per frame in, one write per frame out. Implements `base.FrameIO`.

    batches: how; the fastest there is when not given.
    """

    name = "syscalls"

    def __init__(self, softnet: SoftnetData, batches: Batches | None = None) -> None:
        self._softnet = softnet
        self._pool = softnet.pool
        self._read, self._write = batches or FASTEST
        self._loop: asyncio.AbstractEventLoop
        self._ready: Callable[[list[NetDevice]], bool]
        self._attached: dict[NetDevice, None] = {}
        self._readable: list[NetDevice] = []
        self._awake_until = 0  # nanoseconds of the monotonic clock
        self._spinning = False
        self.gone: list[NetDevice] = []

    def start(self, loop: asyncio.AbstractEventLoop, ready: Callable[[list[NetDevice]], bool]) -> None:
        """See FrameIO.start: epoll says of each end that it is readable, again in each turn."""
        self._loop, self._ready = loop, ready

    def attach(self, dev: NetDevice) -> None:
        """See FrameIO.attach."""
        self._attached[dev] = None
        self.resume(dev)

    def detach(self, dev: NetDevice) -> list[Skb]:
        """See FrameIO.detach. What nobody has received is still in the kernel."""
        if dev in self._attached:
            del self._attached[dev]
            self.pause(dev)
        return []

    def pause(self, dev: NetDevice) -> None:
        """See FrameIO.pause."""
        self._loop.remove_reader(dev.fd)
        if dev in self._readable:
            self._readable.remove(dev)

    def resume(self, dev: NetDevice) -> None:
        """See FrameIO.resume."""
        self._loop.add_reader(dev.fd, self._note, dev)

    def close(self) -> None:
        """See FrameIO.close."""
        for dev in list(self._attached):
            self.detach(dev)

    def receive(self, dev: NetDevice, quota: int) -> list[Skb]:
        """See FrameIO.receive. The header is read with the frame; a runt shorter than it has a negative length."""
        try:
            batch = self._read(dev, quota, self._pool)
        except OSError as error:
            raise DeviceGone from error
        if batch and self._softnet.busy_poll:
            self._stay_awake()
        return batch

    def deliver(self, batch: list[Skb]) -> None:
        """See FrameIO.deliver. The receiving stack of the kernel runs inside each write."""
        for skb, error in self._write(batch, self._softnet):
            undelivered(skb, error, self._softnet, self.gone)
        self._pool.free_batch(batch)

    def _note(self, dev: NetDevice) -> None:
        """Collect what epoll finds readable in one turn."""
        if not self._readable:
            self._loop.call_soon(self._tell)
        self._readable.append(dev)

    def _tell(self) -> None:
        if self._readable:
            ends, self._readable = self._readable, []
            self._ready(ends)

    def _stay_awake(self) -> None:
        self._awake_until = time.monotonic_ns() + self._softnet.busy_poll * 1000
        if not self._spinning:
            self._spinning = True
            self._loop.call_soon(self._spin)

    def _spin(self) -> None:
        """Have the loop look at epoll again instead of sleeping in it, until `busy_poll` is over."""
        self._spinning = self._softnet.busy_poll > 0 and time.monotonic_ns() < self._awake_until
        if self._spinning:
            self._loop.call_soon(self._spin)
