"""Parameters: every one is checked before anything happens, and the answer names the field and what may be there."""

from typing import Any

import pytest

from tests.kit.daemon import Daemon
from tests.kit.netns import Namespaces
from tests.rpc.talk import Talk, refused, request, result

END_FIELDS = "ifname, netns, address, mtu, txqueuelen, alias, gro, up, bridge, addresses, routes"
PAIR_FIELDS = "a, b, placement, numqueues, overload, labels, origin"
SELECTOR = "ifname, netns, pair, end"
UUID = "00000000-0000-4000-8000-000000000000"


@pytest.mark.parametrize(
    ("method", "params", "message", "hint"),
    [
        (
            "link.add",
            {"c": {}},
            "c: unknown",
            "known: a, b, placement, numqueues, overload, labels, origin, pairs, token",
        ),
        ("link.add", {"a": {"colour": "red"}}, "a.colour: unknown", f"known in a: {END_FIELDS}"),
        ("link.add", {"pairs": [{}, {"c": 1}]}, "pairs.1.c: unknown", f"known in pairs: {PAIR_FIELDS}"),
        ("link.add", {"b": {"name": "x"}}, "b.name: unknown", f"known in b: {END_FIELDS}"),
        (
            "link.add",
            {"a": {"netns": {"inode": 1, "pid": 1}}},
            "a.netns.inode: unknown",
            "known in netns in a: name, path, pid, fd",
        ),
        (
            "link.del",
            {"ifname": "x", "force": True},
            "force: unknown",
            "known: ifname, netns, pair, end, generation, token",
        ),
        ("link.get", {"dev": "x", "ifname": "x"}, "dev: unknown", f"known: {SELECTOR}"),
        ("link.list", {"name": "x"}, "name: unknown", "known: ifname, netns, pair, labels, origin, stats"),
        ("stats.get", {"window": 1}, "window: unknown", "known: ifname, netns, pair, labels, origin, cursor, since"),
        ("softnet.get", {"worker": 0}, "worker: unknown", "known: nothing"),
        ("daemon.info", {"verbose": True}, "verbose: unknown", "known: nothing"),
    ],
)
def test_an_unknown_field_is_refused_by_its_name(
    talk: Talk, method: str, params: dict[str, Any], message: str, hint: str
) -> None:
    talk.say(request(1, method, **params))
    talk.hear(refused(1, "invalid_params", message, hint=hint))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"a": {"ifname": 5}}, "a.ifname: must be a valid string, not 5"),
        ({"a": {"ifname": None}}, "a.ifname: must be a valid string, not null"),
        ({"a": {"address": 2}}, "a.address: must be a valid string, not 2"),
        ({"a": {"mtu": "1500"}}, 'a.mtu: must be a valid integer, not "1500"'),
        ({"a": {"mtu": 1500.0}}, "a.mtu: must be a valid integer, not 1500.0"),
        ({"a": {"mtu": True}}, "a.mtu: must be a valid integer, not true"),
        ({"a": {"txqueuelen": []}}, "a.txqueuelen: must be a valid integer"),
        ({"b": {"gro": "on"}}, 'b.gro: must be a valid boolean, not "on"'),
        ({"a": {"up": 1}}, "a.up: must be a valid boolean, not 1"),
        ({"a": {"up": "yes"}}, 'a.up: must be a valid boolean, not "yes"'),
        ({"a": []}, "a: must hold named fields"),
        ({"b": "veth1"}, 'b: must hold named fields, not "veth1"'),
        ({"placement": "outside"}, "placement: must be 'move' or 'inside', not \"outside\""),
        ({"numqueues": "4"}, 'numqueues: must be a valid integer, not "4"'),
        ({"numqueues": True}, "numqueues: must be a valid integer, not true"),
        ({"numqueues": 2.0}, "numqueues: must be a valid integer, not 2.0"),
        ({"placement": None}, "placement: must be 'move' or 'inside', not null"),
        ({"a": {"up": "x" * 100}}, f'a.up: must be a valid boolean, not "{"x" * 39}...'),
        (
            {"a": {"mtu": "x"}, "b": {"mtu": "y"}},
            'a.mtu: must be a valid integer, not "x"; b.mtu: must be a valid integer, not "y"',
        ),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_with_what_was_given(
    talk: Talk, params: dict[str, Any], message: str
) -> None:
    talk.say(request(1, "link.add", **params))
    talk.hear(refused(1, "invalid_params", message))


@pytest.mark.parametrize("method", ["link.get", "link.del"])
@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "give either ifname (and netns) or pair"),
        ({"netns": "red"}, "give either ifname (and netns) or pair"),
        ({"ifname": "x", "pair": UUID}, "give either ifname (and netns) or pair"),
        ({"pair": UUID, "netns": "red"}, "netns goes with ifname, not with pair"),
        ({"pair": "x"}, 'pair: must be a UUID, not "x"'),
        ({"pair": 5}, "pair: must be a UUID, not 5"),
        ({"pair": ["x"]}, "pair: must be a UUID"),
    ],
)
def test_a_pair_is_named_by_one_end_or_by_its_uuid(
    talk: Talk, method: str, params: dict[str, Any], message: str
) -> None:
    talk.say(request(1, method, **params))
    talk.hear(refused(1, "invalid_params", message))


@pytest.mark.parametrize("form", [UUID, UUID.upper(), UUID.replace("-", ""), f"{{{UUID}}}", f"urn:uuid:{UUID}"])
def test_a_uuid_may_be_written_in_every_usual_form(talk: Talk, form: str) -> None:
    talk.say(request(1, "link.get", pair=form))
    talk.hear(refused(1, "no_such_link", f"no pair {UUID}", hint="`vethctl link show` lists the pairs"))


@pytest.mark.parametrize(
    "bad",
    [
        {"b": {"colour": 1}},
        {"b": {"mtu": 67}},
        {"b": {"mtu": 65522}},
        {"b": {"address": "01:00:00:00:00:01"}},
        {"b": {"ifname": "sixteen-bytes-ok"}},
        {"b": {"txqueuelen": -1}},
        {"b": {"netns": "vtr-none"}},
        {"placement": "x"},
        {"more": 1},
    ],
)
def test_nothing_is_made_when_a_field_of_the_other_end_is_wrong(
    talk: Talk, netns: Namespaces, shared_daemon: Daemon, bad: dict[str, Any]
) -> None:
    red = netns.make()
    good: dict[str, Any] = {"a": {"ifname": "vtra", "netns": red, "up": True}, "b": {"ifname": "vtrb", "netns": red}}
    changes_before = shared_daemon.log().count('"link added"')
    for field, value in bad.items():
        good[field] = {**good[field], **value} if isinstance(value, dict) else value
    talk.say(request(1, "link.add", **good))
    heard = talk.hear({"jsonrpc": "2.0", "id": 1, "error": Refusal()})
    assert heard["error"]["data"]["kind"] != "internal"
    talk.say(request(2, "link.list"))
    talk.hear(result(2, []))
    assert shared_daemon.log().count('"link added"') == changes_before


class Refusal:
    """Equal to any error object."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, dict) and other.keys() == {"code", "message", "data"}

    def __hash__(self) -> int:
        return 0
