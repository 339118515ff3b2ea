"""link.set over the control socket: what it changes, what it answers, what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kit.daemon import Daemon
from tests.kit.netns import Namespaces, fresh_name
from tests.kit.pairs import Pair, make_pair_between_fresh
from tests.kit.rpc import RpcError


@pytest.fixture
def pair(shared_daemon: Daemon, netns: Namespaces) -> Pair:
    return make_pair_between_fresh(shared_daemon, netns)


def set_link(pair: Pair, end: str = "a", **fields: Any) -> dict[str, Any]:
    """link.set of one end by the pair's uuid; `generation` goes beside the changes."""
    generation = {"generation": fields.pop("generation")} if "generation" in fields else {}
    answer: dict[str, Any] = pair.daemon.call("link.set", {"pair": pair.uuid, "end": end, "set": fields, **generation})
    return answer


def get_link(pair: Pair) -> dict[str, Any]:
    answer: dict[str, Any] = pair.daemon.call("link.get", {"pair": pair.uuid})
    return answer


def refusal(pair: Pair, end: str = "a", **fields: Any) -> tuple[str, str, str | None]:
    """Kind, message and errno of a link.set that is refused and changes nothing."""
    before = get_link(pair)
    with pytest.raises(RpcError) as refused:
        set_link(pair, end, **fields)
    assert refused.value.data["hint"]
    assert get_link(pair) == before
    return refused.value.kind, refused.value.message, refused.value.data.get("errno")


# -- what it changes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("letter", ["a", "b"])
def test_everything_at_once(pair: Pair, netns: Namespaces, letter: str) -> None:
    where, name = netns.make(), fresh_name("s")
    wish = {
        "ifname": name,
        "address": "02:76:74:70:00:0e",
        "mtu": 9000,
        "txqueuelen": 64,
        "alias": "it's mine",
        "gro": True,
    }
    answer = set_link(pair, letter, **wish, netns=where, up=True, labels={"rack": "7"}, overload="backpressure")
    assert {**wish, "up": True, "carrier": True, "operstate": "UP", "netns": where}.items() <= answer[letter].items()
    assert (answer["labels"], answer["overload"], answer["end"]) == ({"rack": "7"}, "backpressure", letter)
    end = pair.a if letter == "a" else pair.b
    end.netns, end.name = where, name
    state = end.state()
    assert (state.address, state.mtu, state.txqlen) == (wish["address"], 9000, 64)
    assert state.attributes["IFLA_IFALIAS"] == wish["alias"]
    assert (state.up, state.carrier, state.qdisc) == (True, True, "noqueue")
    assert {**get_link(pair), "end": letter} == answer


def test_a_stale_generation_changes_nothing(pair: Pair) -> None:
    seen = get_link(pair)["generation"]
    now = set_link(pair, mtu=1400, generation=seen)["generation"]
    assert now > seen
    message = f"pair {pair.uuid} has generation {now}, not {seen}"
    assert refusal(pair, mtu=1300, generation=seen) == ("stale_generation", message, None)
    with pytest.raises(RpcError, match=message):
        pair.daemon.call("link.del", {"pair": pair.uuid, "generation": seen})
    pair.daemon.call("link.del", {"pair": pair.uuid, "generation": now})
    assert pair.daemon.pairs() == []
