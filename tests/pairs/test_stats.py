"""The arithmetic of the counters: what is charged to whom, and what a dead worker had in hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pairs.made_up import paper_pair
from vethd.datapath.netdev import NetDevice
from vethd.drops import DROP_TABLE, READ_DROPS, DropPoint
from vethd.host.rtnl import LinkStats
from vethd.pairs.pair import End, Pair
from vethd.pairs.stats import charge_lost, charge_unread, end_stats, queue_stats
from vethd.worker.counters import Counters

SIZE = 100  # bytes of every frame here
QUEUES = 3
NOTHING = LinkStats(0, 0, 0, 0, 0, 0)


@contextmanager
def fresh_counters() -> Iterator[Counters]:
    made = Counters.create(2 * QUEUES)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def counters() -> Iterator[Counters]:
    with fresh_counters() as made:
        yield made


@dataclass
class Tap:
    """The kernel's counters of one device."""

    tx_packets: int = 0
    rx_packets: int = 0

    def stats(self) -> LinkStats:
        return LinkStats(self.rx_packets, self.tx_packets, self.rx_packets * SIZE, self.tx_packets * SIZE, 0, 0)


class Wire:
    """A pair, its two TAPs, and workers that come and go; every frame's fate is said by the test.

    index: which queue of the pair this is. beside: the wire of another queue of the pair.
    """

    def __init__(self, counters: Counters, index: int = 0, beside: Wire | None = None) -> None:
        self.counters = counters
        self.index = index
        self.pair: Pair = beside.pair if beside else paper_pair((0, 1))
        self.taps: dict[str, Tap] = beside.taps if beside else {"a": Tap(), "b": Tap()}
        self.held = {"a": 0, "b": 0}
        self.dropped_unpublished = {"a": 0, "b": 0}
        self.start_worker()

    def start_worker(self) -> None:
        """A worker begins, where the rows say that its predecessor was."""
        self.devices = {letter: NetDevice(self.end(letter).queues[self.index].number) for letter in "ab"}
        for device in self.devices.values():
            self.counters.restore(device)
        self.held = dict.fromkeys(self.held, 0)
        self.dropped_unpublished = dict.fromkeys(self.held, 0)

    def end(self, letter: str) -> End:
        return self.pair.a if letter == "a" else self.pair.b

    def frame(self, letter: str, fate: DropPoint | str) -> None:
        """A frame is read from an end; it is delivered, held, or dropped at a point."""
        peer = "b" if letter == "a" else "a"
        source, sink = self.devices[letter], self.devices[peer]
        source.read += 1
        self.taps[letter].tx_packets += 1
        if isinstance(fate, DropPoint):
            source.drops[fate] += 1
            self.dropped_unpublished[letter] += 1
            if fate <= DropPoint.CPU_BACKLOG:
                return
        source.tx_packets += 1
        source.tx_bytes += SIZE
        if fate == "delivered":
            sink.rx_packets += 1
            sink.rx_bytes += SIZE
            self.taps[peer].rx_packets += 1
        elif fate == "held":
            self.held[letter] += 1

    def publish(self) -> None:
        for device in self.devices.values():
            self.counters.publish(device)
        self.dropped_unpublished = dict.fromkeys(self.held, 0)

    def hand_in(self) -> None:
        """The worker delivers what it has, and tells."""
        for letter, peer in (("a", "b"), ("b", "a")):
            self.devices[peer].rx_packets += self.held[letter]
            self.devices[peer].rx_bytes += self.held[letter] * SIZE
            self.taps[peer].rx_packets += self.held[letter]
            self.held[letter] = 0
        self.publish()

    def die(self) -> int:
        """The worker dies; how many frames are counted as lost with it."""
        kernel = {self.end(letter).number: tap.stats() for letter, tap in self.taps.items()}
        return charge_lost(self.pair, kernel, self.counters)

    def assert_balanced(self) -> None:
        for letter, peer in (("a", "b"), ("b", "a")):
            stats = end_stats(self.end(letter), self.counters, None)
            assert stats.read == self.taps[letter].tx_packets
            assert stats.delivered == self.taps[peer].rx_packets
            assert stats.queued == 0
            assert stats.read == stats.delivered + stats.merged + stats.dropped
            assert stats.rx_bytes == self.taps[letter].rx_packets * SIZE
            early = sum(stats.drops[point] for point in DropPoint if point <= DropPoint.CPU_BACKLOG)
            assert stats.tx_packets == stats.read - early, "what was not dropped before the backlog was transmitted"


