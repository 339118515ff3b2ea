"""The ifalias of an end: the default one names the peer as it is called now, another is the user's own."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kit.daemon import Daemon
from tests.kit.netns import Namespaces, fresh_name
from tests.kit.pairs import Pair, make_pair
from tests.kit.waiting import eventually
from tests.pairs.watching import ends_of, set_end, told

LETTERS = ["a", "b"]


def aliases(pair: Pair) -> dict[str, tuple[Any, Any]]:
    """Per end what the kernel says and what the daemon says."""
    return {
        letter: (end.state().attributes.get("IFLA_IFALIAS", ""), told(pair, letter)["alias"])
        for letter, end in ends_of(pair).items()
    }


def wait_aliases(pair: Pair, a: str, b: str) -> None:
    eventually(lambda: aliases(pair), lambda now: now == {"a": (a, a), "b": (b, b)}, f"the aliases are {a!r}, {b!r}")


def default(pair: Pair, peer: str) -> str:
    return f"vethd {pair.uuid} peer {peer}"


@pytest.mark.parametrize("letter", LETTERS)
def test_the_default_one_follows_a_rename_of_the_peer(pair: Pair, letter: str) -> None:
    wait_aliases(pair, default(pair, pair.b.name), default(pair, pair.a.name))
    end = ends_of(pair)[letter]
    for _ in range(3):
        name = fresh_name("r")
        set_end(end, "name", name)
        end.name = name
    wait_aliases(pair, default(pair, pair.b.name), default(pair, pair.a.name))


def test_a_users_own_stays(shared_daemon: Daemon, netns: Namespaces) -> None:
    pair = make_pair(shared_daemon, netns.make(), netns.make(), a={"alias": "it's mine"})
    wait_aliases(pair, "it's mine", default(pair, pair.a.name))
    set_end(pair.b, "name", "vtpother")
    pair.b.name = "vtpother"
    set_end(pair.b, "alias", "and this is ours")
    wait_aliases(pair, "it's mine", "and this is ours")
    set_end(pair.a, "name", "vtpthis")
    pair.a.name = "vtpthis"
    set_end(pair.b, "mtu", "1400")
    eventually(lambda: told(pair, "b")["mtu"], lambda mtu: mtu == 1400, "all is followed")
    wait_aliases(pair, "it's mine", "and this is ours")


def test_one_that_anybody_sets_or_clears_is_followed(pair: Pair) -> None:
    for alias in ("new \u00e9", ""):
        set_end(pair.a, "alias", alias)
        wait_aliases(pair, alias, default(pair, pair.a.name))


def test_a_default_one_that_is_set_by_hand_with_a_wrong_name_is_put_right(pair: Pair) -> None:
    set_end(pair.a, "alias", default(pair, "nobody"))
    wait_aliases(pair, default(pair, pair.b.name), default(pair, pair.a.name))
