"""GRO by its rules: what becomes one frame, what stays by itself, and that cutting gives back what was sent."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.datapath.flows import ACK, CWR, ECE, FIN, PSH, RST, SYN, URG, Packet, cut, finish
from tests.kit.frames import ETH_P_8021AD, checksum
from tests.kit.ippackets import GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, IPPROTO_TCP, IPPROTO_UDP
from tests.kit.packets import VNET_HDR, VnetHeader
from vethd.datapath.gro import napi_gro_receive
from vethd.datapath.netdev import NetDevice, join
from vethd.datapath.skb import Skb
from vethd.datapath.softnet import SoftnetData
from vethd.datapath.veth import ingest

HDR_LEN = 10
GRO_MAX_SEGS, UDP_GRO_CNT_MAX = 128, 64  # compiled, the module's own are C's
Raw = tuple[bytes, bytes]  # virtio header, frame


@dataclass
class Wire:
    """A pair of which B merges; `receive` is what a batch becomes."""

    hdr_len: int = HDR_LEN

    def __post_init__(self) -> None:
        self.softnet = SoftnetData()
        self.a = NetDevice(0, carrier=True, hdr_len=self.hdr_len, mtu=65521)
        self.b = NetDevice(1, carrier=True, hdr_len=self.hdr_len, mtu=65521, gro=True)
        join(self.a, self.b)

    def forward(self, frames: list[Raw], dev: NetDevice | None = None) -> None:
        """Read frames from an end, A if not told, into the backlog."""
        batch: list[Skb] = []
        for header, data in frames:
            skb = self.softnet.pool.alloc()
            whole = header.ljust(self.hdr_len, b"\0") + data
            skb.data[: len(whole)] = whole
            skb.len = len(data)
            batch.append(skb)
        ingest(dev or self.a, batch, self.softnet, 1)

    def take(self) -> list[Skb]:
        """Everything in the backlog as one batch, merged."""
        return napi_gro_receive(self.softnet.process_backlog(1000), self.softnet)

    def receive(self, frames: list[Raw]) -> list[Raw]:
        """What B is given of these frames, each with the first ten bytes of its virtio header."""
        self.forward(frames)
        taken = self.take()
        given = [(bytes(skb.data[:HDR_LEN]), skb.frame()) for skb in taken]
        assert self.a.merged == len(frames) - len(given) == sum(skb.gso_segs - 1 for skb in taken)
        assert self.softnet.pool.in_use == len(taken)
        return given


def raw(packet: Packet) -> Raw:
    return packet.header().pack(), packet.frame()


def header_of(given: Raw) -> VnetHeader:
    return VnetHeader(*VNET_HDR.unpack(given[0]))


def segments(given: list[Raw]) -> list[bytes]:
    """What the receiver's kernel makes of what it is given."""
    return [segment for header, frame in given for segment in cut(header, frame)]


def sent(frames: list[Raw]) -> list[bytes]:
    return [finish(VnetHeader(*VNET_HDR.unpack(header)), frame) for header, frame in frames]


def lengths(given: list[Raw]) -> list[int]:
    """How many frames each of the given ones is made of."""
    return [len(cut(header, frame)) for header, frame in given]


def merged(*packets: Packet, hdr_len: int = HDR_LEN) -> list[int]:
    """How many packets each frame holds that B gets; cutting them must give the packets again."""
    frames = [raw(packet) for packet in packets]
    given = Wire(hdr_len).receive(frames)
    assert [_without_fixed_ident(frame) for frame in segments(given)] == [
        _without_fixed_ident(frame) for frame in sent(frames)
    ]
    return lengths(given)


def _without_fixed_ident(frame: bytes) -> bytes:
    """UDP with DF may have the same IP ID in every datagram; who cuts counts up, and with DF an ID means nothing."""
    at = 18 if frame[12:14] == b"\x81\x00" else 14
    if frame[at : at + 1] != b"\x45" or frame[at + 6 : at + 8] != b"\x40\x00" or frame[at + 9] != IPPROTO_UDP:
        return frame
    return frame[: at + 4] + bytes(2) + frame[at + 6 : at + 10] + bytes(2) + frame[at + 12 :]


