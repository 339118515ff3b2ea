# cython: language_level=3, annotation_typing=False
"""`WorkerLoop`: the datapath on an asyncio loop - the softirq of the kernel, played by callbacks.

One turn of the loop does, in this order::

    timers, control messages
    the frame I/O names all ends that have something   (_readable)
        each of them: receive <= dev_weight frames, veth_xmit each   (_receive)
        net_rx_action, <= netdev_budget frames; merged first where an end has gro on   (_deliver)
    work left?  once more in the next turn   (_squeezed)

So a flood on one end gets 64 frames in, then everybody else has a turn; and the backlog gets 300 frames out, then the
loop turns. No callback runs longer than `netdev_budget_usecs` plus reading one batch per end; only `del`, `drain` and
the loss of a device empty the whole backlog at once.

States of an end here:

========== ====================================== ===========================================================
state      frame I/O                              leads to
========== ====================================== ===========================================================
reading    attached                               paused (backlog full, backpressure), gone, removed
paused     paused, kept in `_paused`              reading, as soon as there is room or it may drop; removed
gone       detached; reported to the supervisor   removed. Frames of its peer drop as PEER_GONE
removed    none; fd closed                        -
========== ====================================== ===========================================================

A paused end hears nothing of its device's deletion; the supervisor's `del` takes it out.
"""

from __future__ import annotations

import asyncio
import os
import resource
import time
from typing import Any

from vethd.datapath.gro import napi_gro_receive
from vethd.datapath.netdev import NetDevice, join, part
from vethd.datapath.skb import Skb
from vethd.datapath.softnet import SoftnetData
from vethd.datapath.veth import ingest
from vethd.frameio.base import HDR_INVALID, DeviceGone, FrameIO
from vethd.worker.channel import HDR_INVALID_REPORT, Channel, ChannelError, Message
from vethd.worker.counters import Counters

SYSCTLS = (
    "netdev_max_backlog",
    "netdev_budget",
    "netdev_budget_usecs",
    "dev_weight",
    "busy_poll",
)


