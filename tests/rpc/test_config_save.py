"""config.save: the file that it returns rebuilds what was there, in a daemon that knows nothing else."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.kit.commands import ip
from tests.kit.daemon import Daemon
from tests.kit.netns import Namespaces, fresh_name
from tests.kit.pairs import make_pair
from tests.kit.static import actions, apply, static_pairs, wish

END = ("ifname", "netns", "address", "mtu", "txqueuelen", "gro", "up")


def look(pair: dict[str, Any]) -> dict[str, Any]:
    """What is the same of a pair that was rebuilt."""
    ends = {letter: {key: pair[letter][key] for key in END} for letter in ("a", "b")}
    aliases = [pair[letter]["alias"].replace(pair["pair"], "UUID") for letter in ("a", "b")]
    return {key: pair[key] for key in ("placement", "numqueues", "overload", "labels")} | ends | {"aliases": aliases}


@pytest.fixture
def unnamed(netns: Namespaces) -> Iterator[str]:
    """The path of a namespace without a name."""
    name = netns.make()
    fd = os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        netns.delete(name)
        yield f"/proc/{os.getpid()}/fd/{fd}"
    finally:
        os.close(fd)


def test_what_is_saved_rebuilds_what_was_there(
    start_daemon: Callable[..., Daemon], netns: Namespaces, unnamed: str
) -> None:
    red, blue = netns.make(), netns.make()
    config = '[worker]\noverload = "backpressure"\n[sysctl]\ndev_weight = 32\n[limits]\nclients = 9\n'
    daemon = start_daemon(config=config)
    daemon.call("sysctl.set", {"values": {"netdev_budget": 77}})
    static = wish(red, blue, a={"mtu": 9000, "alias": 'lab \N{BULLET} "one"', "gro": True}, b={"up": False})
    other = wish(red, red, placement="inside", numqueues=2, overload="drop", labels={"rack": "7", "x": "\t"})
    assert actions(apply(daemon, static, other)) == {static["name"]: "create", other["name"]: "create"}
    ip(red, "link", "set", static["a"]["ifname"], "mtu", "2000")  # what is, not what was wished for
    by_hand = make_pair(daemon, blue, red, a={"txqueuelen": 64}, placement="inside")
    daemon.call("link.add", {"a": {"ifname": fresh_name("c")}, "origin": "cni", "placement": "inside"})
    lost = daemon.call(
        "link.add", {"a": {"netns": unnamed}, "b": {"ifname": fresh_name("l"), "netns": red}, "placement": "inside"}
    )
    before = {pair["a"]["ifname"]: look(pair) for pair in daemon.pairs()}
    saved = daemon.call("config.save")
    inode = lost["a"]["netns_inode"]
    assert saved["left_out"] == [
        f"{lost['pair']}: end a ({lost['a']['ifname']}): its namespace net:[{inode}] has no name"
    ]
    daemon.stop()

    content = tomllib.loads(saved["toml"])
    names = {static["name"], other["name"], f"{by_hand.a.name}@{blue}"}
    assert {pair["name"] for pair in content["pair"]} == names
    rebuilt = start_daemon(config=saved["toml"])
    assert static_pairs(rebuilt).keys() == names
    after = {pair["a"]["ifname"]: look(pair) for pair in rebuilt.pairs()}
    assert after == {name: before[name] for name in after}
    assert rebuilt.call("sysctl.get", {"names": ["dev_weight", "netdev_budget"]})["values"] == {
        "net.core.dev_weight": 32,
        "net.core.netdev_budget": 77,
    }
    assert rebuilt.call("config.save") == {**saved, "left_out": []}


def test_a_pair_in_the_daemons_own_namespace_needs_no_name(shared_daemon: Daemon, netns: Namespaces) -> None:
    one = wish(None, netns.make(), placement="inside")
    apply(shared_daemon, one)
    (pair,) = tomllib.loads(shared_daemon.call("config.save")["toml"])["pair"]
    assert "netns" not in pair["a"]
    assert pair["b"]["netns"] == one["b"]["netns"]


def test_names_that_are_no_names_of_pairs_give_way_to_the_uuid(shared_daemon: Daemon, netns: Namespaces) -> None:
    red = netns.make()
    strange = make_pair(shared_daemon, red, red, a={"ifname": "gr\u00fcn"}, placement="inside", up=False)
    taken = wish(red, red, placement="inside")
    free = make_pair(shared_daemon, red, red, placement="inside", up=False)
    apply(shared_daemon, {**taken, "name": f"{free.a.name}@{red}"})
    saved = shared_daemon.call("config.save")
    assert {pair["name"] for pair in tomllib.loads(saved["toml"])["pair"]} == {
        strange.uuid,
        free.uuid,
        f"{free.a.name}@{red}",
    }
    assert saved["left_out"] == []


def test_what_is_not_utf_8_is_left_out(shared_daemon: Daemon, netns: Namespaces) -> None:
    red = netns.make()
    pair = make_pair(shared_daemon, red, red, placement="inside", up=False)
    ip(red, "link", "set", pair.a.name, "alias", "\udcff")
    shared_daemon.call("link.set", {"pair": pair.uuid, "set": {"mtu": 1400}})
    saved = shared_daemon.call("config.save")
    assert saved["left_out"] == [f"{pair.uuid}: the alias of end a is not UTF-8"]
    assert "pair" not in tomllib.loads(saved["toml"])
