"""What annotations say about a container's interfaces, as parameters of link.add.

    vethd.network.IFNAME.OPTION = VALUE

An annotation without a meaning is an error, and so is an empty value: a container that runs without the network it was
meant to have is worse than one that does not run. What a value means is for the daemon to judge; what it refuses is
told in the words of the annotation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from vethd.mac import mac_of

PREFIX: Final = "vethd."
_NETWORK: Final = "vethd.network."
_EXAMPLE: Final = "vethd.network.eth0.addresses=10.88.0.2/24"
#: How the daemon says which pair and end it speaks of, and which word then tells what is wrong with it.
_PLACE: Final = re.compile(
    r"pairs\.(?P<pair>\d+)(?:: end (?=[ab]:)|: |\.)(?:(?P<end>[ab])(?:: |\.))?(?P<text>.*)", re.DOTALL
)
_FIELD: Final = re.compile(
    r"(?P<addresses>addresses|adding address)|(?P<routes>routes\.(?P<index>\d+)|adding route default|adding route)"
    r"|(?P<port>bridge\.(?P<how>hairpin|isolated|vlan))|(?P<bridge>bridge)|(?P<address>address)|(?P<mtu>mtu)"
    r"|(?P<ifname>ifname|name)|(?P<labels>labels)"
)


class AnnotationError(Exception):
    """Raised when an annotation makes no sense. The text names it."""


def _words(value: str) -> list[str]:
    return [word.strip() for word in value.split(",")]


def _text(value: str) -> str:
    return value.strip()


def _number(value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise AnnotationError(f"{value!r} is no number") from None


def _flag(value: str) -> bool:
    if value not in ("true", "false"):
        raise AnnotationError(f"{value!r} is neither true nor false")
    return value == "true"


def _labels(value: str) -> dict[str, str]:
    labels = {}
    for word in _words(value):
        name, equals, text = word.partition("=")
        if not equals:
            raise AnnotationError(f"{word!r} is not of the form NAME=VALUE")
        labels[name] = text
    return labels


def _routes(value: str) -> list[dict[str, Any]]:
    """Routes as `ip route` has them: DST [via GATEWAY] [src ADDRESS] [mtu BYTES] [metric NUMBER], ..."""
    routes = []
    for words in map(str.split, _words(value)):
        if len(words) % 2 == 0:
            raise AnnotationError(f"{' '.join(words)!r} is not of the form DST [via GATEWAY] [src ADDRESS] ...")
        route: dict[str, Any] = {"dst": words[0]}
        for keyword, argument in zip(words[1::2], words[2::2], strict=True):
            if keyword not in _ROUTE:
                raise AnnotationError(f"{keyword!r} is unknown (known: {', '.join(_ROUTE)})")
            name, read = _ROUTE[keyword]
            route[name] = read(argument)
        routes.append(route)
    return routes


_ROUTE: Final[dict[str, tuple[str, Callable[[str], Any]]]] = {
    "via": ("gw", _text),
    "src": ("src", _text),
    "mtu": ("mtu", _number),
    "metric": ("priority", _number),
    "table": ("table", _number),
}


class Option(NamedTuple):
    """An option of an interface. place: of its value in link.add, with a dot before the name of a field of an end."""

    read: Callable[[str], Any]
    place: str


#: All there are; the end in the container is b, the one on the host a.
OPTIONS: Final[dict[str, Option]] = {
    "addresses": Option(_words, "b.addresses"),
    "gateway": Option(_words, "b.gateway"),
    "routes": Option(_routes, "b.routes"),
    "mac": Option(_text, "b.address"),
    "mtu": Option(_number, "b.mtu"),
    "bridge": Option(_text, "a.bridge"),
    "hairpin": Option(_flag, "a.hairpin"),
    "isolated": Option(_flag, "a.isolated"),
    "vlan": Option(_number, "a.vlan"),
    "host-name": Option(_text, "a.ifname"),
    "host-addresses": Option(_words, "a.addresses"),
    "host-routes": Option(_routes, "a.routes"),
    "labels": Option(_labels, "labels"),
}
_PORT: Final = ("hairpin", "isolated", "vlan")


def read(annotations: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What is said of each interface, by its name: values by option. Raises AnnotationError."""
    interfaces: dict[str, dict[str, Any]] = {}
    for name, value in annotations.items():
        if not name.startswith(PREFIX):
            continue
        ifname, dot, option = name.removeprefix(_NETWORK).rpartition(".")
        if not name.startswith(_NETWORK) or not dot or not ifname:
            raise AnnotationError(f"annotation {name}: not of the form {_NETWORK}IFNAME.OPTION, such as {_EXAMPLE}")
        if option not in OPTIONS:
            raise AnnotationError(f"annotation {name}: {option!r} is unknown (known: {', '.join(OPTIONS)})")
        if not isinstance(value, str) or not value.strip():
            raise AnnotationError(f"annotation {name}: must be a string with something in it")
        try:
            interfaces.setdefault(ifname, {})[option] = OPTIONS[option].read(value)
        except AnnotationError as error:
            raise AnnotationError(f"annotation {name}: {error}") from None
    for ifname, said in interfaces.items():
        for option in _PORT:
            if option in said and "bridge" not in said:
                raise AnnotationError(
                    f"annotation {_NETWORK}{ifname}.{option}: says how to be a port; `bridge` is missing"
                )
    return interfaces


