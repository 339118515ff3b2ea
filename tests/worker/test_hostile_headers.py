"""Virtio headers that no kernel would write, handed over through a stand-in end to a real TAP.

The kernel refuses some with EINVAL: each is one counted drop at HDR_INVALID. Others it takes, odd as they are. Either
way worker and pair live on: an ordinary frame passes afterwards. Rows: tun_get_user and virtio_net_hdr_to_skb,
kernel 6.18.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace

import pytest

from tests.frameio.taps import Taps
from tests.kit.frames import ETH_P_8021Q, ETH_P_IP, ETH_P_IPV6, checksum, frame, numbered
from tests.kit.packets import PacketSocket, VnetHeader
from tests.worker.conftest import FRAMEIO
from tests.worker.ends import StandIn
from tests.worker.subject import ENDS, Worker
from vethd.drops import DropPoint
from vethd.worker.counters import Counters

NEEDS_CSUM = 1
TCPV4, UFO, TCPV6, UDP_L4, TUNNEL4, TUNNEL6, ECN = 1, 3, 4, 5, 0x20, 0x40, 0x80
TCP, UDP = 6, 17
A4, B4 = bytes.fromhex("0a000001"), bytes.fromhex("0a000002")
A6, B6 = bytes.fromhex("fd" + "00" * 14 + "01"), bytes.fromhex("fd" + "00" * 14 + "02")


def transport(protocol: int) -> bytes:
    """A TCP or UDP header whose checksum is still to be computed."""
    if protocol == TCP:
        return struct.pack("!HHIIBBHHH", 5001, 5002, 1, 1, 0x50, 0x10, 65535, 0, 0)
    return struct.pack("!HHHH", 5001, 5002, 0, 0)


def ipv4(protocol: int, size: int, tags: tuple[tuple[int, int], ...] = ()) -> bytes:
    """An IPv4 frame of `size` bytes, tags included."""
    length = size - 14 - 4 * len(tags)
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, length, 1, 0x4000, 64, protocol, 0, A4, B4)
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    return frame(size, ethertype=ETH_P_IP, payload=head + transport(protocol), tags=tags)


def ipv6(protocol: int, size: int) -> bytes:
    """An IPv6 frame of `size` bytes."""
    head = struct.pack("!IHBB16s16s", 0x60000000, size - 54, protocol, 64, A6, B6)
    return frame(size, ethertype=ETH_P_IPV6, payload=head + transport(protocol))


TCP4 = VnetHeader(NEEDS_CSUM, TCPV4, 54, 1448, 34, 16)
TCP6 = VnetHeader(NEEDS_CSUM, TCPV6, 74, 1428, 54, 16)
USO4 = VnetHeader(NEEDS_CSUM, UDP_L4, 42, 1000, 34, 6)
PLAIN = VnetHeader(NEEDS_CSUM, 0, 54, 0, 34, 16)
TCP4_FRAME, TCP6_FRAME, UDP4_FRAME = ipv4(TCP, 5000), ipv6(TCP, 5000), ipv4(UDP, 5042)
SMALL = ipv4(TCP, 100)


@dataclass(frozen=True)
class Row:
    """A header, and the frame behind it."""

    name: str
    header: VnetHeader
    data: bytes


REFUSED = [
    Row("hdr_len beyond the frame", replace(PLAIN, hdr_len=101), SMALL),
    Row("hdr_len 65535", replace(PLAIN, hdr_len=65535), SMALL),
    *(Row(f"hdr_len {size} without NEEDS_CSUM", VnetHeader(hdr_len=size), SMALL) for size in range(1, 14)),
    Row("gso_size 0", replace(TCP4, gso_size=0), TCP4_FRAME),
    Row("gso_size 65535", replace(TCP4, gso_size=65535), TCP4_FRAME),
    Row("csum_start beyond the frame", replace(PLAIN, csum_start=101), SMALL),
    Row("csum_start 65535", replace(PLAIN, csum_start=65535), SMALL),
    Row("csum_offset beyond the frame", replace(PLAIN, csum_offset=99), SMALL),
    Row("csum_offset 65535", replace(PLAIN, csum_offset=65535), SMALL),
    *(
        Row(f"csum_start {start}, less than 20 bytes of network header", replace(TCP4, csum_start=start), TCP4_FRAME)
        for start in (0, 14)
    ),
    *(Row(f"TCP GSO with csum_offset {at}", replace(TCP4, csum_offset=at), TCP4_FRAME) for at in (0, 6, 15, 17)),
    Row("TCPv6 GSO with csum_offset 6", replace(TCP6, csum_offset=6), TCP6_FRAME),
    *(Row(f"USO with csum_offset {at}", replace(USO4, csum_offset=at), UDP4_FRAME) for at in (0, 7, 16)),
    Row("USO without NEEDS_CSUM", replace(USO4, flags=0), UDP4_FRAME),
    Row("USO of 129 segments", replace(USO4, gso_size=100), ipv4(UDP, 42 + 128 * 100 + 1)),
    Row("USO with ECN", replace(USO4, gso_type=UDP_L4 | ECN), UDP4_FRAME),
    *(Row(f"gso_type {kind}, unassigned", replace(TCP4, gso_type=kind), TCP4_FRAME) for kind in (2, 6)),
    *(
        Row(f"gso_type {kind | tunnel:#x} without tunnel offload", replace(TCP4, gso_type=kind | tunnel), TCP4_FRAME)
        for tunnel in (TUNNEL4, TUNNEL6)
        for kind in (0, TCPV4, TCPV6, UDP_L4)
    ),
    Row("TCPV6 on an IPv4 frame", replace(TCP4, gso_type=TCPV6), TCP4_FRAME),
    Row("TCPV4 on UDP, with the csum_offset of UDP", replace(USO4, gso_type=TCPV4), UDP4_FRAME),
    Row("ECN alone", VnetHeader(gso_type=ECN), SMALL),
    Row("every field at its largest", VnetHeader(255, 255, 65535, 65535, 65535, 65535), TCP4_FRAME),
]

TAKEN = [
    Row("hdr_len 0", replace(TCP4, hdr_len=0), TCP4_FRAME),
    Row("hdr_len 10 with NEEDS_CSUM", replace(TCP4, hdr_len=10), TCP4_FRAME),
    *(Row(f"gso_size {size}", replace(TCP4, gso_size=size), TCP4_FRAME) for size in (1, 7)),
    Row("TSO without NEEDS_CSUM", replace(TCP4, flags=0), TCP4_FRAME),
    Row("TSO with ECN", replace(TCP4, gso_type=TCPV4 | ECN), TCP4_FRAME),
    Row("TCPV4 on an IPv6 frame", replace(TCP6, gso_type=TCPV4), TCP6_FRAME),
    Row("TCPV4 on UDP with a csum_offset of 16", replace(USO4, gso_type=TCPV4, csum_offset=16), UDP4_FRAME),
    Row("TCPV4 on UDP without NEEDS_CSUM", replace(USO4, flags=0, gso_type=TCPV4), UDP4_FRAME),
    Row("TSO on a frame shorter than a segment", replace(TCP4, gso_size=1448), SMALL),
    *(Row(f"flags {flags}", VnetHeader(flags=flags), SMALL) for flags in (2, 4, 8)),
    Row("flags 255", replace(PLAIN, flags=255), SMALL),
    Row("csum_start without the tag", TCP4, ipv4(TCP, 5004, tags=((ETH_P_8021Q, 7),))),
    Row("GSO of 65 KiB", TCP4, ipv4(TCP, 65535)),
    Row("bytes of the checksum fields without NEEDS_CSUM", VnetHeader(0, 0, 0, 9, 65535, 65535), SMALL),
]

MakeStandIn = Callable[..., StandIn]


@pytest.fixture(scope="module", params=FRAMEIO)
def one_worker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """The worker that all rows share: none of them harms it, and each takes its pair back."""
    log = tmp_path_factory.mktemp("rows") / "log"
    with closing(Counters.create(ENDS)) as counters, closing(Worker(log, counters, frameio=request.param)) as made:
        made.greet()
        yield made


def send_then_a_good_one(worker: Worker, taps: Taps, stand_in: MakeStandIn, row: Row, refused: bool) -> None:
    """Send the row and then an ordinary frame; the counters and the receiver must show what became of each."""
    a, b = stand_in(), taps.make()
    pair = worker.add(a, b)
    with closing(PacketSocket(b.netns, b.name)) as receiver:
        a.send(row.data, row.header.pack())
        pair.wait_read(1)
        assert pair.drops() == ({DropPoint.HDR_INVALID: 1} if refused else {})
        assert (pair.b.rx_packets, b.kernel("rx_packets")) == (int(not refused), int(not refused))
        a.send(numbered(1))
        pair.wait_read(2)
        arrivals = receiver.collect(1, wanted=lambda arrival: arrival.data == numbered(1))
        assert len(arrivals) == 1
    assert pair.b.rx_packets == b.kernel("rx_packets") == (1 if refused else 2)
    worker.remove(pair)


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row.name)
def test_a_header_that_the_kernel_refuses_is_one_counted_drop(
    one_worker: Worker, taps: Taps, stand_in: MakeStandIn, row: Row
) -> None:
    send_then_a_good_one(one_worker, taps, stand_in, row, refused=True)


@pytest.mark.parametrize("row", TAKEN, ids=lambda row: row.name)
def test_a_header_that_is_odd_but_taken_does_no_harm(
    one_worker: Worker, taps: Taps, stand_in: MakeStandIn, row: Row
) -> None:
    send_then_a_good_one(one_worker, taps, stand_in, row, refused=False)


def test_all_refused_headers_in_one_burst_are_counted_each(worker: Worker, taps: Taps, stand_in: MakeStandIn) -> None:
    a, b = stand_in(), taps.make()
    worker.talk.ignore("hdr_invalid")
    pair = worker.add(a, b)
    for row in REFUSED:
        a.send(row.data, row.header.pack())
    for row in TAKEN:
        a.send(row.data, row.header.pack())
    pair.wait_read(len(REFUSED) + len(TAKEN))
    assert pair.drops() == {DropPoint.HDR_INVALID: len(REFUSED)}
    assert pair.b.rx_packets == b.kernel("rx_packets") == len(TAKEN)


def test_headers_of_another_size_are_counted_just_as_well(worker: Worker, taps: Taps, stand_in: MakeStandIn) -> None:
    """With the most offloads that the kernel has, the header may be 24 bytes long; the rows are refused there too."""
    b = taps.make(best=True)
    a = stand_in(b.hdr_len)
    worker.talk.ignore("hdr_invalid")
    pair = worker.add(a, b)
    padding = bytes(b.hdr_len - 10)
    basic = [row for row in REFUSED if "tunnel" not in row.name]
    for row in basic:
        a.send(row.data, row.header.pack() + padding)
    pair.wait_read(len(basic))
    assert pair.drops() == {DropPoint.HDR_INVALID: len(basic)}
    a.send(numbered(1))
    pair.wait_read(len(basic) + 1)
    assert pair.b.rx_packets == b.kernel("rx_packets") == 1
