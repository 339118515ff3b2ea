"""veth.py: each drop point between the sending end and the backlog, the scrub, and how the receiver sees a frame."""

import pytest

from tests.datapath.ingress import A_MAC, B_MAC, HDR_LEN, make_pair, read_frame, read_runt, take_all, to_b
from tests.kit.frames import frame
from vethd.datapath.netdev import NetDevice, part
from vethd.datapath.skb import (
    CHECKSUM_NONE,
    CHECKSUM_PARTIAL,
    PACKET_BROADCAST,
    PACKET_HOST,
    PACKET_MULTICAST,
    PACKET_OTHERHOST,
)
from vethd.datapath.softnet import SoftnetData
from vethd.datapath.veth import (
    dev_forward_skb,
    eth_type_trans,
    ingest,
    is_skb_forwardable,
    skb_scrub_packet,
    veth_xmit,
)
from vethd.drops import N_POINTS, DropPoint

NOW = 123_456_789
TCPV4, UDP_L4, ECN = 1, 5, 0x80
ETH_P_802_3, ETH_P_802_2 = 0x0001, 0x0004


def gso_header(gso_type: int, flags: int = 1) -> bytes:
    """A virtio header of 10 bytes with these flags and this gso_type."""
    return bytes([flags, gso_type]) + bytes(HDR_LEN - 2)


def only(point: DropPoint, count: int = 1) -> list[int]:
    """Drop counters in which only this point has counted."""
    return [count if number == point else 0 for number in range(N_POINTS)]


def assert_dropped(a: NetDevice, b: NetDevice, softnet: SoftnetData, point: DropPoint) -> None:
    """One frame of A was read and dropped at `point`, counted there alone, and its Skb is back in the pool."""
    assert list(a.drops) == only(point)
    assert (a.read, a.tx_packets, a.tx_bytes) == (1, 0, 0)
    assert (b.read, b.rx_packets, b.rx_bytes, list(b.drops)) == (0, 0, 0, [0] * N_POINTS)
    assert softnet.pool.in_use == 0
    assert not softnet.pending()


def test_a_frame_that_is_taken_counts_as_transmitted_with_its_length() -> None:
    a, b = make_pair()
    softnet = SoftnetData()
    assert veth_xmit(a, read_frame(softnet, to_b(60)), softnet, NOW)
    assert veth_xmit(a, read_frame(softnet, to_b(1514)), softnet, NOW)
    assert (a.read, a.tx_packets, a.tx_bytes) == (2, 2, 60 + 1514)
    assert (list(a.drops), b.rx_packets) == ([0] * N_POINTS, 0)
    assert softnet.pool.in_use == 2
    assert take_all(softnet) == [to_b(60), to_b(1514)]


def test_point_1_a_frame_without_a_peer_is_dropped() -> None:
    a, b = make_pair()
    part(a, b)
    softnet = SoftnetData()
    assert not veth_xmit(a, read_frame(softnet, to_b()), softnet, NOW)
    assert_dropped(a, b, softnet, DropPoint.PEER_GONE)


def test_point_2_a_frame_without_carrier_is_dropped() -> None:
    a, b = make_pair(carrier=False)
    softnet = SoftnetData()
    assert not veth_xmit(a, read_frame(softnet, to_b()), softnet, NOW)
    assert_dropped(a, b, softnet, DropPoint.NO_CARRIER)


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 23])
def test_point_3_a_frame_shorter_than_an_ethernet_header_is_dropped(size: int) -> None:
    a, b = make_pair()
    softnet = SoftnetData()
    assert not veth_xmit(a, read_runt(softnet, size), softnet, NOW)
    assert_dropped(a, b, softnet, DropPoint.PKT_TOO_SMALL)


def test_a_frame_of_exactly_an_ethernet_header_passes() -> None:
    a, _b = make_pair()
    softnet = SoftnetData()
    assert veth_xmit(a, read_frame(softnet, to_b(14)), softnet, NOW)
    assert take_all(softnet) == [to_b(14)]


