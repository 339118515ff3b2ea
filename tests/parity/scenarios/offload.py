"""Unfinished checksums and frames still to be cut: they cross as they are, as a packet socket in B sees them."""

import re
import socket
import struct
from pathlib import Path

from tests.kit.commands import in_netns, ip
from tests.kit.ippackets import IPPROTO_TCP, IPPROTO_UDP, offloaded, packet, transport_start
from tests.kit.netns import inside, socket_in
from tests.kit.packets import Arrival, VnetHeader
from tests.parity.link import PairUnderTest, give_addresses
from tests.parity.outcome import Outcome
from tests.parity.scenario import scenario

UDP_SEGMENT = 103
V4 = ("192.0.2.1", "192.0.2.2")
V6 = ("2001:db8::1", "2001:db8::2")
PORT = 9000


def create_with_addresses(link: PairUnderTest, *, gro: bool = False) -> None:
    """Create the pair with both IP versions and fixed neighbours."""
    link.create(ipv6=True, gro=gro)
    give_addresses(link)
    for end, other, own in ((link.a, V6[1], V6[0]), (link.b, V6[0], V6[1])):
        ip(end.netns, "-6", "addr", "add", f"{own}/64", "dev", end.name, "nodad")
        remote = link.b if end is link.a else link.a
        ip(end.netns, "neigh", "replace", other, "lladdr", remote.state().address, "dev", end.name)


def to_port(got: Arrival) -> bool:
    """Whether a frame is TCP or UDP to our port."""
    if got.ethertype not in (0x0800, 0x86DD):
        return False
    protocol = got.data[23] if got.ethertype == 0x0800 else got.data[20]
    start = transport_start(got.data)
    return protocol in (IPPROTO_TCP, IPPROTO_UDP) and struct.unpack_from("!H", got.data, start + 2)[0] == PORT


@scenario
def injected_headers(link: PairUnderTest, out: Outcome) -> None:
    """A virtio header given to a packet socket at A comes out at B with the same meaning, the frame untouched."""
    link.create()
    for name, (source, destination) in (("IPv4", V4), ("IPv6", V6)):
        for kind, protocol, size, gso_size in (
            ("TCP", IPPROTO_TCP, 20_000, 1400),
            ("TCP", IPPROTO_TCP, 200, 0),
            ("UDP", IPPROTO_UDP, 10_000, 1000),
            ("UDP", IPPROTO_UDP, 200, 0),
        ):
            data = packet(
                link.b.mac, link.a.mac, source, destination, protocol=protocol, payload=bytes(size), partial=True
            )
            header = offloaded(data, protocol, gso_size)
            item = f"{kind} over {name}, {'to be cut' if gso_size else 'whole'}"
            with link.a.socket(vnet_hdr=True) as a, link.b.socket(vnet_hdr=True) as b:
                a.send(data, header)
                got = b.collect(1)
            out.see(f"{item}: frame", [g.data == data for g in got], [True])
            out.see(f"{item}: checksum not ready", [g.csum_not_ready for g in got], [True])
            seen = [g.vnet for g in got if g.vnet]
            out.see(
                f"{item}: flags, csum",
                [(h.flags, h.csum_start, h.csum_offset) for h in seen],
                [(header.flags, header.csum_start, header.csum_offset)],
            )
            out.see(f"{item}: gso", [(h.gso_type, h.gso_size) for h in seen], [(header.gso_type, gso_size)])


@scenario
def plain_frames_have_plain_headers(link: PairUnderTest, out: Outcome) -> None:
    """What needs nothing says so: a complete UDP packet, a ping, an ARP request."""
    link.create()
    data = packet(link.b.mac, link.a.mac, *V4, protocol=IPPROTO_UDP, payload=b"complete")
    with link.a.socket() as a, link.b.socket(vnet_hdr=True) as b:
        a.send(data)
        got = b.collect(1)
    out.see("header", [g.vnet for g in got], [VnetHeader()])
    out.see("checksum not ready", [g.csum_not_ready for g in got], [False])
    out.see("frame", [g.data == data for g in got], [True])


