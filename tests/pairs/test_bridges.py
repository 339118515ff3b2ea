"""bridge.set and bridge.del: make or complete a bridge, delete one; again and again the same, wholly or not at all."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kit.commands import ip
from tests.kit.daemon import Daemon
from tests.kit.links import link_exists, read_link
from tests.kit.netns import Namespaces
from tests.kit.rpc import RpcError
from tests.kit.waiting import eventually


def set_bridge(daemon: Daemon, netns: str, **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = daemon.call("bridge.set", {"name": "br0", "netns": netns, **fields})
    return made


def addresses(netns: str) -> set[str]:
    told = ip(netns, "-j", "addr", "show", "dev", "br0").json()[0]["addr_info"]
    return {f"{each['local']}/{each['prefixlen']}" for each in told if each["scope"] == "global"}


def test_a_bridge_is_made_and_completed(shared_daemon: Daemon, netns: Namespaces) -> None:
    where = netns.make(ipv6=True)
    made = set_bridge(shared_daemon, where, addresses=["10.9.0.1/24", "fd09::1/64"], mtu=1400)
    state = read_link(where, "br0")
    assert made == {"name": "br0", "ifindex": state.ifindex, "address": state.address, "mtu": 1400, "created": True}
    assert (state.up, state.attributes["IFLA_LINKINFO"]["attrs"][0][1]) == (True, "bridge")
    assert addresses(where) == {"10.9.0.1/24", "fd09::1/64"}
    ip(where, "addr", "add", "10.7.0.1/24", "dev", "br0")
    before = read_link(where, "br0").attributes
    again = set_bridge(shared_daemon, where, addresses=["10.9.0.1/24", "fd09::1/64"], mtu=1400)
    assert again == {**made, "created": False}
    assert read_link(where, "br0").attributes["IFLA_CARRIER_CHANGES"] == before["IFLA_CARRIER_CHANGES"]
    more = set_bridge(
        shared_daemon, where, addresses=["10.8.0.1/24"], mtu=1300, address="02:76:74:70:00:0b", promisc=True
    )
    assert (more["address"], more["mtu"], more["created"]) == ("02:76:74:70:00:0b", 1300, False)
    assert addresses(where) == {"10.9.0.1/24", "fd09::1/64", "10.7.0.1/24", "10.8.0.1/24"}
    assert "PROMISC" in ip(where, "link", "show", "dev", "br0").out


def test_its_address_is_not_that_of_a_port(shared_daemon: Daemon, netns: Namespaces) -> None:
    where = netns.make()
    made = set_bridge(shared_daemon, where)
    pair = shared_daemon.call(
        "link.add",
        {"a": {"netns": where, "bridge": "br0", "address": "02:00:00:00:00:01"}, "b": {"netns": netns.make()}},
    )
    assert read_link(where, "br0").address == made["address"]
    shared_daemon.call("link.del", {"pair": pair["pair"]})


NOT_VALID: list[tuple[dict[str, Any], str, str]] = [
    ({"name": "lo"}, "link_exists", "'lo' is no bridge but"),
    ({"name": "a/b"}, "invalid_name", "name 'a/b' is not valid"),
    ({"addresses": ["10.0.0.1"]}, "invalid_params", "addresses.0: '10.0.0.1' is not"),
    ({"address": "01:00:00:00:00:01"}, "invalid_address", "address 01:00"),
    ({"mtu": 67}, "invalid_params", "mtu: must be greater"),
    ({"addresses": ["10.0.0.1/24", "fd00::1/64"]}, "kernel_refused", "bridge 'brx': adding fd00::1/64: Permission"),
]


def test_what_can_not_be_changes_nothing(shared_daemon: Daemon, netns: Namespaces) -> None:
    where = netns.make()  # without IPv6
    for existing in (False, True):
        if existing:
            ip(where, "link", "add", "brx", "type", "bridge")
        before = ip(where, "addr").out
        for fields, kind, message in NOT_VALID:
            with pytest.raises(RpcError) as refused:
                shared_daemon.call("bridge.set", {"name": "brx", "netns": where, **fields})
            assert (refused.value.kind, refused.value.message[: len(message)]) == (kind, message)
        assert ip(where, "addr").out == before


def test_one_that_others_use_is_not_deleted(shared_daemon: Daemon, netns: Namespaces) -> None:
    where = netns.make()
    set_bridge(shared_daemon, where)
    pair = shared_daemon.call("link.add", {"a": {"netns": where, "bridge": "br0"}, "b": {"netns": netns.make()}})
    ip(where, "link", "add", "dum0", "type", "veth")
    ip(where, "link", "set", "dum0", "master", "br0")
    delete = {"name": "br0", "netns": where}
    with pytest.raises(RpcError) as refused:
        shared_daemon.call("bridge.del", delete)
    assert (refused.value.kind, "dum0" in refused.value.message) == ("bridge_in_use", True)
    with pytest.raises(RpcError) as refused:
        shared_daemon.call("bridge.del", {"name": "dum0", "netns": where})
    assert refused.value.kind == "no_such_bridge"
    ip(where, "link", "set", "dum0", "nomaster")
    for deleted in (True, False):
        assert shared_daemon.call("bridge.del", delete) == {"name": "br0", "deleted": deleted}
    assert not link_exists(where, "br0")
    uuid = {"pair": pair["pair"]}
    eventually(lambda: shared_daemon.call("link.get", uuid)["a"]["master"], lambda now: now is None, "it is in none")
    shared_daemon.call("link.del", {"pair": pair["pair"]})
