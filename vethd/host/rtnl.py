"""rtnetlink: the handful of requests that vethd makes, on a socket of its own.

Messages are built and taken apart here, field by field, because they are most of what a pair costs to make: a library
that decodes every attribute takes half a millisecond for one link message, of which each pair causes a dozen. The tests
compare with pyroute2.

A request may wait 16-30 ms behind somebody else's move (RTNL), so `Rtnl` blocks and is used on the host threads only.
Its socket belongs to the namespace its thread was in when it was made, and keeps that namespace alive until it is
closed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from vethd.host import capabilities

NLMSG_ERROR: Final = 2
RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18
RTM_SETLINK: Final = 19
RTM_NEWQDISC: Final = 36
RTM_NEWNSID: Final = 88
RTM_DELNSID: Final = 89
RTM_GETNSID: Final = 90

NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
_NLM_F_REQUEST: Final = 0x1
_NLM_F_ACK: Final = 0x4
_NLM_F_CREATE_REPLACE: Final = 0x500
_NLM_F_DUMP: Final = 0x300
_NLM_F_DUMP_INTR: Final = 0x10
_NLA_F_NESTED: Final = 0x8000
_NLMSG_DONE: Final = 3
_NLM_F_ACK_TLVS: Final = 0x200
_SOL_NETLINK: Final = 270
_NETLINK_ADD_MEMBERSHIP: Final = 1
_NETLINK_LISTEN_ALL_NSID: Final = 8
_NETLINK_CAP_ACK: Final = 10
_NETLINK_EXT_ACK: Final = 11
_NETLINK_GET_STRICT_CHK: Final = 12
_NLMSGERR_ATTR_MSG: Final = 1
_SO_RCVBUFFORCE: Final = 33
#: Bytes of events that wait to be read.
_EVENTS: Final = 16 << 20
_RTNLGRP_LINK: Final = 1
_RTNLGRP_NSID: Final = 28
_TC_H_ROOT: Final = 0xFFFFFFFF
_SIOCGIFINDEX: Final = 0x8933
#: struct ifreq: name, index.
_IFREQ: Final = struct.Struct("=16si20x")
_NLMSG_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE_HEADER: Final = struct.Struct("=HH")
_NLA_TYPE_MASK: Final = 0x3FFF
_INT: Final = struct.Struct("=i")
_UINT: Final = struct.Struct("=I")
#: struct ifinfomsg: index, flags, change; the family before them is 0 here.
_IFINFOMSG: Final = struct.Struct("=4xiII")
#: struct tcmsg: ifindex, handle, parent, info.
_TCMSG: Final = struct.Struct("=4xiIII")
#: struct rtgenmsg, as long as it is aligned.
_RTGENMSG: Final = bytes(4)
_IFLA_ADDRESS: Final = 1
_IFLA_IFNAME: Final = 3
_IFLA_MTU: Final = 4
_IFLA_QDISC: Final = 6
_IFLA_MASTER: Final = 10
_IFLA_TXQLEN: Final = 13
_IFLA_OPERSTATE: Final = 16
_IFLA_LINKINFO: Final = 18
_IFLA_IFALIAS: Final = 20
_IFLA_STATS64: Final = 23
_IFLA_NET_NS_FD: Final = 28
_IFLA_CARRIER: Final = 33
_IFLA_NEW_NETNSID: Final = 45
_IFLA_TARGET_NETNSID: Final = 46
_IFLA_INFO_KIND: Final = 1
_TCA_KIND: Final = 1
_NETNSA_NSID: Final = 1
_NETNSA_FD: Final = 3
#: struct rtnl_link_stats64, those in LinkStats: rx_packets, tx_packets, rx_bytes, tx_bytes, rx_dropped, tx_dropped.
_STATS64: Final = struct.Struct("=4Q16x2Q")
#: By IF_OPER_*.
_OPERSTATES: Final = ("UNKNOWN", "NOTPRESENT", "DOWN", "LOWERLAYERDOWN", "TESTING", "DORMANT", "UP")

IFF_UP: Final = 0x1
IFF_PROMISC: Final = 0x100


class RtnlError(OSError):
    """Raised when the kernel refuses a request; `strerror` carries its own words where it gave any."""


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """What RTM_NEWLINK says of a device. Counters are the kernel's own and may be absent from an event (None).

    master: index of the device that it is a port of, or 0. kind: such as `tun` or `bridge`, "" for hardware.
    """

    ifindex: int
    ifname: str
    flags: int
    mtu: int
    address: str
    txqlen: int
    carrier: bool
    operstate: str
    qdisc: str
    alias: str
    stats: LinkStats | None
    moved_to: int | None
    master: int
    kind: str

    @property
    def up(self) -> bool:
        """Administratively up (IFF_UP)."""
        return bool(self.flags & IFF_UP)


@dataclass(frozen=True, slots=True)
class LinkStats:
    """IFLA_STATS64 of a device: frames, and bytes without any virtio header."""

    rx_packets: int
    tx_packets: int
    rx_bytes: int
    tx_bytes: int
    rx_dropped: int
    tx_dropped: int


class Rtnl:
    """Blocking rtnetlink requests in the namespace that the calling thread is in at construction."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def __enter__(self) -> Rtnl:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def get_link(self, *, nsid: int | None = None, index: int = 0, name: str | None = None) -> LinkInfo:
        """A device by index or name, in this namespace or the one with `nsid` here. Raises RtnlError (ENODEV)."""
        return parse_link(self.get_link_message(nsid=nsid, index=index, name=name))

    def get_link_message(self, *, nsid: int | None = None, index: int = 0, name: str | None = None) -> bytes:
        """As get_link, the kernel's answer itself: some attributes mean something to devices of one kind only."""
        message = _IFINFOMSG.pack(index, 0, 0) + _target(nsid)
        if name is not None:
            message += attribute(_IFLA_IFNAME, _asciiz(name))
        with _gone_with_its_netns(nsid):
            answer = self._request(message, RTM_GETLINK)
        assert answer is not None
        return answer

    def get_stats(self, *, nsid: int, index: int) -> tuple[str, LinkStats | None]:
        """Address and counters of a device, as `get_link` has them, for a third less. Raises RtnlError (ENODEV)."""
        with _gone_with_its_netns(nsid):
            answer = self._request(_IFINFOMSG.pack(index, 0, 0) + _target(nsid), RTM_GETLINK)
        assert answer is not None
        return parse_stats(answer)

    def index(self, name: str) -> int:
        """The ifindex of the device of that name in this namespace. Raises OSError (ENODEV: there is none)."""
        request = fcntl.ioctl(self._socket.fileno(), _SIOCGIFINDEX, _IFREQ.pack(_bytes(name), 0))
        return int(_IFREQ.unpack(request)[1])

    def has_link(self, name: str) -> bool:
        """True when this namespace has a device of that name. Raises OSError."""
        try:
            self.index(name)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return False
            raise
        return True

    def set_link(
        self,
        index: int,
        *,
        flags: int = 0,
        change: int = 0,
        ifname: str | None = None,
        ifalias: str | None = None,
        address: str | None = None,
        mtu: int | None = None,
        txqlen: int | None = None,
        net_ns_fd: int | None = None,
        master: int | None = None,
    ) -> None:
        """RTM_SETLINK: set `flags` under the mask `change`, and the IFLA_* attributes that are given.

        master: the index of a device to be a port of; 0: of none.

        Raises RtnlError.
        """
        message = _IFINFOMSG.pack(index, flags, change)
        if ifname is not None:
            message += attribute(_IFLA_IFNAME, _asciiz(ifname))
        if ifalias is not None:
            message += attribute(_IFLA_IFALIAS, _bytes(ifalias))
        if address is not None:
            message += attribute(_IFLA_ADDRESS, bytes.fromhex(address.replace(":", "")))
        numbers = {_IFLA_MTU: mtu, _IFLA_TXQLEN: txqlen, _IFLA_NET_NS_FD: net_ns_fd, _IFLA_MASTER: master}
        for kind, value in numbers.items():
            if value is not None:
                message += attribute(kind, _UINT.pack(value))
        self._request(message, RTM_SETLINK, _NLM_F_ACK)

    def del_link(self, name: str, nsid: int | None = None) -> None:
        """Delete a device of this namespace or the one with that nsid here. Raises RtnlError (ENODEV: it is gone)."""
        message = _IFINFOMSG.pack(0, 0, 0) + _target(nsid) + attribute(_IFLA_IFNAME, _asciiz(name))
        with _gone_with_its_netns(nsid):
            self._request(message, RTM_DELLINK, _NLM_F_ACK)

    def set_noqueue(self, index: int) -> None:
        """Make noqueue the root qdisc, as veth has it: the TAP's drops then reach the sender. Raises RtnlError."""
        message = _TCMSG.pack(index, 0, _TC_H_ROOT, 0) + attribute(_TCA_KIND, b"noqueue\0")
        self._request(message, RTM_NEWQDISC, _NLM_F_ACK | _NLM_F_CREATE_REPLACE)

    def assign_nsid(self, netns: int) -> int:
        """The id that this namespace has for the one behind the fd `netns`; assigned when there is none yet.

        Raises RtnlError (ENODEV: that namespace is being deleted).
        """
        found = self._get_nsid(netns)
        if found >= 0:
            return found
        any_nsid = attribute(_NETNSA_NSID, _INT.pack(-1))  # the kernel chooses
        try:
            self._request(_RTGENMSG + any_nsid + attribute(_NETNSA_FD, _UINT.pack(netns)), RTM_NEWNSID, _NLM_F_ACK)
        except RtnlError as error:
            if error.errno != errno.EEXIST:  # assigned by a move in between
                raise
        found = self._get_nsid(netns)
        if found < 0:
            raise RtnlError(errno.ENODEV, "the namespace is being deleted")
        return found

    def _get_nsid(self, netns: int) -> int:
        answer = self._request(_RTGENMSG + attribute(_NETNSA_FD, _UINT.pack(netns)), RTM_GETNSID)
        assert answer is not None
        return parse_nsid(answer)

    def request(self, message: bytes, kind: int, flags: int = 0) -> None:
        """Make a request of any kind, its header excluded, and wait until it is done. Raises RtnlError."""
        self._request(message, kind, flags | _NLM_F_ACK)

    def dump(self, message: bytes, kind: int) -> list[bytes]:
        """All answers to a request that asks for a list; asked again when it changed meanwhile. Raises RtnlError."""
        while True:
            self._sequence += 1
            size = _NLMSG_HEADER.size + len(message)
            header = _NLMSG_HEADER.pack(size, kind, _NLM_F_REQUEST | _NLM_F_DUMP, self._sequence, 0)
            self._socket.send(header + message)
            answers: list[bytes] = []
            interrupted = False
            done = False
            while not done:
                for answer, what, sequence in split(self._socket.recv(1 << 18)):
                    if sequence != self._sequence:
                        continue
                    if what == NLMSG_ERROR:
                        _raise_error(answer)
                    interrupted |= bool(_NLMSG_HEADER.unpack_from(answer)[2] & _NLM_F_DUMP_INTR)
                    done = what == _NLMSG_DONE
                    if not done:
                        answers.append(answer)
            if not interrupted:
                return answers

    def _request(self, message: bytes, kind: int, flags: int = 0) -> bytes | None:
        """Send one request, its header excluded; the answer, or None for an acknowledgement. Raises RtnlError."""
        self._sequence += 1
        size = _NLMSG_HEADER.size + len(message)
        self._socket.send(_NLMSG_HEADER.pack(size, kind, _NLM_F_REQUEST | flags, self._sequence, 0) + message)
        while True:
            for answer, what, sequence in split(self._socket.recv(1 << 16)):
                if sequence != self._sequence:
                    continue
                if what == NLMSG_ERROR:
                    _raise_error(answer)
                    return None
                return answer


