"""Static pairs: what they are, what they shall be, and what is to be done about the difference. Nothing is done here.

Both sides are said as a `State`: a value for each field, such as `numqueues` or `a.mtu`. What a wish leaves open (a
random address) is no field of it, and may be anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Literal

from vethd.errors import InvalidName, InvalidParams, VethdError
from vethd.host.netns import check_name as check_netns_name
from vethd.pairs.attachment import as_addresses, as_port, as_routes, attachment
from vethd.pairs.change import NO_BRIDGE, EndChange, PairChange
from vethd.pairs.pair import End, Letter, Overload, Pair, has_default_alias
from vethd.pairs.spec import (
    MTU_DEFAULT,
    TXQUEUELEN_DEFAULT,
    Attachment,
    check_address,
    check_addresses,
    check_alias,
    check_attachment,
    check_mtu,
    check_name,
    check_numqueues,
    check_txqueuelen,
    with_labels,
)
from vethd.rpc.schema.base import NetnsRef
from vethd.rpc.schema.config import StaticBridge, StaticEnd, StaticPair
from vethd.rpc.schema.network import AddressParams, PortParams, RouteParams

#: The place of a field: names, and numbers in lists.
Path = tuple[str | int, ...]
#: A namespace: its identity, or the name that it is going to have.
Place = tuple[int, int] | str
State = Mapping[str, Any]
Action = Literal["create", "change", "replace", "remove", "keep"]

LETTERS: Final[tuple[Letter, Letter]] = ("a", "b")
_ATTACHED: Final = ("bridge", "addresses", "routes")
#: Fields that no pair can change; a different one is made in its place.
FIXED: Final = frozenset({"placement", "numqueues"})


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done about one pair. changes: what it is and what it shall be, by field."""

    name: str
    action: Action
    changes: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)


def plan(present: Mapping[str, State], wished: Mapping[str, State], prune: bool) -> list[Step]:
    """What makes the present pairs the wished ones, by name. prune: remove those that are not wished for.

    Removals come first, since they make room for what shall be; the rest is in the order of the wishes.
    """
    steps = [Step(name, "remove") for name in present if prune and name not in wished]
    for name, state in wished.items():
        if name not in present:
            steps.append(Step(name, "create"))
            continue
        changes = {key: (present[name][key], value) for key, value in state.items() if present[name][key] != value}
        action: Action = "keep" if not changes else "change" if FIXED.isdisjoint(changes) else "replace"
        steps.append(Step(name, action, changes))
    return steps


def present_state(pair: Pair, attached: Mapping[End, Attachment]) -> State:
    """How a pair is. attached: to what its ends are."""
    state: dict[str, Any] = {
        "placement": pair.placement,
        "numqueues": pair.numqueues,
        "overload": pair.overload,
        "labels": dict(pair.labels),
    }
    for end in pair.ends:
        now = attached.get(end, Attachment())
        state |= {f"{end.letter}.{key}": value for key, value in _present_end(end, now).items()}
    return state


def _present_end(end: End, attached: Attachment) -> dict[str, Any]:
    return {
        "ifname": end.ifname,
        "netns": end.netns,
        "address": end.address,
        "mtu": end.mtu,
        "txqueuelen": end.txqlen,
        "alias": "" if has_default_alias(end) else end.alias,
        "gro": end.gro,
        "up": end.up,
        **_state(attached),
    }


def _state(attached: Attachment) -> dict[str, Any]:
    return {
        "bridge": attached.port,
        "addresses": frozenset(attached.addresses),
        "routes": frozenset(attached.routes),
    }


def wished_state(pair: StaticPair, places: Mapping[Letter, Place], overload: Overload) -> State:
    """How a pair shall be. places: where its ends belong. overload: what the configuration says for all pairs.

    Raises InvalidParams.
    """
    state: dict[str, Any] = {
        "placement": pair.placement,
        "numqueues": pair.numqueues,
        "overload": pair.overload or overload,
        "labels": dict(pair.labels),
    }
    for letter in LETTERS:
        state |= {f"{letter}.{key}": value for key, value in _wished_end(getattr(pair, letter)).items()}
        state |= {f"{letter}.{key}": value for key, value in _state(attached_to(pair, letter)).items()}
        state[f"{letter}.netns"] = places[letter]
    return state


def attached_to(pair: StaticPair, letter: Letter) -> Attachment:
    """What an end shall be attached to. Raises InvalidParams."""
    return attachment(getattr(pair, letter), f"end {letter}")


def open_about(wished: State, present: Pair) -> State:
    """The wish without the bridge of an end that shall be in none, where vethd has not put it into the one it is in."""
    untouched = {f"{end.letter}.bridge" for end in present.ends if not end.joined}
    return {key: value for key, value in wished.items() if key not in untouched or value is not None}


def _wished_end(end: StaticEnd) -> dict[str, Any]:
    wished: dict[str, Any] = {
        "ifname": end.ifname,
        "mtu": MTU_DEFAULT if end.mtu is None else end.mtu,
        "txqueuelen": end.txqueuelen or TXQUEUELEN_DEFAULT,
        "alias": end.alias or "",
        "gro": end.gro,
        "up": end.up,
    }
    if end.address is not None:
        wished["address"] = end.address.lower()
    return wished


