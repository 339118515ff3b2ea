"""Which pairs a filter of link.list and stats.get lets through: those for which everything holds that was given."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kit.daemon import Daemon
from tests.kit.netns import RUN_NETNS, Namespaces
from tests.kit.rpc import RpcError


@pytest.fixture
def named(shared_daemon: Daemon, netns: Namespaces) -> dict[str, str]:
    """Four pairs between two namespaces, `red` and `blue`: words for their uuids, and for the namespaces' names."""
    red, blue = netns.make(), netns.make()
    more: dict[str, dict[str, Any]] = {
        "plain": {},
        "web": {"labels": {"app": "web", "rack": "7"}},
        "db": {"labels": {"app": "db", "rack": "7"}, "origin": "cni"},
        "within": {"b": {"netns": red, "ifname": "vtfx"}, "labels": {"rack": ""}, "origin": "docker"},
    }
    requests = [
        {"a": {"netns": red, "ifname": f"vtf{word}"}, "b": {"netns": blue}, "placement": "inside", **fields}
        for word, fields in more.items()
    ]
    made = shared_daemon.call("link.add", {"pairs": requests})
    return {"red": red, "blue": blue, **{word: pair["pair"] for word, pair in zip(more, made, strict=True)}}


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({}, "plain web db within"),
        ({"labels": {"rack": "7"}}, "web db"),
        ({"labels": {"rack": None}}, "web db within"),
        ({"labels": {"rack": ""}}, "within"),
        ({"labels": {"rack": "7", "app": "db"}}, "db"),
        ({"labels": {"rack": "7", "colour": None}}, ""),
        ({"origin": "api"}, "plain web"),
        ({"origin": "cni"}, "db"),
        ({"origin": "config"}, ""),
        ({"origin": "cni", "labels": {"app": "web"}}, ""),
        ({"netns": "red"}, "plain web db within"),
        ({"netns": "blue"}, "plain web db"),
        ({"netns": "blue", "labels": {"rack": None}}, "web db"),
        ({"ifname": "vtfweb"}, "web"),
        ({"ifname": "vtfweb", "netns": "red"}, "web"),
        ({"ifname": "vtfweb", "netns": "blue"}, ""),
        ({"ifname": "vtfx", "netns": "red"}, "within"),
        ({"pair": "db"}, "db"),
        ({"pair": "db", "netns": "blue", "origin": "cni", "labels": {"app": "db"}}, "db"),
        ({"pair": "db", "origin": "api"}, ""),
    ],
)
def test_what_a_filter_lets_through(
    shared_daemon: Daemon, named: dict[str, str], params: dict[str, Any], words: str
) -> None:
    asked = {key: named.get(value, value) if isinstance(value, str) else value for key, value in params.items()}
    expected = {named[word] for word in words.split()}
    for more in ({}, {"stats": True}):
        listed = shared_daemon.call("link.list", {**asked, **more})
        assert {pair["pair"] for pair in listed} == expected
        assert all(("stats" in pair) == bool(more) for pair in listed)
    for more in ({}, {"cursor": True}):
        counted = shared_daemon.call("stats.get", {**asked, **more})["pairs"]
        assert {pair["uuid"] for pair in counted} == expected


def test_a_namespace_may_be_named_in_every_way(shared_daemon: Daemon, named: dict[str, str]) -> None:
    for netns in (named["blue"], str(RUN_NETNS / named["blue"]), {"name": named["blue"]}):
        assert len(shared_daemon.call("link.list", {"netns": netns})) == 3
    with pytest.raises(RpcError, match="no_such_netns"):
        shared_daemon.call("link.list", {"netns": "vtf-none"})


def test_a_pair_that_is_not_there_is_an_error(shared_daemon: Daemon, named: dict[str, str]) -> None:
    for method in ("link.list", "stats.get"):
        with pytest.raises(RpcError, match="no_such_link"):
            shared_daemon.call(method, {"pair": "00000000-0000-4000-8000-000000000000"})
    assert named