def event_socket() -> socket.socket:
    """A non-blocking socket that hears RTM_*LINK and RTM_*NSID of every namespace with an id in this one.

    NETLINK_LISTEN_ALL_NSID needs CAP_NET_BROADCAST. For root of a user namespace net.core.rmem_max limits the buffer.
    Raises OSError.
    """
    events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    events.setblocking(False)
    try:
        events.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _EVENTS)
    except PermissionError:
        if "CAP_NET_ADMIN" not in capabilities.effective():
            raise
        events.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _EVENTS)
    events.bind((0, 0))
    events.setsockopt(_SOL_NETLINK, _NETLINK_LISTEN_ALL_NSID, 1)
    for group in (_RTNLGRP_LINK, _RTNLGRP_NSID):
        events.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
    return events


def receive_event(events: socket.socket) -> tuple[bytes, int | None]:
    """One datagram and the nsid it came from, None for the socket's own namespace.

    Raises BlockingIOError when there is none, OSError (ENOBUFS) when some were lost.
    """
    data, ancillary, _flags, _address = events.recvmsg(1 << 16, socket.CMSG_SPACE(4))
    for level, kind, payload in ancillary:
        if level == _SOL_NETLINK and kind == _NETLINK_LISTEN_ALL_NSID:
            return data, int(struct.unpack("=i", payload[:4])[0])
    return data, None