def tcp(*sizes: int, first: Packet | None = None) -> list[Packet]:
    """Consecutive packets of a TCP stream with payloads of these sizes."""
    start = first or Packet(b"")
    at = [0, *accumulate(sizes)]
    return [
        replace(
            start,
            payload=bytes((number + byte) % 256 for byte in range(size)),
            seq=(start.seq + at[number]) & 0xFFFFFFFF,
            ident=(start.ident + number) & 0xFFFF,
        )
        for number, size in enumerate(sizes)
    ]


def udp(*sizes: int, first: Packet | None = None) -> list[Packet]:
    """Consecutive datagrams of one flow; their IP IDs count up."""
    start = replace(first or Packet(b""), protocol=IPPROTO_UDP)
    return [replace(packet, seq=start.seq) for packet in tcp(*sizes, first=start)]


class Flow(Protocol):
    """`tcp` or `udp`."""

    def __call__(self, *sizes: int, first: Packet | None = None) -> list[Packet]: ...


EITHER = pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
FLOW = pytest.mark.parametrize("flow", [tcp, udp], ids=["TCP", "UDP"])


@EITHER
@FLOW
@pytest.mark.parametrize("hdr_len", [10, 12, 24])
@pytest.mark.parametrize("tci", [None, 5, 0xE005], ids=["untagged", "VLAN 5", "VLAN 5, priority 7"])
def test_equal_frames_in_sequence_become_one(flow: Flow, ipv6: bool, tci: int | None, hdr_len: int) -> None:
    packets = flow(100, 100, 100, first=Packet(b"", ipv6=ipv6, tci=tci))
    assert merged(*packets, hdr_len=hdr_len) == [3]
    ((_, frame),) = given = Wire(hdr_len).receive([raw(packet) for packet in packets])
    header = header_of(given[0])
    gso = GSO_UDP_L4 if packets[0].protocol == IPPROTO_UDP else GSO_TCPV6 if ipv6 else GSO_TCPV4
    first = packets[0]
    start = len(first.frame()) - len(first.segment())
    assert header == replace(first.header(), gso_type=gso, gso_size=100, hdr_len=len(first.frame()) - 100)
    network, transport = frame[start - (40 if ipv6 else 20) : start], frame[start:]
    assert struct.unpack_from("!H", network, 4 if ipv6 else 2)[0] == len(transport) + (0 if ipv6 else 20)
    assert ipv6 or checksum(network) == 0
    assert len(transport) == len(first.segment()) + 200
    assert replace(first, payload=frame[-300:]).frame() == frame


@EITHER
@FLOW
def test_a_shorter_last_frame_ends_a_run_and_a_longer_one_begins_one(flow: Flow, ipv6: bool) -> None:
    first = Packet(b"", ipv6=ipv6)
    assert merged(*flow(100, 100, 60, 60, 100, 100, 100, 1, first=first)) == [3, 1, 4]
    assert merged(*flow(60, 100, 100, first=first)) == [1, 2]
    assert merged(*flow(100, 0, 100, first=first)) == [1, 1, 1]


@EITHER
def test_how_many_frames_one_may_hold(ipv6: bool) -> None:
    first = Packet(b"", ipv6=ipv6)
    assert merged(*tcp(*[10] * 200, first=first)) == [GRO_MAX_SEGS, 200 - GRO_MAX_SEGS]
    assert merged(*udp(*[10] * 100, first=first)) == [UDP_GRO_CNT_MAX, 100 - UDP_GRO_CNT_MAX]


