"""rtnetlink: the handful of requests that vethd makes, on a socket of its own; pyroute2 builds and parses the messages.

A request may wait 16-30 ms behind somebody else's move (RTNL), so `Rtnl` blocks and is used on the host threads only.
Its socket belongs to the namespace its thread was in when it was made, and keeps that namespace alive until it is
closed.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.marshal import MarshalRtnl
from pyroute2.netlink.rtnl.nsidmsg import nsidmsg
from pyroute2.netlink.rtnl.tcmsg import tcmsg

NLMSG_ERROR: Final = 2
RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18
RTM_SETLINK: Final = 19
RTM_NEWQDISC: Final = 36
RTM_NEWNSID: Final = 88
RTM_DELNSID: Final = 89
RTM_GETNSID: Final = 90

_NLM_F_REQUEST: Final = 0x1
_NLM_F_ACK: Final = 0x4
_NLM_F_CREATE_REPLACE: Final = 0x500
_NLM_F_ACK_TLVS: Final = 0x200
_SOL_NETLINK: Final = 270
_NETLINK_ADD_MEMBERSHIP: Final = 1
_NETLINK_LISTEN_ALL_NSID: Final = 8
_NETLINK_CAP_ACK: Final = 10
_NETLINK_EXT_ACK: Final = 11
_NETLINK_GET_STRICT_CHK: Final = 12
_NLMSGERR_ATTR_MSG: Final = 1
_SO_RCVBUFFORCE: Final = 33
_RTNLGRP_LINK: Final = 1
_RTNLGRP_NSID: Final = 28
_TC_H_ROOT: Final = 0xFFFFFFFF
_NSID_ANY: Final = 0xFFFFFFFF  # -1: the kernel chooses
_NLMSG_HEADER: Final = struct.Struct("=IHHII")
_IFINFOMSG_SIZE: Final = 16
_IFLA_ADDRESS: Final = 1
_IFLA_STATS64: Final = 23
_IFLA_IF_NETNSID: Final = 46
#: struct ifinfomsg, then the attribute IFLA_IF_NETNSID.
_GET_COUNTERS: Final = struct.Struct("=BxHiIIHHi")
#: struct rtnl_link_stats64, those in LinkStats: rx_packets, tx_packets, rx_bytes, tx_bytes, rx_dropped, tx_dropped.
_STATS64: Final = struct.Struct("=4Q16x2Q")

IFF_UP: Final = 0x1


class RtnlError(OSError):
    """Raised when the kernel refuses a request; `strerror` carries its own words where it gave any."""


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """What RTM_NEWLINK says of a device. Counters are the kernel's own and may be absent from an event (None)."""

    ifindex: int
    ifname: str
    flags: int
    mtu: int
    address: str
    txqlen: int
    carrier: bool
    operstate: str
    qdisc: str
    stats: LinkStats | None
    moved_to: int | None

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
        self._marshal = MarshalRtnl()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def __enter__(self) -> Rtnl:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def get_link(self, *, nsid: int | None = None, index: int = 0, name: str | None = None) -> LinkInfo:
        """A device by index or name, in this namespace or the one with `nsid` here. Raises RtnlError (ENODEV)."""
        message = ifinfmsg()
        message["index"] = index
        message["attrs"] = _target(nsid) + ([("IFLA_IFNAME", _bytes(name))] if name is not None else [])
        with _gone_with_its_netns(nsid):
            return parse_link(self._request(message, RTM_GETLINK))

    def get_counters(self, nsid: int, index: int) -> tuple[str, LinkStats]:
        """Address and counters of a device. Raises RtnlError (ENODEV).

        Built and parsed by hand, in a tenth of the time: it is asked of every end of a dead worker while frames wait.
        """
        self._sequence += 1
        header = _NLMSG_HEADER.pack(
            _GET_COUNTERS.size + _NLMSG_HEADER.size, RTM_GETLINK, _NLM_F_REQUEST, self._sequence, 0
        )
        with _gone_with_its_netns(nsid):
            answer = self._exchange(header + _GET_COUNTERS.pack(0, 0, index, 0, 0, 8, _IFLA_IF_NETNSID, nsid))
        assert answer is not None
        said = dict(_attributes(answer, _NLMSG_HEADER.size + _IFINFOMSG_SIZE))
        return said[_IFLA_ADDRESS].hex(":"), LinkStats(*_STATS64.unpack_from(said[_IFLA_STATS64]))

    def has_link(self, name: str) -> bool:
        """True when this namespace has a device of that name."""
        try:
            self.get_link(name=name)
        except RtnlError as error:
            if error.errno == errno.ENODEV:
                return False
            raise
        return True

    def set_link(self, index: int, *, flags: int = 0, change: int = 0, **attributes: Any) -> None:
        """RTM_SETLINK: set `flags` under the mask `change`, and IFLA_* attributes given as ifname=, mtu= ...

        Raises RtnlError.
        """
        message = ifinfmsg()
        message["index"] = index
        message["flags"] = flags
        message["change"] = change
        for name in ("ifname", "ifalias"):
            if name in attributes:
                attributes[name] = _bytes(attributes[name])
        message["attrs"] = [(f"IFLA_{name.upper()}", value) for name, value in attributes.items()]
        self._request(message, RTM_SETLINK, _NLM_F_ACK)

    def del_link(self, index: int, nsid: int) -> None:
        """Delete a device of the namespace with that nsid here. Raises RtnlError (ENODEV: it is gone already)."""
        message = ifinfmsg()
        message["index"] = index
        message["attrs"] = _target(nsid)
        with _gone_with_its_netns(nsid):
            self._request(message, RTM_DELLINK, _NLM_F_ACK)

    def set_noqueue(self, index: int) -> None:
        """Make noqueue the root qdisc, as veth has it: the TAP's drops then reach the sender. Raises RtnlError."""
        message = tcmsg()
        message["index"] = index
        message["handle"] = 0
        message["parent"] = _TC_H_ROOT
        message["attrs"] = [("TCA_KIND", "noqueue")]
        self._request(message, RTM_NEWQDISC, _NLM_F_ACK | _NLM_F_CREATE_REPLACE)

    def assign_nsid(self, netns: int) -> int:
        """The id that this namespace has for the one behind the fd `netns`; assigned when there is none yet.

        Raises RtnlError (ENODEV: that namespace is being deleted).
        """
        found = self._get_nsid(netns)
        if found >= 0:
            return found
        message = nsidmsg()
        message["attrs"] = [("NETNSA_NSID", _NSID_ANY), ("NETNSA_FD", netns)]
        try:
            self._request(message, RTM_NEWNSID, _NLM_F_ACK)
        except RtnlError as error:
            if error.errno != errno.EEXIST:  # assigned by a move in between
                raise
        found = self._get_nsid(netns)
        if found < 0:
            raise RtnlError(errno.ENODEV, "the namespace is being deleted")
        return found

    def _get_nsid(self, netns: int) -> int:
        message = nsidmsg()
        message["attrs"] = [("NETNSA_FD", netns)]
        return _nsid(self._request(message, RTM_GETNSID))

    def _request(self, message: Any, kind: int, flags: int = 0) -> Any:
        """Send one request; its answer, or None for an acknowledgement. Raises RtnlError."""
        known = {row[-2] for row in message.nla_map}
        if unknown := [name for name, _value in message["attrs"] or () if name not in known]:
            raise ValueError(f"pyroute2 would drop {unknown} silently")
        self._sequence += 1
        message["header"]["type"] = kind
        message["header"]["flags"] = _NLM_F_REQUEST | flags
        message["header"]["sequence_number"] = self._sequence
        message.encode()
        answer = self._exchange(message.data)
        return None if answer is None else next(iter(self._marshal.parse(answer)))

    def _exchange(self, request: bytes) -> bytes | None:
        self._socket.send(request)
        while True:
            for answer, kind, sequence in split(self._socket.recv(1 << 16)):
                if sequence != self._sequence:
                    continue
                if kind == NLMSG_ERROR:
                    _raise_error(answer)
                    return None
                return answer


