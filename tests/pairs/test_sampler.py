"""The sampler on made-up pairs: whoever listens is told exactly what the counters grew by while it did."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, cast

import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pairs.made_up import paper_pair
from vethd.datapath.netdev import NetDevice
from vethd.drops import DropPoint
from vethd.host.threads import HostThreads
from vethd.pairs.journal import Event, Journal
from vethd.pairs.pair import End, Pair, PairState
from vethd.pairs.registry import Registry
from vethd.pairs.sampler import Sampler
from vethd.pairs.stats import charge_unread
from vethd.worker.counters import Counters

Sums = Counter[tuple[str, str, str]]
QUEUES = 2
SLOTS = 3  # pairs at a time


class World:
    """Pairs whose frames are dropped as the test says, and listeners. truth: drops by listener since it joined."""

    def __init__(self) -> None:
        self.counters = Counters.create(2 * QUEUES * SLOTS)
        self.registry = Registry(2 * QUEUES * SLOTS)
        self.journal = Journal(lambda pair: {"pair": str(pair.uuid)})
        self.sampler: Sampler[str] = Sampler(
            cast(HostThreads, None),
            self.registry,
            self.counters,
            self.journal,
            lambda _pair: True,
            self._tell,
            structlog.get_logger(),
        )
        self.journal.listen(self.sampler.heard)
        self.truth: dict[str, Sums] = {}
        self.told: dict[str, Sums] = {}
        self.totals: Sums = Counter()
        self.listening: list[str] = []
        self.devices: dict[int, NetDevice] = {}

    def close(self) -> None:
        for name in list(self.listening):
            self.leave(name)
        assert not self.sampler._beats
        self.counters.close()

    def _tell(self, listeners: list[str], events: list[Event]) -> None:
        for listener in listeners:
            self._count(listener, events)

    def _count(self, listener: str, events: list[Event]) -> None:
        seen = set()
        for event in events:
            assert event.pair is not None
            assert event.end is not None
            key = event.pair, event.end, event.fields["point"]
            assert key not in seen, "one event per end and point"
            seen.add(key)
            assert event.fields["total"] == self.totals[key]
            self.told[listener][key] += event.fields["frames"]

    # -- what happens -------------------------------------------------------------------------------------------------

    def add(self) -> None:
        if len(self.registry) == SLOTS:
            return
        pair = paper_pair(self.registry.take_numbers(QUEUES))
        for end in pair.ends:
            for queue in end.queues:
                self.counters.clear(queue.number)
                self.devices[queue.number] = NetDevice(queue.number)
        self.registry.add(pair)
        pair.state = PairState.LIVE
        self.journal.added(pair)

    def delete(self, at: int) -> None:
        pair = self._pair(at)
        if pair is None:
            return
        pair.state = PairState.DYING
        self.registry.remove(pair)
        self.journal.record("link", "deleted", pair, reason="")
        self.registry.give_numbers(queue.number for end in pair.ends for queue in end.queues)

    def drop(self, at: int, letter: int, queue: int, point: DropPoint, frames: int) -> None:
        """By a worker, or as the kernel's counter tells the supervisor."""
        pair = self._pair(at)
        if pair is None:
            return
        end = pair.ends[letter]
        if point is DropPoint.TAP_RING:
            charge_unread(end, self.unread(end) + frames, True, self.counters)
        else:
            device = self.devices[end.queues[queue].number]
            device.drops[point] += frames
            self.counters.publish(device)
        key = str(pair.uuid), end.letter, point.name
        self.totals[key] += frames
        for name in self.listening:
            self.truth[name][key] += frames

    def unread(self, end: End) -> int:
        """The kernel's counter as it was when it was last looked at."""
        return self.counters.load_correction(end.number).drops[DropPoint.TAP_RING]

    def join(self, interval: float) -> None:
        name = f"listener {len(self.truth)}"
        self.truth[name], self.told[name] = Counter(), Counter()
        self.listening.append(name)
        self.sampler.join(name, interval)

    def leave(self, name: str) -> None:
        self.listening.remove(name)
        self._count(name, self.sampler.leave(name))
        assert self.told[name] == self.truth[name]
        assert self.sampler.leave(name) == []

    def leave_at(self, at: int) -> None:
        if self.listening:
            self.leave(self.listening[at % len(self.listening)])

    def beat(self, at: int) -> None:
        """An interval is over; whoever has it knows everything then."""
        beats = list(self.sampler._beats.values())
        if beats:
            beat = beats[at % len(beats)]
            self.sampler._beat(beat)
            (cohort,) = beat.cohorts
            for name in cohort.listeners:
                assert self.told[name] == self.truth[name]

    def _pair(self, at: int) -> Pair | None:
        pairs = list(self.registry)
        return pairs[at % len(pairs)] if pairs else None


AT = st.integers(0, 5)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add")),
        st.tuples(st.just("delete"), AT),
        st.tuples(
            *(st.just("drop"), AT, st.integers(0, 1), st.integers(0, QUEUES - 1)),
            st.sampled_from([DropPoint.CPU_BACKLOG, DropPoint.WRITE_FAILED, DropPoint.TAP_RING]),
            st.integers(1, 3),
        ),
        st.tuples(st.just("join"), st.sampled_from([0.1, 1.0])),
        st.tuples(st.just("leave_at"), AT),
        st.tuples(st.just("beat"), AT),
    ),
    min_size=12,
    max_size=60,
)


@settings(deadline=None)
@given(steps=STEPS)
def test_everyone_is_told_what_was_dropped_while_it_listened(steps: list[tuple[Any, ...]]) -> None:
    """Whoever joins and leaves, and whatever pairs come and go, with the numbers of those before them."""

    async def live() -> None:
        world = World()
        for step, *values in steps:
            getattr(world, step)(*values)
        world.close()

    asyncio.run(live())


def test_listeners_of_about_the_same_interval_share_the_reading() -> None:
    async def live() -> list[int]:
        world = World()
        for interval in (0.1, 0.11, 0.2, 0.3, 1.0, 0.95):
            world.join(interval)
        beats = list(world.sampler._beats)
        world.close()
        return beats

    assert asyncio.run(live()) == [1, 2, 3, 10], "tenths of a second, rounded up"


def test_nothing_runs_while_nobody_listens() -> None:
    async def live() -> None:
        world = World()
        before = asyncio.all_tasks()
        world.join(0.1)
        assert len(asyncio.all_tasks()) == len(before) + 1
        world.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == before

    asyncio.run(live())
