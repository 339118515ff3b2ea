"""loop.py in this process, turn by turn: what happens between two turns is then up to the test.

Everything that does not depend on the turn is tested on a real worker process, in the other files here.
"""

from collections.abc import Callable
from contextlib import closing
from itertools import accumulate

import pytest

from tests.datapath.flows import Packet
from tests.frameio.taps import Taps
from tests.kit.frames import numbered
from tests.kit.packets import PacketSocket
from tests.worker.bench import Bench
from tests.worker.ends import PLAIN_HEADER, StandIn
from vethd.datapath.skb import Skb
from vethd.drops import DropPoint
from vethd.worker.channel import HDR_INVALID_REPORT

MakeStandIn = Callable[..., StandIn]


# -- turns ------------------------------------------------------------------------------------------------------------


async def test_a_pass_reads_no_more_than_the_weight_and_delivers_no_more_than_the_budget(
    bench: Bench, stand_in: MakeStandIn
) -> None:
    a, b = stand_in(), stand_in()
    bench.softnet.dev_weight, bench.softnet.netdev_budget = 10, 4
    for number in range(100):
        a.send(numbered(number))
    bench.add(a, b)
    await bench.turn_until(lambda: bench.softnet.processed == 100)
    assert max(bench.frameio.received) == 10
    assert max(bench.frameio.delivered) == 4
    assert bench.softnet.time_squeeze >= len([frames for frames in bench.frameio.delivered if frames == 4]) - 1
    assert len(b.waiting()) == 100


async def test_every_ready_end_is_read_before_the_loop_comes_back_to_the_first(
    bench: Bench, stand_in: MakeStandIn
) -> None:
    senders = [stand_in() for _ in range(5)]
    bench.softnet.dev_weight = 1
    for sender in senders:
        for number in range(20):
            sender.send(numbered(number))
    bench.add(*(end for sender in senders for end in (sender, stand_in())))
    for _ in range(20):
        await bench.turn()
        read = [bench.end(2 * pair).read for pair in range(len(senders))]
        assert max(read) - min(read) <= 1
    await bench.turn_until(lambda: bench.softnet.processed == 100)


@pytest.mark.parametrize("backpressure", [False, True], ids=["drop", "backpressure"])
async def test_the_end_that_has_waited_longest_for_the_backlog_comes_first(
    bench: Bench, stand_in: MakeStandIn, backpressure: bool
) -> None:
    """A backlog of one batch and three ends that never run dry: each of them gets a third."""
    bench.softnet.dev_weight = bench.softnet.netdev_max_backlog = 4
    senders = [stand_in() for _ in range(3)]
    for sender in senders:
        for number in range(400):
            sender.send(numbered(number))
    bench.add(*(end for sender in senders for end in (sender, stand_in())), backpressure=backpressure)
    await bench.turn_until(lambda: bench.softnet.processed >= 120)
    shares = [bench.end(2 * pair).tx_packets for pair in range(3)]
    assert max(shares) - min(shares) <= 4
    bench.handle("drain")


async def test_counters_are_published_when_nothing_reaches_the_backlog(bench: Bench, stand_in: MakeStandIn) -> None:
    a, b = stand_in(), stand_in()
    bench.add(a, b)
    a.send(b"short")
    await bench.turn_until(lambda: bench.end(0).read == 1)
    assert bench.drops(0) == {DropPoint.PKT_TOO_SMALL: 1}


async def test_del_delivers_what_was_accepted(bench: Bench, stand_in: MakeStandIn) -> None:
    a, b = stand_in(), stand_in()
    bench.softnet.netdev_budget = 1
    for number in range(50):
        a.send(numbered(number))
    bench.add(a, b)
    await bench.turn_until(lambda: bench.end(0).read == 50)
    assert bench.softnet.pending()
    bench.handle("del", ends=[0, 1])
    assert (len(b.waiting()), bench.end(1).rx_packets, bench.softnet.pending()) == (50, 50, False)