@scenario
def udp_of_a_local_socket(link: PairUnderTest, out: Outcome) -> None:
    """A datagram crosses with its checksum unfinished, unless the sender's offload is switched off."""
    create_with_addresses(link)
    for name, family, target, start in (("IPv4", socket.AF_INET, V4[1], 34), ("IPv6", socket.AF_INET6, V6[1], 54)):
        with link.b.socket(vnet_hdr=True) as b, socket_in(link.a.netns, family, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"x" * 100, (target, PORT))
            got = b.collect(1, wanted=to_port)
            seen = [g.vnet for g in got]
            out.see(f"{name}: header", seen, [VnetHeader(1, 0, 0, 0, start, 6)])
            out.see(f"{name}: length", [g.length for g in got], [start + 8 + 100])
            out.see(f"{name}: checksum not ready", [g.csum_not_ready for g in got], [True])
            sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
            sender.sendto(bytes(10_000), (target, PORT))
            whole = b.collect(1, wanted=to_port)
            sizes = [(g.length, g.vnet.flags, g.vnet.gso_type, g.vnet.gso_size) for g in whole if g.vnet]
            out.see(f"{name}: ten segments", sizes, [(start + 8 + 10_000, 1, 5, 1000)])
    in_netns(link.a.netns, "ethtool", "-K", link.a.name, "tx", "off")
    with link.b.socket(vnet_hdr=True) as b, socket_in(link.a.netns, socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x" * 100, (V4[1], PORT))
        got = b.collect(1, wanted=to_port)
        out.see("tx off: header", [g.vnet for g in got], [VnetHeader()])
        out.see("tx off: checksum not ready", [g.csum_not_ready for g in got], [False])


def stream(link: PairUnderTest, target: str, message: bytes) -> bytes:
    """Send a message from A to B over TCP, each part received before the next goes out; return what B received."""
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    with (
        socket_in(link.b.netns, family, socket.SOCK_STREAM) as listener,
        socket_in(link.a.netns, family, socket.SOCK_STREAM) as client,
    ):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a scenario may send more than one stream
        listener.bind((target, PORT))
        listener.listen()
        client.settimeout(10)
        client.connect((target, PORT))
        server, _ = listener.accept()
        with server:
            server.settimeout(10)
            received = bytearray()
            view = memoryview(message)
            for at in range(0, len(message), 1 << 15):
                client.sendall(view[at : at + (1 << 15)])
                while len(received) < min(len(message), at + (1 << 15)):
                    received += server.recv(1 << 16)
            return bytes(received)


@scenario
def tcp_of_a_local_socket(link: PairUnderTest, out: Outcome) -> None:
    """A TCP stream crosses in big frames with unfinished checksums, and the bytes are the ones sent."""
    create_with_addresses(link)
    message = bytes(range(256)) * 2048
    for name, target, gso_type, mss in (("IPv4", V4[1], 1, 1448), ("IPv6", V6[1], 4, 1428)):
        with link.b.socket(vnet_hdr=True) as b:
            out.see(f"{name}: message", stream(link, target, message) == message, True)
            link.quiet()
            arrived = [got for got in b.waiting() if to_port(got)]
        big = [got.vnet for got in arrived if got.length > 1600 and got.vnet]
        out.see(f"{name}: big frames", len(big) > 0, True)
        out.see(f"{name}: gso", {(header.gso_type, header.gso_size) for header in big}, {(gso_type, mss)})
        out.see(f"{name}: all unfinished", all(got.vnet and got.vnet.flags & 1 for got in arrived), True)
        out.see(f"{name}: payload bytes in frames", sum(tcp_payload(got) for got in arrived), len(message))


def tcp_payload(got: Arrival) -> int:
    """Return how many bytes a TCP frame carries."""
    start = transport_start(got.data)
    return got.length - start - (got.data[start + 12] >> 4) * 4


def checksum_errors(netns: str) -> int:
    text = inside(netns, Path("/proc/thread-self/net/snmp").read_text)
    names, values = re.findall(r"^Udp: (.*)$", text, re.MULTILINE)
    return int(dict(zip(names.split(), values.split(), strict=True))["InCsumErrors"])


@scenario
def wrong_checksums(link: PairUnderTest, out: Outcome) -> None:
    """A wrong checksum is found at B; an unfinished one is trusted; a right one is delivered."""
    create_with_addresses(link)
    right = packet(link.b.mac, link.a.mac, *V4, protocol=IPPROTO_UDP, payload=b"right")
    wrong = bytearray(packet(link.b.mac, link.a.mac, *V4, protocol=IPPROTO_UDP, payload=b"wrong"))
    wrong[40] ^= 0xFF
    unfinished = packet(link.b.mac, link.a.mac, *V4, protocol=IPPROTO_UDP, payload=b"unfinished", partial=True)
    with (
        socket_in(link.b.netns, socket.AF_INET, socket.SOCK_DGRAM) as server,
        link.a.socket(vnet_hdr=True) as a,
    ):
        server.bind((V4[1], PORT))
        server.settimeout(5)
        a.send(bytes(wrong))
        a.send(right)
        a.send(unfinished, offloaded(unfinished, IPPROTO_UDP))
        out.see("delivered", [server.recv(100), server.recv(100)], [b"right", b"unfinished"])
    out.see("checksum errors at b", checksum_errors(link.b.netns), 1)


@scenario
def tcp_in_vxlan(link: PairUnderTest, out: Outcome) -> None:
    """A tunnel over the pair sends big frames, too, and what comes out is what went in."""
    link.create()
    give_addresses(link)
    for end, local, remote, inner in ((link.a, *V4, "203.0.113.1"), (link.b, *V4[::-1], "203.0.113.2")):
        words = ("id", "5", "local", local, "remote", remote, "dstport", "4789", "dev", end.name)
        ip(end.netns, "link", "add", "name", "vx0", "type", "vxlan", *words)
        ip(end.netns, "link", "set", "dev", "vx0", "up")
        ip(end.netns, "addr", "add", f"{inner}/24", "dev", "vx0")
    message = bytes(range(256)) * 2048
    with link.b.socket() as b:
        arrived = stream(link, "203.0.113.2", message)
        link.quiet()
        lengths = [got.length for got in b.waiting()]
    out.see("message", arrived == message, True)
    out.see("frames above the MTU", max(lengths) > 10_000, True)
