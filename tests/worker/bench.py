"""A WorkerLoop in this process, whose turns the test counts: what happens between two turns is up to it."""

import asyncio
import os
from collections.abc import Callable
from typing import Any

from tests.frameio.ways import MakeFrameIO
from tests.worker.ends import End, ends_of
from vethd.datapath.netdev import NetDevice
from vethd.datapath.skb import Skb
from vethd.datapath.softnet import SoftnetData
from vethd.drops import READ_DROPS, DropPoint
from vethd.frameio.base import FrameIO
from vethd.worker.channel import Message
from vethd.worker.counters import Counters, EndCounters
from vethd.worker.loop import WorkerLoop


class Recorder:
    """In place of the channel: keeps what the loop reports."""

    def __init__(self) -> None:
        self.reports: list[Message] = []

    def send(self, message: Message) -> None:
        self.reports.append(message)

    def all(self, op: str) -> list[Message]:
        return [message for message in self.reports if message["op"] == op]


class Watched:
    """A frame I/O of which is noted how many frames each batch has."""

    def __init__(self, frameio: FrameIO) -> None:
        self._frameio = frameio
        self.received: list[int] = []
        self.delivered: list[int] = []
        self.before_delivery: Callable[[list[Skb]], None] = lambda _batch: None

    def receive(self, dev: NetDevice, quota: int) -> list[Skb]:
        batch = self._frameio.receive(dev, quota)
        self.received.append(len(batch))
        return batch

    def deliver(self, batch: list[Skb]) -> None:
        self.delivered.append(len(batch))
        self.before_delivery(batch)
        self._frameio.deliver(batch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._frameio, name)


class Bench:
    """A WorkerLoop on the running loop, whose turns the test counts."""

    def __init__(self, counters: Counters, make_frameio: MakeFrameIO) -> None:
        self.loop = asyncio.get_running_loop()
        self.counters = counters
        self.softnet = SoftnetData()
        self.recorder = Recorder()
        self.failures: list[str] = []
        self.loop.set_exception_handler(lambda _loop, context: self.failures.append(repr(context.get("exception"))))
        self.frameio = Watched(make_frameio(self.softnet))
        self.worker = WorkerLoop(self.loop, self.softnet, self.frameio, counters, 0)
        self.worker.bind(self.recorder)  # type: ignore[arg-type]  # a stand-in for the channel
        self.added: list[int] = []

    def add(self, *ends: End, backpressure: bool = False) -> None:
        """Add pairs of ends, numbered from 0; the loop owns copies of their fds."""
        for at in range(0, len(ends), 2):
            pair = ends[at : at + 2]
            first = len(self.added)
            described = [
                {"number": number, "mtu": 1500, "address": "02767400000" + str(which), "netns": which}
                | {"carrier": True, "hdr_len": pair[which].hdr_len, "gro": False, "uso": True}
                | {"backpressure": backpressure}
                for which, number in enumerate((first, first + 1))
            ]
            self.handle("add", [os.dup(fd) for fd in ends_of(*pair)], ends=described)
            self.added += [first, first + 1]

    def handle(self, op: str, fds: list[int] | None = None, **fields: object) -> None:
        self.worker.handle({"op": op, "seq": 0, **fields}, fds or [])

    async def turn(self, count: int = 1) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    async def turn_until(self, reached: Callable[[], bool], most: int = 10_000) -> None:
        """Let the loop turn until something is reached, at most so many times."""
        for _ in range(most):
            if reached():
                return
            await self.turn()
        raise AssertionError(f"not reached in {most} turns; failures: {self.failures}")

    def end(self, number: int) -> EndCounters:
        return self.counters.load_end(number)

    def drops(self, number: int) -> dict[DropPoint, int]:
        return {point: self.end(number).drops[point] for point in DropPoint if self.end(number).drops[point]}

    def finish(self) -> None:
        """Take the ends out and check the books and that no callback failed."""
        self.handle("del", ends=self.added)
        self.frameio.close()
        assert self.failures == []
        assert self.softnet.pool.in_use == 0
        for number in self.added:
            row, peer = self.end(number), self.end(number ^ 1)
            assert row.read == peer.rx_packets + row.merged + sum(row.drops[point] for point in READ_DROPS)
