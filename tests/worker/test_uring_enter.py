"""The system call of io_uring, io_uring_enter: how often a worker makes it, and what it may answer."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable

import pytest

from tests.frameio.ways import WAYS, MakeFrameIO
from tests.kit.frames import number_of, numbered
from tests.kit.seccomp import IO_URING_ENTER, answering
from tests.worker.bench import Bench
from tests.worker.ends import StandIn
from vethd.worker.counters import Counters

MakeStandIn = Callable[..., StandIn]


def carry(counters: Counters, make: MakeFrameIO, senders: list[StandIn], receivers: list[StandIn], frames: int) -> int:
    """Carry frames that wait already, over a loop of its own; returns how many batches they were."""

    async def talk() -> int:
        bench = Bench(counters, make)
        bench.add(*(end for pair in zip(senders, receivers, strict=True) for end in pair))
        for _ in range(100_000):
            if bench.softnet.processed == frames:
                break
            await bench.turn()
        else:
            # Everything was woken that would be: only an event can bring more, and there is none.
            raise AssertionError(f"{bench.softnet.processed} of {frames} frames came")
        bench.finish()
        return len(bench.frameio.delivered)

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:  # that of uvloop calls io_uring_enter itself
        return runner.run(talk())


@pytest.mark.parametrize("error", [errno.EINTR, errno.EAGAIN, errno.EBUSY], ids=errno.errorcode.get)
@pytest.mark.parametrize("every", [1, 2, 3])
def test_an_enter_that_fails_for_now_is_made_again(
    stand_in: MakeStandIn, counters: Counters, make_frameio: MakeFrameIO, error: int, every: int
) -> None:
    """Nothing is lost and nothing overtakes, whichever of the calls it is. every: of how many one gets through."""
    senders, receivers = [stand_in() for _ in range(3)], [stand_in() for _ in range(3)]
    for sender in senders:
        for number in range(200):
            sender.send(numbered(number))
    calls = 0

    def answer(_arguments: tuple[int, ...]) -> int:
        nonlocal calls
        calls += 1
        return error if calls % (every + 1) else 0

    answering(IO_URING_ENTER, answer, lambda: carry(counters, make_frameio, senders, receivers, 600))
    for receiver in receivers:
        assert [number_of(data) for data in receiver.waiting()] == list(range(200))


@pytest.mark.parametrize("way", WAYS)
def test_one_enter_per_batch(stand_in: MakeStandIn, counters: Counters, way: str) -> None:
    """Writing one batch brings the next: no other call is made while there is work."""
    a, b = stand_in(), stand_in()
    for number in range(20 * 64):
        a.send(numbered(number))
    calls = 0

    def answer(_arguments: tuple[int, ...]) -> int:
        nonlocal calls
        calls += 1
        return 0

    batches = answering(IO_URING_ENTER, answer, lambda: carry(counters, WAYS[way], [a], [b], 20 * 64))
    assert [number_of(data) for data in b.waiting()] == list(range(20 * 64))
    if way.startswith("uring"):
        # Besides: arming the two reads, and cancelling each.
        assert batches <= calls <= batches + 4
        assert batches == 20 or way != "uring"  # plain reads bring less than 64 frames at a time
    else:
        assert calls == 0
