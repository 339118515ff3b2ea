"""What nobody should send: strategies for random bytes, random JSON, and well-formed requests that mean harm."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, get_args, get_origin

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from pydantic import BaseModel

from vethd.rpc.schema.base import NoParams, Params
from vethd.rpc.schema.config import ConfigApplyParams, ConfigSaveParams
from vethd.rpc.schema.events import SubscribeParams, UnsubscribeParams
from vethd.rpc.schema.link import (
    LinkAddParams,
    LinkDelParams,
    LinkListParams,
    LinkSelector,
    LinkSetParams,
    StatsGetParams,
)
from vethd.rpc.schema.network import BridgeDelParams, BridgeSetParams
from vethd.rpc.schema.stats import SysctlGetParams, SysctlSetParams

#: Every method that may be called with anything, and its parameters.
METHODS: Final[dict[str, type[Params]]] = {
    "link.add": LinkAddParams,
    "link.del": LinkDelParams,
    "link.set": LinkSetParams,
    "link.get": LinkSelector,
    "link.list": LinkListParams,
    "bridge.set": BridgeSetParams,
    "bridge.del": BridgeDelParams,
    "stats.get": StatsGetParams,
    "softnet.get": NoParams,
    "sysctl.get": SysctlGetParams,
    "sysctl.set": SysctlSetParams,
    "config.apply": ConfigApplyParams,
    "config.save": ConfigSaveParams,
    "events.subscribe": SubscribeParams,
    "events.unsubscribe": UnsubscribeParams,
    "daemon.info": NoParams,
    "rpc.discover": NoParams,
}
#: It does what it says, so it is tested elsewhere.
NOT_CALLED: Final = {"daemon.reexec"}

_PATHS: Final = (
    *("../../", "../netns", "..", ".", "/", "/..", "//", "/proc/self/ns/mnt", "/run/netns/../../proc/self/ns/user"),
    *(
        "/proc/self/fd/0",
        "/proc/self/mem",
        "/dev/zero",
        "/dev/net/tun",
        "/proc/kmsg",
        "/run/netns/",
        "a/../b",
        "x" * 255,
    ),
    *("/" + "x/" * 2000, "/\0", "/proc/1/../self/ns/pid", "/sys/kernel/debug", "/dev/full", "/dev/pts/ptmx"),
)
_WORDS: Final = (
    *("", " ", "\0", "\n", "\ud800", "\udcff", "\x1b[2J", "%s%n%d", "%d", "%d%d", "vtf0", "vtf1", "lo", "all", "é" * 8),
    *("x" * 15, "x" * 16, "x" * 5000, "-1", "0", "null", "true", "inside", "move", "a", "b", "api", "drop", "link"),
    *("02:00:00:00:00:01", "ff:ff:ff:ff:ff:ff", "00000000-0000-4000-8000-000000000000", "since", "\u202e", "\ufeff"),
)
_NUMBERS: Final = (
    *(0, 1, -1, 2, 67, 68, 1500, 65521, 65522, 255, 256, 257, 2**31 - 1, 2**31, 2**32, 2**63, 2**64, -(2**63) - 1),
    *(10**300, 10**4000, 1.0, 0.5, -0.0, 1e308, 1e-320),
)
#: Values that let a request come further than validation.
_LIKELY: Final[dict[str, tuple[Any, ...]]] = {
    "ifname": ("vtf0", "vtf1", "vtf%d"),
    "netns": (None, {"fd": 0}, {"fd": 1}, {"fd": 15}, {"pid": 1 << 22}),
    "mtu": (68, 1500, 65521),
    "txqueuelen": (0, 1, 1000),
    "numqueues": (1, 2),
    "placement": ("inside", "inside", "move"),
    "pairs": ([{}], [{"placement": "inside"}, {"placement": "inside"}], [{}, {"a": {"mtu": 1}}]),
    "up": (True,),
    "bridge": ("x", {"name": "x"}, {"name": "y", "vlan": 1}),
    "addresses": (["10.0.0.1/24"], ["fd00::1/64"], ["10.0.0.1"], []),
    "routes": ([{"dst": "default"}], [{"dst": "10.1.0.0/16", "gw": "10.0.0.2"}]),
    "topics": (["link"], ["link", "carrier", "worker", "drop", "config", "daemon"]),
    "labels": ({"x": "y"}, {}),
    "origin": ("api",),
    "set": ({"up": True}, {"ifname": "vtf1"}, {"mtu": 100}),
    "values": ({"netdev_max_backlog": 2**31}, {"netdev_budget": 300, "dev_weight": 0}, {"busy_poll": -1}),
    "name": ("x", "y"),
    "subscription": (1,),
    "token": ("t",),
    "generation": (0,),
}

_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.sampled_from(_NUMBERS),
    st.sampled_from(_WORDS),
    st.sampled_from(_PATHS),
)
_json = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def _of_model(model: type[BaseModel], depth: int = 2) -> SearchStrategy[dict[str, Any]]:
    """An object with some fields of a model, each with something in it; now and then a field that is none."""
    fields = {name: _of_field(name, field.annotation, depth) for name, field in model.model_fields.items()}
    return st.fixed_dictionaries({}, optional=fields | {"colour": _scalars} if depth == 2 else fields)


def _of_field(name: str, annotation: Any, depth: int) -> SearchStrategy[Any]:
    choices: list[SearchStrategy[Any]] = [_scalars.filter(_is_no_pid) if name == "pid" else _scalars]
    if likely := _LIKELY.get(name):
        choices += [st.sampled_from(likely)] * 3
    if depth:
        for inner in _models(annotation):
            nested = _of_model(inner, depth - 1)
            choices += [nested, nested, st.lists(nested, max_size=3)]
    return st.one_of(choices)


def _is_no_pid(value: Any) -> bool:
    """Not that of a process whose namespace is somebody else's."""
    return type(value) is not int or not 0 < value <= 1 << 22


