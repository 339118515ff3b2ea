"""Bridges and their ports, on a socket of rtnl.py.

A device becomes a port by IFLA_MASTER; what is particular to the port goes in one AF_BRIDGE request, as `bridge link
set` and `bridge vlan add` make it. Source: net/bridge/br_netlink.c.
"""

from __future__ import annotations

import errno
import secrets
import socket
import struct
from dataclasses import dataclass
from typing import Final

from vethd.host.rtnl import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    RTM_DELLINK,
    RTM_GETLINK,
    RTM_NEWLINK,
    RTM_SETLINK,
    LinkInfo,
    Rtnl,
    RtnlError,
    attribute,
    attributes,
    every_attribute,
    link_index,
    nested,
    parse_link,
)

#: struct ifinfomsg with its family: family, index, flags, change.
_IFINFOMSG: Final = struct.Struct("=BxxxiII")
#: struct bridge_vlan_info: flags, vid.
_VLAN_INFO: Final = struct.Struct("=HH")
_IFLA_ADDRESS: Final = 1
_IFLA_IFNAME: Final = 3
_IFLA_MTU: Final = 4
_IFLA_MASTER: Final = 10
_IFLA_PROTINFO: Final = 12
_IFLA_LINKINFO: Final = 18
_IFLA_AF_SPEC: Final = 26
_IFLA_EXT_MASK: Final = 29
_IFLA_INFO_KIND: Final = 1
_IFLA_INFO_DATA: Final = 2
_IFLA_INFO_SLAVE_KIND: Final = 4
_IFLA_INFO_SLAVE_DATA: Final = 5
_IFLA_BR_VLAN_FILTERING: Final = 7
_IFLA_BR_VLAN_DEFAULT_PVID: Final = 39
_IFLA_BRPORT_MODE: Final = 4
_IFLA_BRPORT_ISOLATED: Final = 33
_IFLA_BRIDGE_VLAN_INFO: Final = 2
_RTEXT_FILTER_BRVLAN: Final = 2
_BRIDGE_VLAN_INFO_PVID: Final = 2
_BRIDGE_VLAN_INFO_UNTAGGED: Final = 4
_ATTRIBUTES_AT: Final = 16 + _IFINFOMSG.size
#: What the kernel calls a bridge.
KIND: Final = "bridge"


@dataclass(frozen=True, slots=True)
class Port:
    """How a device is a port. bridge: the name. vlan: of untagged frames, in place of the bridge's own; or None."""

    bridge: str
    hairpin: bool = False
    isolated: bool = False
    vlan: int | None = None


@dataclass(frozen=True, slots=True)
class Bridge:
    """A bridge. info: the device. default_pvid: VLAN of untagged frames on a new port, 0 for none."""

    info: LinkInfo
    vlan_filtering: bool
    default_pvid: int


