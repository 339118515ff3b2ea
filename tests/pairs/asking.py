"""Asking the kernel for a device by a message made byte by byte, so that nothing checks the request before it does."""

from __future__ import annotations

import errno
import itertools
import socket
import struct

from tests.kit.netns import socket_in

RTM_NEWLINK, RTM_SETLINK, NLMSG_ERROR = 16, 19, 2
NLM_F_REQUEST, NLM_F_ACK, NLM_F_EXCL, NLM_F_CREATE = 0x1, 0x4, 0x200, 0x400
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINKINFO, IFLA_IFALIAS, IFLA_NET_NS_FD, IFLA_INFO_KIND = (
    1,
    3,
    4,
    18,
    20,
    28,
    1,
)
HEADER = struct.Struct("=IHHII")


def attribute(kind: int, value: bytes) -> bytes:
    """One netlink attribute, padded."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


class Kernel:
    """Requests in one namespace, and the kernel's verdicts. New devices go with the namespace."""

    def __init__(self, netns: str) -> None:
        self._socket = socket_in(netns, socket.AF_NETLINK, socket.SOCK_RAW)
        self._socket.bind((0, 0))
        self._socket.settimeout(10)
        self._sequence = itertools.count(1)

    def close(self) -> None:
        self._socket.close()

    def newlink(self, kind: str, *attributes: bytes) -> str:
        """Ask for a device; `ok`, or the name of the errno that it was refused with."""
        info = attribute(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, kind.encode()))
        return self._ask(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, *attributes, info)

    def setlink(self, ifindex: int, *attributes: bytes) -> str:
        """Change a device; `ok`, or the name of the errno."""
        return self._ask(RTM_SETLINK, 0, ifindex, *attributes)

    def _ask(self, kind: int, flags: int, ifindex: int, *attributes: bytes) -> str:
        body = struct.pack("=BBHiII", 0, 0, 0, ifindex, 0, 0) + b"".join(attributes)
        flags |= NLM_F_REQUEST | NLM_F_ACK
        self._socket.send(HEADER.pack(HEADER.size + len(body), kind, flags, next(self._sequence), 0) + body)
        answer = self._socket.recv(1 << 16)
        assert struct.unpack_from("=H", answer, 4)[0] == NLMSG_ERROR
        (negative,) = struct.unpack_from("=i", answer, HEADER.size)
        return errno.errorcode[-negative] if negative else "ok"

    def takes_name(self, name: bytes) -> str:
        """`ok` also when a device has the name already: it took it then."""
        verdict = self.newlink("bridge", attribute(IFLA_IFNAME, name + b"\0"))
        return "ok" if verdict == "EEXIST" else verdict

    def takes_address(self, address: bytes) -> str:
        return self.newlink("bridge", attribute(IFLA_ADDRESS, address))

    def takes_mtu(self, mtu: int) -> str:
        return self.newlink("veth", attribute(IFLA_MTU, struct.pack("=I", mtu)))