def test_each_drop_is_charged_as_the_table_says(counters: Counters) -> None:
    for row in DROP_TABLE:
        pair = paper_pair((0, 1))
        for number in (0, 1):
            counters.clear(number)
        device = NetDevice(0)
        device.drops[row.point] = 7
        device.read = 7
        counters.publish(device)
        a, b = end_stats(pair.a, counters, None), end_stats(pair.b, counters, None)
        assert (a.tx_dropped, b.rx_dropped) == (7 * row.tx_dropped, 7 * row.rx_dropped), row
        assert (a.rx_dropped, b.tx_dropped) == (0, 0)
        assert a.dropped == (7 if row.point in READ_DROPS else 0)
        assert a.drops[row.point] == sum(a.drops.values()) == 7


def test_what_one_end_receives_is_what_the_other_delivered(counters: Counters) -> None:
    wire = Wire(counters)
    for _ in range(3):
        wire.frame("a", "delivered")
    wire.frame("b", "delivered")
    wire.publish()
    a, b = end_stats(wire.pair.a, counters, NOTHING), end_stats(wire.pair.b, counters, None)
    assert (a.tx_packets, a.tx_bytes, b.rx_packets, b.rx_bytes) == (3, 3 * SIZE, 3, 3 * SIZE)
    assert (b.tx_packets, a.rx_packets) == (1, 1)
    assert (a.delivered, b.delivered) == (3, 1)
    assert (a.kernel, b.kernel) == (NOTHING, None)


def test_frames_in_the_backlog_are_queued(counters: Counters) -> None:
    wire = Wire(counters)
    wire.frame("a", "held")
    wire.publish()
    assert end_stats(wire.pair.a, counters, None).queued == 1


@pytest.mark.parametrize(("carrier", "point"), [(True, DropPoint.TAP_RING), (False, DropPoint.NO_CARRIER)])
def test_frames_that_were_never_read_are_told_apart_by_the_carrier(
    counters: Counters, carrier: bool, point: DropPoint
) -> None:
    pair = paper_pair((0, 1))
    charge_unread(pair.a, 5, carrier, counters)
    charge_unread(pair.a, 5, carrier, counters)
    charge_unread(pair.a, 9, carrier, counters)
    stats = end_stats(pair.a, counters, None)
    assert stats.drops[point] == sum(stats.drops.values()) == 9
    assert (stats.tx_dropped, stats.read, stats.dropped, stats.queued) == (9, 0, 0, 0)
    assert end_stats(pair.b, counters, None).rx_dropped == 0


def test_a_counter_that_went_backwards_charges_nothing(counters: Counters) -> None:
    pair = paper_pair((0, 1))
    charge_unread(pair.a, 5, True, counters)
    charge_unread(pair.a, 3, True, counters)
    charge_unread(pair.a, 5, True, counters)
    assert end_stats(pair.a, counters, None).drops[DropPoint.TAP_RING] == 5


def test_what_was_in_hand_is_lost(counters: Counters) -> None:
    wire = Wire(counters)
    for fate in ("delivered", "held", "held"):
        wire.frame("a", fate)
    wire.frame("b", "held")
    assert wire.die() == 3, "though not one row had been published"
    wire.assert_balanced()
    a, b = end_stats(wire.pair.a, counters, None), end_stats(wire.pair.b, counters, None)
    assert (a.drops[DropPoint.WORKER_LOST], b.drops[DropPoint.WORKER_LOST]) == (2, 1)
    assert (b.rx_dropped, a.rx_dropped) == (2, 1)
    assert (a.tx_dropped, b.tx_dropped) == (0, 0)


def test_what_was_merged_and_written_is_not_lost(counters: Counters) -> None:
    """Published before the write, unlike what was written: of 64 frames as one, and 3 more, only the 3 are lost."""
    wire = Wire(counters)
    device = wire.devices["a"]
    device.read, device.merged = 67, 63
    counters.publish(device)
    wire.taps["a"].tx_packets, wire.taps["b"].rx_packets = 67, 1
    assert wire.die() == 3
    wire.assert_balanced()


