"""GRO on at both ends: applications see what they see of kernel veth with GRO on, however many frames came as one.

Frames are sent while the worker stands still, so that they wait together.
"""

import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.kit.commands import in_netns, ip
from tests.kit.ippackets import IPPROTO_UDP, offloaded, packet
from tests.kit.netns import fresh_name, socket_in
from tests.parity.link import End, PairUnderTest, give_addresses
from tests.parity.outcome import Outcome
from tests.parity.scenario import scenario
from tests.parity.scenarios.offload import PORT, V4, V6, checksum_errors, create_with_addresses, stream

SOL_UDP, UDP_GRO = 17, 104
BEHIND4, BEHIND6 = ("198.51.100.1", "198.51.100.2"), ("2001:db8:1::1", "2001:db8:1::2")
MESSAGE = bytes(range(256)) * 2048
#: Sizes of datagrams: runs of equal ones, shorter and longer ones between, and none at all.
SIZES = [100] * 20 + [60] + [100] * 10 + [1400] * 50 + [0, 1, 1, 1] + [18] * 70


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def datagrams() -> list[bytes]:
    """One per size, each with its number in it where there is room."""
    return [struct.pack("!H", number).ljust(size, b"x")[:size] for number, size in enumerate(SIZES)]


@contextmanager
def receivers(netns: str, address: str, *ports: int) -> Iterator[list[socket.socket]]:
    """Sockets bound to these ports that wait up to two seconds for each datagram."""
    with ExitStack() as stack:
        made: list[socket.socket] = []
        for port in ports:
            server = stack.enter_context(socket_in(netns, family_of(address), socket.SOCK_DGRAM))
            server.bind((address, port))
            server.settimeout(2)
            made.append(server)
        yield made


def received(server: socket.socket, count: int) -> list[bytes]:
    got: list[bytes] = []
    try:
        while len(got) < count:
            got.append(server.recv(1 << 16))
    except TimeoutError:
        pass
    return got


@scenario
def gro_datagrams(link: PairUnderTest, out: Outcome) -> None:
    """Datagrams of all sizes arrive in order, each by itself; so do those to two ports in turn."""
    create_with_addresses(link, gro=True)
    for name, target in (("IPv4", V4[1]), ("IPv6", V6[1])):
        with (
            receivers(link.b.netns, target, PORT, PORT + 1) as (one, other),
            socket_in(link.a.netns, family_of(target), socket.SOCK_DGRAM) as sender,
        ):
            for connected in (False, True):  # a connected socket counts IP IDs up, another leaves them 0
                how = f"{name}, {'connected' if connected else 'not connected'}"
                if connected:
                    sender.connect((target, PORT))
                with link.stalled():
                    for data in datagrams():
                        sender.send(data) if connected else sender.sendto(data, (target, PORT))
                out.see(how, received(one, len(SIZES)) == datagrams(), True)
            with link.stalled():
                for data in datagrams():
                    sender.sendto(data, (target, PORT))
                    sender.sendto(data, (target, PORT + 1))
            both = received(one, len(SIZES)), received(other, len(SIZES))
            out.see(f"{name}, two ports in turn", both == (datagrams(), datagrams()), True)


@scenario
def gro_datagrams_for_udp_gro(link: PairUnderTest, out: Outcome) -> None:
    """A socket with UDP_GRO gets runs of equal datagrams at once, and with them their size: the same datagrams."""
    create_with_addresses(link, gro=True)
    for name, target in (("IPv4", V4[1]), ("IPv6", V6[1])):
        with (
            receivers(link.b.netns, target, PORT) as (server,),
            socket_in(link.a.netns, family_of(target), socket.SOCK_DGRAM) as sender,
        ):
            server.setsockopt(SOL_UDP, UDP_GRO, 1)
            with link.stalled():
                for data in datagrams():
                    sender.sendto(data, (target, PORT))
            got: list[bytes] = []
            while len(got) < len(SIZES):
                data, ancillary, _flags, _address = server.recvmsg(1 << 16, 64)
                size = next((struct.unpack("=i", value)[0] for _, kind, value in ancillary if kind == UDP_GRO), 0)
                got += [data[at : at + size] for at in range(0, len(data), size)] if size else [data]
            out.see(name, got == datagrams(), True)


@scenario
def gro_tcp(link: PairUnderTest, out: Outcome) -> None:
    """A stream is the same with TSO at the sender, without, and without GSO, too; both ways."""
    create_with_addresses(link, gro=True)
    for how in ((), ("tso", "off"), ("tso", "off", "gso", "off")):
        if how:
            for end in (link.a, link.b):
                in_netns(end.netns, "ethtool", "-K", end.name, *how)
        for name, target in (("IPv4", V4[1]), ("IPv6", V6[1])):
            out.see(f"{name} {' '.join(how) or 'as made'}", stream(link, target, MESSAGE) == MESSAGE, True)


def add_address(end: End, address: str) -> None:
    """Give an end an address in a network of the usual size, at once."""
    words = (f"{address}/64", "nodad") if ":" in address else (f"{address}/24",)
    ip(end.netns, "addr", "add", words[0], "dev", end.name, *words[1:])


def know(end: End, other: End, *addresses: str) -> None:
    """Let an end find another at these addresses without asking."""
    for address in addresses:
        ip(end.netns, "neigh", "replace", address, "lladdr", other.state().address, "dev", end.name)


