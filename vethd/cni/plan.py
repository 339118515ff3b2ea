"""ADD without any I/O: what the daemon shall be asked for, and the result that follows.

Mode ptp: the container reaches its own network through the host, as with the plugin `ptp`:

    container: 10.1.0.5/24, no route to the prefix      host end: 10.1.0.1/32
               10.1.0.1 scope link                                10.1.0.5 scope link
               10.1.0.0/24 via 10.1.0.1

Mode bridge: its network is on the link, and the host end a port of the bridge, which is the gateway if isGateway says
so.
"""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface, ip_network
from typing import Any, Final, NamedTuple, TypeAlias

from vethd.cni.config import Network
from vethd.cni.errors import DECODING_FAILURE, INVALID_CONFIG, CniError
from vethd.cni.request import Request
from vethd.cni.result import Result, family
from vethd.mac import mac_of

Interface: TypeAlias = "IPv4Interface | IPv6Interface"

#: The kernel's numbers (RT_SCOPE_*) in the words of link.add.
_SCOPES: Final = {0: "global", 253: "link", 254: "host"}
_SCOPE_GLOBAL: Final = 0
_ROUTE_NUMBERS: Final = ("mtu", "advmss", "priority", "table")
#: Of the name of an end on the host, which has at most 15 bytes.
_DIGITS: Final = 11
_DEFAULT: Final = {"4": "0.0.0.0/0", "6": "::/0"}


class Plan(NamedTuple):
    """What ADD asks for.

    bridge: parameters of bridge.set, or None. host, container: the ends of link.add, the latter without its netns.
    result: what is known of it before anything is made. families: "4", "6": those that the host shall forward.
    sources: addresses to masquerade, with the length of their prefix.
    """

    bridge: dict[str, Any] | None
    host: dict[str, Any]
    container: dict[str, Any]
    result: Result
    families: tuple[str, ...]
    sources: tuple[str, ...]


def host_ifname(network: str, container: str, ifname: str) -> str:
    """The name of an attachment's end on the host: it follows from the attachment, and 44 bits tell it from others."""
    number = _fnv1a(f"{network}\0{container}\0{ifname}".encode()) >> 64 - 4 * _DIGITS
    return f"veth{number:0{_DIGITS}x}"


