"""Runs a schedule of operations on the datapath and tells everything that came of it. Also a program: see `main`.

The same schedule is given to two processes, one on the compiled datapath and one on the interpreted, so this file uses
public names only and keeps no state between schedules.
"""

from __future__ import annotations

import json
import sys
from hashlib import sha256
from typing import Any

from vethd.datapath import gro, netdev, skb, softnet, speed, veth
from vethd.datapath.netdev import NetDevice
from vethd.datapath.skb import Skb
from vethd.datapath.softnet import SoftnetData

Operation = list[Any]


class Run:
    """One datapath with `pairs` pairs; ends 2n and 2n + 1 are peers. `told` is what came out, in order."""

    def __init__(self, pairs: int) -> None:
        self.softnet = SoftnetData()
        self.devices: list[NetDevice] = []
        self.told: list[Any] = []
        self._now = 0
        for pair in range(pairs):
            a, b = (
                NetDevice(
                    2 * pair + side,
                    mtu=1500,
                    address=bytes([2, 0, 0, 0, pair, side]),
                    netns=pair if side == 0 else pair % 2 * 100,
                    carrier=True,
                    hdr_len=10 if pair % 2 else 24,
                )
                for side in (0, 1)
            )
            netdev.join(a, b)
            self.devices += [a, b]

    def do(self, operation: Operation) -> None:
        """Do one operation: its name, then its arguments."""
        name, *arguments = operation
        getattr(self, name)(*arguments)

    def frames(self, end: int, count: int, length: int, flags: int, gso: int, first: int, ethertype: int) -> None:
        """Read `count` frames of `length` bytes from an end: virtio flags and gso_type, first byte, ethertype."""
        dev = self._device(end)
        batch: list[Skb] = []
        for number in range(count):
            buffer = self.softnet.pool.alloc()
            header = bytes([flags, gso]) + bytes(dev.hdr_len - 2)
            frame = bytes([first]) + (dev.peer or dev).address[1:] + bytes([2, 9, 9, 9, 9, number % 256])
            frame = (frame + ethertype.to_bytes(2, "big") + bytes([first, first]) + bytes(length))[:length]
            buffer.data[: len(header) + len(frame)] = header + frame
            buffer.len = length
            batch.append(buffer)
        self._now += 1000
        veth.ingest(dev, batch, self.softnet, self._now)

    def raw(self, end: int, frames: list[str]) -> None:
        """Read these frames from an end: virtio header of 10 bytes and frame, in hexadecimal digits."""
        dev = self._device(end)
        batch: list[Skb] = []
        for text in frames:
            whole = bytes.fromhex(text)
            whole = whole[:10] + bytes(dev.hdr_len - 10) + whole[10:]
            buffer = self.softnet.pool.alloc()
            buffer.data[: len(whole)] = whole
            buffer.len = len(whole) - dev.hdr_len
            batch.append(buffer)
        self._now += 1000
        veth.ingest(dev, batch, self.softnet, self._now)

    def gro(self, end: int, on: bool, uso: bool) -> None:
        """Say whether frames for an end are merged, and whether UDP is."""
        dev = self._device(end)
        dev.gro, dev.uso = on, uso

    def poll(self, tick: int) -> None:
        """One net_rx_action; the clock goes on by `tick` microseconds each time it is read."""

        def clock() -> int:
            self._now += tick * 1000
            return self._now

        self.told.append(["poll", self.softnet.net_rx_action(self._deliver, clock)])

    def sysctl(self, name: str, value: int) -> None:
        """Change a limit."""
        setattr(self.softnet, name, value)

    def backpressure(self, end: int, on: bool) -> None:
        """Say whether an end waits for a full backlog."""
        self._device(end).backpressure = on

    def carrier(self, end: int, on: bool) -> None:
        """Set both ends' carrier."""
        dev = self._device(end)
        dev.carrier = on
        if dev.peer is not None:
            dev.peer.carrier = on

    def mtu(self, end: int, mtu: int) -> None:
        """Set one end's MTU."""
        self._device(end).mtu = mtu

    def lose(self, end: int) -> None:
        """The peer of an end is gone."""
        self._device(end).peer = None

    def find(self, end: int) -> None:
        """The peer of an end is back."""
        dev = self._device(end)
        dev.peer = self.devices[dev.number ^ 1]

    def result(self) -> dict[str, Any]:
        """Everything that can be seen from outside."""
        backlog = self.softnet
        return {
            "told": self.told,
            "softnet": [backlog.processed, backlog.dropped, backlog.time_squeeze, backlog.pending()],
            "room": [backlog.room(dev) for dev in self.devices],
            "queues": [len(backlog.input_pkt_queue), len(backlog.process_queue)],
            "pool": [backlog.pool.size, backlog.pool.in_use],
            "touched": [dev.number for dev in backlog.touched],
            "ends": [
                [dev.read, dev.merged, dev.tx_packets, dev.tx_bytes, dev.rx_packets, dev.rx_bytes, list(dev.drops)]
                for dev in self.devices
            ],
        }

    def _deliver(self, batch: list[Skb]) -> None:
        batch = gro.napi_gro_receive(batch, self.softnet)
        for frame in batch:
            dev = frame.dev
            assert dev is not None
            dev.rx_packets += 1
            dev.rx_bytes += frame.len
            self.told.append(
                [
                    *(dev.number, frame.skb_iif, frame.len, frame.head, frame.pkt_type, frame.protocol),
                    *(frame.ip_summed, frame.gso_type, frame.gso_segs, frame.tstamp),
                    *(bytes(frame.data[: frame.head]).hex(), sha256(frame.frame()).hexdigest()),
                ]
            )
        self.softnet.pool.free_batch(batch)

    def _device(self, end: int) -> NetDevice:
        return self.devices[end % len(self.devices)]


def run(pairs: int, operations: list[Operation]) -> dict[str, Any]:
    """The outcome of a schedule."""
    datapath = Run(pairs)
    for operation in operations:
        datapath.do(operation)
    return datapath.result()


def main() -> None:
    """Say which speed this is, then answer schedules: one JSON text per line in, one out."""
    print(
        json.dumps({"speed": speed(), "modules": [m.__file__ for m in (gro, netdev, skb, softnet, veth)]}), flush=True
    )
    for line in sys.stdin:
        print(json.dumps(run(*json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
