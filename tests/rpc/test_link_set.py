"""link.set over the control socket, and what link.add says of the same things: changes, answers, refusals."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.kit.daemon import Daemon
from tests.kit.netns import RUN_NETNS, Namespaces, fresh_name, netns_inode
from tests.kit.pairs import End, Pair, make_pair, make_pair_between_fresh
from tests.kit.rpc import RpcError
from vethd.errors import KINDS


@pytest.fixture
def pair(shared_daemon: Daemon, netns: Namespaces) -> Pair:
    return make_pair_between_fresh(shared_daemon, netns)


def set_link(pair: Pair, end: str = "a", beside: Any = None, **fields: Any) -> dict[str, Any]:
    """link.set of one end by the pair's uuid; `beside`: what stands beside the changes."""
    params = {"pair": pair.uuid, "end": end, "set": fields, **(beside or {})}
    answer: dict[str, Any] = pair.daemon.call("link.set", params)
    return answer


def get_link(pair: Pair) -> dict[str, Any]:
    answer: dict[str, Any] = pair.daemon.call("link.get", {"pair": pair.uuid})
    return answer


def refusal(pair: Pair, end: str = "a", beside: dict[str, Any] | None = None, **fields: Any) -> tuple[str, str]:
    """Kind and message of a link.set that is refused and changes nothing."""
    before = get_link(pair)
    with pytest.raises(RpcError) as refused:
        set_link(pair, end, beside, **fields)
    error = refused.value
    assert error.kind == "invalid_params" or error.data["hint"]
    assert error.code == next(kind.code for kind in KINDS if kind.kind == error.kind)
    assert get_link(pair) == before
    return error.kind, error.message


# -- what it changes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("letter", ["a", "b"])
def test_everything_at_once(pair: Pair, netns: Namespaces, letter: str) -> None:
    where, name = netns.make(), fresh_name("s")
    wish: dict[str, Any] = {
        "ifname": name,
        "address": "02:76:74:70:00:0e",
        "mtu": 9000,
        "txqueuelen": 64,
        "alias": "it's mine",
        "gro": True,
        "up": True,
    }
    answer = set_link(pair, letter, netns=where, labels={"rack": "7"}, overload="backpressure", worker=0, **wish)
    told = {**wish, "carrier": True, "operstate": "UP", "netns": where, "netns_inode": netns_inode(where)}
    assert told.items() <= answer[letter].items()
    assert (answer["labels"], answer["overload"], answer["end"]) == ({"rack": "7"}, "backpressure", letter)
    state = End(where, name).state()
    assert (state.address, state.mtu, state.txqlen) == (wish["address"], 9000, 64)
    assert state.attributes["IFLA_IFALIAS"] == wish["alias"]
    assert (state.up, state.carrier, state.qdisc) == (True, True, "noqueue")
    assert {**get_link(pair), "end": letter} == answer


def test_the_end_is_the_one_that_is_named(pair: Pair) -> None:
    for end, letter in ((pair.a, "a"), (pair.b, "b")):
        selector = {"ifname": end.name, "netns": end.netns}
        answer = pair.daemon.call("link.set", {**selector, "set": {"mtu": 2000 + ord(letter)}})
        assert (answer["end"], end.state().mtu) == (letter, 2000 + ord(letter))
    assert set_link(pair, mtu=1600)["end"] == "a", "without a letter it is a"


def test_what_is_null_or_left_out_stays(pair: Pair) -> None:
    before = get_link(pair)
    everything = (
        "ifname",
        "netns",
        "address",
        "mtu",
        "txqueuelen",
        "alias",
        "gro",
        "up",
        "labels",
        "worker",
        "overload",
    )
    nothing: dict[str, Any] = dict.fromkeys(everything)
    assert set_link(pair, **nothing) == before
    assert set_link(pair) == before


def test_a_namespace_goes_along_as_a_descriptor(pair: Pair, netns: Namespaces) -> None:
    where = netns.make()
    with open(RUN_NETNS / where) as place:
        params = {"pair": pair.uuid, "end": "b", "set": {"netns": {"fd": 0}, "up": True}}
        answer = pair.daemon.call("link.set", params, (place.fileno(),))
    assert (answer["b"]["netns"], answer["b"]["carrier"]) == (where, True)
    path = {"path": f"/proc/{os.getpid()}/root{RUN_NETNS}/{pair.a.netns}"}
    assert set_link(pair, "b", netns=path)["b"]["netns"] == pair.a.netns


def test_an_empty_alias_is_the_default_one(pair: Pair) -> None:
    assert set_link(pair, alias="mine")["a"]["alias"] == "mine"
    assert set_link(pair, alias="")["a"]["alias"] == f"vethd {pair.uuid} peer {pair.b.name}"


def test_the_default_alias_of_the_peer_has_the_new_name_in_the_answer(pair: Pair) -> None:
    answer = set_link(pair, ifname="vtrnew")
    assert answer["b"]["alias"] == f"vethd {pair.uuid} peer vtrnew"
    assert pair.b.state().attributes["IFLA_IFALIAS"] == answer["b"]["alias"]


def test_labels_are_merged(pair: Pair) -> None:
    assert set_link(pair, labels={"a": "1", "b/c": ""})["labels"] == {"a": "1", "b/c": ""}
    assert set_link(pair, labels={"a": None, "d": "2"})["labels"] == {"b/c": "", "d": "2"}
    found = pair.daemon.call("link.list", {"labels": {"d": "2"}})
    assert [listed["pair"] for listed in found] == [pair.uuid]