class NotABridge(Exception):
    """Raised when a device of the name is there, and is something else. kind: what."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


def find(rtnl: Rtnl, name: str) -> Bridge | None:
    """The bridge of that name, or None when there is no such device. Raises NotABridge, RtnlError."""
    try:
        message = rtnl.get_link_message(name=name)
    except RtnlError as error:
        if error.errno == errno.ENODEV:
            return None
        raise
    info = parse_link(message)
    if info.kind != KIND:
        raise NotABridge(info.kind or "no virtual device")
    return _bridge(message)


def create(rtnl: Rtnl, name: str, address: str | None, mtu: int | None, vlan_filtering: bool) -> None:
    """Make a bridge, down. Its address is set explicitly even when random, or it would be that of some port.

    Raises RtnlError (EEXIST).
    """
    message = _link(0) + attribute(_IFLA_IFNAME, name.encode(errors="surrogateescape") + b"\0")
    message += attribute(_IFLA_ADDRESS, bytes.fromhex((address or random_address()).replace(":", "")))
    if mtu is not None:
        message += attribute(_IFLA_MTU, struct.pack("=I", mtu))
    message += nested(_IFLA_LINKINFO, _info(True if vlan_filtering else None))
    rtnl.request(message, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL)


def set_vlan_filtering(rtnl: Rtnl, ifindex: int, on: bool) -> None:
    """Let a bridge keep frames to the VLANs of their ports, or not. Raises RtnlError."""
    rtnl.request(_link(ifindex) + nested(_IFLA_LINKINFO, _info(on)), RTM_NEWLINK)


def join(rtnl: Rtnl, ifindex: int, bridge: Bridge, port: Port) -> None:
    """Make a device a port. Raises RtnlError."""
    rtnl.set_link(ifindex, master=bridge.info.ifindex)
    protinfo = b""
    for kind, on in ((_IFLA_BRPORT_MODE, port.hairpin), (_IFLA_BRPORT_ISOLATED, port.isolated)):
        protinfo += attribute(kind, bytes([on]))
    message = _link(ifindex, socket.AF_BRIDGE) + nested(_IFLA_PROTINFO, protinfo)
    if port.vlan is not None:
        message += nested(_IFLA_AF_SPEC, _vlan(port.vlan, _BRIDGE_VLAN_INFO_PVID | _BRIDGE_VLAN_INFO_UNTAGGED))
    rtnl.request(message, RTM_SETLINK)
    if port.vlan is not None and bridge.default_pvid not in (0, port.vlan):
        leave = _link(ifindex, socket.AF_BRIDGE) + nested(_IFLA_AF_SPEC, _vlan(bridge.default_pvid, 0))
        rtnl.request(leave, RTM_DELLINK)


def ports(rtnl: Rtnl, ifindex: int) -> list[LinkInfo]:
    """The ports of a bridge. Raises RtnlError."""
    wanted = _link(0) + attribute(_IFLA_MASTER, struct.pack("=I", ifindex))
    return [info for message in rtnl.dump(wanted, RTM_GETLINK) if (info := parse_link(message)).master == ifindex]


def port_of(rtnl: Rtnl, ifindex: int) -> Port | None:
    """How a device is a port of a bridge, or None when it is of none. Raises RtnlError."""
    message = rtnl.get_link_message(index=ifindex)
    linkinfo = attributes(attributes(message, _ATTRIBUTES_AT).get(_IFLA_LINKINFO, b""), 0)
    if linkinfo.get(_IFLA_INFO_SLAVE_KIND, b"").rstrip(b"\0") != KIND.encode():
        return None
    data = attributes(linkinfo[_IFLA_INFO_SLAVE_DATA], 0)
    hairpin, isolated = (data.get(kind, b"\0") != b"\0" for kind in (_IFLA_BRPORT_MODE, _IFLA_BRPORT_ISOLATED))
    bridge = _bridge(rtnl.get_link_message(index=parse_link(message).master))
    pvid = _pvid(rtnl, ifindex) if bridge.vlan_filtering else 0
    return Port(bridge.info.ifname, hairpin, isolated, None if pvid in (0, bridge.default_pvid) else pvid)


def _bridge(message: bytes) -> Bridge:
    linkinfo = attributes(attributes(message, _ATTRIBUTES_AT)[_IFLA_LINKINFO], 0)
    data = attributes(linkinfo[_IFLA_INFO_DATA], 0)
    (pvid,) = struct.unpack("=H", data.get(_IFLA_BR_VLAN_DEFAULT_PVID, bytes(2)))
    return Bridge(parse_link(message), data.get(_IFLA_BR_VLAN_FILTERING, b"\0") != b"\0", pvid)


def _pvid(rtnl: Rtnl, ifindex: int) -> int:
    """The VLAN of untagged frames on a port, 0 for none. The kernel tells it of all ports or none."""
    wanted = _link(0, socket.AF_BRIDGE) + attribute(_IFLA_EXT_MASK, struct.pack("=I", _RTEXT_FILTER_BRVLAN))
    for message in rtnl.dump(wanted, RTM_GETLINK):
        if link_index(message) != ifindex:
            continue
        for kind, value in every_attribute(attributes(message, _ATTRIBUTES_AT).get(_IFLA_AF_SPEC, b""), 0):
            flags, vid = _VLAN_INFO.unpack(value) if kind == _IFLA_BRIDGE_VLAN_INFO else (0, 0)
            if flags & _BRIDGE_VLAN_INFO_PVID:
                return int(vid)
    return 0


def _link(ifindex: int, family: int = socket.AF_UNSPEC) -> bytes:
    return _IFINFOMSG.pack(family, ifindex, 0, 0)


def _info(vlan_filtering: bool | None) -> bytes:
    """None says nothing of it: a kernel without VLANs on bridges refuses both values."""
    data = b"" if vlan_filtering is None else attribute(_IFLA_BR_VLAN_FILTERING, bytes([vlan_filtering]))
    return attribute(_IFLA_INFO_KIND, KIND.encode() + b"\0") + nested(_IFLA_INFO_DATA, data)


def _vlan(vid: int, flags: int) -> bytes:
    return attribute(_IFLA_BRIDGE_VLAN_INFO, _VLAN_INFO.pack(flags, vid))


def random_address() -> str:
    """A random unicast, locally administered MAC (kernel: eth_random_addr)."""
    raw = bytearray(secrets.token_bytes(6))
    raw[0] = raw[0] & 0xFE | 0x02
    return raw.hex(":")
