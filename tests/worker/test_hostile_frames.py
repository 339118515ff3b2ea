"""Frames that are too short, too long or nonsense: counted, never a crash, and the pair lives on."""

import random
import time
from collections.abc import Callable
from contextlib import closing

import pytest

from tests.frameio.taps import Taps
from tests.kit.frames import frame, numbered
from tests.kit.packets import PacketSocket
from tests.kit.waiting import eventually
from tests.worker.ends import HDR_LEN, PLAIN_HEADER, StandIn, unread
from tests.worker.subject import WirePair, Worker
from vethd.drops import DropPoint

MakeStandIn = Callable[..., StandIn]
SEED = 1846
RANDOM_SECONDS = 10


def good_frame_passes(pair: WirePair, a: StandIn) -> None:
    """An ordinary frame crosses now."""
    read, delivered = pair.a.read, pair.b.rx_packets
    a.send(numbered(1))
    pair.wait_read(read + 1)
    assert pair.b.rx_packets == delivered + 1


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 23])
def test_a_packet_shorter_than_both_headers_is_a_counted_drop(
    worker: Worker, taps: Taps, stand_in: MakeStandIn, size: int
) -> None:
    """Frames of 0, 1 and 13 bytes behind a virtio header, and packets that do not even hold the header."""
    a = stand_in()
    pair = worker.add(a, taps.make())
    a.send_packet(bytes(size))
    pair.wait_read(1)
    assert pair.drops() == {DropPoint.PKT_TOO_SMALL: 1}
    assert (pair.a.tx_packets, pair.a.tx_bytes, pair.b.rx_packets) == (0, 0, 0)
    good_frame_passes(pair, a)


def test_a_frame_of_14_bytes_is_delivered(worker: Worker, taps: Taps, stand_in: MakeStandIn) -> None:
    a, b = stand_in(), taps.make()
    pair = worker.add(a, b)
    with closing(PacketSocket(b.netns, b.name)) as receiver:
        a.send(frame(14))
        pair.wait_read(1)
        arrival = receiver.receive()
    assert arrival is not None
    assert arrival.data == frame(14)
    assert pair.drops() == {}


@pytest.mark.parametrize("size", [1519, 9018, 65535, 65550, 65590, 100_000])
def test_an_ordinary_frame_that_is_too_long_is_a_counted_drop(
    worker: Worker, taps: Taps, stand_in: MakeStandIn, size: int
) -> None:
    a = stand_in()
    pair = worker.add(a, taps.make())
    a.send(frame(size))
    pair.wait_read(1)
    assert pair.drops() == {DropPoint.PKT_TOO_BIG: 1}
    good_frame_passes(pair, a)


@pytest.mark.parametrize("size", [65535, 65550, 65590])
def test_a_gso_frame_of_65_kib_is_handed_over_whole(worker: Worker, stand_in: MakeStandIn, size: int) -> None:
    a, b = stand_in(), stand_in()
    pair = worker.add(a, b)
    header = b"\1\1" + PLAIN_HEADER[2:]
    a.send(frame(size), header)
    assert b.receive() == (header, frame(size))
    pair.wait_read(1)
    assert (pair.drops(), pair.a.tx_bytes) == ({}, size)


def test_the_ecn_bit_does_not_let_a_long_frame_pass(worker: Worker, taps: Taps, stand_in: MakeStandIn) -> None:
    a = stand_in()
    pair = worker.add(a, taps.make())
    a.send(frame(1519), b"\0\x80" + PLAIN_HEADER[2:])
    pair.wait_read(1)
    assert pair.drops() == {DropPoint.PKT_TOO_BIG: 1}


def test_a_short_frame_does_not_show_what_an_earlier_one_left_in_the_buffer(
    worker: Worker, stand_in: MakeStandIn
) -> None:
    a, b = stand_in(), stand_in()
    worker.add(a, b)
    for size in (1518, 14, 60):
        a.send(frame(size, payload=bytes([size & 0xFF]) * 1600))
        assert b.receive() == (PLAIN_HEADER, frame(size, payload=bytes([size & 0xFF]) * 1600))


def hostile_packet(rng: random.Random) -> bytes:
    """A packet of any length: random throughout, or an ordinary frame with a few bytes of it changed."""
    kind = rng.randrange(4)
    if kind == 0:
        return rng.randbytes(rng.choice([0, 1, 9, 10, 13, 23, 24, 25, 60, rng.randrange(2000), rng.randrange(66000)]))
    packet = bytearray(PLAIN_HEADER + frame(rng.choice([14, 60, 342, 1514]), ethertype=rng.choice([0x0800, 0x86DD])))
    if kind == 1:
        packet[:HDR_LEN] = rng.randbytes(HDR_LEN)
    elif kind == 2:
        packet[:2] = bytes([rng.choice([0, 1, 2]), rng.choice([0, 1, 3, 4, 5, 0x21, 0x80, 0x81])])
        packet[rng.randrange(2, HDR_LEN)] = rng.randrange(256)
    for _ in range(rng.randrange(8)):
        packet[rng.randrange(len(packet))] = rng.randrange(256)
    return bytes(packet)


def test_ten_seconds_of_random_bytes_are_accounted_for_frame_by_frame(
    worker: Worker, taps: Taps, stand_in: MakeStandIn
) -> None:
    """What the stack of the receiving namespace answers goes back to the stand-in and is accounted for as well."""
    a, b = stand_in(), taps.make()
    worker.talk.ignore("hdr_invalid")
    pair = worker.add(a, b)
    rng = random.Random(SEED)
    sent = 0
    end = time.monotonic() + RANDOM_SECONDS
    while time.monotonic() < end:
        for _ in range(50):
            a.send_packet(hostile_packet(rng))
        sent += 50
        a.waiting()
    pair.wait_read(sent)
    eventually(lambda: unread(b), lambda waits: not waits, "the receiver's answers are read")
    good_frame_passes(pair, a)
    worker.remove(pair)
    assert pair.a.read == sent + 1
    assert pair.imbalance() == []
    assert pair.b.rx_packets == b.kernel("rx_packets")
    reached = {DropPoint.PKT_TOO_SMALL, DropPoint.PKT_TOO_BIG, DropPoint.HDR_INVALID}
    assert reached <= pair.drops().keys() <= reached | {DropPoint.CPU_BACKLOG}
    print(f"\n{sent} random packets, delivered {pair.b.rx_packets}, dropped {pair.drops()}")