def put_behind(link: PairUnderTest) -> tuple[End, End]:
    """Make a kernel veth from B's namespace to another one, up; its near end takes no GSO frames."""
    near, far = End(link.b.netns, fresh_name("n")), End(link.netns.make(ipv6=True), fresh_name("f"))
    ip(near.netns, "link", "add", near.name, "type", "veth", "peer", "name", far.name, "netns", far.netns)
    in_netns(near.netns, "ethtool", "-K", near.name, "tx-udp-segmentation", "off", "tso", "off")
    near.up()
    far.up()
    return near, far


def _through(link: PairUnderTest, out: Outcome, far: End, targets: tuple[str, str]) -> None:
    """Datagrams and streams from A to the far end."""
    b = link.b
    for name, target in zip(("IPv4", "IPv6"), targets, strict=True):
        with (
            receivers(far.netns, target, PORT) as (server,),
            socket_in(link.a.netns, family_of(target), socket.SOCK_DGRAM) as sender,
        ):
            with link.stalled():
                for data in datagrams():
                    sender.sendto(data, (target, PORT))
            out.see(f"{name}, datagrams", received(server, len(SIZES)) == datagrams(), True)
        link.b = far  # where the stream ends
        try:
            out.see(f"{name}, stream", stream(link, target, MESSAGE) == MESSAGE, True)
        finally:
            link.b = b


@scenario
def gro_and_routing(link: PairUnderTest, out: Outcome) -> None:
    """B's namespace routes on to a device that takes no GSO frames: they are cut there, and nothing differs."""
    create_with_addresses(link, gro=True)
    near, far = put_behind(link)
    in_netns(near.netns, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    for (mine, its), gateway, network in (
        (BEHIND4, V4[1], "198.51.100.0/24"),
        (BEHIND6, V6[1], "2001:db8:1::/64"),
    ):
        add_address(near, mine)
        add_address(far, its)
        know(near, far, its)
        know(far, near, mine)
        ip(link.a.netns, "route", "add", network, "via", gateway)
        ip(far.netns, "route", "add", "default", "via", mine)
    in_netns(link.a.netns, "ethtool", "-K", link.a.name, "tso", "off")
    _through(link, out, far, (BEHIND4[1], BEHIND6[1]))


@scenario
def gro_and_bridging(link: PairUnderTest, out: Outcome) -> None:
    """B is the port of a bridge, and the next port takes no GSO frames."""
    link.create(ipv6=True, gro=True)
    near, far = put_behind(link)
    ip(near.netns, "link", "add", "name", "br0", "type", "bridge", "mcast_snooping", "0")
    for port in (link.b, near):
        port.set("master", "br0")
    ip(near.netns, "link", "set", "dev", "br0", "up")
    for mine, its in (V4, V6):
        add_address(link.a, mine)
        add_address(far, its)
        know(link.a, far, its)
        know(far, link.a, mine)
    in_netns(link.a.netns, "ethtool", "-K", link.a.name, "tso", "off")
    _through(link, out, far, (V4[1], V6[1]))


@scenario
def gro_and_wrong_checksums(link: PairUnderTest, out: Outcome) -> None:
    """A run of wrong checksums between runs of right and unfinished ones: each is found at B, and none else is lost."""
    create_with_addresses(link, gro=True)
    frames = {
        partial: packet(
            link.b.mac,
            link.a.mac,
            *V4,
            protocol=IPPROTO_UDP,
            payload=b"unfinished" if partial else b"right",
            partial=partial,
        )
        for partial in (False, True)
    }
    wrong = bytearray(frames[False])
    wrong[40] ^= 0xFF
    unfinished = offloaded(frames[True], IPPROTO_UDP)
    with receivers(link.b.netns, V4[1], PORT) as (server,), link.a.socket(vnet_hdr=True) as a:
        with link.stalled():
            for _ in range(20):
                a.send(frames[True], unfinished)
            for _ in range(20):
                a.send(bytes(wrong))
            for _ in range(20):
                a.send(frames[False])
            a.send(frames[True], unfinished)
        out.see("delivered", received(server, 41), [b"unfinished"] * 20 + [b"right"] * 20 + [b"unfinished"])
    out.see("checksum errors at b", checksum_errors(link.b.netns), 20)


@scenario
def gro_and_tunnels(link: PairUnderTest, out: Outcome) -> None:
    """What arrives for a tunnel's socket is UDP, too, and must not be merged across inner packets."""
    link.create(gro=True)
    give_addresses(link)
    for end, local, remote, inner in ((link.a, *V4, "203.0.113.1"), (link.b, *V4[::-1], "203.0.113.2")):
        words = ("id", "5", "local", local, "remote", remote, "dstport", "4789", "dev", end.name)
        ip(end.netns, "link", "add", "name", "vx0", "type", "vxlan", *words, "udpcsum")
        ip(end.netns, "link", "set", "dev", "vx0", "up")
        ip(end.netns, "addr", "add", f"{inner}/24", "dev", "vx0")
    for how in ((), ("tso", "off"), ("tx", "off")):
        if how:
            in_netns(link.a.netns, "ethtool", "-K", "vx0", *how)
        out.see(f"stream {' '.join(how)}", stream(link, "203.0.113.2", MESSAGE) == MESSAGE, True)
    with (
        receivers(link.b.netns, "203.0.113.2", PORT) as (server,),
        socket_in(link.a.netns, socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        with link.stalled():
            for data in datagrams():
                sender.sendto(data, ("203.0.113.2", PORT))
        out.see("datagrams", received(server, len(SIZES)) == datagrams(), True)