def test_link_add_takes_what_link_set_takes(start_daemon: Callable[..., Daemon], netns: Namespaces) -> None:
    daemon = start_daemon(config='[worker]\noverload = "backpressure"\n')
    where = netns.make()
    ends = {"a": {"netns": where, "alias": "first"}, "b": {"netns": where}}
    plain = daemon.call("link.add", {**ends, "placement": "inside"})
    assert (plain["overload"], plain["labels"], plain["origin"]) == ("backpressure", {}, "api")
    assert plain["a"]["alias"] == "first"
    assert plain["b"]["alias"] == f"vethd {plain['pair']} peer {plain['a']['ifname']}"
    wish = {"overload": "drop", "labels": {"rack": "7"}, "origin": "cni"}
    made = daemon.call("link.add", {**ends, **wish, "placement": "inside"})
    assert {name: made[name] for name in wish} == wish
    assert daemon.call("link.get", {"pair": made["pair"]}) == {**made, "end": "a"}
    changed = daemon.call("link.set", {"pair": made["pair"], "set": {"overload": "backpressure"}})
    assert (changed["overload"], changed["generation"] > made["generation"]) == ("backpressure", True)


# -- what it refuses --------------------------------------------------------------------------------------------------


def test_the_rules_of_link_add_hold(pair: Pair, netns: Namespaces) -> None:
    for letter in "ab":
        end, where = f"end {letter}: ", netns.make()
        assert refusal(pair, letter, ifname="a b") == ("invalid_name", f"{end}name 'a b' is not valid")
        assert refusal(pair, letter, ifname="lo") == ("link_exists", f"{end}name 'lo' exists in the namespace already")
        taken = refusal(pair, letter, ifname="lo", netns=where, mtu=9000)
        assert taken == ("link_exists", f"{end}name 'lo' exists in the namespace already")
        assert refusal(pair, letter, address="01:00:00:00:00:01")[0] == "invalid_address"
        assert refusal(pair, letter, mtu=67) == (
            "mtu_out_of_range",
            f"{end}mtu 67 is not in 68..65521: as with kernel veth",
        )
        assert refusal(pair, letter, txqueuelen=-1) == ("invalid_params", f"{end}txqueuelen -1 is not in 0..500000")
        kind, message = refusal(pair, letter, netns="vtr-none", mtu=9000)
        assert (kind, message) == ("no_such_netns", f"{end}netns 'vtr-none': No such file or directory")
        assert refusal(pair, letter, alias="\u00e9" * 200) == ("invalid_params", f"{end}alias has 400 bytes")


def test_fields_are_named(pair: Pair) -> None:
    for fields, named in (
        ({"color": "red"}, "set.color"),
        ({"mtu": "9000"}, "set.mtu"),
        ({"worker": -1}, "set.worker"),
        ({"overload": "panic"}, "set.overload"),
        ({"labels": {"a b": "x"}}, "set.labels"),
        ({"labels": {"a": 7}}, "set.labels.a"),
    ):
        kind, message = refusal(pair, **fields)
        assert kind == "invalid_params"
        assert named in message
    assert refusal(pair, worker=99)[1].startswith("worker 99: there are workers 0 to ")
    many = {f"l{number}": "" for number in range(65)}
    assert refusal(pair, labels=many, mtu=9000) == ("limit_reached", "labels: 65 of them")


def test_a_link_that_is_not_there(pair: Pair) -> None:
    with pytest.raises(RpcError, match="Cannot find device") as refused:
        pair.daemon.call("link.set", {"ifname": "lo", "set": {"mtu": 9000}})
    assert refused.value.kind == "no_such_link"
    pair.daemon.call("link.del", {"pair": pair.uuid})
    with pytest.raises(RpcError, match=f"no pair {pair.uuid}"):
        set_link(pair, mtu=9000)


def test_a_stale_generation_changes_nothing(pair: Pair) -> None:
    seen = get_link(pair)["generation"]
    now = set_link(pair, mtu=1400, beside={"generation": seen})["generation"]
    assert now > seen
    message = f"pair {pair.uuid} has generation {now}, not {seen}"
    assert refusal(pair, mtu=1300, beside={"generation": seen}) == ("stale_generation", message)
    with pytest.raises(RpcError, match=message) as refused:
        pair.daemon.call("link.del", {"pair": pair.uuid, "generation": seen})
    assert refused.value.kind == "stale_generation"
    assert pair.a.exists
    pair.daemon.call("link.del", {"pair": pair.uuid, "generation": now})
    assert pair.daemon.pairs() == []
    assert not pair.a.exists


def test_nothing_is_half_done_when_a_later_field_is_refused(shared_daemon: Daemon, netns: Namespaces) -> None:
    """Where `ip link set` would leave the mtu changed."""
    where = netns.make()
    pair = make_pair(shared_daemon, where, where, placement="inside")
    taken = ("link_exists", f"end a: name '{pair.b.name}' exists in the namespace already")
    assert refusal(pair, mtu=9000, ifname=pair.b.name, labels={"a": "b"}) == taken
    assert (pair.a.state().mtu, pair.a.state().carrier) == (1500, True)
