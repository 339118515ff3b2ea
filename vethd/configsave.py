"""The configuration file that rebuilds what is: the settings in force, and pairs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import tomli_w

from vethd.config import Config
from vethd.host import netns
from vethd.host.address import PRIORITY, SCOPES, TABLE_MAIN, Route, in_order
from vethd.pairs.pair import End, Pair, has_default_alias
from vethd.pairs.registry import describe_netns
from vethd.pairs.spec import MTU_DEFAULT, TXQUEUELEN_DEFAULT, Attachment
from vethd.rpc.schema.config import PAIR_NAME, PAIR_NAME_MAX

_DEFAULTS: Final = {"mtu": MTU_DEFAULT, "txqueuelen": TXQUEUELEN_DEFAULT, "alias": "", "gro": False, "up": True}


class _NotSaved(Exception):
    """Raised when no file can describe a pair; its text says why."""


def saved(config: Config, pairs: Iterable[Pair], attached: Mapping[End, Attachment]) -> tuple[str, list[str]]:
    """The file, and the pairs that it can't describe, each with the reason.

    config: the settings; its own pairs don't count. attached: what ends are attached to. All settings stand in the
    file, and of pairs what is not the default; a bridge that no file said is only named: it is somebody else's.
    """
    pairs = list(pairs)
    taken = {pair.name for pair in pairs if pair.name is not None}
    status = os.stat("/proc/self/ns/net")
    places: dict[tuple[int, int], str | None] = {**netns.names(), (status.st_dev, status.st_ino): None}
    content = config.model_dump(exclude={"pair", "bridge"})
    bridges = [bridge.model_dump(exclude_defaults=True) for bridge in config.bridge]
    tables, left_out = [], []
    for pair in pairs:
        try:
            table = _pair(pair, places, config, attached)
        except _NotSaved as error:
            left_out.append(f"{pair.name or pair.uuid}: {error}")
            continue
        if pair.name is None:
            table["name"] = _name(pair, table, taken)
            taken.add(table["name"])
        tables.append(table)
    named = {(bridge.get("netns"), bridge["name"]) for bridge in bridges}
    for end in (table[letter] for table in tables for letter in ("a", "b")):
        port, netns_name = end.get("bridge"), end.get("netns")
        name = port["name"] if isinstance(port, dict) else port
        if name is not None and (netns_name, name) not in named:
            named.add((netns_name, name))
            bridges.append({"name": name} | ({} if netns_name is None else {"netns": netns_name}))
    if bridges:
        content["bridge"] = bridges
    if tables:
        content["pair"] = tables
    return tomli_w.dumps(content), left_out


def _pair(
    pair: Pair, places: dict[tuple[int, int], str | None], config: Config, attached: Mapping[End, Attachment]
) -> dict[str, Any]:
    table: dict[str, Any] = {"name": pair.name}
    if pair.placement != "move":
        table["placement"] = pair.placement
    if pair.numqueues != 1:
        table["numqueues"] = pair.numqueues
    if pair.overload != config.worker.overload:
        table["overload"] = pair.overload
    if pair.labels:
        table["labels"] = {name: _text(value, f"label {name}") for name, value in pair.labels.items()}
    return table | {end.letter: _end(end, places) | _attached(attached.get(end, Attachment())) for end in pair.ends}


def _attached(attached: Attachment) -> dict[str, Any]:
    """The keys of what an end is attached to."""
    table: dict[str, Any] = {}
    if (port := attached.port) is not None:
        name = _text(port.bridge, "the name of a bridge")
        options = {"hairpin": port.hairpin, "isolated": port.isolated, "vlan": port.vlan}
        options = {key: value for key, value in options.items() if value}
        table["bridge"] = {"name": name, **options} if options else name
    if attached.addresses:
        table["addresses"] = [
            {"address": str(each), "noprefixroute": True} if each.noprefixroute else str(each)
            for each in attached.addresses
        ]
    if attached.routes:
        table["routes"] = [_route(route) for route in in_order(attached.routes)]
    return table


def _route(route: Route) -> dict[str, Any]:
    """The keys of a route, but those that say what the kernel takes anyway."""
    table: dict[str, Any] = {"dst": str(route.dst)}
    for key, ip in (("gw", route.gw), ("src", route.src)):
        if ip is not None:
            table[key] = str(ip)
    scope = next(word for word, number in SCOPES.items() if number == route.scope)
    default = {"priority": PRIORITY[route.dst.version], "table": TABLE_MAIN}
    values = {"mtu": route.mtu, "advmss": route.advmss, "priority": route.priority, "table": route.table}
    table |= {key: value for key, value in values.items() if value not in (None, default.get(key))}
    if route.dst.version == 4 and scope != ("link" if route.gw is None else "global"):
        table["scope"] = scope
    return table


def _end(end: End, places: dict[tuple[int, int], str | None]) -> dict[str, Any]:
    if end.netns not in places:
        raise _NotSaved(f"end {end.label()}: its namespace {describe_netns(end.netns, {})} has no name")
    table: dict[str, Any] = {"ifname": _text(end.ifname, f"the name of end {end.letter}"), "address": end.address}
    if (place := places[end.netns]) is not None:
        table["netns"] = _text(place, f"the namespace of end {end.letter}")
    values = {
        "mtu": end.mtu,
        "txqueuelen": end.txqlen,
        "alias": "" if has_default_alias(end) else _text(end.alias, f"the alias of end {end.letter}"),
        "gro": end.gro,
        "up": end.up,
    }
    return table | {key: value for key, value in values.items() if value != _DEFAULTS[key]}


def _text(text: str, what: str) -> str:
    """The text, if it is one: the kernel takes any bytes, and a file must be UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _NotSaved(f"{what} is not UTF-8") from error
    return text


def _name(pair: Pair, table: dict[str, Any], taken: set[str]) -> str:
    """A name for a pair that has none: that of its first end, and where that is."""
    a = table["a"]
    name = f"{a['ifname']}@{a['netns']}" if "netns" in a else a["ifname"]
    fits = len(name) <= PAIR_NAME_MAX and re.fullmatch(PAIR_NAME, name) and name not in taken
    return name if fits else str(pair.uuid)
