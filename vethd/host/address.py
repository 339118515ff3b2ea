"""IP addresses and routes of a device: RTM_NEWADDR, RTM_NEWROUTE and what belongs to them, on a socket of rtnl.py.

What vethd adds carries its own number as the protocol (IFA_PROTO, rtm_protocol), so that the kernel itself keeps, over
every restart of the daemon, what is vethd's to change and what is not. Before Linux 5.18 addresses have no protocol,
and vethd takes back none.

Source: net/ipv4/devinet.c, net/ipv4/fib_frontend.c, net/ipv6/addrconf.c, net/ipv6/route.c.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import Final

from vethd.host.rtnl import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Rtnl, attribute, attributes, nested

RTM_NEWADDR: Final = 20
RTM_DELADDR: Final = 21
RTM_GETADDR: Final = 22
RTM_NEWROUTE: Final = 24
RTM_DELROUTE: Final = 25
RTM_GETROUTE: Final = 26

#: Protocol of addresses and routes that vethd adds, as `ip addr` and `ip route` show it; not one of rt_protos.
PROTOCOL: Final = 118
#: The routing table main, and the kernel's priority (metric) where none is given.
TABLE_MAIN: Final = 254
PRIORITY: Final = {4: 0, 6: 1024}
#: RT_SCOPE_*, by the words of iproute2.
SCOPES: Final = {"global": 0, "link": 253, "host": 254}

#: struct ifaddrmsg: family, prefixlen, flags, scope, index.
_IFADDRMSG: Final = struct.Struct("=BBBBI")
#: struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags.
_RTMSG: Final = struct.Struct("=8BI")
_UINT: Final = struct.Struct("=I")
_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
_IFA_BROADCAST: Final = 4
_IFA_FLAGS: Final = 8
_IFA_PROTO: Final = 11
_IFA_F_NODAD: Final = 0x02
_IFA_F_NOPREFIXROUTE: Final = 0x200
_RTA_DST: Final = 1
_RTA_OIF: Final = 4
_RTA_GATEWAY: Final = 5
_RTA_PRIORITY: Final = 6
_RTA_PREFSRC: Final = 7
_RTA_METRICS: Final = 8
_RTA_TABLE: Final = 15
_RTAX_MTU: Final = 2
_RTAX_ADVMSS: Final = 8
_RT_TABLE_COMPAT: Final = 252
_RTN_UNICAST: Final = 1
#: Length of an IPv4 prefix from which on it has no broadcast address (RFC 3021).
_NO_BROADCAST: Final = 31

Ip = IPv4Address | IPv6Address
_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}


@dataclass(frozen=True, slots=True)
class Address:
    """An IP address of a device. ip: with its prefix. noprefixroute: without a route to that."""

    ip: IPv4Interface | IPv6Interface
    noprefixroute: bool = False

    def __str__(self) -> str:
        return str(self.ip)


@dataclass(frozen=True, slots=True)
class Route:
    """A route through a device. gw: None when `dst` is on the link. src: preferred source, or None.

    mtu, advmss: bytes, or None. scope: one of SCOPES' values; 0 for IPv6.
    """

    dst: IPv4Network | IPv6Network
    gw: Ip | None = None
    src: Ip | None = None
    mtu: int | None = None
    advmss: int | None = None
    priority: int = 0
    table: int = TABLE_MAIN
    scope: int = 0

    def __str__(self) -> str:
        dst = "default" if self.dst.prefixlen == 0 else str(self.dst)
        return dst if self.gw is None else f"{dst} via {self.gw}"


def in_order(routes: Iterable[Route]) -> list[Route]:
    """Routes in an order in which they can be made: those without a next hop first, and the narrow ones."""
    return sorted(routes, key=lambda route: (route.gw is not None, -route.dst.prefixlen, str(route)))


def add_address(rtnl: Rtnl, ifindex: int, address: Address, *, take_over: bool = False) -> None:
    """Give a device an address; one of IPv6 can be used at once. Raises RtnlError (EEXIST: it has it).

    take_over: one that somebody else added becomes vethd's.
    """
    rtnl.request(_address(ifindex, address), RTM_NEWADDR, NLM_F_CREATE | (NLM_F_REPLACE if take_over else NLM_F_EXCL))


def del_address(rtnl: Rtnl, ifindex: int, address: Address) -> None:
    """Take an address from a device. Raises RtnlError (EADDRNOTAVAIL: it has none such)."""
    rtnl.request(_address(ifindex, address), RTM_DELADDR)


def addresses(rtnl: Rtnl, ifindex: int) -> Iterator[tuple[Address, bool]]:
    """The addresses of a device, and of each whether vethd added it. Raises RtnlError."""
    for message in rtnl.dump(_IFADDRMSG.pack(socket.AF_UNSPEC, 0, 0, 0, ifindex), RTM_GETADDR):
        _family, prefixlen, _flags, _scope, index = _IFADDRMSG.unpack_from(message, 16)
        said = attributes(message, 16 + _IFADDRMSG.size)
        if index != ifindex:
            continue
        (flags,) = _UINT.unpack(said[_IFA_FLAGS])
        ip = ip_interface((said.get(_IFA_LOCAL, said[_IFA_ADDRESS]), prefixlen))
        yield Address(ip, bool(flags & _IFA_F_NOPREFIXROUTE)), said.get(_IFA_PROTO) == bytes([PROTOCOL])


def add_route(rtnl: Rtnl, ifindex: int, route: Route) -> None:
    """Make a route; before others with its destination and priority, as CNI's plugins do.

    Raises RtnlError (EEXIST: it is there, ENETDOWN: the device is down, ENETUNREACH or EHOSTUNREACH: no way to `gw`).
    """
    rtnl.request(_route(ifindex, route), RTM_NEWROUTE, NLM_F_CREATE)


def del_route(rtnl: Rtnl, ifindex: int, route: Route) -> None:
    """Remove a route. Raises RtnlError (ESRCH: there is none such)."""
    rtnl.request(_route(ifindex, route), RTM_DELROUTE)


def routes(rtnl: Rtnl, ifindex: int) -> Iterator[Route]:
    """The routes through a device that vethd added. Raises RtnlError."""
    for family in _FAMILIES.values():
        header = _RTMSG.pack(family, 0, 0, 0, 0, PROTOCOL, 0, 0, 0)
        for message in rtnl.dump(header + attribute(_RTA_OIF, _UINT.pack(ifindex)), RTM_GETROUTE):
            of, dst_len, _src, _tos, _table, protocol, scope, _type, _flags = _RTMSG.unpack_from(message, 16)
            said = attributes(message, 16 + _RTMSG.size)
            ours = protocol == PROTOCOL and said.get(_RTA_OIF) == _UINT.pack(ifindex)
            if of != family or not ours:  # without IPv6, the kernel answers with everything it has
                continue
            any_ip = bytes(4 if of == socket.AF_INET else 16)
            metrics = attributes(said.get(_RTA_METRICS, b""), 0)
            yield Route(
                ip_network((said.get(_RTA_DST, any_ip), dst_len)),
                _ip(said.get(_RTA_GATEWAY)),
                _ip(said.get(_RTA_PREFSRC)),
                _number(metrics.get(_RTAX_MTU)),
                _number(metrics.get(_RTAX_ADVMSS)),
                _number(said.get(_RTA_PRIORITY)) or 0,
                _number(said[_RTA_TABLE]) or 0,
                scope,
            )


def _address(ifindex: int, address: Address) -> bytes:
    ip = address.ip
    flags = (_IFA_F_NODAD if ip.version == 6 else 0) | (_IFA_F_NOPREFIXROUTE if address.noprefixroute else 0)
    message = _IFADDRMSG.pack(_FAMILIES[ip.version], ip.network.prefixlen, 0, 0, ifindex)
    message += attribute(_IFA_LOCAL, ip.packed) + attribute(_IFA_ADDRESS, ip.packed)
    if ip.version == 4 and ip.network.prefixlen < _NO_BROADCAST:
        message += attribute(_IFA_BROADCAST, ip.network.broadcast_address.packed)
    return message + attribute(_IFA_FLAGS, _UINT.pack(flags)) + attribute(_IFA_PROTO, bytes([PROTOCOL]))


def _route(ifindex: int, route: Route) -> bytes:
    table = route.table if route.table < 256 else _RT_TABLE_COMPAT
    message = _RTMSG.pack(
        _FAMILIES[route.dst.version], route.dst.prefixlen, 0, 0, table, PROTOCOL, route.scope, _RTN_UNICAST, 0
    )
    if route.dst.prefixlen:
        message += attribute(_RTA_DST, route.dst.network_address.packed)
    for kind, ip in ((_RTA_GATEWAY, route.gw), (_RTA_PREFSRC, route.src)):
        if ip is not None:
            message += attribute(kind, ip.packed)
    metrics = b"".join(
        attribute(kind, _UINT.pack(value))
        for kind, value in ((_RTAX_MTU, route.mtu), (_RTAX_ADVMSS, route.advmss))
        if value is not None
    )
    if metrics:
        message += nested(_RTA_METRICS, metrics)
    for kind, value in ((_RTA_OIF, ifindex), (_RTA_PRIORITY, route.priority), (_RTA_TABLE, route.table)):
        message += attribute(kind, _UINT.pack(value))
    return message


def _ip(raw: bytes | None) -> Ip | None:
    return None if raw is None else ip_address(raw)


def _number(raw: bytes | None) -> int | None:
    return None if raw is None else int(_UINT.unpack(raw)[0])