@pytest.mark.parametrize("mtu", [68, 1000, 1500, 9000, 65521])
def test_point_4_a_frame_longer_than_the_receivers_mtu_plus_18_is_dropped(mtu: int) -> None:
    a, b = make_pair()
    b.mtu = mtu
    softnet = SoftnetData()
    assert not veth_xmit(a, read_frame(softnet, to_b(mtu + 19)), softnet, NOW)
    assert_dropped(a, b, softnet, DropPoint.PKT_TOO_BIG)


@pytest.mark.parametrize("mtu", [68, 1000, 1500, 9000, 65521])
def test_a_frame_of_exactly_the_receivers_mtu_plus_18_passes(mtu: int) -> None:
    a, b = make_pair()
    b.mtu = mtu
    softnet = SoftnetData()
    assert veth_xmit(a, read_frame(softnet, to_b(mtu + 18)), softnet, NOW)
    assert len(take_all(softnet)[0]) == mtu + 18


def test_the_senders_own_mtu_does_not_matter() -> None:
    a, _b = make_pair()
    a.mtu = 68
    softnet = SoftnetData()
    assert veth_xmit(a, read_frame(softnet, to_b(1514)), softnet, NOW)
    take_all(softnet)


@pytest.mark.parametrize("gso_type", [TCPV4, 4, UDP_L4, TCPV4 | ECN, 0x21, 0x41])
def test_a_gso_frame_is_exempt_from_the_receivers_mtu(gso_type: int) -> None:
    a, _b = make_pair()
    softnet = SoftnetData()
    skb = read_frame(softnet, to_b(65000), gso_header(gso_type))
    assert veth_xmit(a, skb, softnet, NOW)
    assert skb.gso_type == gso_type & ~ECN
    take_all(softnet)


def test_the_ecn_bit_alone_does_not_make_a_gso_frame() -> None:
    a, b = make_pair()
    softnet = SoftnetData()
    assert not veth_xmit(a, read_frame(softnet, to_b(1519), gso_header(ECN)), softnet, NOW)
    assert_dropped(a, b, softnet, DropPoint.PKT_TOO_BIG)


@pytest.mark.parametrize(("length", "gso_type", "forwardable"), [(118, 0, True), (119, 0, False), (119, TCPV4, True)])
def test_forwardable_depends_on_length_and_gso(length: int, gso_type: int, forwardable: bool) -> None:
    dev = NetDevice(1, mtu=100)
    skb = SoftnetData().pool.alloc()
    skb.len, skb.gso_type = length, gso_type
    assert is_skb_forwardable(dev, skb) is forwardable


def test_point_5_a_frame_is_dropped_when_the_backlog_is_full() -> None:
    a, b = make_pair()
    softnet = SoftnetData()
    softnet.netdev_max_backlog = 0
    assert not veth_xmit(a, read_frame(softnet, to_b()), softnet, NOW)
    assert_dropped(a, b, softnet, DropPoint.CPU_BACKLOG)
    assert softnet.dropped == 1


def test_only_point_5_counts_as_dropped_by_the_softnet() -> None:
    softnet = SoftnetData()
    alone, no_carrier = NetDevice(1, hdr_len=HDR_LEN), make_pair(carrier=False)[0]
    good = make_pair()[0]
    for dev, data in ((alone, to_b()), (no_carrier, to_b()), (good, to_b(13)), (good, to_b(1519))):
        assert not veth_xmit(dev, read_frame(softnet, data), softnet, NOW)
    assert softnet.dropped == 0