def event_socket() -> socket.socket:
    """A non-blocking socket that hears RTM_*LINK and RTM_*NSID of every namespace with an id in this one.

    NETLINK_LISTEN_ALL_NSID needs CAP_NET_BROADCAST. Raises OSError.
    """
    events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    events.setblocking(False)
    events.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 16 << 20)
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


def link_index(message: bytes) -> int:
    """The ifindex of a link message, without parsing the rest."""
    return int(struct.unpack_from("=i", message, _NLMSG_HEADER.size + 4)[0])


def parse_link(message: Any) -> LinkInfo:
    """A LinkInfo from a link message: pyroute2's, or the bytes of one."""
    if isinstance(message, bytes):
        (message,) = MarshalRtnl().parse(message)
    said = dict(message["attrs"])
    stats = said.get("IFLA_STATS64")
    return LinkInfo(
        ifindex=message["index"],
        ifname=_text(said.get("IFLA_IFNAME")),
        flags=message["flags"],
        mtu=said.get("IFLA_MTU") or 0,
        address=said.get("IFLA_ADDRESS") or "",
        txqlen=said.get("IFLA_TXQLEN") or 0,
        carrier=bool(said.get("IFLA_CARRIER")),
        operstate=said.get("IFLA_OPERSTATE") or "UNKNOWN",
        qdisc=said.get("IFLA_QDISC") or "",
        stats=stats and LinkStats(*(stats[name] for name in LinkStats.__slots__)),
        moved_to=said.get("IFLA_NEW_NETNSID"),
    )