def pairs(interfaces: Mapping[str, Mapping[str, Any]], container: str, netns: str) -> list[dict[str, Any]]:
    """`pairs` of link.add for interfaces, in this order. container: its id. netns: the path of its namespace."""
    return [_pair(ifname, said, container, netns) for ifname, said in interfaces.items()]


def _pair(ifname: str, said: Mapping[str, Any], container: str, netns: str) -> dict[str, Any]:
    host: dict[str, Any] = {"up": True}
    inside: dict[str, Any] = {"ifname": ifname, "netns": netns, "up": True}
    for option, value in said.items():
        end, dot, field = OPTIONS[option].place.partition(".")
        if dot and field not in ("gateway", *_PORT):
            (host if end == "a" else inside)[field] = value
    if "mac" not in said and "addresses" in said and (mac := mac_of(said["addresses"][0])) is not None:
        inside["address"] = mac
    if "mtu" in said:
        host["mtu"] = said["mtu"]
    if "bridge" in said:
        host["bridge"] = {"name": said["bridge"], **{option: said[option] for option in _PORT if option in said}}
    if "gateway" in said:
        defaults = [{"dst": "default", "gw": gateway} for gateway in said["gateway"]]
        inside["routes"] = inside.get("routes", []) + defaults
    labels = {**said.get("labels", {}), "container": container[:255], "interface": ifname}
    return {"a": host, "b": inside, "labels": labels, "origin": "oci"}


def blamed(message: str, interfaces: Mapping[str, Mapping[str, Any]]) -> str:
    """The daemon's message about `pairs` of link.add, about an annotation instead of a parameter where there is one."""
    found = _PLACE.fullmatch(message)
    if found is None:
        return message
    ifname, said = list(interfaces.items())[int(found["pair"])]
    field = _FIELD.search(found["text"])
    option = _option(found["end"], field, said) if field else None
    return f"annotation {_NETWORK}{ifname}.{option}: {found['text']}" if option else f"{ifname}: {found['text']}"


def _option(end: str | None, field: re.Match[str], said: Mapping[str, Any]) -> str | None:
    """Which of these options a field of link.add was made from, if one was."""
    name = field.lastgroup
    if name == "port":
        return field["how"]
    if name == "mtu":
        return "mtu" if "mtu" in said else None
    if end == "b" and name == "routes" and "gateway" in said:
        own = len(said.get("routes", ()))
        if int(field["index"]) >= own if field["index"] else field[0].endswith("default"):
            return "gateway"
    place = f"{end}.{name}" if end else name
    return next((option for option in said if OPTIONS[option].place == place), None)