class WorkerLoop:
    """All ends of one worker and the backlog they share."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        softnet: SoftnetData,
        frameio: FrameIO,
        counters: Counters,
        slot: int,
    ) -> None:
        self._loop = loop
        self._softnet = softnet
        self._frameio = frameio
        self._counters = counters
        self._slot = slot
        self._channel: Channel | None = None
        self._devices: dict[int, NetDevice] = {}
        self._batches = 0
        self._taken: dict[int, int] = {}  # per end the last batch of it of which the backlog took a frame
        self._paused: list[NetDevice] = []
        self._gone_ends: set[int] = set()
        self._scheduled = False
        self._hdr_invalid_reported: dict[int, int] = {}
        self._deliver = frameio.deliver
        counters.restore_softnet(slot, softnet)
        frameio.start(loop, self._readable)

    def bind(self, channel: Channel) -> None:
        """Report to the supervisor over this channel."""
        self._channel = channel

    # -- what the supervisor asks -------------------------------------------------------------------------------------

    def handle(self, message: Message, fds: list[int]) -> None:
        """Do what one message says and acknowledge it.

        Raises ChannelError when the operation is unknown: supervisor and worker then do not speak the same protocol.
        """
        handlers = {"add": self._add, "set": self._set, "sysctl": self._sysctl, "del": self._del}
        op = message.get("op")
        if op == "add" and (missing := self._missing(message, fds)):
            self._report({"op": "refused", "seq": message["seq"], "why": missing})
            return
        if op in handlers:
            handlers[op](message, fds)
        elif op == "drain":
            self._drain()
        elif op != "ping":
            raise ChannelError(f"unknown op {op!r}")
        self._report({"op": "ack", "seq": message["seq"]})

    def _missing(self, message: Message, fds: list[int]) -> str:
        """What an `add` can't be done for, or nothing: the kernel leaves out descriptors that have no number here."""
        if len(fds) == len(message["ends"]):
            return ""
        for fd in fds:
            os.close(fd)
        limit, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        return f"no file descriptor is free in the worker, of {limit} (RLIMIT_NOFILE)"

    def _add(self, message: Message, fds: list[int]) -> None:
        a, b = (_device(end, fd) for end, fd in zip(message["ends"], fds, strict=True))
        join(a, b)
        for dev in (a, b):
            self._counters.restore(dev)
            self._devices[dev.number] = dev
            os.set_blocking(dev.fd, False)
            self._frameio.attach(dev)
        self._choose_delivery()

    def _set(self, message: Message, _fds: list[int]) -> None:
        dev = self._devices.get(message["end"])
        if dev is None:  # gone and removed while the message was on its way
            return
        if "mtu" in message:
            dev.mtu = message["mtu"]
        if "address" in message:
            dev.address = bytes.fromhex(message["address"])
        if "netns" in message:
            dev.netns = message["netns"]
        if "carrier" in message:
            dev.carrier = message["carrier"]
        if "gro" in message:
            dev.gro = message["gro"]
            self._choose_delivery()
        if "backpressure" in message:
            dev.backpressure = message["backpressure"]
            self._resume()

    def _sysctl(self, message: Message, _fds: list[int]) -> None:
        for name, value in message["values"].items():
            if name not in SYSCTLS:
                raise ChannelError(f"unknown sysctl {name!r}")
            setattr(self._softnet, name, value)
        self._resume()

    def _del(self, message: Message, _fds: list[int]) -> None:
        devices = [self._devices.pop(number) for number in message["ends"] if number in self._devices]
        for dev in devices:
            self._stop_reading(dev)
            self._gone_ends.discard(dev.number)
            self._taken.pop(dev.number, None)
            self._hdr_invalid_reported.pop(dev.number, None)
        # What was accepted is delivered before the wire is taken away.
        self._empty_backlog()
        if len(devices) == 2:
            part(*devices)
        for dev in devices:
            os.close(dev.fd)
            dev.fd = -1
        self._choose_delivery()

    def _drain(self) -> None:
        for dev in self._devices.values():
            self._stop_reading(dev)
        self._empty_backlog()

    def _empty_backlog(self) -> None:
        while self._softnet.net_rx_action(self._deliver, time.monotonic_ns):
            pass
        self._publish()

    # -- frames -------------------------------------------------------------------------------------------------------

    def _readable(self, ready: list[NetDevice]) -> bool:
        """Take from each of these ends, then deliver; True when nothing is left over."""
        self._receive(ready)
        if not self._scheduled:
            self._net_rx_action()
        return not self._scheduled

    def _squeezed(self) -> None:
        """Deliver what an earlier pass left over."""
        self._scheduled = False
        self._net_rx_action()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._squeezed)

    def _net_rx_action(self) -> None:
        if self._softnet.net_rx_action(self._deliver, time.monotonic_ns):
            self._schedule()
        self._publish()
        if self._paused:
            self._resume()
        while self._frameio.gone:
            self._gone(self._frameio.gone.pop())

    def _receive(self, ready: list[NetDevice]) -> None:
        """Read every ready end once, first those from which the backlog has not taken a frame for longest.

        Epoll names ends that stay ready in the same order again and again. In that order the first 16 of them would
        fill the backlog in every turn, and not one frame of the others would ever get through.
        """
        softnet = self._softnet
        if len(ready) > 1:
            ready.sort(key=self._last_taken)
        for dev in ready:
            quota = softnet.room(dev)
            if quota == 0:
                self._frameio.pause(dev)
                self._paused.append(dev)
                continue
            try:
                batch = self._frameio.receive(dev, quota)
            except DeviceGone:
                self._gone(dev)
                continue
            sent = dev.tx_packets
            ingest(dev, batch, softnet, time.monotonic_ns())
            if dev.tx_packets != sent:
                self._batches += 1
                self._taken[dev.number] = self._batches

    def _choose_delivery(self) -> None:
        """Look for frames to merge only while an end wants that."""
        wanted = any(dev.gro for dev in self._devices.values())
        self._deliver = self._merge_and_deliver if wanted else self._frameio.deliver

    def _merge_and_deliver(self, batch: list[Skb]) -> None:
        """Merge, publish how many frames went into others, then write.

        When the worker dies, the kernel tells what was written, but not how many frames went into it. Published before,
        nothing that was delivered is taken for lost; see docs/worker-protocol.md for what remains.
        """
        frames = napi_gro_receive(batch, self._softnet)
        if len(frames) < len(batch):
            for sender in {skb.dev.peer for skb in frames if skb.gso_segs > 1 and skb.dev is not None}:
                if sender is not None:
                    self._counters.publish(sender)
        self._frameio.deliver(frames)

    def _last_taken(self, dev: NetDevice) -> int:
        return self._taken.get(dev.number, 0)

    def _publish(self) -> None:
        softnet = self._softnet
        for dev in softnet.touched:
            dev.touched = False
            self._counters.publish(dev)
            if dev.drops[HDR_INVALID] and dev.number in self._devices:
                self._report_hdr_invalid(dev)
        softnet.touched.clear()
        self._counters.publish_softnet(self._slot, softnet)

    # -- reading ------------------------------------------------------------------------------------------------------

    def _stop_reading(self, dev: NetDevice) -> None:
        """Read an end no more. What was already read of it is accepted, in portions that the backlog has room for."""
        if dev in self._paused:
            self._paused.remove(dev)
        frames = self._frameio.detach(dev)
        portion = min(self._softnet.dev_weight, max(self._softnet.netdev_max_backlog, 1))
        for at in range(0, len(frames), portion):
            self._empty_backlog()
            ingest(dev, frames[at : at + portion], self._softnet, time.monotonic_ns())

    def _resume(self) -> None:
        """Read the paused ends again, as soon as there is room for them."""
        paused, self._paused = self._paused, []
        for dev in paused:
            if self._softnet.room(dev):
                self._frameio.resume(dev)
            else:
                self._paused.append(dev)

    def _gone(self, dev: NetDevice) -> None:
        """The device behind an end is gone: stop reading, let its peer drop, and tell the supervisor."""
        if self._devices.get(dev.number) is not dev or dev.number in self._gone_ends:
            return
        self._gone_ends.add(dev.number)
        self._stop_reading(dev)
        # Frames on their way in either direction still need both ends: one to go to, the other to be charged to.
        self._empty_backlog()
        if dev.peer is not None:
            dev.peer.peer = None
        self._report({"op": "gone", "end": dev.number})

    # -- reports ------------------------------------------------------------------------------------------------------

    def _report_hdr_invalid(self, dev: NetDevice) -> None:
        frames = dev.drops[HDR_INVALID]
        if frames >= self._hdr_invalid_reported.get(dev.number, HDR_INVALID_REPORT // 2) * 2:
            self._hdr_invalid_reported[dev.number] = frames
            self._report({"op": "hdr_invalid", "end": dev.number, "frames": frames})

    def _report(self, message: dict[str, Any]) -> None:
        if self._channel is not None:
            self._channel.send(message)


def _device(end: dict[str, Any], fd: int) -> NetDevice:
    return NetDevice(
        end["number"],
        fd,
        mtu=end["mtu"],
        address=bytes.fromhex(end["address"]),
        netns=end["netns"],
        carrier=end["carrier"],
        hdr_len=end["hdr_len"],
        gro=end["gro"],
        uso=end["uso"],
        backpressure=end["backpressure"],
    )
