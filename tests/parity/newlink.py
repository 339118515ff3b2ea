"""Asking for a pair with exact values, past the checks of any command, and learning the answer as an errno name.

`ip` prints the kernel's explanation instead of the errno where there is one, and refuses some requests by itself. The
kernel's side of the comparison is therefore one RTM_NEWLINK of our own.
"""

import errno
import os
import socket
import struct
from dataclasses import dataclass, field

from tests.kit.netns import RUN_NETNS, socket_in

NLM_F_REQUEST, NLM_F_ACK, NLM_F_EXCL, NLM_F_CREATE = 0x1, 0x4, 0x200, 0x400
RTM_NEWLINK = 16
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_TXQLEN, IFLA_LINKINFO, IFLA_NET_NS_FD = 1, 3, 4, 13, 18, 28
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFF_UP = 1


@dataclass(frozen=True)
class EndWish:
    """One end as asked for; None leaves a value to the driver."""

    name: str | None = None
    address: str | None = None
    mtu: int | None = None
    txqueuelen: int | None = None
    up: bool = False


@dataclass(frozen=True)
class Wish:
    """A pair as asked for."""

    a: EndWish = field(default_factory=EndWish)
    b: EndWish = field(default_factory=EndWish)


def attribute(kind: int, value: bytes) -> bytes:
    """Return one netlink attribute, padded."""
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + bytes(-length % 4)


def _end(wish: EndWish) -> bytes:
    data = b""
    if wish.name is not None:
        data += attribute(IFLA_IFNAME, wish.name.encode() + b"\0")
    if wish.address is not None:
        data += attribute(IFLA_ADDRESS, bytes.fromhex(wish.address.replace(":", "")))
    if wish.mtu is not None:
        data += attribute(IFLA_MTU, struct.pack("=I", wish.mtu))
    if wish.txqueuelen is not None:
        data += attribute(IFLA_TXQLEN, struct.pack("=I", wish.txqueuelen))
    return data


def _ifinfo(wish: EndWish) -> bytes:
    flags = IFF_UP if wish.up else 0
    return struct.pack("=BxHiII", 0, 0, 0, flags, flags)


def errno_of_answer(answer: bytes) -> str:
    """Return `ok` or the name of the errno in a netlink acknowledgement."""
    number = -struct.unpack_from("=i", answer, 16)[0]
    return errno.errorcode[number] if number else "ok"


def ask_kernel(wish: Wish, a_netns: str, b_netns: str) -> str:
    """Request a kernel veth pair; return `ok` or the name of the kernel's errno."""
    fd = os.open(RUN_NETNS / b_netns, os.O_RDONLY | os.O_CLOEXEC)
    try:
        peer = _ifinfo(wish.b) + _end(wish.b) + attribute(IFLA_NET_NS_FD, struct.pack("=I", fd))
        info = attribute(IFLA_INFO_KIND, b"veth")
        info += attribute(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, peer))
        body = _ifinfo(wish.a) + _end(wish.a) + attribute(IFLA_LINKINFO, info)
        flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_EXCL | NLM_F_CREATE
        request = struct.pack("=IHHII", 16 + len(body), RTM_NEWLINK, flags, 1, 0) + body
        with socket_in(a_netns, socket.AF_NETLINK, socket.SOCK_RAW) as link:
            link.bind((0, 0))
            link.send(request)
            return errno_of_answer(link.recv(1 << 16))
    finally:
        os.close(fd)
