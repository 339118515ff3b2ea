"""bridge.py and address.py: what the kernel is asked, in the words of pyroute2; and what is read from its answers.

That the kernel does it is seen where ends are attached (tests/pairs/test_attach.py). Not every kernel has VLANs there.
"""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from vethd.host import address, bridge
from vethd.host.address import Address, Route
from vethd.host.bridge import Bridge, Port
from vethd.host.rtnl import RTM_DELLINK, RTM_NEWLINK, RTM_SETLINK, LinkInfo, attribute, nested

HEADER = struct.Struct("=IHHII")
BRIDGE = LinkInfo(7, "br0", 1, 1500, "02:00:00:00:00:07", 1000, True, "UP", "noqueue", "", None, None, 0, "bridge")


class Noted:
    """Takes the place of Rtnl: requests are noted and taken apart by pyroute2."""

    def __init__(self, answers: list[bytes] | None = None) -> None:
        self.requests: list[tuple[int, Any]] = []
        self.masters: list[tuple[int, int]] = []
        self.answers = answers or []

    def set_link(self, index: int, *, master: int) -> None:
        self.masters.append((index, master))

    def request(self, message: bytes, kind: int, flags: int = 0) -> None:
        form = {16: ifinfmsg, 17: ifinfmsg, 19: ifinfmsg, 20: ifaddrmsg, 24: rtmsg}[kind]
        decoded = form(HEADER.pack(HEADER.size + len(message), kind, flags, 1, 0) + message)
        decoded.decode()
        self.requests.append((kind, decoded))

    def dump(self, _message: bytes, _kind: int) -> list[bytes]:
        return self.answers


def vlans(message: Any) -> list[tuple[int, int]]:
    """(flags, vid) of each VLAN in an AF_SPEC of a bridge's port."""
    raw = message.get_attr("IFLA_AF_SPEC")
    return [(info["flags"], info["vid"]) for info in raw.get_attrs("IFLA_BRIDGE_VLAN_INFO")]


@pytest.mark.parametrize(("vlan", "default_pvid"), [(None, 1), (30, 1), (30, 0), (1, 1)])
def test_a_port_gets_its_flags_and_its_vlan(vlan: int | None, default_pvid: int) -> None:
    noted = Noted()
    bridge.join(noted, 9, Bridge(BRIDGE, True, default_pvid), Port("br0", True, False, vlan))  # type: ignore[arg-type]
    assert noted.masters == [(9, 7)]
    (kind, message), *left = noted.requests
    assert (kind, message["family"], message["index"]) == (RTM_SETLINK, socket.AF_BRIDGE, 9)
    info = message.get_attr("IFLA_PROTINFO")
    assert (info.get_attr("IFLA_BRPORT_MODE"), info.get_attr("IFLA_BRPORT_ISOLATED")) == (1, 0)
    if vlan is None:
        assert message.get_attr("IFLA_AF_SPEC") is None
    else:
        assert vlans(message) == [(2 | 4, vlan)]  # PVID, untagged
    if vlan is None or default_pvid in (0, vlan):
        assert left == []
    else:
        ((kind, message),) = left
        assert (kind, message["family"], vlans(message)) == (RTM_DELLINK, socket.AF_BRIDGE, [(0, default_pvid)])


def test_the_vlan_of_untagged_frames_is_found_among_others() -> None:
    def told(index: int, *infos: tuple[int, int]) -> bytes:
        spec = b"".join(attribute(2, struct.pack("=HH", *info)) for info in infos)
        body = struct.pack("=BxHiII", socket.AF_BRIDGE, 0, index, 0, 0) + nested(26, spec)
        return HEADER.pack(HEADER.size + len(body), RTM_NEWLINK, 0, 1, 0) + body

    noted: Any = Noted([told(8, (6, 5)), told(9, (4, 7), (2 | 4, 30), (0, 31)), told(10)])
    assert [bridge._pvid(noted, index) for index in (8, 9, 10, 11)] == [5, 30, 0, 0]


IPS = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


@given(ip=IPS, length=st.integers(0, 32), noprefixroute=st.booleans())
def test_an_address_says_what_it_is(ip: Any, length: int, noprefixroute: bool) -> None:
    noted: Any = Noted()
    address.add_address(noted, 5, Address(ip_interface(f"{ip}/{length}"), noprefixroute))
    ((_kind, message),) = noted.requests
    assert (message["prefixlen"], message["index"]) == (length, 5)
    assert ip_address(message.get_attr("IFA_LOCAL")) == ip_address(message.get_attr("IFA_ADDRESS")) == ip
    assert bool(message.get_attr("IFA_FLAGS") & 0x200) is noprefixroute
    assert bool(message.get_attr("IFA_FLAGS") & 0x02) is (ip.version == 6)
    assert (message.get_attr("IFA_BROADCAST") is not None) is (ip.version == 4 and length < 31)


@given(
    ip=IPS,
    length=st.integers(0, 32),
    gw=st.booleans(),
    table=st.integers(1, 2**32 - 1),
    priority=st.integers(0, 2**32 - 1),
    mtu=st.none() | st.integers(68, 65535),
)
def test_a_route_that_is_told_back_is_the_same(
    ip: Any, length: int, gw: bool, table: int, priority: int, mtu: int | None
) -> None:
    dst = ip_network(f"{ip}/{length}", strict=False)
    route = Route(dst, ip if gw else None, None, mtu, None, priority, table, 0)
    request = address._route(5, route)
    message = rtmsg(HEADER.pack(HEADER.size + len(request), 24, 0, 1, 0) + request)
    message.decode()
    assert (message["dst_len"], message["proto"], message.get_attr("RTA_OIF")) == (length, address.PROTOCOL, 5)
    assert (message.get_attr("RTA_TABLE"), message.get_attr("RTA_PRIORITY")) == (table, priority)
    assert (message.get_attr("RTA_GATEWAY") is None) is not gw
    noted: Any = Noted([HEADER.pack(HEADER.size + len(request), 24, 0, 1, 0) + request])
    assert set(address.routes(noted, 5)) == {route}
