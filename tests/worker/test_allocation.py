"""A worker that has been busy for a while allocates nothing more: a frame costs no memory, however many came before."""

from __future__ import annotations

import gc
import sys

import pytest

from tests.frameio.taps import Taps
from tests.frameio.ways import WAYS
from tests.kit.burst import Burst
from tests.kit.frames import numbered
from tests.worker.bench import Bench
from vethd.worker.counters import Counters

BURST = 64
WARM_UP = 10_000
#: Memory blocks that may come and go beside the frames: objects of the loop and of this test.
SLACK = 64
#: Those that `auto` takes carry a million frames; the others as many as are enough to see one block per batch.
LONG = ("uring", "syscalls in C")


@pytest.mark.parametrize("way", WAYS)
async def test_a_million_frames_take_no_memory(counters: Counters, taps: Taps, way: str) -> None:
    bench = Bench(counters, WAYS[way])
    sent = 0
    frames_in_all = 1_000_000 if way in LONG else 100_000
    a, b = taps.make(), taps.make()
    bench.add(a, b)
    with Burst(a.netns, a.name, [numbered(number) for number in range(BURST)]) as burst:

        def arrived() -> bool:
            return bench.softnet.processed == sent

        async def carry(frames: int) -> tuple[int, int]:
            """Carry so many frames; returns the memory blocks in use then, and the buffers."""
            nonlocal sent
            for _ in range(frames // BURST):
                burst.send()
                sent += BURST
                await bench.turn_until(arrived)
            gc.collect()
            return sys.getallocatedblocks(), bench.softnet.pool.size

        blocks, buffers = await carry(WARM_UP)
        blocks_later, buffers_later = await carry(frames_in_all)
    bench.finish()
    assert bench.end(0).read == bench.end(1).rx_packets >= frames_in_all
    assert buffers_later == buffers
    assert abs(blocks_later - blocks) <= SLACK