@contextmanager
def _gone_with_its_netns(nsid: int | None) -> Iterator[None]:
    """A namespace that is gone has no id any more, which the kernel calls EINVAL; for its devices that is ENODEV."""
    try:
        yield
    except RtnlError as error:
        if nsid is not None and error.errno == errno.EINVAL:
            raise RtnlError(errno.ENODEV, error.strerror) from error
        raise


def _text(value: str | bytes | None) -> str:
    """A name. To the kernel it is bytes; where they are not UTF-8, pyroute2 leaves them as they are."""
    return value.decode(errors="surrogateescape") if isinstance(value, bytes) else value or ""


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _target(nsid: int | None) -> list[tuple[str, int]]:
    return [] if nsid is None else [("IFLA_IF_NETNSID", nsid)]  # the older name of IFLA_TARGET_NETNSID


def _raise_error(message: bytes) -> None:
    """Raise the RtnlError that an NLMSG_ERROR carries; nothing for an acknowledgement (error 0)."""
    _length, _kind, flags, _sequence, _pid = _NLMSG_HEADER.unpack_from(message, 0)
    (negative,) = struct.unpack_from("=i", message, _NLMSG_HEADER.size)
    if negative == 0:
        return
    text = os.strerror(-negative)
    at = _NLMSG_HEADER.size + 4 + _NLMSG_HEADER.size  # NETLINK_CAP_ACK: only the request's header is echoed
    if flags & _NLM_F_ACK_TLVS and (words := dict(_attributes(message, at)).get(_NLMSGERR_ATTR_MSG)):
        text += ": " + words.rstrip(b"\0").decode(errors="replace")
    raise RtnlError(-negative, text)


def _attributes(message: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """The attributes of a message from `at` on: (type, value)."""
    while at + 4 <= len(message):
        length, kind = struct.unpack_from("=HH", message, at)
        if length < 4:
            return
        yield kind, message[at + 4 : at + length]
        at += (length + 3) & ~3


def parse_nsid(message: bytes) -> int:
    """The id that an RTM_NEWNSID or RTM_DELNSID message is about, -1 when it names none."""
    (parsed,) = MarshalRtnl().parse(message)
    return _nsid(parsed)


def _nsid(message: Any) -> int:
    """NETNSA_NSID, which the kernel means to be signed: -1 is none."""
    nsid = message.get_attr("NETNSA_NSID")
    return -1 if nsid is None or nsid >= 1 << 31 else int(nsid)
