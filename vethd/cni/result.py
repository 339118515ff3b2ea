"""Results of ADD, as every version of the CNI specification has them.

Inside the plugin a result has the form of 1.1.0. `parse` makes it of what a delegate or an earlier plugin of the chain
said, in whatever version that says it is; `printed` makes of it what the runtime shall read.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from vethd.cni.errors import DECODING_FAILURE, CniError

#: Versions of the specification that are spoken, oldest first.
VERSIONS: Final = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
LATEST: Final = VERSIONS[-1]
_WITH_FAMILIES: Final = VERSIONS[:2]
_WITH_IP_VERSION: Final = VERSIONS[2:5]
#: What an interface and a route are made of before 1.1.0.
_INTERFACE: Final = ("name", "mac", "sandbox")
_ROUTE: Final = ("dst", "gw")

#: `interfaces`, `ips`, `routes`: lists of objects; `dns`: an object.
Result: TypeAlias = "dict[str, Any]"


def at_least(version: str, other: str) -> bool:
    """Whether one version of ours is another or a later one."""
    return VERSIONS.index(version) >= VERSIONS.index(other)


def parse(document: Any, whose: str) -> Result:
    """A result in the form of 1.1.0. whose: names it in errors. Raises CniError (6)."""
    if not isinstance(document, dict):
        raise CniError(DECODING_FAILURE, f"{whose} is not a JSON object")
    version = document.get("cniVersion") or VERSIONS[0]
    if version not in VERSIONS:
        raise CniError(DECODING_FAILURE, f"{whose}: cniVersion {version!r} is none of {', '.join(VERSIONS)}")
    if version in _WITH_FAMILIES:
        document = _without_families(document, whose)
    result: Result = {name: _objects(document, name, whose) for name in ("interfaces", "ips", "routes")}
    dns = document.get("dns") or {}
    if not isinstance(dns, dict):
        raise CniError(DECODING_FAILURE, f"{whose}: dns is not an object")
    for place, name in (("ips", "address"), ("routes", "dst"), ("interfaces", "name")):
        for each in result[place]:
            if not isinstance(each.get(name), str):
                raise CniError(DECODING_FAILURE, f"{whose}: one of {place} has no {name}")
    for each in result["ips"]:
        each.pop("version", None)
        index = each.get("interface")
        if index is not None and (type(index) is not int or not 0 <= index < len(result["interfaces"])):
            raise CniError(DECODING_FAILURE, f"{whose}: {each['address']} has an interface that is not there: {index}")
    return result | {"dns": dns}


def printed(result: Result, version: str) -> dict[str, Any]:
    """What a runtime reads that speaks this version of the specification."""
    if version in _WITH_FAMILIES:
        return {"cniVersion": version} | _with_families(result) | {"dns": result["dns"]}
    interfaces, ips, routes = result["interfaces"], result["ips"], result["routes"]
    if version != LATEST:
        interfaces = [_only(each, _INTERFACE) for each in interfaces]
        routes = [_only(each, _ROUTE) for each in routes]
    if version in _WITH_IP_VERSION:
        ips = [{"version": family(each["address"])} | each for each in ips]
    lists = {"interfaces": interfaces, "ips": ips, "routes": routes}
    return {"cniVersion": version} | {name: each for name, each in lists.items() if each} | {"dns": result["dns"]}


def family(address: str) -> str:
    """Of an address or a network: "4" or "6"."""
    return "6" if ":" in address else "4"


def _without_families(document: dict[str, Any], whose: str) -> dict[str, Any]:
    """0.1.0 and 0.2.0 have no interfaces, and an address, its gateway and its routes under ip4 and ip6."""
    ips: list[Any] = []
    routes: list[Any] = []
    for name in ("ip4", "ip6"):
        said = document.get(name)
        if said is None:
            continue
        if not isinstance(said, dict):
            raise CniError(DECODING_FAILURE, f"{whose}: {name} is not an object")
        ips.append({"address": said.get("ip")} | _only(said, ("gateway",)))
        routes += _objects(said, "routes", whose)
    return {"ips": ips, "routes": routes, "dns": document.get("dns")}


def _with_families(result: Result) -> dict[str, Any]:
    """The first address of each family; there is no room for more."""
    document: dict[str, Any] = {}
    for each in result["ips"]:
        name = f"ip{family(each['address'])}"
        if name not in document:
            document[name] = {"ip": each["address"]} | _only(each, ("gateway",))
    for name, said in document.items():
        routes = [_only(each, _ROUTE) for each in result["routes"] if family(each["dst"]) == name[-1]]
        if routes:
            said["routes"] = routes
    return document


def _objects(document: dict[str, Any], name: str, whose: str) -> list[dict[str, Any]]:
    """The objects in a list that need not be there."""
    value = document.get(name) or []
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise CniError(DECODING_FAILURE, f"{whose}: {name} is not a list of objects")
    return [dict(each) for each in value]


def _only(value: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value[name] for name in names if value.get(name) is not None}