def test_a_frame_meets_the_drop_points_in_their_order() -> None:
    softnet = SoftnetData()
    softnet.netdev_max_backlog = 0
    a, b = make_pair(carrier=False)
    met: list[int] = []

    def send(data: bytes) -> None:
        before = list(a.drops)
        veth_xmit(a, read_frame(softnet, data), softnet, NOW)
        met.append(next(point for point in DropPoint if a.drops[point] != before[point]))

    a.peer = None
    send(to_b(13))
    a.peer = b
    send(to_b(13))
    a.carrier = True
    send(to_b(13))
    send(to_b(1519))
    send(to_b(1518))
    assert met == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("flags", "ip_summed"), [(0, CHECKSUM_NONE), (1, CHECKSUM_PARTIAL), (2, CHECKSUM_NONE)])
def test_the_checksum_state_comes_from_the_header(flags: int, ip_summed: int) -> None:
    a, _b = make_pair()
    softnet = SoftnetData()
    skb = read_frame(softnet, to_b(), gso_header(0, flags))
    veth_xmit(a, skb, softnet, NOW)
    assert skb.ip_summed == ip_summed
    take_all(softnet)


@pytest.mark.parametrize("hdr_len", [10, 12, 24])
def test_header_and_frame_are_passed_on_byte_for_byte(hdr_len: int) -> None:
    a, b = make_pair()
    a.hdr_len = b.hdr_len = hdr_len
    softnet = SoftnetData()
    header = bytes([1, TCPV4]) + bytes(range(100, 98 + hdr_len))
    skb = read_frame(softnet, to_b(1514), header)
    veth_xmit(a, skb, softnet, NOW)
    assert bytes(skb.data[: skb.head + skb.len]) == header + to_b(1514)
    assert take_all(softnet) == [to_b(1514)]


def test_a_reused_skb_keeps_nothing_of_its_last_frame() -> None:
    a, b = make_pair(b_netns=1)
    softnet = SoftnetData()
    skb = read_frame(softnet, frame(1514, "01:00:5e:00:00:01", A_MAC, ethertype=0x86DD), gso_header(TCPV4))
    veth_xmit(a, skb, softnet, NOW)
    take_all(softnet)
    again = read_frame(softnet, frame(60, A_MAC, B_MAC))
    assert again is skb
    veth_xmit(b, again, softnet, NOW + 1)
    assert (again.dev, again.skb_iif, again.pkt_type, again.protocol) == (a, a.number, PACKET_HOST, 0x88B5)
    assert (again.ip_summed, again.gso_type, again.tstamp, again.len) == (CHECKSUM_NONE, 0, NOW + 1, 60)
    take_all(softnet)


@pytest.mark.parametrize(("b_netns", "tstamp"), [(1, NOW), (2, 0)])
def test_the_arrival_time_survives_only_within_one_namespace(b_netns: int, tstamp: int) -> None:
    a, _b = make_pair(b_netns=b_netns)
    softnet = SoftnetData()
    skb = read_frame(softnet, to_b())
    veth_xmit(a, skb, softnet, NOW)
    assert skb.tstamp == tstamp
    take_all(softnet)


@pytest.mark.parametrize(("xnet", "tstamp"), [(False, NOW), (True, 0)])
def test_the_scrub_resets_type_and_ingress_and_across_namespaces_the_time(xnet: bool, tstamp: int) -> None:
    skb = SoftnetData().pool.alloc()
    skb.pkt_type, skb.skb_iif, skb.tstamp = PACKET_OTHERHOST, 9, NOW
    skb.protocol, skb.ip_summed, skb.gso_type = 0x0800, CHECKSUM_PARTIAL, TCPV4
    skb_scrub_packet(skb, xnet)
    assert (skb.pkt_type, skb.skb_iif, skb.tstamp) == (PACKET_HOST, 0, tstamp)
    assert (skb.protocol, skb.ip_summed, skb.gso_type) == (0x0800, CHECKSUM_PARTIAL, TCPV4)


