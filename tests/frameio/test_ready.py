"""Each frame I/O on the loop that workers have: which ends it calls ready, and when it wakes a loop that sleeps."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest
import uvloop

from tests.frameio.taps import Taps, many_taps
from tests.frameio.ways import MakeFrameIO
from tests.kit.frames import number_of, numbered
from tests.kit.netns import Namespaces, inside
from tests.kit.packets import PacketSocket
from tests.kit.processes import sleeping
from tests.kit.waiting import eventually
from tests.worker.ends import StandIn
from vethd.datapath.netdev import NetDevice
from vethd.datapath.skb import Skb
from vethd.datapath.softnet import SoftnetData
from vethd.frameio.base import DeviceGone

uvloop.new_event_loop().close()  # from its first loop on, libuv has a pipe for signals as long as the process lives


class Reader:
    """Frame I/O on uvloop that reads an end as soon as it is called ready; ends are numbered in their order."""

    def __init__(self, make: MakeFrameIO, *fds: int) -> None:
        self.loop = uvloop.new_event_loop()
        self.softnet = SoftnetData()
        self.io = make(self.softnet)
        self.quota = 64
        self.frames: list[list[int]] = [[] for _ in fds]  # by end: numbers of the frames
        self.told: list[int] = []
        self.gone: list[int] = []
        self._news = asyncio.Event()
        self.io.start(self.loop, self._ready)
        self.ends = [NetDevice(number, fd) for number, fd in enumerate(fds)]
        for dev in self.ends:
            self.io.attach(dev)

    def _ready(self, ends: list[NetDevice]) -> bool:
        self.told += [dev.number for dev in ends]
        self._news.set()
        for dev in ends:
            try:
                self.take(dev, self.io.receive(dev, self.quota))
            except DeviceGone:
                self.gone.append(dev.number)
                self.io.detach(dev)
        return True

    def take(self, dev: NetDevice, batch: list[Skb]) -> None:
        self.frames[dev.number] += [number_of(skb.data[10 : 10 + skb.len].tobytes()) for skb in batch]
        self.softnet.pool.free_batch(batch)

    def turn(self, count: int = 20) -> None:
        """Let the loop turn, without waiting for anything."""

        async def turn() -> None:
            for _ in range(count):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turn())

    def wait(self, reached: Callable[[], bool]) -> None:
        """Let the loop sleep, and turn when it is woken, until something is reached."""

        async def wait() -> None:
            async with asyncio.timeout(10):
                while not reached():
                    self._news.clear()
                    await self._news.wait()

        self.loop.run_until_complete(wait())

    def wait_asleep(self, act: Callable[[], None], reached: Callable[[], bool]) -> None:
        """Do something when the loop has gone to sleep, and wait until something is reached by it."""
        pid = os.getpid()

        def act_then() -> None:
            eventually(lambda: sleeping(pid), bool, "the loop sleeps")
            act()

        self.turn()
        actor = threading.Thread(target=act_then)
        actor.start()
        try:
            self.wait(reached)
        finally:
            actor.join()

    def close(self) -> None:
        self.io.close()
        self.loop.close()
        assert self.softnet.pool.in_use == 0


@pytest.fixture
def stand_in() -> Iterator[Callable[..., StandIn]]:
    """A function that makes a stand-in end whose fd does not block."""
    with ExitStack() as stack:

        def make(**keywords: int) -> StandIn:
            made = StandIn(**keywords)
            stack.callback(made.close)
            os.set_blocking(made.fd, False)
            return made

        yield make


@pytest.fixture
def reader(make_frameio: MakeFrameIO, taps: Taps, stand_in: Callable[..., StandIn]) -> Iterator[Callable[..., Reader]]:
    """A function that makes a reader of fds; it lets go of them before the ends are closed."""
    with ExitStack() as stack:

        def make(*fds: int) -> Reader:
            made = Reader(make_frameio, *fds)
            stack.callback(made.close)
            return made

        yield make


MakeReader = Callable[..., Reader]
MakeStandIn = Callable[..., StandIn]


def test_a_frame_wakes_a_loop_that_sleeps(reader: MakeReader, taps: Taps) -> None:
    tap = taps.make()
    reading = reader(tap.fd)
    with closing(PacketSocket(tap.netns, tap.name)) as sender:
        for number in range(20):
            reading.wait_asleep(lambda: sender.send(numbered(number)), lambda: len(reading.frames[0]) > number)  # noqa: B023
    assert reading.frames == [list(range(20))]


def test_the_end_of_a_device_wakes_a_loop_that_sleeps(reader: MakeReader, taps: Taps) -> None:
    gone, stays = taps.make(), taps.make()
    reading = reader(gone.fd, stays.fd)
    reading.wait_asleep(gone.delete, lambda: bool(reading.gone))
    assert reading.gone == [0]
    with closing(PacketSocket(stays.netns, stays.name)) as sender:
        reading.wait_asleep(lambda: sender.send(numbered(7)), lambda: bool(reading.frames[1]))


def test_an_end_is_told_again_in_each_turn_while_it_has_frames(reader: MakeReader, stand_in: MakeStandIn) -> None:
    ends = [stand_in() for _ in range(2)]
    for number in range(100):
        for end in ends:
            end.send(numbered(number))
    reading = reader(*(end.fd for end in ends))
    reading.quota = 10
    reading.wait(lambda: all(len(frames) == 100 for frames in reading.frames))
    assert reading.frames == [list(range(100))] * 2
    assert all(reading.told.count(number) >= 10 for number in (0, 1))
    reading.turn()
    told = len(reading.told)
    reading.turn()
    assert len(reading.told) == told


def test_an_idle_end_is_not_told(reader: MakeReader, stand_in: MakeStandIn) -> None:
    busy, idle = stand_in(), stand_in()
    reading = reader(busy.fd, idle.fd)
    for number in range(50):
        busy.send(numbered(number))
    reading.wait(lambda: len(reading.frames[0]) == 50)
    reading.turn()
    assert set(reading.told) == {0}


def test_a_paused_end_waits_and_the_others_do_not(reader: MakeReader, stand_in: MakeStandIn) -> None:
    paused, busy = stand_in(), stand_in()
    reading = reader(paused.fd, busy.fd)
    reading.turn()
    reading.io.pause(reading.ends[0])
    for number in range(5):
        paused.send(numbered(number))
    reading.turn()
    for number in range(500):
        reading.wait_asleep(lambda: busy.send(numbered(number)), lambda: len(reading.frames[1]) > number)  # noqa: B023
    assert (reading.frames[0], set(reading.told)) == ([], {1})
    reading.io.resume(reading.ends[0])
    reading.wait(lambda: len(reading.frames[0]) == 5)
    assert reading.frames == [list(range(5)), list(range(500))]


def test_an_end_can_be_paused_while_it_has_frames(reader: MakeReader, stand_in: MakeStandIn) -> None:
    paused, busy = stand_in(), stand_in()
    for number in range(40):
        paused.send(numbered(number))
    reading = reader(paused.fd, busy.fd)
    reading.quota = 1
    reading.wait(lambda: bool(reading.frames[0]))
    reading.io.pause(reading.ends[0])
    seen = len(reading.frames[0])
    for number in range(20):
        reading.wait_asleep(lambda: busy.send(numbered(number)), lambda: len(reading.frames[1]) > number)  # noqa: B023
    assert len(reading.frames[0]) == seen
    reading.io.resume(reading.ends[0])
    reading.wait(lambda: len(reading.frames[0]) == 40)
    assert reading.frames == [list(range(40)), list(range(20))]


def test_a_detached_end_is_not_told_and_its_number_serves_again(reader: MakeReader, stand_in: MakeStandIn) -> None:
    first, second = stand_in(), stand_in()
    reading = reader(first.fd, second.fd)
    reading.turn()
    reading.take(reading.ends[0], reading.io.detach(reading.ends[0]))
    first.send(numbered(1))
    reading.wait_asleep(lambda: second.send(numbered(2)), lambda: bool(reading.frames[1]))
    assert set(reading.told) == {1}
    reading.io.attach(reading.ends[0])
    reading.wait(lambda: bool(reading.frames[0]))
    assert reading.frames == [[1], [2]]


@pytest.mark.parametrize(("count", "waiting"), [(65, 1000), (200, 100), (1000, 10)])
def test_of_many_ends_none_gets_further_ahead_than_one_turn(
    reader: MakeReader, stand_in: MakeStandIn, count: int, waiting: int
) -> None:
    """More ends than buffers: whoever has had a turn of 64 frames waits until all others have had theirs."""
    ends = [stand_in() for _ in range(count)]
    reading = reader(*(end.fd for end in ends))
    reading.turn(count)  # every read is armed
    for number in range(waiting):
        for end in ends:
            end.send(numbered(number))
    reading.wait(lambda: len(reading.told) > 0)
    ahead = 0
    while min(map(len, reading.frames)) < waiting:
        reading.turn(1)
        counts = [len(frames) for frames in reading.frames]
        ahead = max(ahead, max(counts) - min(counts))
    assert reading.frames == [list(range(waiting))] * count
    assert ahead <= 64
    reading.wait_asleep(lambda: ends[-1].send(numbered(9)), lambda: reading.frames[-1][-1] == 9)


def test_more_ends_at_once_than_the_ring_has_room_for_completions(reader: MakeReader, stand_in: MakeStandIn) -> None:
    """4200 reads that are armed end together, all but 64 of them without a buffer; the ring holds 4096 completions."""
    ends = [stand_in() for _ in range(4200)]
    reading = reader(*(end.fd for end in ends))
    reading.turn(200)  # every read is armed
    for number in range(3):
        for end in ends:
            end.send(numbered(number))
    reading.wait(lambda: sum(map(len, reading.frames)) == 3 * len(ends))
    assert reading.frames == [[0, 1, 2]] * len(ends)


def test_two_hundred_taps(reader: MakeReader, netns: Namespaces) -> None:
    """Ten frames from each arrive in their order."""
    where = netns.make()
    with many_taps(where, 200) as (names, fds):
        reading = reader(*fds)
        reading.turn(20)  # every read is armed
        with inside(where, socket.socket, socket.AF_PACKET, socket.SOCK_RAW) as sender:
            for number in range(10):
                for name in names:
                    sender.sendto(numbered(number), (name, 0))
        reading.wait(lambda: all(len(frames) == 10 for frames in reading.frames))
        assert reading.frames == [list(range(10))] * len(names)
        reading.io.close()