def split(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The messages of a datagram: (message, type, sequence number)."""
    at = 0
    while at + _NLMSG_HEADER.size <= len(data):
        length, kind, _flags, sequence, _pid = _NLMSG_HEADER.unpack_from(data, at)
        if length < _NLMSG_HEADER.size:
            return
        yield data[at : at + length], kind, sequence
        at += (length + 3) & ~3


def link_family(message: bytes) -> int:
    """The address family of a link message: AF_UNSPEC for the device itself, AF_BRIDGE for what it is as a port."""
    return message[_NLMSG_HEADER.size]


def link_index(message: bytes) -> int:
    """The ifindex of a link message, without parsing the rest."""
    return int(_IFINFOMSG.unpack_from(message, _NLMSG_HEADER.size)[0])


def parse_link(message: bytes) -> LinkInfo:
    """What a link message says."""
    index, flags, _change = _IFINFOMSG.unpack_from(message, _NLMSG_HEADER.size)
    said = attributes(message, _NLMSG_HEADER.size + _IFINFOMSG.size)
    stats = said.get(_IFLA_STATS64)
    operstate = said.get(_IFLA_OPERSTATE, b"\0")[0]
    return LinkInfo(
        ifindex=index,
        ifname=_text(said.get(_IFLA_IFNAME, b"")),
        flags=flags,
        mtu=_uint(said.get(_IFLA_MTU)),
        address=said.get(_IFLA_ADDRESS, b"").hex(":"),
        txqlen=_uint(said.get(_IFLA_TXQLEN)),
        carrier=said.get(_IFLA_CARRIER, b"\0") != b"\0",
        operstate=_OPERSTATES[operstate] if operstate < len(_OPERSTATES) else "UNKNOWN",
        qdisc=_text(said.get(_IFLA_QDISC, b"")),
        alias=_text(said.get(_IFLA_IFALIAS, b"")),
        stats=None if stats is None else LinkStats(*_STATS64.unpack_from(stats)),
        moved_to=_INT.unpack(said[_IFLA_NEW_NETNSID])[0] if _IFLA_NEW_NETNSID in said else None,
        master=_uint(said.get(_IFLA_MASTER)),
        kind=_text(attributes(said.get(_IFLA_LINKINFO, b""), 0).get(_IFLA_INFO_KIND, b"")),
    )


def parse_stats(message: bytes) -> tuple[str, LinkStats | None]:
    """What a link message says of address and counters; the many other attributes are passed over."""
    at, end = _NLMSG_HEADER.size + _IFINFOMSG.size, len(message) - 4
    unpack, address = _ATTRIBUTE_HEADER.unpack_from, ""
    while at <= end:
        length, kind = unpack(message, at)
        if length < 4:
            break
        if kind == _IFLA_ADDRESS:
            address = message[at + 4 : at + length].hex(":")
        elif kind == _IFLA_STATS64:
            return address, LinkStats(*_STATS64.unpack_from(message, at + 4))
        at += (length + 3) & ~3
    return address, None


def parse_nsid(message: bytes) -> int:
    """The id that an RTM_NEWNSID or RTM_DELNSID message is about, -1 when it names none."""
    said = attributes(message, _NLMSG_HEADER.size + len(_RTGENMSG))
    return int(_INT.unpack(said[_NETNSA_NSID])[0]) if _NETNSA_NSID in said else -1


@contextmanager
def _gone_with_its_netns(nsid: int | None) -> Iterator[None]:
    """A namespace that is gone has no id any more, which the kernel calls EINVAL; for its devices that is ENODEV."""
    try:
        yield
    except RtnlError as error:
        if nsid is not None and error.errno == errno.EINVAL:
            raise RtnlError(errno.ENODEV, error.strerror) from error
        raise


def _text(value: bytes) -> str:
    """A name. To the kernel it is bytes, and need not be UTF-8."""
    return value.rstrip(b"\0").decode(errors="surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _asciiz(text: str) -> bytes:
    return _bytes(text) + b"\0"


def _uint(value: bytes | None) -> int:
    return 0 if value is None else int(_UINT.unpack(value)[0])


def attribute(kind: int, value: bytes) -> bytes:
    """An attribute (struct nlattr), padded."""
    return _ATTRIBUTE_HEADER.pack(_ATTRIBUTE_HEADER.size + len(value), kind) + value + bytes(-len(value) % 4)


def nested(kind: int, value: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | _NLA_F_NESTED, value)


def _target(nsid: int | None) -> bytes:
    return b"" if nsid is None else attribute(_IFLA_TARGET_NETNSID, _INT.pack(nsid))


def _raise_error(message: bytes) -> None:
    """Raise the RtnlError that an NLMSG_ERROR carries; nothing for an acknowledgement (error 0)."""
    _length, _kind, flags, _sequence, _pid = _NLMSG_HEADER.unpack_from(message, 0)
    (negative,) = struct.unpack_from("=i", message, _NLMSG_HEADER.size)
    if negative == 0:
        return
    text = os.strerror(-negative)
    at = _NLMSG_HEADER.size + 4 + _NLMSG_HEADER.size  # NETLINK_CAP_ACK: only the request's header is echoed
    if flags & _NLM_F_ACK_TLVS and (words := attributes(message, at).get(_NLMSGERR_ATTR_MSG)):
        text += ": " + words.rstrip(b"\0").decode(errors="replace")
    raise RtnlError(-negative, text)


def attributes(message: bytes, at: int) -> dict[int, bytes]:
    """The attributes of a message from `at` on: values by type."""
    return dict(every_attribute(message, at))


def every_attribute(message: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """The attributes of a message from `at` on, of which some may be there several times: (type, value)."""
    unpack, end = _ATTRIBUTE_HEADER.unpack_from, len(message) - 4
    while at <= end:
        length, kind = unpack(message, at)
        if length < 4:
            break
        yield kind & _NLA_TYPE_MASK, message[at + 4 : at + length]
        at += (length + 3) & ~3