def _fnv1a(data: bytes) -> int:
    """The 64-bit hash FNV-1a; to load one of the standard library takes longer than all else that is done here."""
    number = 0xCBF29CE484222325
    for byte in data:
        number = (number ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return number


def is_host_ifname(name: str) -> bool:
    """Whether a device may be the end of an attachment on the host, by its name."""
    digits = name.removeprefix("veth")
    return len(digits) == _DIGITS and len(name) == _DIGITS + 4 and set(digits) <= set("0123456789abcdef")


def labels(network: str, request: Request) -> dict[str, str | None]:
    """What tells an attachment from all others, as labels of its pair."""
    return {"network": network, "container": request.container, "interface": request.ifname}


def pod_labels(request: Request) -> dict[str, str]:
    """What the runtime says of the pod, as labels."""
    said = {"pod": request.args.get("K8S_POD_NAME"), "pod-namespace": request.args.get("K8S_POD_NAMESPACE")}
    return {name: value[:255] for name, value in said.items() if value}


def plan(request: Request, network: Network, given: Result) -> Plan:
    """What to ask for. given: by the IPAM plugin. Raises CniError (6, 7)."""
    interfaces = [_interface(each["address"], network.ipam) for each in given["ips"]]
    gateways = [
        _gateway(each.get("gateway"), interface, network)
        for each, interface in zip(given["ips"], interfaces, strict=True)
    ]
    routes = list(given["routes"])
    if network.bridge is not None and network.bridge.default_gateway:
        routes += _default_routes(routes, gateways)
    host: dict[str, Any] = {"ifname": host_ifname(network.name, request.container, request.ifname), "up": True}
    container: dict[str, Any] = {"ifname": request.ifname, "up": True}
    if network.mtu is not None:
        host["mtu"] = container["mtu"] = network.mtu
    mac = network.mac or (mac_of(given["ips"][0]["address"]) if given["ips"] else None)
    if mac is not None:
        container["address"] = mac
    bridge = None
    if network.bridge is None:
        _route_ends(host, container, interfaces, [_needed(gateway, network.ipam) for gateway in gateways])
    else:
        bridge = _bridge(network, interfaces, gateways)
        port = {"hairpin": network.bridge.hairpin, "isolated": network.bridge.isolated, "vlan": network.bridge.vlan}
        host["bridge"] = {"name": network.bridge.name} | {name: value for name, value in port.items() if value}
        container |= {"addresses": [str(interface) for interface in interfaces], "routes": []}
    container["routes"] += [_route(each, gateways, network.ipam) for each in routes]
    ips = [
        {"address": each["address"]} | ({} if gateway is None else {"gateway": gateway})
        for each, gateway in zip(given["ips"], gateways, strict=True)
    ]
    forwards = network.bridge is None or network.bridge.gateway
    return Plan(
        bridge,
        host,
        container,
        {"interfaces": [], "ips": ips, "routes": routes, "dns": network.dns or given["dns"]},
        tuple(sorted({str(interface.version) for interface in interfaces})) if forwards else (),
        tuple(str(interface) for interface in interfaces) if network.masquerade else (),
    )


def finished(
    planned: Plan, request: Request, network: Network, bridge: dict[str, Any] | None, pair: dict[str, Any]
) -> Result:
    """The result of ADD, behind that of what ran before in the chain. bridge, pair: as the daemon answered."""
    made = [] if bridge is None else [{"name": bridge["name"], "mac": bridge["address"], "mtu": bridge["mtu"]}]
    made += [{"name": end["ifname"], "mac": end["address"], "mtu": end["mtu"]} for end in (pair["a"], pair["b"])]
    made[-1]["sandbox"] = request.netns
    previous = network.previous or {"interfaces": [], "ips": [], "routes": [], "dns": {}}
    own = len(previous["interfaces"]) + len(made) - 1
    return {
        "interfaces": previous["interfaces"] + made,
        "ips": previous["ips"] + [each | {"interface": own} for each in planned.result["ips"]],
        "routes": previous["routes"] + planned.result["routes"],
        "dns": planned.result["dns"] or previous["dns"],
    }


def _route_ends(
    host: dict[str, Any], container: dict[str, Any], interfaces: list[Interface], gateways: list[str]
) -> None:
    """Mode ptp: addresses and routes of both ends."""
    both = list(zip(interfaces, gateways, strict=True))
    host["addresses"] = _once([_alone(gateway) for gateway in gateways])
    host["routes"] = _once([{"dst": _alone(str(interface.ip)), "scope": "link"} for interface in interfaces])
    container["addresses"] = [{"address": str(interface), "noprefixroute": True} for interface in interfaces]
    links = [{"dst": _alone(gateway), "src": str(interface.ip), "scope": "link"} for interface, gateway in both]
    networks = [
        {"dst": str(interface.network), "gw": gateway, "src": str(interface.ip)}
        for interface, gateway in both
        if interface.network.num_addresses > 1
    ]
    container["routes"] = _once(links + networks)


def _interface(address: str, whose: str) -> Interface:
    try:
        return ip_interface(address)
    except ValueError as error:
        raise CniError(DECODING_FAILURE, f"the result of {whose}: {error}") from error


def _gateway(said: Any, interface: Interface, network: Network) -> str | None:
    """The gateway of an address; as with `bridge`, a bridge that is one has the first address of the network."""
    if said:
        try:
            return str(ip_address(said))
        except ValueError as error:
            raise CniError(DECODING_FAILURE, f"the result of {network.ipam}: gateway: {error}") from error
    if network.bridge is not None and network.bridge.gateway:
        return str(interface.network.network_address + 1)
    return None


def _needed(gateway: str | None, whose: str) -> str:
    if gateway is None:
        raise CniError(INVALID_CONFIG, f"{whose} gave an address without a gateway, which mode ptp needs")
    return gateway


def _default_routes(routes: list[dict[str, Any]], gateways: list[str | None]) -> list[dict[str, Any]]:
    """A default route for each family that has a gateway, and none yet."""
    there = {each["dst"] for each in routes}
    return _once(
        [
            {"dst": _DEFAULT[family(gateway)], "gw": gateway}
            for gateway in dict.fromkeys(gateways)
            if gateway is not None and _DEFAULT[family(gateway)] not in there
        ]
    )


def _bridge(network: Network, interfaces: list[Interface], gateways: list[str | None]) -> dict[str, Any]:
    """Parameters of bridge.set."""
    assert network.bridge is not None
    asked: dict[str, Any] = {"name": network.bridge.name}
    if network.mtu is not None:
        asked["mtu"] = network.mtu
    if network.bridge.promisc:
        asked["promisc"] = True
    if network.bridge.vlan is not None:
        asked["vlan_filtering"] = True
    if network.bridge.gateway:
        asked["addresses"] = _once(
            [
                f"{gateway}/{interface.network.prefixlen}"
                for interface, gateway in zip(interfaces, gateways, strict=True)
            ]
        )
    return asked


def _route(said: dict[str, Any], gateways: list[str | None], whose: str) -> dict[str, Any]:
    """A route of link.add. One without a gateway goes by that of its family, unless its scope is smaller than that."""
    scope = said.get("scope")
    if scope is not None and scope not in _SCOPES:
        raise CniError(DECODING_FAILURE, f"the result of {whose}: route to {said['dst']}: scope {scope!r} is unknown")
    try:
        dst = ip_network(said["dst"], strict=False)
    except ValueError as error:
        raise CniError(DECODING_FAILURE, f"the result of {whose}: route: {error}") from error
    route: dict[str, Any] = {"dst": str(dst)}
    gateway = said.get("gw")
    if not gateway and scope in (None, _SCOPE_GLOBAL):
        gateway = next((each for each in gateways if each and family(each) == str(dst.version)), None)
    if gateway:
        route["gw"] = gateway
    if scope is not None:
        route["scope"] = _SCOPES[scope]
    return route | {name: said[name] for name in _ROUTE_NUMBERS if said.get(name)}


def _alone(address: str) -> str:
    """An address as a network of one."""
    return f"{address}/{32 if family(address) == '4' else 128}"


def _once(values: list[Any]) -> list[Any]:
    """Without repetitions; of two routes to the same destination by the same way the first."""
    seen: dict[Any, Any] = {}
    for value in values:
        key = (value["dst"], value.get("gw")) if isinstance(value, dict) else value
        seen.setdefault(key, value)
    return list(seen.values())
