"""The configuration of a network, as a runtime passes it on stdin, checked.

ADD insists on every field: one that nobody understands is more likely a slip of the pen than a wish that may be
ignored. The other commands take what they need, so that a container can be detached whatever was written since.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from vethd.cni.errors import (
    DECODING_FAILURE,
    INCOMPATIBLE_VERSION,
    INVALID_CONFIG,
    CniError,
    unsupported,
)
from vethd.cni.request import NAME
from vethd.cni.result import VERSIONS, Result, at_least, parse

#: The first version that knows the command; the others are as old as the specification.
SINCE: Final = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}
#: What a label of a pair holds.
_MAX_NAME: Final = 255
_MAX_IFNAME: Final = 15
_MAX_MTU: Final = 65521
#: As the plugin `bridge`.
_DEFAULT_BRIDGE: Final = "cni0"

_COMMON: Final = frozenset(
    {
        *("cniVersion", "cniVersions", "name", "type", "args", "capabilities", "runtimeConfig", "prevResult"),
        *("ipam", "dns", "ipMasq", "ipMasqBackend", "mtu", "mode", "socket"),
        *("cni.dev/valid-attachments", "cni.dev/attachments"),
    }
)
_OF_BRIDGE: Final = frozenset(
    {"bridge", "isGateway", "isDefaultGateway", "hairpinMode", "promiscMode", "portIsolation", "vlan"}
)
#: All fields that are understood.
KNOWN: Final = _COMMON | _OF_BRIDGE
#: Fields of the plugins `ptp` and `bridge` that ask for nothing when they have this value.
IDLE: Final[Mapping[str, Any]] = {
    "forceAddress": False,
    "macspoofchk": False,
    "enabledad": False,
    "disableContainerInterface": False,
    "preserveDefaultVlan": False,
    "vlanTrunk": [],
}
#: What of runtimeConfig is the IPAM plugin's, which reads it itself.
_OF_IPAM: Final = frozenset({"ips", "ipRanges"})
#: Commands that read prevResult.
_COMPARING: Final = ("ADD", "CHECK")
_RATES: Final = ("ingressRate", "ingressBurst", "egressRate", "egressBurst")
_DNS: Final = ("nameservers", "domain", "search", "options")


class Rate(NamedTuple):
    """A limit of what flows in one direction. rate: bits per second. burst: bits that may go at once."""

    rate: int
    burst: int


class Bandwidth(NamedTuple):
    """Limits of a container. ingress: of what comes to it. egress: of what it sends."""

    ingress: Rate | None
    egress: Rate | None


class BridgeConfig(NamedTuple):
    """Mode bridge: how the host end is attached. vlan: None for the bridge's own."""

    name: str
    gateway: bool
    default_gateway: bool
    hairpin: bool
    promisc: bool
    isolated: bool
    vlan: int | None


class Network(NamedTuple):
    """A network.

    document: the whole configuration as it came. ipam: name of the IPAM plugin, or "". socket: of the daemon, or None
    for the default. bridge: None in mode ptp. mtu: bytes, or None for the default. mac: of the container's interface,
    or None for a random one. previous: prevResult, for ADD that of what ran before in the chain, for CHECK that of ADD;
    else None.
    """

    version: str
    name: str
    document: Mapping[str, Any]
    ipam: str
    socket: str | None
    bridge: BridgeConfig | None
    masquerade: bool
    mtu: int | None
    mac: str | None
    bandwidth: Bandwidth
    dns: Mapping[str, Any]
    previous: Result | None