def as_change(step: Step, wished: State, fds: Mapping[Letter, int]) -> PairChange:
    """A step `change`, as setlink does it. fds: of the namespaces that ends are to move into."""
    ends: dict[Letter, EndChange] = {}
    for letter in LETTERS:
        values = {
            key.removeprefix(f"{letter}."): new for key, (_old, new) in step.changes.items() if key[:2] == f"{letter}."
        }
        attached = {key: value for key in _ATTACHED if (value := wished.get(f"{letter}.{key}"))}
        if "netns" in values:  # an end that moves is down when it arrives, and attached to nothing
            values |= {"netns": fds[letter], "up": wished[f"{letter}.up"], **attached}
        elif "bridge" in values:
            values["bridge"] = values["bridge"] or NO_BRIDGE
        if "addresses" in values and "routes" in attached:  # with addresses go routes
            values["routes"] = attached["routes"]
        for key in values.keys() & {"addresses", "routes"}:
            values[key] = tuple(values[key])
        if values:
            ends[letter] = EndChange(**values)
    labels = None
    if "labels" in step.changes:
        old, new = step.changes["labels"]
        labels = {**dict.fromkeys(old), **new}
    overload = step.changes["overload"][1] if "overload" in step.changes else None
    return PairChange(ends.get("a"), ends.get("b"), labels, overload=overload)


def wrong(pair: StaticPair, in_file: bool = False) -> Iterator[tuple[Path, VethdError]]:
    """Every field that no pair can have, by its path. in_file: no descriptors come along, as they do with a request."""
    yield from _refused(_checks(pair, _check_file_netns if in_file else _check_netns))


def _refused(
    checks: Iterable[tuple[Path, Callable[[Any, str], object], Any]],
) -> Iterator[tuple[Path, VethdError]]:
    for place, check, value in checks:
        if value is None:
            continue
        try:
            check(value, "")
        except VethdError as error:
            within, _colon, text = error.message.partition(": ")  # such as .0.gw, of a list
            if within.startswith("."):
                path = (*place, *(int(part) if part.isdigit() else part for part in within[1:].split(".")))
            else:
                path, text = place, error.message.lstrip(": ")
            yield path, type(error)(text, hint=error.hint, errno=error.errno)


def _checks(
    pair: StaticPair, check_netns: Callable[[Any, str], object]
) -> Iterator[tuple[Path, Callable[[Any, str], object], Any]]:
    yield ("numqueues",), check_numqueues, pair.numqueues
    yield ("labels",), lambda labels, _what: with_labels({}, labels), pair.labels
    for letter in LETTERS:
        end: StaticEnd = getattr(pair, letter)
        yield (letter, "ifname"), _check_ifname, end.ifname
        yield (letter, "netns"), check_netns, end.netns
        yield (letter, "address"), check_address, end.address
        yield (letter, "mtu"), check_mtu, end.mtu
        yield (letter, "txqueuelen"), check_txqueuelen, end.txqueuelen
        yield (letter, "alias"), check_alias, end.alias
        yield (letter, "bridge"), _check_bridge, end.bridge
        yield (letter, "addresses"), _check_addresses, end.addresses
        yield (letter, "routes"), partial(_check_routes, end.up), end.routes


def wrong_bridge(bridge: StaticBridge, in_file: bool = False) -> Iterator[tuple[Path, VethdError]]:
    """As `wrong`, of a bridge."""
    checks: tuple[tuple[str, Callable[[Any, str], object], Any], ...] = (
        ("name", check_name, bridge.name),
        ("netns", _check_file_netns if in_file else _check_netns, bridge.netns),
        ("address", check_address, bridge.address),
        ("addresses", _check_addresses, bridge.addresses),
        ("masquerade", _check_masquerade, bridge.masquerade and not bridge.addresses),
    )
    yield from _refused((((name,), check, value) for name, check, value in checks))


def _check_bridge(params: str | PortParams, what: str) -> None:
    check_name(as_port(params).bridge, what)


def _check_addresses(params: list[str | AddressParams], what: str) -> None:
    check_addresses(as_addresses(params, what), what)


def _check_routes(up: bool, params: list[RouteParams], what: str) -> None:
    check_attachment(Attachment(routes=as_routes(params, what)), up, what)


def _check_masquerade(nothing: bool, _what: str) -> None:
    if nothing:
        raise InvalidParams("it has no addresses", hint="give the bridge addresses: their networks are masqueraded")


def _check_ifname(ifname: str, what: str) -> None:
    check_name(ifname, what)
    if "%" in ifname:
        raise InvalidName(f"{what} {ifname!r} is a pattern", hint="a static pair's end has a name of its own")


def _check_netns(ref: str | NetnsRef, _what: str) -> None:
    name = ref if isinstance(ref, str) else ref.name
    if name is not None and not name.startswith("/"):
        check_netns_name(name)


def _check_file_netns(ref: str | NetnsRef, what: str) -> None:
    _check_netns(ref, what)
    if isinstance(ref, NetnsRef) and ref.fd is not None:
        raise InvalidParams(f"{what} fd {ref.fd}", hint="no descriptor comes with a file: give a name, path or pid")
