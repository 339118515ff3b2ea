"""A machine, two routers with a narrow link between them, and the world, each a namespace; and traffic that is checked.

    container --- host --- 1500 --- hop --- 1400 --- far --- 1500 --- world

So neither end of a connection knows of the narrow link before it is told. All links but the container's are kernel
veth. Nothing beyond the host knows of the container's network.
"""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from dataclasses import dataclass

from tests.kit.commands import Answer, in_netns, ip, ip_json
from tests.kit.netns import Namespaces, inside, set_sysctl, socket_in

NARROW = 1400
HOST4, HOST6 = "192.0.2.2", "2001:db8:0:1::2"
WORLD4, WORLD6 = "198.51.100.2", "2001:db8:0:2::2"
#: Bytes that cross in each direction: enough for many full segments.
BULK = 1 << 20


@dataclass(frozen=True)
class World:
    """Names of the namespaces."""

    host: str
    hop: str
    far: str
    world: str


def make(netns: Namespaces, host: str | None = None) -> World:
    """Put it together, around a host that is there or a new one; it forwards nothing yet."""
    hop, far, world = (netns.make(ipv6=True) for _ in range(3))
    host = host or netns.make(ipv6=True)
    for where, other in ((host, hop), (hop, far), (far, world)):
        mtu = ("mtu", str(NARROW)) if where == hop else ()
        ip(where, "link", "add", "up0", *mtu, "type", "veth", "peer", "name", "down0", *mtu, "netns", other)
    for where, name, *addresses in (
        (host, "up0", f"{HOST4}/24", f"{HOST6}/64"),
        (hop, "down0", "192.0.2.1/24", "2001:db8:0:1::1/64"),
        (hop, "up0", "203.0.113.1/24", "2001:db8:0:3::1/64"),
        (far, "down0", "203.0.113.2/24", "2001:db8:0:3::2/64"),
        (far, "up0", "198.51.100.1/24", "2001:db8:0:2::1/64"),
        (world, "down0", f"{WORLD4}/24", f"{WORLD6}/64"),
    ):
        for address in addresses:
            ip(where, "addr", "add", address, "dev", name, *(("nodad",) if ":" in address else ()))
        ip(where, "link", "set", name, "up")
    for where, gateway4, gateway6 in (
        (host, "192.0.2.1", "2001:db8:0:1::1"),
        (hop, "203.0.113.2", "2001:db8:0:3::2"),
        (far, "203.0.113.1", "2001:db8:0:3::1"),
        (world, "198.51.100.1", "2001:db8:0:2::1"),
    ):
        ip(where, "route", "add", "default", "via", gateway4)
        ip(where, "-6", "route", "add", "default", "via", gateway6)
    for where in (hop, far):
        for sysctl in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            set_sysctl(where, sysctl, 1)
    return World(host, hop, far, world)


def ping(netns: str, to: str, *options: str) -> Answer:
    return in_netns(netns, "ping", "-n", "-c", "2", "-i", "0.2", "-W", "2", *options, to, check=False)


def tcp(client: str, server: str, to: str, port: int = 8080) -> str:
    """Send BULK bytes each way over one connection, checked; the client's address as the server sees it."""
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    listener = socket_in(server, family, socket.SOCK_STREAM)
    payload = os.urandom(BULK)
    digest = hashlib.sha256(payload).digest()
    seen: list[str] = []

    def serve() -> None:
        connection, address = listener.accept()
        with connection:
            connection.settimeout(20)
            got = _receive(connection, BULK)
            seen.append(address[0])
            connection.sendall(hashlib.sha256(got).digest() + got)

    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.settimeout(20)
        listener.bind(("", port))
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with socket_in(client, family, socket.SOCK_STREAM) as sock:
                sock.settimeout(20)
                sock.connect((to, port))
                sock.sendall(payload)
                answer = _receive(sock, BULK + 32)
        finally:
            thread.join()
    assert answer == digest + payload
    return seen[0]


def udp(client: str, server: str, to: str, size: int = 1000, port: int = 8053) -> str:
    """Ask by one datagram and hear the same; the client's address as the server sees it."""
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    with socket_in(server, family, socket.SOCK_DGRAM) as listener, socket_in(client, family, socket.SOCK_DGRAM) as sock:
        for each in (listener, sock):
            each.settimeout(5)
        listener.bind(("", port))
        question = os.urandom(size)
        sock.sendto(question, (to, port))
        got, address = listener.recvfrom(1 << 16)
        assert got == question
        listener.sendto(got, address)
        answer, answerer = sock.recvfrom(1 << 16)
    assert (answer, answerer[0]) == (question, to)
    return str(address[0])


def learned_mtu(netns: str, to: str) -> int:
    """The path MTU that a namespace has learned for an address, 0 for none."""
    (route,) = inside(netns, ip_json, netns, *(("-6",) if ":" in to else ()), "route", "get", to)
    metrics = route.get("metrics", [{}])[0]
    return int(metrics.get("mtu", 0))


def forget_mtus(*namespaces: str) -> None:
    """Let namespaces forget every path MTU. What an end has learned it also tells its peer, as TCP's MSS."""
    for netns in namespaces:
        for version in ("-4", "-6"):
            ip(netns, version, "route", "flush", "cache")


def _receive(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(1 << 16)
        assert more, f"the connection ended after {len(data)} of {size} bytes"
        data += more
    return data
