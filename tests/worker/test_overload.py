"""More frames than a worker can carry: who drops them, and that everybody else still gets their turn."""

from collections.abc import Callable
from contextlib import ExitStack

import pytest

from tests.kit.frames import frame, number_of, numbered
from tests.kit.waiting import eventually
from tests.worker.ends import PLAIN_HEADER, Flood, StandIn
from tests.worker.subject import Worker
from vethd.drops import DropPoint

MakeStandIn = Callable[..., StandIn]
ROOM = 16 << 20


@pytest.fixture
def flooded(worker: Worker, stand_in: MakeStandIn) -> tuple[StandIn, StandIn]:
    """A stand-in with 2000 numbered frames waiting, and a receiver with room for all of them."""
    a, b = stand_in(room=ROOM), stand_in(room=ROOM)
    for number in range(2000):
        a.send(numbered(number))
    return a, b


def test_in_drop_mode_the_backlog_drops_what_it_cannot_hold(worker: Worker, flooded: tuple[StandIn, StandIn]) -> None:
    worker.sysctl(netdev_max_backlog=16)
    pair = worker.add(*flooded)
    pair.wait_read(2000)
    got = [number_of(data) for data in flooded[1].waiting()]
    assert got == sorted(set(got))
    assert pair.drops() == {DropPoint.CPU_BACKLOG: 2000 - len(got)}
    assert worker.softnet.dropped == 2000 - len(got) > 0
    assert pair.b.rx_packets == worker.softnet.processed == len(got) > 0


def test_under_backpressure_the_backlog_drops_nothing(worker: Worker, flooded: tuple[StandIn, StandIn]) -> None:
    worker.sysctl(netdev_max_backlog=16, netdev_budget=4)
    pair = worker.add(*flooded, backpressure=True)
    pair.wait_read(2000)
    assert [number_of(data) for data in flooded[1].waiting()] == list(range(2000))
    assert (pair.drops(), worker.softnet.dropped) == ({}, 0)
    assert worker.softnet.time_squeeze > 0


def test_the_mode_can_change_while_frames_flow(worker: Worker, stand_in: MakeStandIn) -> None:
    a, b = stand_in(), stand_in()
    worker.sysctl(netdev_max_backlog=8, netdev_budget=2)
    pair = worker.add(a, b)
    with Flood(a, PLAIN_HEADER + frame(60)) as flood:
        for backpressure in (True, False) * 5:
            worker.set_overload(pair, backpressure=backpressure)
            read = pair.a.read
            pair.wait(lambda now, least=read + 500: now.a.read >= least, "frames are read in this mode")  # type: ignore[misc]
    pair.wait_read(flood.sent)
    assert pair.a.read == flood.sent


def test_a_receiver_that_takes_nothing_is_charged_not_waited_for(worker: Worker, stand_in: MakeStandIn) -> None:
    a, stuck, c, d = stand_in(), stand_in(room=8192), stand_in(), stand_in()
    stuck_pair, pair = worker.add(a, stuck), worker.add(c, d)
    for number in range(500):
        a.send(numbered(number))
    stuck_pair.wait_read(500)
    assert stuck_pair.drops().keys() == {DropPoint.WRITE_FAILED}
    delivered = stuck_pair.b.rx_packets
    assert [number_of(data) for data in stuck.waiting()] == list(range(delivered))
    c.send(numbered(7))
    assert d.receive() == (PLAIN_HEADER, numbered(7))
    assert pair.drops() == {}


@pytest.mark.parametrize("backpressure", [False, True], ids=["drop", "backpressure"])
def test_a_flood_starves_neither_the_channel_nor_another_pair(
    worker: Worker, stand_in: MakeStandIn, backpressure: bool
) -> None:
    """Four ends flood without a pause; between any two steps of the calm pair the flood must have gone on."""
    worker.sysctl(netdev_max_backlog=100, netdev_budget=50)
    flooding = [(stand_in(), stand_in()) for _ in range(4)]
    a, b = stand_in(), stand_in()
    flood_pairs = [worker.add(*ends, backpressure=backpressure) for ends in flooding]
    calm = worker.add(a, b, backpressure=backpressure)
    with ExitStack() as stack:
        floods = [stack.enter_context(Flood(ends[0], PLAIN_HEADER + frame(60))) for ends in flooding]
        for step in range(20):
            before = [pair.a.read for pair in flood_pairs]
            worker.talk.ask("ping")
            read = calm.a.read
            for _ in range(5):  # some may meet a full backlog; they are counted, not forgotten
                a.send(numbered(step))
            calm.wait(lambda now, least=read + 5: now.a.read >= least, "the calm pair is read")  # type: ignore[misc]
            for pair, least in zip(flood_pairs, before, strict=True):
                pair.wait(lambda now, more=least: now.a.read > more, "the flood goes on")  # type: ignore[misc]
    for pair, flood in zip(flood_pairs, floods, strict=True):
        pair.wait_read(flood.sent)
        assert pair.a.read == flood.sent
    calm.wait_read(100)
    assert calm.b.rx_packets + calm.a.drops[DropPoint.CPU_BACKLOG] == 100
    assert calm.b.rx_packets > 0


@pytest.mark.parametrize("backpressure", [False, True], ids=["drop", "backpressure"])
def test_under_a_flood_of_many_pairs_each_gets_its_share(
    worker: Worker, stand_in: MakeStandIn, backpressure: bool
) -> None:
    """With the defaults a full backlog holds one batch of 15 ends; 24 flood, and none may be shut out for good."""
    flooding = [(stand_in(room=1 << 18), stand_in(room=1 << 18)) for _ in range(24)]
    pairs = [worker.add(*ends, backpressure=backpressure) for ends in flooding]
    with ExitStack() as stack:
        floods = [stack.enter_context(Flood(ends[0], PLAIN_HEADER + frame(60))) for ends in flooding]

        def accepted() -> list[int]:
            return [pair.a.tx_packets for pair in pairs]

        eventually(accepted, lambda counts: sum(counts) > 50_000, "50000 frames have passed", within=60)
        counts = accepted()
        offered = [flood.sent for flood in floods]
    for pair, flood in zip(pairs, floods, strict=True):
        pair.wait_read(flood.sent)
    share = sum(counts) / len(counts)
    shut_out = [(took, sent) for took, sent in zip(counts, offered, strict=True) if took * 10 < min(share, sent)]
    assert not shut_out, (shut_out, counts)
