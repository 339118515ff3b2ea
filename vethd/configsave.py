"""The configuration file that rebuilds what is: the settings in force, and pairs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Any, Final

import tomli_w

from vethd.config import Config
from vethd.host import netns
from vethd.pairs.pair import End, Pair, has_default_alias
from vethd.pairs.registry import describe_netns
from vethd.pairs.spec import MTU_DEFAULT, TXQUEUELEN_DEFAULT
from vethd.rpc.schema.config import PAIR_NAME, PAIR_NAME_MAX

_DEFAULTS: Final = {"mtu": MTU_DEFAULT, "txqueuelen": TXQUEUELEN_DEFAULT, "alias": "", "gro": False, "up": True}


class _NotSaved(Exception):
    """Raised when no file can describe a pair; its text says why."""


def saved(config: Config, pairs: Iterable[Pair]) -> tuple[str, list[str]]:
    """The file, and the pairs that it can't describe, each with the reason.

    config: the settings; its own pairs don't count. All settings stand in the file, and of pairs what is not the
    default.
    """
    pairs = list(pairs)
    taken = {pair.name for pair in pairs if pair.name is not None}
    status = os.stat("/proc/self/ns/net")
    places: dict[tuple[int, int], str | None] = {**netns.names(), (status.st_dev, status.st_ino): None}
    content = config.model_dump(exclude={"pair"})
    tables, left_out = [], []
    for pair in pairs:
        try:
            table = _pair(pair, places, config)
        except _NotSaved as error:
            left_out.append(f"{pair.name or pair.uuid}: {error}")
            continue
        if pair.name is None:
            table["name"] = _name(pair, table, taken)
            taken.add(table["name"])
        tables.append(table)
    if tables:
        content["pair"] = tables
    return tomli_w.dumps(content), left_out


def _pair(pair: Pair, places: dict[tuple[int, int], str | None], config: Config) -> dict[str, Any]:
    table: dict[str, Any] = {"name": pair.name}
    if pair.placement != "move":
        table["placement"] = pair.placement
    if pair.numqueues != 1:
        table["numqueues"] = pair.numqueues
    if pair.overload != config.worker.overload:
        table["overload"] = pair.overload
    if pair.labels:
        table["labels"] = {name: _text(value, f"label {name}") for name, value in pair.labels.items()}
    return table | {end.letter: _end(end, places) for end in pair.ends}


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