def nested_models(model: type[BaseModel]) -> list[type[BaseModel]]:
    """The models of the fields of a model, theirs included."""
    direct = [inner for field in model.model_fields.values() for inner in _models(field.annotation)]
    return direct + [inner for each in direct for inner in nested_models(each)]


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]


#: What goes beside the field that holds something strange.
_BESIDE: Final[dict[str, dict[str, Any]]] = {
    "link.add": {"placement": "inside"},
    "link.del": {"ifname": "vtf0"},
    "link.set": {"ifname": "vtf0", "set": {}},
    "link.get": {"ifname": "vtf0"},
    "sysctl.set": {"values": {"netdev_budget": 300}},
    "config.apply": {"pairs": [{"name": "x", "a": {"ifname": "vtf0"}, "b": {"ifname": "vtf1"}}]},
    "events.unsubscribe": {"subscription": 1},
}
_STRANGE: Final[tuple[Any, ...]] = (
    *(
        None,
        True,
        0,
        -1,
        1.5,
        2**31,
        2**64,
        10**300,
        "",
        " ",
        "%d",
        "\0",
        "\ud800",
        "x" * 5000,
        "../../",
        "/",
        "/\0",
        "/\ud800",
    ),
    *([], [[]], [None], ["x"], {}, {"": None}, {"x": {}}, {"fd": 0}, {"path": "/run/netns/../../etc"}, {"name": ".."}),
)


def confused(method: str) -> Iterator[list[dict[str, Any]]]:
    """Parameters for a method, one of whose fields holds something strange, field by field."""
    beside = _BESIDE.get(method, {})
    for path in _paths(METHODS[method]):
        yield [_with(beside, path, value) for value in _STRANGE]


def _paths(model: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    """The fields of a model and, behind their own, those of the models in it; `*` stands for the item of a list."""
    yield ("colour",)
    for name, field in model.model_fields.items():
        yield (name,)
        for inner in _models(field.annotation):
            into = (name, "*") if _is_list(field.annotation) else (name,)
            yield from ((*into, *rest) for rest in _paths(inner))


def _is_list(annotation: Any) -> bool:
    return get_origin(annotation) is list or any(_is_list(argument) for argument in get_args(annotation))


def _with(value: Any, path: tuple[str, ...], strange: Any) -> Any:
    """The value, with something strange at a place in it."""
    if not path:
        return strange
    first, *rest = path
    if first == "*":
        return [_with(value[0] if value else {}, tuple(rest), strange)]
    return {**(value or {}), first: _with((value or {}).get(first), tuple(rest), strange)}


_ids = st.one_of(
    st.integers(), st.text(max_size=5), st.none(), st.sampled_from([1.5, True, [], {}, "\ud800", 10**4000])
)
_calls = st.one_of(
    [
        st.fixed_dictionaries(
            {"jsonrpc": st.just("2.0"), "method": st.just(method), "params": _of_model(model)}, optional={"id": _ids}
        )
        for method, model in METHODS.items()
    ]
)
_strange_calls = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.sampled_from(["2.0", "2.0", "1.0", 2.0, None]),
        "method": st.sampled_from([*METHODS, "", "rpc.", "__init__", "link", "LINK.ADD"]) | _json,
        "params": _json,
        "id": _ids,
        "extra": _scalars,
    },
)
_requests = st.one_of(_calls, _calls, _strange_calls)
_texts = st.one_of(_requests, _requests, st.lists(_requests, max_size=5), _json).map(
    lambda value: json.dumps(value).encode()
)
_raw = st.sampled_from(
    [
        b"[" * 100_000,
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b"[" * 32 + b"]" * 32,
        b'{"jsonrpc":"2.0","id":NaN,"method":"link.list"}',
        b'{"jsonrpc":"2.0","id":1e999,"method":"link.list"}',
        b'{"jsonrpc":"2.0","id":1,"id":2,"method":"link.list","method":"softnet.get"}',
        b'{"jsonrpc":"2.0","id":1,"method":"link.add","params":{"a":{"mtu":' + b"9" * 10_000 + b"}}}",
        b'{"jsonrpc":"2.0","id":1,"method":"link.get","params":{"ifname":"' + b"\\u0000" * 20_000 + b'"}}',
        b"[" + b",".join([b'{"jsonrpc":"2.0","method":"link.list"}'] * 101) + b"]",
        b'\xef\xbb\xbf{"jsonrpc":"2.0","id":1,"method":"link.list"}',
        b"\xed\xa0\x80",
        b"\r",
        b"\0",
        b"GET / HTTP/1.1\r",
    ]
)


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    """A text with some bytes replaced by others."""
    text = draw(_texts)
    begin = draw(st.integers(0, len(text)))
    end = draw(st.integers(begin, min(len(text), begin + 5)))
    return text[:begin] + draw(st.binary(max_size=5)) + text[end:]


#: A well-formed request with an id, which may even be answered with a result.
calls = st.one_of(
    [
        st.fixed_dictionaries(
            {"jsonrpc": st.just("2.0"), "id": st.just(1), "method": st.just(method), "params": _of_model(model)}
        )
        for method, model in METHODS.items()
        if not method.startswith("events.")
    ]
)
#: What is sent: one line, or with newlines in it several, or a part of one.
lines = st.one_of(_texts, _texts, _texts, _damaged(), st.binary(max_size=100), _raw)