@EITHER
@FLOW
@pytest.mark.parametrize("tci", [None, 5], ids=["untagged", "tagged"])
def test_a_packet_has_at_most_65535_bytes(flow: Flow, ipv6: bool, tci: int | None) -> None:
    first = Packet(b"", ipv6=ipv6, tci=tci)
    room = 65535 - len(flow(0, first=first)[0].network() + flow(0, first=first)[0].segment())
    half = room // 2 + 1
    for sizes, expected in (
        ((half, room - half), [2]),
        ((half, room - half + 1), [1, 1]),
        ((1448,) * 60, [room // 1448, 60 - room // 1448]),
    ):
        assert merged(*flow(*sizes, first=first)) == expected


CHANGES: dict[str, dict[str, Any]] = {
    "destination MAC": {"destination_mac": b"\x02\x00\x00\x00\x00\x09"},
    "source MAC": {"source_mac": b"\x02\x00\x00\x00\x00\x09"},
    "a tag": {"tci": 7},
    "TOS": {"tos": 4},
    "TTL": {"ttl": 63},
    "source address": {"source": bytes((192, 0, 2, 9))},
    "destination address": {"destination": bytes((192, 0, 2, 9))},
    "ports": {"ports": (40001, 9000)},
    "port": {"ports": (40000, 9001)},
    "DF": {"frag": 0},
    "MF": {"frag": 0x6000},
    "fragment offset": {"frag": 0x4001},
    "evil bit": {"frag": 0xC000},
}
CHANGES6: dict[str, dict[str, Any]] = {
    name: change for name, change in CHANGES.items() if not name.endswith(("F", "address", "offset", "bit"))
} | {
    "source address": {"source": bytes(15) + b"\x09"},
    "destination address": {"destination": bytes(15) + b"\x09"},
    "flow label": {"label": 5},
    "version": {"ipv6": False},
}


@FLOW
@pytest.mark.parametrize(
    ("first", "change"),
    [pytest.param(Packet(b""), change, id=f"IPv4, {name}") for name, change in CHANGES.items()]
    + [pytest.param(Packet(b"", ipv6=True), change, id=f"IPv6, {name}") for name, change in CHANGES6.items()],
)
def test_headers_must_be_equal(flow: Flow, first: Packet, change: dict[str, Any]) -> None:
    """The second packet differs, the third is as the first again: neither is appended, and order stays."""
    one, two, three = flow(100, 100, 100, first=first)
    assert merged(one, replace(two, **change), three) == [1, 1, 1]


@pytest.mark.parametrize(
    "change",
    [
        {"ack": 2},
        {"window": 1025},
        {"options": b""},
        {"options": bytes((1, 1, 8, 10)) + struct.pack("!II", 1001, 2000)},
        {"reserved": 1},
        {"urgent": 1},
        {"seq": 100},
        {"seq": 102},
        {"ident": 2},
        {"ident": 0},
        *({"flags": ACK | flag} for flag in (SYN, RST, URG, ECE, CWR)),
        {"flags": 0},
    ],
    ids=str,
)
def test_what_does_not_continue_a_tcp_stream(change: dict[str, Any]) -> None:
    one, two = tcp(100, 100)
    assert merged(one, replace(two, **change)) == [1, 1]


@pytest.mark.parametrize("flags", [SYN, RST, URG, CWR, CWR | ECE])
def test_flags_that_are_never_merged(flags: int) -> None:
    assert merged(*tcp(100, 100, 100, first=Packet(b"", flags=ACK | flags))) == [1, 1, 1]


@FLOW
@pytest.mark.parametrize("address", [b"\xff" * 6, bytes.fromhex("01005e000001")], ids=["broadcast", "multicast"])
def test_frames_to_many_are_left_alone(flow: Flow, address: bytes) -> None:
    assert merged(*flow(100, 100, 100, first=Packet(b"", destination_mac=address))) == [1, 1, 1]


def test_ece_may_stand_in_every_frame() -> None:
    assert merged(*tcp(100, 100, 100, first=Packet(b"", flags=ACK | ECE))) == [3]


@pytest.mark.parametrize("flag", [PSH, FIN, PSH | FIN])
def test_psh_and_fin_end_a_run(flag: int) -> None:
    one, two, three, four = tcp(100, 100, 100, 100)
    assert merged(one, replace(two, flags=ACK | flag), three, four) == [2, 2]
    assert merged(replace(one, flags=ACK | flag), two) == [1, 1]


def test_sequence_numbers_and_ids_wrap() -> None:
    assert merged(*tcp(100, 100, 100, first=Packet(b"", seq=2**32 - 150, ident=65534))) == [3]


def test_an_acknowledgement_without_data_goes_by_itself_and_closes_the_run() -> None:
    one, two = tcp(100, 100)
    assert merged(one, replace(one, payload=b"", seq=101, ident=9), two) == [1, 1, 1]


@pytest.mark.parametrize(
    ("frag", "idents", "expected"),
    [
        (0x4000, (7, 8, 9), [3]),
        (0x0000, (7, 8, 9), [3]),
        (0x4000, (0, 0, 0), [3]),
        (0x0000, (0, 0, 0), [1, 1, 1]),
        (0x4000, (0, 0, 1), [2, 1]),
        (0x4000, (7, 8, 8), [2, 1]),
        (0x4000, (7, 9, 11), [1, 1, 1]),
        (0x4000, (7, 6, 5), [1, 1, 1]),
    ],
)
def test_ip_ids_of_udp(frag: int, idents: tuple[int, ...], expected: list[int]) -> None:
    packets = udp(*[100] * 3, first=Packet(b"", frag=frag))
    assert merged(*(replace(p, ident=i) for p, i in zip(packets, idents, strict=True))) == expected


def test_fixed_ip_ids_of_tcp_are_left_alone() -> None:
    assert merged(*(replace(packet, ident=0) for packet in tcp(100, 100, 100))) == [1, 1, 1]


def test_flows_that_alternate_keep_their_order() -> None:
    ones, others = udp(100, 100), udp(100, 100, first=Packet(b"", ports=(40000, 9001)))
    assert merged(ones[0], others[0], ones[1], others[1]) == [1, 1, 1, 1]
    assert merged(*ones, *others) == [2, 2]


def test_devices_do_not_mind_each_other() -> None:
    """Frames for B come between those for D, and the other way round: both are merged, each in its order."""
    wire = Wire()
    c = NetDevice(2, carrier=True, hdr_len=HDR_LEN)
    d = NetDevice(3, carrier=True, hdr_len=HDR_LEN, gro=True)
    join(c, d)
    frames = [raw(packet) for packet in tcp(100, 100, 100)]
    for frame in frames:
        wire.forward([frame])
        wire.forward([frame], c)
    taken = wire.take()
    assert [(skb.dev, skb.gso_segs) for skb in taken] == [(wire.b, 3), (d, 3)]
    assert (wire.a.merged, c.merged, wire.b.merged) == (2, 2, 0)
    assert wire.softnet.touched == [wire.a, c]


def test_only_the_receiving_end_decides() -> None:
    frames = [raw(packet) for packet in tcp(100, 100, 100)]
    wire = Wire()
    wire.a.gro, wire.b.gro = True, False
    assert wire.receive(frames) == frames


def test_nothing_is_held_from_one_batch_to_the_next() -> None:
    wire = Wire()
    frames = [raw(packet) for packet in tcp(100, 100)]
    for frame in frames:
        wire.forward([frame])
        assert [skb.gso_segs for skb in wire.take()] == [1]


def test_no_udp_for_a_kernel_that_takes_no_udp_gso() -> None:
    wire = Wire()
    wire.b.uso = False
    frames = [raw(packet) for packet in udp(100, 100)]
    assert wire.receive(frames) == frames
    wire = Wire()
    wire.b.uso = False
    assert lengths(wire.receive([raw(packet) for packet in tcp(100, 100)])) == [2]


def test_a_frame_whose_sender_is_gone_is_left_alone() -> None:
    wire = Wire()
    wire.forward([raw(packet) for packet in tcp(100, 100)])
    wire.b.peer = None
    assert [skb.gso_segs for skb in wire.take()] == [1, 1]


def test_a_buffer_that_held_a_large_frame_holds_small_ones_again() -> None:
    wire = Wire()
    wire.forward([raw(packet) for packet in tcp(*[100] * 64)])
    taken = wire.take()
    assert [skb.gso_segs for skb in taken] == [64]
    wire.softnet.pool.free_batch(taken)
    for _ in range(3):
        wire.forward([raw(packet) for packet in tcp(100, PSH)])
        assert [skb.gso_segs for skb in wire.take()] == [2]


def spoilt(name: str, packet: Packet) -> Raw:
    """A packet with one thing about it that must keep it from being merged."""
    header, frame = packet.header(), bytearray(packet.frame())
    start = header.csum_start
    network = start - (40 if packet.ipv6 else 20)
    match name:
        case "checksum complete":
            return VnetHeader().pack(), finish(header, bytes(frame))
        case "flag beside NEEDS_CSUM":
            header = replace(header, flags=3)
        case "GSO":
            header = replace(header, gso_type=GSO_TCPV4, gso_size=1000, hdr_len=66)
        case "ECN without GSO":
            header = replace(header, gso_type=0x80)
        case "csum_start elsewhere":
            header = replace(header, csum_start=start + 2)
        case "csum_start beyond":
            header = replace(header, csum_start=65535)
        case "csum_offset elsewhere":
            header = replace(header, csum_offset=header.csum_offset ^ 22)
        case "pseudo header sum wrong":
            frame[start + header.csum_offset] ^= 1
        case "pseudo header sum zero":
            frame[start + header.csum_offset : start + header.csum_offset + 2] = bytes(2)
        case "padding":
            frame += bytes(4)
        case "cut off":
            del frame[-4:]
        case "cut to the transport header":
            del frame[start + 8 :]
        case "cut to the network header":
            del frame[network + 12 :]
        case "header length of TCP or UDP lies":
            frame[start + (12 if packet.protocol == IPPROTO_TCP else 5)] ^= 0xF0
        case "TCP header shorter than it can be":
            frame[start + 12] = 0x40
        case "fragment":
            return raw(replace(packet, frag=0x6000))
        case "length of IP lies, the rest agrees":
            return header.pack(), bytes(frame[:16] + struct.pack("!H", len(frame) - 15) + frame[18:24]) + struct.pack(
                "!H",
                checksum(bytes(frame[14:16]) + struct.pack("!H", len(frame) - 15) + bytes(frame[18:24] + frame[26:34])),
            ) + bytes(frame[26:])
        case "IP version":
            frame[network] ^= 0x30
        case "length of IP lies":
            frame[network + (5 if packet.ipv6 else 3)] ^= 1
        case "IP header checksum":
            frame[network + 10] ^= 1
        case "another protocol":
            frame[network + (6 if packet.ipv6 else 9)] = 132
        case "provider's tag":
            return header.pack(), bytes(frame[:12]) + struct.pack("!HH", ETH_P_8021AD, 5) + bytes(frame[12:])
        case "second tag":
            return header.pack(), bytes(frame[:12]) + struct.pack("!HHHH", 0x8100, 5, 0x8100, 6) + bytes(frame[12:])
        case _:
            raise AssertionError(name)
    return header.pack(), bytes(frame)


SPOILT = [
    *("checksum complete", "flag beside NEEDS_CSUM", "GSO", "ECN without GSO", "csum_start elsewhere"),
    *("csum_start beyond", "csum_offset elsewhere", "pseudo header sum wrong", "pseudo header sum zero", "padding"),
    *("cut off", "cut to the transport header", "cut to the network header", "header length of TCP or UDP lies"),
    *("IP version", "length of IP lies", "another protocol", "provider's tag", "second tag"),
]


@EITHER
@FLOW
@pytest.mark.parametrize("name", SPOILT)
def test_frames_that_are_not_what_they_say_cross_untouched(name: str, flow: Flow, ipv6: bool) -> None:
    packets = flow(100, 100, 100, first=Packet(b"", ipv6=ipv6))
    all_of_them = [spoilt(name, packet) for packet in packets]
    assert Wire().receive(all_of_them) == all_of_them
    between = [raw(packets[0]), spoilt(name, packets[1]), raw(packets[2])]
    assert Wire().receive(between) == between


@FLOW
def test_a_wrong_ip_header_checksum_stays_one(flow: Flow) -> None:
    frames = [spoilt("IP header checksum", packet) for packet in flow(100, 100)]
    assert Wire().receive(frames) == frames


@FLOW
@pytest.mark.parametrize("name", ["fragment", "length of IP lies, the rest agrees"])
def test_an_ipv4_header_that_says_more_than_a_large_frame_can(flow: Flow, name: str) -> None:
    frames = [spoilt(name, packet) for packet in flow(100, 100)]
    assert Wire().receive(frames) == frames


def test_a_tcp_header_shorter_than_it_can_be_is_left_alone() -> None:
    """Its sequence goes on as if the payload began where it says."""
    frames = [
        spoilt("TCP header shorter than it can be", replace(packet, options=b"", seq=packet.seq + 4 * number))
        for number, packet in enumerate(tcp(100, 100))
    ]
    assert Wire().receive(frames) == frames


def test_ip_options_and_extension_headers_are_left_alone() -> None:
    """They come between the IP header and the transport header, and csum_start is right about that."""
    for ipv6 in (False, True):
        frames: list[Raw] = []
        for packet in udp(100, 100, first=Packet(b"", ipv6=ipv6)):
            data, start = packet.frame(), packet.header().csum_start
            header = replace(packet.header(), csum_start=start + 8)
            if ipv6:  # destination options, padded
                head = data[14:18] + struct.pack("!HB", len(packet.segment()) + 8, 60) + data[21:54]
                extra = bytes((IPPROTO_UDP, 0, 1, 4, 0, 0, 0, 0))
            else:  # two times four bytes of no operation
                extra = b"\x01" * 8
                head = b"\x47\0" + struct.pack("!H", 28 + len(packet.segment())) + data[18:24] + bytes(2) + data[26:34]
                head = head[:10] + struct.pack("!H", checksum(head + extra)) + head[12:]
            frames.append((header.pack(), data[:14] + head + extra + data[start:]))
        assert Wire().receive(frames) == frames


# -- any sequence of frames -------------------------------------------------------------------------------------------

STEP = st.tuples(
    st.sampled_from([0, 0, 0, 0, 1, 2, 3, 4]),  # flow
    st.sampled_from([100, 100, 100, 100, 60, 0, 1, 1448, 9000]),  # bytes of payload
    st.sampled_from([ACK, ACK, ACK, ACK, ACK | PSH, ACK | FIN, ACK | ECE, ACK | CWR, SYN]),
    st.sampled_from([1, 1, 1, 1, 1, 1, 0, 2]),  # how the IP ID goes on
    st.sampled_from([{}, {}, {}, {}, {}, {"ttl": 63}, {"tos": 1}, {"window": 9}, {"ack": 9}, {"frag": 0}, {"tci": 3}]),
)


def flows() -> list[Packet]:
    return [
        Packet(b"", seq=2**32 - 500, ident=65530),
        Packet(b"", ipv6=True, label=5),
        Packet(b"", protocol=IPPROTO_UDP),
        Packet(b"", protocol=IPPROTO_UDP, ipv6=True, tci=9),
        Packet(b"", protocol=IPPROTO_UDP, ident=77, frag=0),
    ]


def stream(steps: list[tuple[int, int, int, int, dict[str, Any]]]) -> Iterator[Packet]:
    """Packets of several flows: mostly they go on as they should."""
    now = flows()
    for number, (which, size, flags, step, change) in enumerate(steps):
        flow = now[which]
        payload = bytes((number * 7 + byte) % 256 for byte in range(size))
        yield replace(flow, payload=payload, flags=flags, **change)
        now[which] = replace(flow, seq=(flow.seq + size) & 0xFFFFFFFF, ident=(flow.ident + step) & 0xFFFF)


@settings(max_examples=300, deadline=None)
@given(steps=st.lists(STEP, max_size=80))
def test_cutting_gives_back_what_was_sent_byte_for_byte_and_in_order(
    steps: list[tuple[int, int, int, int, dict[str, Any]]],
) -> None:
    packets = list(stream(steps))
    merged(*packets)


@settings(max_examples=300, deadline=None)
@given(
    steps=st.lists(STEP, min_size=1, max_size=12),
    wounds=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 90), st.integers(0, 255)), max_size=6),
    cuts=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 120)), max_size=2),
)
def test_frames_with_anything_in_them_do_no_harm(
    steps: list[tuple[int, int, int, int, dict[str, Any]]],
    wounds: list[tuple[int, int, int]],
    cuts: list[tuple[int, int]],
) -> None:
    """Bytes of headers and lengths are made up: whatever is merged can be cut into what was sent."""
    whole = [bytearray(packet.header().pack() + packet.frame()) for packet in stream(steps)]
    for number, at, value in wounds:
        frame = whole[number % len(whole)]
        frame[at % len(frame)] = value
    for number, length in cuts:
        del whole[number % len(whole)][HDR_LEN + 14 + length :]
    frames = [(bytes(frame[:HDR_LEN]), bytes(frame[HDR_LEN:])) for frame in whole]
    wire = Wire()
    wire.forward(frames)
    at = 0
    for skb in wire.take():
        own = frames[at : at + skb.gso_segs]
        at += skb.gso_segs
        if skb.gso_segs == 1:
            assert (bytes(skb.data[:HDR_LEN]), skb.frame()) == own[0]
        else:
            got = cut(bytes(skb.data[:HDR_LEN]), skb.frame())
            assert [_without_fixed_ident(each) for each in got] == [_without_fixed_ident(each) for each in sent(own)]
    assert at == len(frames)