async def test_drain_empties_the_backlog_and_reads_no_more(bench: Bench, stand_in: MakeStandIn) -> None:
    a, b = stand_in(), stand_in()
    bench.softnet.netdev_budget = 1
    for number in range(50):
        a.send(numbered(number))
    bench.add(a, b)
    await bench.turn_until(lambda: bench.end(0).read == 50)
    bench.handle("drain")
    assert (len(b.waiting()), bench.softnet.pending()) == (50, False)
    a.send(numbered(51))
    await bench.turn(20)
    assert bench.end(0).read == 50


# -- backpressure -----------------------------------------------------------------------------------------------------


async def fill_until_one_end_is_paused(bench: Bench, first: StandIn, second: StandIn, stand_in: MakeStandIn) -> None:
    """Two pairs on a backlog of 8: the first end fills it, so that the second must wait with its frames."""
    bench.softnet.netdev_max_backlog, bench.softnet.netdev_budget = 8, 1
    for number in range(40):
        first.send(numbered(number))
        second.send(numbered(number))
    bench.add(first, stand_in(), second, stand_in(), backpressure=True)
    await bench.turn_until(lambda: len(bench.softnet.input_pkt_queue) == 8)
    await bench.turn(2)


async def test_under_backpressure_every_frame_is_read_in_the_end_and_none_is_dropped(
    bench: Bench, stand_in: MakeStandIn
) -> None:
    await fill_until_one_end_is_paused(bench, stand_in(), stand_in(), stand_in)
    await bench.turn_until(lambda: bench.softnet.processed == 80)
    assert (bench.drops(0), bench.drops(2), bench.softnet.dropped) == ({}, {}, 0)


async def test_a_paused_end_can_be_deleted(bench: Bench, stand_in: MakeStandIn) -> None:
    await fill_until_one_end_is_paused(bench, stand_in(), stand_in(), stand_in)
    bench.handle("del", ends=[2, 3])
    bench.handle("del", ends=[0, 1])
    read = bench.end(0).read + bench.end(2).read
    await bench.turn(20)
    assert bench.end(0).read + bench.end(2).read == read == bench.softnet.processed


async def test_paused_ends_are_read_again_when_the_cap_is_raised(bench: Bench, stand_in: MakeStandIn) -> None:
    await fill_until_one_end_is_paused(bench, stand_in(), stand_in(), stand_in)
    bench.handle("sysctl", values={"netdev_max_backlog": 1000, "netdev_budget": 300})
    await bench.turn_until(lambda: bench.softnet.processed == 80)


async def test_a_paused_end_is_read_again_when_it_may_drop(bench: Bench, stand_in: MakeStandIn) -> None:
    await fill_until_one_end_is_paused(bench, stand_in(), stand_in(), stand_in)
    assert bench.end(2).read < 40
    bench.handle("set", end=2, backpressure=False)
    await bench.turn_until(lambda: bench.end(2).read == 40)
    assert bench.drops(2)[DropPoint.CPU_BACKLOG] > 0
    await bench.turn_until(lambda: bench.end(0).read == 40)
    assert bench.drops(0) == {}


async def test_of_two_pairs_only_the_one_with_backpressure_waits(bench: Bench, stand_in: MakeStandIn) -> None:
    bench.softnet.netdev_max_backlog, bench.softnet.netdev_budget = 8, 1
    waits, drops = stand_in(), stand_in()
    for number in range(40):
        waits.send(numbered(number))
        drops.send(numbered(number))
    bench.add(waits, stand_in(), backpressure=True)
    bench.add(drops, stand_in())
    await bench.turn_until(lambda: bench.end(0).read == bench.end(2).read == 40)
    assert bench.drops(0) == {}
    assert bench.drops(2)[DropPoint.CPU_BACKLOG] > 0


# -- devices that go --------------------------------------------------------------------------------------------------


async def test_a_deleted_device_is_reported_once_though_frames_for_it_are_queued(bench: Bench, taps: Taps) -> None:
    a, b = taps.make(), taps.make()
    bench.softnet.netdev_budget = 4
    with closing(PacketSocket(a.netns, a.name)) as sender:
        for number in range(60):
            sender.send(numbered(number))
    bench.add(a, b)
    await bench.turn_until(lambda: bench.end(0).read == 60)
    assert bench.softnet.pending()
    b.delete()
    await bench.turn_until(lambda: bool(bench.recorder.all("gone")) and not bench.softnet.pending())
    await bench.turn(20)
    assert bench.recorder.all("gone") == [{"op": "gone", "end": 1}]
    assert bench.drops(0).keys() == {DropPoint.WRITE_FAILED}


