"""Makes the kernel forget UDP flows to a published port, so that their next datagram is led where the rules say now.

Connection tracking decides of a flow once, with its first datagram. A client that goes on sending would reach the
container of yesterday for ever, or none. Source: linux/netfilter/nfnetlink_conntrack.h; all integers are the host's
but for ports.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from vethd.docker.state import Published

_NETLINK_NETFILTER: Final = 12
_NEW, _GET, _DELETE = 0x100, 0x101, 0x102  # NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_*
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_ERROR, _DONE = 2, 3
_TUPLE_ORIG, _TUPLE_REPLY, _ID = 1, 2, 12
_TYPE_MASK: Final = 0x3FFF
_HEADER: Final = struct.Struct("=IHHII")
_CHUNK: Final = 1 << 18  # bytes: more than a message of a dump has


class Flow(NamedTuple):
    """One direction of a tracked flow. addresses as bytes, ports as numbers."""

    source: bytes
    destination: bytes
    protocol: int
    source_port: int
    destination_port: int


def forget(published: Iterable[Published]) -> None:
    """Forget UDP flows to these ports: those that are led to their containers, and those that are led nowhere.

    In the calling thread's namespace. Raises OSError.
    """
    ports = {
        (each.host_port, socket.inet_pton(socket.AF_INET6 if ":" in each.address else socket.AF_INET, each.address))
        for each in published
        if each.protocol == "udp"
    }
    for version, size in ((socket.AF_INET, 4), (socket.AF_INET6, 16)):
        wanted = {port: address for port, address in ports if len(address) == size}
        if wanted:
            _forget(version, wanted)


def _forget(version: int, wanted: dict[int, bytes]) -> None:
    """wanted: the container's address by the machine's port."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER) as netlink:
        head = struct.pack("=BBH", version, 0, 0)
        stale = []
        _send(netlink, _GET, _DUMP, head)
        for message in _received(netlink):
            attributes = dict(_attributes(message[4:]))
            flow, reply = _flow(attributes.get(_TUPLE_ORIG, b"")), _flow(attributes.get(_TUPLE_REPLY, b""))
            if flow.protocol != socket.IPPROTO_UDP or flow.destination_port not in wanted:
                continue
            untouched = (reply.source, reply.destination) == (flow.destination, flow.source)
            if untouched or reply.source == wanted[flow.destination_port]:
                stale.append(_attribute(0x8000 | _TUPLE_ORIG, attributes[_TUPLE_ORIG]))
        for which in stale:
            _send(netlink, _DELETE, _ACK, head + which)
            for _message in _received(netlink):
                pass


def _send(netlink: socket.socket, kind: int, flags: int, body: bytes) -> None:
    netlink.send(_HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | flags, 0, 0) + body)


def _received(netlink: socket.socket) -> Iterator[bytes]:
    """Bodies of what answers a request. Raises OSError, but not for a flow that is gone already."""
    while True:
        data, at = netlink.recv(_CHUNK), 0
        while at < len(data):
            length, kind, _flags, _sequence, _port = _HEADER.unpack_from(data, at)
            body = data[at + _HEADER.size : at + length]
            at += (length + 3) & ~3
            if kind == _NEW:
                yield body
            elif kind in (_ERROR, _DONE):
                number = -struct.unpack_from("=i", body)[0]
                if number > 0 and number != 2:  # ENOENT
                    raise OSError(number, os.strerror(number), "connection tracking")
                return


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            return
        yield kind & _TYPE_MASK, data[at + 4 : at + length]
        at += (length + 3) & ~3


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def _flow(data: bytes) -> Flow:
    """From CTA_TUPLE_*: CTA_TUPLE_IP (source, destination of IPv4: 1, 2; of IPv6: 3, 4) and CTA_TUPLE_PROTO."""
    parts = dict(_attributes(data))
    ip, protocol = dict(_attributes(parts.get(1, b""))), dict(_attributes(parts.get(2, b"")))
    ports = [int.from_bytes(protocol.get(kind, b""), "big") for kind in (1, 2, 3)]
    return Flow(ip.get(1, ip.get(3, b"")), ip.get(2, ip.get(4, b"")), *ports)
