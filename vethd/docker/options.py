"""What docker says in its requests, checked and in our words.

Sources: libnetwork's docs/remote.md and drivers/remote/api/api.go; the labels of docker's own bridge driver.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface, ip_network
from typing import Any, Final

_LABEL: Final = "com.docker.network."
_GENERIC: Final = f"{_LABEL}generic"
_PORTMAP: Final = f"{_LABEL}portmap"

BRIDGE_NAME: Final = f"{_LABEL}bridge.name"
MTU: Final = f"{_LABEL}driver.mtu"
ICC: Final = f"{_LABEL}bridge.enable_icc"
MASQUERADE: Final = f"{_LABEL}bridge.enable_ip_masquerade"
HOST_BINDING: Final = f"{_LABEL}bridge.host_binding_ipv4"
IFACE_PREFIX: Final = f"{_LABEL}container_iface_prefix"
#: What `docker network create -o` may say.
KNOWN: Final = (BRIDGE_NAME, MTU, ICC, MASQUERADE, HOST_BINDING, IFACE_PREFIX)

#: By IP's protocol number, as docker gives it.
PROTOCOLS: Final = {6: "tcp", 17: "udp", 132: "sctp"}


class Refused(Exception):
    """Raised when docker asks for what can't be; the text goes to whoever called docker, and says what to do."""


class PortTaken(Refused):
    """Raised when a port that is to be published is in use. protocol, port: of the machine's."""

    def __init__(self, text: str, protocol: str, port: int) -> None:
        super().__init__(text)
        self.protocol = protocol
        self.port = port


@dataclass(frozen=True)
class NetworkOptions:
    """A network as it shall be.

    bridge: its name. gateways: addresses of the bridge with the length of their prefixes. pools: networks of the
    containers. mtu: bytes, None is 1500. icc: containers reach each other. masquerade: what leaves has the machine's
    address. host_binding: where ports are published unless said otherwise. prefix: of interfaces in containers.
    internal: nothing leaves and nothing comes in.
    """

    bridge: str
    gateways: tuple[str, ...] = ()
    pools: tuple[str, ...] = ()
    mtu: int | None = None
    icc: bool = True
    masquerade: bool = True
    host_binding: str = ""
    prefix: str = "eth"
    internal: bool = False


@dataclass(frozen=True)
class Binding:
    """A port to be published. protocol: tcp, udp or sctp. port: the container's. host: address, or empty for all.

    first, last: of the machine's, one of which it becomes; 0: any that is free.
    """

    protocol: str
    port: int
    host: str
    first: int
    last: int

    def __str__(self) -> str:
        where = f"[{self.host}]" if ":" in self.host else self.host
        span = f"{self.first}" if self.first == self.last else f"{self.first}-{self.last}"
        return f"{where or '*'}:{span}->{self.port}/{self.protocol}"


def text(request: Mapping[str, Any], field: str, *, empty: bool = False) -> str:
    """A field that is a string, and not empty unless it may be. Raises Refused."""
    value = request.get(field)
    if value is None and empty:
        return ""
    if not isinstance(value, str) or not (value or empty):
        raise Refused(f"{field} is missing or not a string: this is not a request of docker's remote network driver")
    return value


def identifier(request: Mapping[str, Any], field: str) -> str:
    """NetworkID or EndpointID, which names files and devices. Raises Refused."""
    value = text(request, field)
    if not re.fullmatch(r"[0-9A-Za-z]{12,64}", value):
        raise Refused(f"{field} {value!r} is not one of docker's: 12 to 64 letters and digits")
    return value