async def test_frames_to_a_gone_end_are_dropped_as_peer_gone(bench: Bench, taps: Taps) -> None:
    a, b = taps.make(), taps.make()
    bench.add(a, b)
    b.delete()
    await bench.turn_until(lambda: bool(bench.recorder.all("gone")))
    with closing(PacketSocket(a.netns, a.name)) as sender:
        sender.send(numbered(0))
    await bench.turn_until(lambda: bench.end(0).read == 1)
    assert bench.drops(0) == {DropPoint.PEER_GONE: 1}


async def test_frames_of_a_deleted_device_are_charged_though_the_other_is_deleted_too(bench: Bench, taps: Taps) -> None:
    a, b = taps.make(), taps.make()
    bench.softnet.netdev_budget = 4
    with closing(PacketSocket(b.netns, b.name)) as sender:
        for number in range(60):
            sender.send(numbered(number))
    bench.add(a, b)
    await bench.turn_until(lambda: bench.end(1).read == 60)
    b.delete()
    await bench.turn_until(lambda: bool(bench.recorder.all("gone")))
    a.delete()
    await bench.turn_until(lambda: len(bench.recorder.all("gone")) == 2 and not bench.softnet.pending())
    assert bench.recorder.all("gone") == [{"op": "gone", "end": 1}, {"op": "gone", "end": 0}]
    assert bench.end(1).read == bench.end(0).rx_packets + bench.end(1).drops[DropPoint.WRITE_FAILED] == 60


async def test_a_pair_goes_on_after_another_pair_lost_both_devices(
    bench: Bench, taps: Taps, stand_in: MakeStandIn
) -> None:
    a, b, here, there = taps.make(), taps.make(), stand_in(), stand_in()
    bench.softnet.netdev_budget = 4
    with closing(PacketSocket(b.netns, b.name)) as sender:
        for number in range(60):
            sender.send(numbered(number))
    bench.add(a, b, here, there)
    await bench.turn_until(lambda: bench.end(1).read == 60)
    a.delete()
    b.delete()
    here.send(numbered(0))
    await bench.turn_until(lambda: bench.end(3).rx_packets == 1)
    await bench.turn_until(lambda: len(bench.recorder.all("gone")) == 2)


# -- refused headers --------------------------------------------------------------------------------------------------


async def test_refused_headers_are_reported_at_16_and_at_each_doubling(
    bench: Bench, taps: Taps, stand_in: MakeStandIn
) -> None:
    a, b = stand_in(), taps.make()
    bench.add(a, b)
    refused = b"\0\1" + PLAIN_HEADER[2:]
    for count in range(1, 70):
        a.send(numbered(count), refused)
        await bench.turn_until(lambda expected=count: bench.end(0).drops[DropPoint.HDR_INVALID] == expected)  # type: ignore[misc]
    reports = [{"op": "hdr_invalid", "end": 0, "frames": frames} for frames in (16, 32, 64)]
    assert bench.recorder.all("hdr_invalid") == reports
    assert HDR_INVALID_REPORT == 16


# -- merging ----------------------------------------------------------------------------------------------------------


async def test_what_was_merged_is_published_before_it_is_written(bench: Bench, stand_in: MakeStandIn) -> None:
    """A worker that dies from there on leaves the kernel's count of written frames, and this."""
    a, b = stand_in(), stand_in()
    merged: list[int] = []
    published: list[int] = []

    def look(batch: list[Skb]) -> None:
        merged.append(sum(skb.gso_segs - 1 for skb in batch))
        published.append(bench.end(0).merged)

    bench.frameio.before_delivery = look
    for number in range(20):
        packet = Packet(bytes(100), seq=1 + 100 * number, ident=number)
        a.send(packet.frame(), packet.header().pack())
    bench.add(a, b)
    bench.handle("set", end=1, gro=True)
    await bench.turn_until(lambda: bench.end(0).read == 20)
    assert published == list(accumulate(merged))
    assert bench.end(0).merged == sum(merged) > 0
