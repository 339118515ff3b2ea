"""A worker dies and a successor takes its ends, its rows and its slot: nothing that was counted is forgotten."""

from collections.abc import Callable
from contextlib import closing

from tests.frameio.taps import Taps
from tests.kit.frames import frame, number_of, numbered
from tests.kit.packets import PacketSocket
from tests.worker.conftest import StartWorker
from tests.worker.ends import StandIn, ends_of
from tests.worker.subject import WirePair, Worker
from vethd.drops import DropPoint

MakeStandIn = Callable[..., StandIn]


def take_over(start_worker: StartWorker, dead: Worker, pair: WirePair) -> WirePair:
    """A successor in the slot of a dead worker, with its pair: the same fds, the same numbers."""
    heir = start_worker(dead.slot)
    heir.greet()
    inherited = WirePair(heir, pair.ends, pair.numbers)
    heir.pairs.append(inherited)
    heir.talk.ask("add", ends_of(*pair.ends), ends=heir.describe(inherited, (1500, 1500), True))
    return inherited


def test_a_successor_goes_on_counting_from_the_rows(start_worker: StartWorker, stand_in: MakeStandIn) -> None:
    a, b = stand_in(), stand_in()
    first = start_worker(slot=1)
    first.greet()
    pair = first.add(a, b)
    for size in (60, 13, 1600, 61):
        a.send(frame(size))
    pair.wait_read(4)
    before = (first.softnet.processed, pair.a, pair.b)
    first.kill()
    assert (first.softnet.processed, pair.a, pair.b) == before

    heir = take_over(start_worker, first, pair)
    a.send(frame(62))
    a.send(frame(13))
    heir.wait_read(6)
    assert (heir.a.read, heir.a.tx_packets, heir.a.tx_bytes) == (6, 3, 60 + 61 + 62)
    assert (heir.b.rx_packets, heir.b.rx_bytes) == (3, 60 + 61 + 62)
    assert heir.drops() == {DropPoint.PKT_TOO_SMALL: 2, DropPoint.PKT_TOO_BIG: 1}
    assert heir.worker.softnet.processed == 3
    assert heir.imbalance() == []


def test_frames_that_nobody_had_read_are_delivered_by_the_successor_in_order(
    start_worker: StartWorker, stand_in: MakeStandIn
) -> None:
    a, b = stand_in(), stand_in()
    first = start_worker()
    first.greet()
    pair = first.add(a, b)
    first.kill()
    for number in range(300):
        a.send(numbered(number))
    heir = take_over(start_worker, first, pair)
    heir.wait_read(300)
    assert [number_of(data) for data in b.waiting()] == list(range(300))


def test_devices_live_through_the_death_of_their_worker(start_worker: StartWorker, taps: Taps) -> None:
    a, b = taps.make(best=True), taps.make(best=True)
    first = start_worker()
    first.greet()
    pair = first.add(a, b)
    with closing(PacketSocket(a.netns, a.name)) as sender, closing(PacketSocket(b.netns, b.name)) as receiver:
        sender.send(numbered(0))
        assert receiver.collect(1)
        pair.wait_read(1)
        first.kill()
        assert all(end.state().carrier and end.state().up for end in (a, b))
        sender.send(numbered(1))
        heir = take_over(start_worker, first, pair)
        assert [number_of(arrival.data) for arrival in receiver.collect(1)] == [1]
    heir.wait_read(2)
    assert (a.kernel("tx_packets"), b.kernel("rx_packets")) == (heir.a.read, heir.b.rx_packets) == (2, 2)


def test_the_rows_of_a_worker_killed_in_full_flight_never_say_more_than_happened(
    start_worker: StartWorker, stand_in: MakeStandIn
) -> None:
    """So the gap between what the ends say and what the rows say is what it had in hand, and is never negative."""
    a, b = stand_in(room=8 << 20), stand_in(room=8 << 20)
    worker = start_worker()
    worker.greet()
    worker.sysctl(netdev_budget=1)
    for number in range(5000):
        a.send(numbered(number))
    pair = worker.add(a, b)
    pair.wait(lambda now: now.a.read > 1000, "the worker is in full flight")
    worker.kill()
    taken, delivered = 5000 - a.left(), len(b.waiting())
    assert 1000 < pair.a.read <= taken
    assert pair.b.rx_packets <= delivered
    assert sum(pair.a.drops) <= taken - delivered


def test_a_worker_that_drains_leaves_nothing_to_be_lost(start_worker: StartWorker, stand_in: MakeStandIn) -> None:
    a, b = stand_in(room=8 << 20), stand_in(room=8 << 20)
    first = start_worker()
    first.greet()
    first.sysctl(netdev_budget=1)
    for number in range(3000):
        a.send(numbered(number))
    pair = first.add(a, b)
    pair.wait(lambda now: now.a.read > 100, "the worker is in full flight")
    first.talk.ask("drain")
    first.kill()
    assert pair.imbalance() == []
    heir = take_over(start_worker, first, pair)
    heir.wait_read(3000)
    assert heir.imbalance() == []
    assert heir.a.drops[DropPoint.CPU_BACKLOG] + len(b.waiting()) == 3000