def test_a_frame_from_nowhere_is_scrubbed_as_if_it_crossed_namespaces() -> None:
    _a, b = make_pair()
    softnet = SoftnetData()
    skb = read_frame(softnet, to_b())
    skb.head, skb.dev, skb.tstamp, skb.gso_type = HDR_LEN, None, NOW, 0
    assert dev_forward_skb(b, skb, softnet) == 0
    assert skb.tstamp == 0
    take_all(softnet)


@pytest.mark.parametrize(
    ("destination", "pkt_type"),
    [
        (B_MAC, PACKET_HOST),
        (A_MAC, PACKET_OTHERHOST),
        (bytes(6), PACKET_OTHERHOST),
        (b"\xff" * 6, PACKET_BROADCAST),
        (b"\xff" * 5 + b"\xfd", PACKET_MULTICAST),
        (bytes.fromhex("01005e000001"), PACKET_MULTICAST),
        (bytes.fromhex("333300000001"), PACKET_MULTICAST),
        (bytes.fromhex("0180c2000001"), PACKET_MULTICAST),
    ],
)
def test_the_receiver_tells_by_the_destination_whom_a_frame_is_for(destination: bytes, pkt_type: int) -> None:
    a, b = make_pair()
    softnet = SoftnetData()
    skb = read_frame(softnet, frame(60, destination, A_MAC))
    assert veth_xmit(a, skb, softnet, NOW)
    assert (skb.pkt_type, skb.dev, skb.skb_iif) == (pkt_type, b, b.number)
    take_all(softnet)


@pytest.mark.parametrize(
    ("ethertype", "payload", "protocol"),
    [
        (0x0800, b"", 0x0800),
        (0x86DD, b"", 0x86DD),
        (0x8100, b"", 0x8100),
        (0xFFFF, b"", 0xFFFF),
        (0x0600, b"\xff\xff", 0x0600),
        (0x05FF, b"\xff\xff", ETH_P_802_3),
        (0x002E, b"\xff\xff", ETH_P_802_3),
        (0x002E, b"\xaa\xaa", ETH_P_802_2),
        (0x002E, b"\xff\x00", ETH_P_802_2),
        (0x002E, b"\x00\xff", ETH_P_802_2),
        (0x0000, b"\x42\x42", ETH_P_802_2),
    ],
)
def test_the_protocol_is_the_ethertype_or_what_an_802_3_length_stands_for(
    ethertype: int, payload: bytes, protocol: int
) -> None:
    a, _b = make_pair()
    softnet = SoftnetData()
    skb = read_frame(softnet, frame(60, B_MAC, A_MAC, ethertype=ethertype, payload=payload))
    assert veth_xmit(a, skb, softnet, NOW)
    assert skb.protocol == protocol
    take_all(softnet)


@pytest.mark.parametrize("size", [14, 15])
def test_a_length_frame_without_payload_does_not_look_at_the_bytes_behind_it(size: int) -> None:
    _a, b = make_pair()
    softnet = SoftnetData()
    skb = read_frame(softnet, frame(60, B_MAC, A_MAC, ethertype=0, payload=b"\xff\xff"))
    skb.head, skb.len = HDR_LEN, size
    eth_type_trans(skb, b)
    assert skb.protocol == ETH_P_802_2
    softnet.pool.free(skb)


def test_ingest_sends_a_batch_in_order_and_remembers_the_sender_once() -> None:
    a, _b = make_pair()
    softnet = SoftnetData()
    sizes = [60, 13, 61, 1600, 62]
    ingest(a, [read_frame(softnet, to_b(size)) for size in sizes], softnet, NOW)
    ingest(a, [read_frame(softnet, to_b(63))], softnet, NOW)
    assert [len(data) for data in take_all(softnet)] == [60, 61, 62, 63]
    assert (a.read, a.tx_packets) == (6, 4)
    assert (a.drops[DropPoint.PKT_TOO_SMALL], a.drops[DropPoint.PKT_TOO_BIG]) == (1, 1)
    assert softnet.touched == [a]
    assert softnet.pool.in_use == 0