def decode(text: bytes) -> dict[str, Any]:
    """The JSON object on stdin. Raises CniError (6)."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise CniError(DECODING_FAILURE, f"the network configuration is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise CniError(DECODING_FAILURE, "the network configuration is not a JSON object")
    return document


def version_of(document: Mapping[str, Any], command: str) -> str:
    """The version of the specification that is spoken. Raises CniError (1, 6)."""
    version = document.get("cniVersion")
    if version is not None and not isinstance(version, str):
        raise CniError(DECODING_FAILURE, f"cniVersion is not a string: {version!r}")
    version = version or VERSIONS[0]
    spoken = ", ".join(VERSIONS)
    if version not in VERSIONS:
        raise CniError(INCOMPATIBLE_VERSION, f"cniVersion {version!r} is not supported", f"supported are {spoken}")
    since = SINCE.get(command, VERSIONS[0])
    if not at_least(version, since):
        raise CniError(INCOMPATIBLE_VERSION, f"cniVersion {version!r} has no {command}", f"it came with {since}")
    return version


def read(document: Mapping[str, Any], command: str, args: Mapping[str, str]) -> Network:
    """The network that a configuration describes. args: of CNI_ARGS. Raises CniError (1, 2, 6, 7)."""
    version = version_of(document, command)
    fields = Fields(document)
    name = fields.text("name", "")
    if not NAME.fullmatch(name) or len(name) > _MAX_NAME:
        raise CniError(
            INVALID_CONFIG,
            f"name {name!r} must begin with a letter or digit, hold only those, '_', '.' and '-',"
            f" and have at most {_MAX_NAME} characters",
        )
    bridge = _bridge(fields)
    ipam = fields.object("ipam").text("type", "")
    if "/" in ipam or ipam in (".", ".."):
        raise CniError(INVALID_CONFIG, f"ipam.type {ipam!r} is not the name of a plugin")
    runtime = fields.object("runtimeConfig")
    if command == "ADD":
        _insist(document, bridge is not None)
        _insist_on_runtime(runtime.values, ipam)
    previous = document.get("prevResult") if command in _COMPARING else None
    dns = fields.object("dns").values
    return Network(
        version,
        name,
        document,
        ipam,
        fields.text("socket", "") or None,
        bridge,
        fields.flag("ipMasq"),
        fields.number("mtu", _MAX_MTU) or None,
        _mac(fields, runtime, args),
        _bandwidth(runtime.object("bandwidth", "runtimeConfig.bandwidth")),
        {field: dns[field] for field in _DNS if dns.get(field)},
        None if previous is None else parse(previous, "prevResult"),
    )


def valid_attachments(document: Mapping[str, Any]) -> set[tuple[str, str]]:
    """GC: the attachments that stay, as (container, interface). Raises CniError (7)."""
    said = document.get("cni.dev/valid-attachments", document.get("cni.dev/attachments"))
    if not isinstance(said, list):
        raise CniError(INVALID_CONFIG, "cni.dev/valid-attachments is missing, and says what GC may not remove")
    valid = set()
    for each in said:
        match each:
            case {"containerID": str(container), "ifname": str(ifname)}:
                valid.add((container, ifname))
            case _:
                raise CniError(
                    INVALID_CONFIG, f"cni.dev/valid-attachments: {each!r} does not hold containerID and ifname"
                )
    return valid


class Fields:
    """Fields of an object, by name; null is as good as nothing. place: comes before their names in errors."""

    def __init__(self, values: Mapping[str, Any], place: str = "") -> None:
        self.values = values
        self._place = place

    def text(self, name: str, default: str) -> str:
        """A string. Raises CniError (7)."""
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.wrong(name, "a string")
        return value

    def flag(self, name: str) -> bool:
        """A boolean, false unless said otherwise. Raises CniError (7)."""
        value = self.values.get(name)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def number(self, name: str, largest: int) -> int:
        """A whole number from 0 on, 0 unless said otherwise. Raises CniError (7)."""
        value = self.values.get(name)
        if value is None:
            return 0
        if type(value) is not int or not 0 <= value <= largest:
            raise self.wrong(name, f"a whole number from 0 to {largest}")
        return value

    def object(self, name: str, place: str | None = None) -> Fields:
        """An object, empty unless said otherwise. Raises CniError (7)."""
        value = self.values.get(name)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise self.wrong(name, "an object")
        return Fields(value, f"{place or self._place + name}.")

    def wrong(self, name: str, what: str) -> CniError:
        """The error for a field that is something else."""
        return CniError(INVALID_CONFIG, f"{self._place}{name} must be {what}, not {json.dumps(self.values[name])}")


def _bridge(fields: Fields) -> BridgeConfig | None:
    named = fields.values.get("bridge") is not None
    mode = fields.text("mode", "bridge" if named else "ptp")
    if mode not in ("bridge", "ptp"):
        raise CniError(INVALID_CONFIG, f"mode must be bridge or ptp, not {mode!r}")
    if mode == "ptp":
        return None
    name = fields.text("bridge", _DEFAULT_BRIDGE)
    if not name or len(name.encode(errors="surrogateescape")) > _MAX_IFNAME or "/" in name:
        raise CniError(INVALID_CONFIG, f"bridge {name!r} is not a name that an interface may have")
    default_gateway = fields.flag("isDefaultGateway")
    bridge = BridgeConfig(
        name,
        fields.flag("isGateway") or default_gateway,
        default_gateway,
        fields.flag("hairpinMode"),
        fields.flag("promiscMode"),
        fields.flag("portIsolation"),
        fields.number("vlan", 4094) or None,
    )
    if bridge.hairpin and bridge.promisc:
        raise CniError(INVALID_CONFIG, "hairpinMode and promiscMode exclude each other")
    if bridge.gateway and bridge.vlan is not None:
        raise unsupported(
            "vlan",
            bridge.vlan,
            "the bridge's own addresses are not in that VLAN: leave out isGateway and isDefaultGateway",
        )
    return bridge


def _insist(document: Mapping[str, Any], bridge: bool) -> None:
    """Raise CniError (2) for a field that is not known, or not in this mode."""
    for name, value in document.items():
        if name in _COMMON or value is None:
            continue
        if name in _OF_BRIDGE:
            if not bridge and value:
                raise unsupported(name, value, 'it goes with "mode": "bridge"')
        elif name not in IDLE or value != IDLE[name]:
            known = ", ".join(sorted(each for each in KNOWN if "/" not in each))
            raise unsupported(name, value, f"supported are {known}")
    backend = document.get("ipMasqBackend")
    if backend not in (None, "nftables"):
        raise unsupported("ipMasqBackend", backend, "it is nftables")


def _insist_on_runtime(runtime: Mapping[str, Any], ipam: str) -> None:
    for name, value in runtime.items():
        if not value or name in ("mac", "bandwidth"):
            continue
        if name not in _OF_IPAM:
            why = "chain the plugin portmap behind" if name == "portMappings" else ""
            raise unsupported(f"runtimeConfig.{name}", value, why)
        if not ipam:
            raise unsupported(f"runtimeConfig.{name}", value, "it is for an IPAM plugin, and none is configured")


def _mac(fields: Fields, runtime: Fields, args: Mapping[str, str]) -> str | None:
    """The one that was asked for; the runtime's word counts most, that of CNI_ARGS least, as with `bridge`."""
    of_network = fields.object("args").object("cni")
    mac = runtime.text("mac", "") or of_network.text("mac", "") or args.get("MAC", "")
    if mac and not re.fullmatch("[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", mac):
        raise CniError(INVALID_CONFIG, f"mac {mac!r} is not a MAC address, such as 0a:00:27:00:00:01")
    return mac.lower() or None


def _bandwidth(said: Fields) -> Bandwidth:
    for name in said.values:
        if name not in _RATES:
            raise unsupported(
                f"runtimeConfig.bandwidth.{name}", said.values[name], f"supported are {', '.join(_RATES)}"
            )
    rates = [said.number(name, (1 << 63) - 1) for name in _RATES]
    return Bandwidth(_rate("ingress", *rates[:2]), _rate("egress", *rates[2:]))


def _rate(direction: str, rate: int, burst: int) -> Rate | None:
    if not rate and not burst:
        return None
    if not rate or not burst:
        given, missing = ("Burst", "Rate") if burst else ("Rate", "Burst")
        raise CniError(
            INVALID_CONFIG, f"runtimeConfig.bandwidth: {direction}{given} needs {direction}{missing} beside it"
        )
    if rate < 8 or burst < 8:
        raise CniError(INVALID_CONFIG, f"runtimeConfig.bandwidth: {direction} is less than a byte")
    return Rate(rate, burst)