def test_what_was_merged_but_not_written_counts_as_the_one_frame_it_is(counters: Counters) -> None:
    wire = Wire(counters)
    device = wire.devices["a"]
    device.read, device.merged = 64, 63
    counters.publish(device)
    wire.taps["a"].tx_packets = 64
    assert wire.die() == 1
    wire.assert_balanced()


def test_a_worker_that_dies_idle_loses_nothing(counters: Counters) -> None:
    wire = Wire(counters)
    wire.frame("a", "delivered")
    wire.publish()
    assert [wire.die() for _ in range(3)] == [0, 0, 0]
    wire.assert_balanced()


FATES = st.sampled_from(
    ["delivered", "held", "publish", *(point for point in READ_DROPS if point is not DropPoint.WORKER_LOST)]
)
LIVES = st.lists(st.lists(st.tuples(st.sampled_from("ab"), FATES), max_size=30), min_size=1, max_size=4)


@settings(deadline=None)
@given(lives=LIVES)
def test_the_books_balance_after_any_life_of_any_worker(lives: list[list[tuple[str, DropPoint | str]]]) -> None:
    """Lost are those in hand, and those dropped since the last time that anybody was told."""
    with fresh_counters() as counters:
        wire = Wire(counters)
        for life in lives:
            wire.start_worker()
            for letter, fate in life:
                if fate == "publish":
                    wire.publish()
                else:
                    wire.frame(letter, fate)
            assert wire.die() == sum(wire.held.values()) + sum(wire.dropped_unpublished.values())
            wire.assert_balanced()


def several_queues(counters: Counters) -> list[Wire]:
    """The wires of a pair's queues, each with a worker of its own."""
    first = Wire(counters)
    first.pair = paper_pair(tuple(range(2 * QUEUES)))
    return [first, *(Wire(counters, index, first) for index in range(1, QUEUES))]


QUEUE_LIVES = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(0, QUEUES - 1), st.sampled_from("ab"), FATES), max_size=30),
        st.sets(st.integers(0, QUEUES - 1), min_size=1),
    ),
    min_size=1,
    max_size=4,
)


@settings(deadline=None)
@given(lives=QUEUE_LIVES)
def test_the_books_balance_whichever_workers_of_a_pair_die(
    lives: list[tuple[list[tuple[int, str, DropPoint | str]], set[int]]],
) -> None:
    """The others have handed in their queues; lost is what those had that died, however many died at once."""
    with fresh_counters() as counters:
        wires = several_queues(counters)
        for frames, dead in lives:
            for index, letter, fate in frames:
                if fate == "publish":
                    wires[index].publish()
                else:
                    wires[index].frame(letter, fate)
            lost = 0
            for wire in wires:
                if wire.index in dead:
                    lost += sum(wire.held.values()) + sum(wire.dropped_unpublished.values())
                else:
                    wire.hand_in()
            assert wires[0].die() == lost
            assert wires[0].die() == 0, "the count for the second one of two that died finds nothing more"
            for wire in wires:
                wire.assert_balanced()
                wire.start_worker()


def test_a_queue_shows_what_its_worker_counted(counters: Counters) -> None:
    first, second, _third = several_queues(counters)
    first.frame("a", "delivered")
    second.frame("a", "delivered")
    second.frame("a", DropPoint.PKT_TOO_BIG)
    for wire in (first, second):
        wire.publish()
    charge_unread(first.pair.a, 5, True, counters)
    queues = queue_stats(first.pair.a, counters)
    assert [(queue.read, queue.delivered, queue.tx_packets) for queue in queues] == [(1, 1, 1), (2, 1, 1), (0, 0, 0)]
    assert [queue.drops[DropPoint.PKT_TOO_BIG] for queue in queues] == [0, 1, 0]
    assert all(DropPoint.TAP_RING not in queue.drops for queue in queues)
    assert [queue.rx_bytes for queue in queue_stats(first.pair.b, counters)] == [SIZE, SIZE, 0]
    end = end_stats(first.pair.a, counters, None)
    assert (end.read, end.delivered, end.dropped, end.drops[DropPoint.TAP_RING]) == (3, 2, 1, 5)