def mapping(request: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    """A field that is an object; absent, an empty one. Raises Refused."""
    value = request.get(field)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise Refused(f"{field} is not an object")
    return value


def network_options(network: str, request: Mapping[str, Any]) -> NetworkOptions:
    """What CreateNetwork asks for. network: its id. Raises Refused."""
    options = mapping(request, "Options")
    words = mapping(options, _GENERIC)
    for name in words:
        if name not in KNOWN:
            raise Refused(f"option {name} is not known; those that are: {', '.join(KNOWN)}")
    gateways, pools = [], []
    for field in ("IPv4Data", "IPv6Data"):
        for data in _list(request, field):
            pool, gateway = text(data, "Pool", empty=True), text(data, "Gateway", empty=True)
            if pool in ("", "0.0.0.0/0", "::/0"):
                continue  # `--ipam-driver null`
            pools.append(_parsed(ip_network, pool, f"{field}: Pool"))
            if gateway:
                gateways.append(_parsed(ip_interface, gateway, f"{field}: Gateway"))
    host = words.get(HOST_BINDING, "")
    if host and not _is(IPv4Address, host):
        raise Refused(f"{HOST_BINDING} {host!r} is not an IPv4 address")
    bridge = words.get(BRIDGE_NAME) or f"br-{network[:12]}"
    if not isinstance(bridge, str) or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{,14}", bridge):
        raise Refused(f"{BRIDGE_NAME} {bridge!r} is not the name of a bridge: 15 letters, digits, _ . and - at most")
    prefix = words.get(IFACE_PREFIX) or "eth"
    if not isinstance(prefix, str) or not re.fullmatch(r"[A-Za-z0-9_.-]{1,12}", prefix):
        raise Refused(f"{IFACE_PREFIX} {prefix!r} does not begin a name: 12 letters, digits, _ . and - at most")
    return NetworkOptions(
        bridge=bridge,
        gateways=tuple(gateways),
        pools=tuple(pools),
        mtu=_mtu(words),
        icc=_flag(words, ICC, default=True),
        masquerade=_flag(words, MASQUERADE, default=True),
        host_binding="" if host == "0.0.0.0" else host,
        prefix=prefix,
        internal=_flag(options, f"{_LABEL}internal", default=False),
    )


def bindings(request: Mapping[str, Any]) -> list[Binding] | None:
    """Ports that are to be published; None when the request does not speak of them. Raises Refused."""
    options = mapping(request, "Options")
    if _PORTMAP not in options:
        return None
    return [_binding(each) for each in _list(options, _PORTMAP)]


def _binding(each: Mapping[str, Any]) -> Binding:
    """One of docker's types.PortBinding."""
    protocol = PROTOCOLS.get(_number(each, "Proto", 255))
    if protocol is None:
        raise Refused(f"protocol {each['Proto']} can't be published: only tcp, udp and sctp")
    port, first = _number(each, "Port", 65535), _number(each, "HostPort", 65535)
    last = _number(each, "HostPortEnd", 65535) or first
    if not port:
        raise Refused("port 0 of a container can't be published")
    host = text(each, "HostIP", empty=True)
    if host and not (_is(IPv4Address, host) or _is(IPv6Address, host)):
        raise Refused(f"port {port}/{protocol}: {host!r} is not an IP address")
    if last < first:
        raise Refused(f"port {port}/{protocol}: the range {first}-{last} is empty")
    return Binding(protocol, port, str(ip_address(host)) if host else "", first, last)


def _list(request: Mapping[str, Any], field: str) -> list[Mapping[str, Any]]:
    value = request.get(field)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, Mapping) for each in value):
        raise Refused(f"{field} is not a list of objects")
    return value


def _number(each: Mapping[str, Any], field: str, most: int) -> int:
    value = each.get(field, 0)
    if type(value) is not int or not 0 <= value <= most:
        raise Refused(f"{field} {value!r} is not a number from 0 to {most}")
    return value


def _mtu(words: Mapping[str, Any]) -> int | None:
    value = str(words.get(MTU) or "")
    if not value:
        return None
    if not value.isascii() or not value.isdigit() or not 68 <= int(value) <= 65521:
        raise Refused(f"{MTU} {value!r} is not a number of bytes from 68 to 65521")
    return int(value)


def _flag(words: Mapping[str, Any], name: str, *, default: bool) -> bool:
    """As Go's strconv.ParseBool has them."""
    value = words.get(name)
    if value is None:
        return default
    if value in (True, "1", "t", "T", "true", "TRUE", "True"):
        return True
    if value in (False, "0", "f", "F", "false", "FALSE", "False"):
        return False
    raise Refused(f"{name} {value!r} is neither true nor false")


def _parsed(read: Any, value: str, what: str) -> str:
    try:
        return str(read(value))
    except ValueError as error:
        raise Refused(f"{what} {value!r}: {error}") from error


def _is(kind: type[IPv4Address | IPv6Address], value: Any) -> bool:
    try:
        kind(value)
    except ValueError:
        return False
    return isinstance(value, str)
