"""What an end is attached to - a bridge, addresses, routes: the words of requests and files made the kernel's."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address, ip_interface, ip_network

from vethd.errors import InvalidParams
from vethd.host.address import PRIORITY, SCOPES, TABLE_MAIN, Address, Ip, Route
from vethd.host.bridge import Port
from vethd.pairs.bridges import BridgeSpec
from vethd.pairs.spec import Attachment
from vethd.rpc.schema.link import EndParams
from vethd.rpc.schema.network import AddressParams, BridgeParams, PortParams, RouteParams

_ANY: dict[int, str] = {4: "0.0.0.0/0", 6: "::/0"}


def attachment(params: EndParams, what: str) -> Attachment:
    """What an end shall be attached to. what: for errors, such as `end a`. Raises InvalidParams."""
    port = None if params.bridge is None else as_port(params.bridge)
    addresses = as_addresses(params.addresses, f"{what}: addresses")
    return Attachment(port, addresses, as_routes(params.routes, f"{what}: routes"))


def bridge_spec(params: BridgeParams, place: int, *, configured: bool = False) -> BridgeSpec:
    """A bridge to be made. place: an open fd of its namespace. configured: see BridgeSpec. Raises InvalidParams."""
    return BridgeSpec(
        params.name,
        place,
        as_addresses(params.addresses, "addresses"),
        params.mtu,
        params.address,
        params.vlan_filtering,
        params.promisc,
        params.up,
        configured,
    )


def as_port(params: str | PortParams) -> Port:
    """How an end shall be a port."""
    if isinstance(params, str):
        return Port(params)
    return Port(params.name, params.hairpin, params.isolated, params.vlan)


def as_addresses(params: Iterable[str | AddressParams], what: str) -> tuple[Address, ...]:
    """IP addresses. Raises InvalidParams, naming which."""
    return tuple(as_address(each, f"{what}.{index}") for index, each in enumerate(params))


def as_address(params: str | AddressParams, what: str) -> Address:
    """An IP address. Raises InvalidParams."""
    text, noprefixroute = (params, False) if isinstance(params, str) else (params.address, params.noprefixroute)
    try:
        if "/" not in text or "%" in text:
            raise ValueError
        ip = ip_interface(text)
    except ValueError as error:
        raise InvalidParams(
            f"{what}: {text!r} is not an IP address with the length of its prefix", hint="such as 10.0.0.2/24"
        ) from error
    if ip.is_multicast or ip.is_unspecified:
        raise InvalidParams(f"{what}: {text} can't be the address of a device", hint="give a unicast address")
    return Address(ip, noprefixroute)


def as_routes(params: Iterable[RouteParams], what: str) -> tuple[Route, ...]:
    """Routes, in this order. Raises InvalidParams, naming which and the field."""
    return tuple(as_route(each, f"{what}.{index}") for index, each in enumerate(params))


def as_route(params: RouteParams, what: str) -> Route:
    """A route as the kernel lists it, with what it takes for what is left out. Raises InvalidParams."""
    gw, src = (None if ip is None else _ip(ip, f"{what}.{of}") for of, ip in (("gw", params.gw), ("src", params.src)))
    version = next((ip.version for ip in (gw, src) if ip is not None), 4)
    text = _ANY[version] if params.dst == "default" else params.dst
    try:
        dst = ip_network(text)
    except ValueError as error:
        raise InvalidParams(
            f"{what}.dst: {error}", hint="give `default`, an address, or a network such as 10.0.0.0/8"
        ) from error
    for of, ip in (("gw", gw), ("src", src)):
        if ip is not None and ip.version != dst.version:
            raise InvalidParams(f"{what}.{of}: {ip} is of another version of IP than {dst}", hint="make two routes")
    scope = SCOPES[params.scope or ("link" if gw is None else "global")] if dst.version == 4 else 0
    priority = PRIORITY[dst.version] if params.priority in (None, 0) else params.priority
    assert priority is not None
    return Route(dst, gw, src, params.mtu, params.advmss, priority, params.table or TABLE_MAIN, scope)


def _ip(text: str, what: str) -> Ip:
    try:
        return ip_address(text)
    except ValueError as error:
        raise InvalidParams(f"{what}: {text!r} is not an IP address", hint="such as 10.0.0.1, no prefix") from error
