"""What an end is attached to when it is made: bridge, addresses, routes, in its own namespace; or nothing is made."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kit.commands import ip, run
from tests.kit.daemon import Daemon
from tests.kit.netns import Namespaces, fresh_name, set_sysctl
from tests.kit.rpc import RpcError
from tests.kit.waiting import eventually

PLACEMENTS = ["move", "inside"]


@pytest.fixture
def host(netns: Namespaces) -> str:
    """A namespace with the bridge br0."""
    name = netns.make(ipv6=True)
    ip(name, "link", "add", "br0", "type", "bridge")
    ip(name, "link", "set", "br0", "up")
    return name


def add(daemon: Daemon, a: dict[str, Any], b: dict[str, Any], **params: Any) -> dict[str, Any]:
    made: dict[str, Any] = daemon.call("link.add", {"a": a, "b": b, **params})
    return made


def port(netns: str, name: str) -> dict[str, Any]:
    """What the kernel says of a port."""
    data: dict[str, Any] = ip(netns, "-d", "-j", "link", "show", "dev", name).json()[0]["linkinfo"]["info_slave_data"]
    return data


def addresses(netns: str, name: str) -> list[dict[str, Any]]:
    """The addresses of a device, but those that the kernel gave it."""
    told = ip(netns, "-d", "-j", "addr", "show", "dev", name).json()
    return [each for each in told[0]["addr_info"] if each["scope"] == "global"]


def routes(netns: str, version: str = "-4", table: str = "main") -> list[str]:
    """The routes of a table that the kernel did not make of addresses, each in a line."""
    lines = ip(netns, version, "route", "show", "table", table).out.splitlines()
    return [" ".join(line.split()) for line in lines if "proto kernel" not in line]


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_an_end_gets_bridge_addresses_and_routes(
    shared_daemon: Daemon, netns: Namespaces, host: str, placement: str
) -> None:
    inner = netns.make(ipv6=True)
    made = add(
        shared_daemon,
        {"ifname": "vtb0", "netns": host, "up": True, "bridge": {"name": "br0", "hairpin": True, "isolated": True}},
        {
            "ifname": "eth0",
            "netns": inner,
            "up": True,
            "addresses": ["10.9.0.2/24", {"address": "10.8.0.2/16", "noprefixroute": True}, "fd09::2/64"],
            "routes": [
                {"dst": "10.9.9.9", "scope": "link"},
                {"dst": "default", "gw": "10.9.0.1", "src": "10.9.0.2", "mtu": 1400, "advmss": 1300, "priority": 7},
                {"dst": "10.77.0.0/16", "gw": "10.9.0.1", "table": 1000},
                {"dst": "default", "gw": "fd09::1"},
            ],
        },
        placement=placement,
    )
    assert (made["a"]["master"], made["b"]["master"]) == ("br0", None)
    told = port(host, "vtb0")
    assert (told["hairpin"], told["isolated"], told["state"]) == (True, True, "forwarding")
    found = {each["local"]: each for each in addresses(inner, "eth0")}
    assert {at: each["prefixlen"] for at, each in found.items()} == {"10.9.0.2": 24, "10.8.0.2": 16, "fd09::2": 64}
    assert (found["10.8.0.2"].get("noprefixroute"), found["10.9.0.2"]["broadcast"]) == (True, "10.9.0.255")
    assert found["fd09::2"].get("nodad")
    assert not found["fd09::2"].get("tentative")
    assert routes(inner) == [
        "default via 10.9.0.1 dev eth0 proto 118 src 10.9.0.2 metric 7 mtu 1400 advmss 1300",
        "10.9.9.9 dev eth0 proto 118 scope link",
    ]
    assert routes(inner, table="1000") == ["10.77.0.0/16 via 10.9.0.1 dev eth0 proto 118"]
    assert routes(inner, "-6") == ["default via fd09::1 dev eth0 proto 118 metric 1024 pref medium"]
    ip(host, "addr", "add", "10.9.0.1/24", "dev", "br0")
    run("ip", "netns", "exec", inner, "ping", "-c1", "-W2", "10.9.0.1")
    listed = shared_daemon.call("link.get", {"pair": made["pair"]})
    assert listed["a"]["master"] == "br0"
    shared_daemon.call("link.del", {"pair": made["pair"]})


def test_a_vlan_stands_in_for_that_of_the_bridge(shared_daemon: Daemon, netns: Namespaces) -> None:
    host, inner = netns.make(), netns.make()
    wish = {"name": "br0", "netns": host, "vlan_filtering": True}
    if not ip(host, "link", "add", "brv", "type", "bridge", "vlan_filtering", "1", check=False).ok:
        with pytest.raises(RpcError) as refused:  # this kernel is made without; the message is looked at elsewhere
            shared_daemon.call("bridge.set", wish)
        assert "CONFIG_BRIDGE_VLAN_FILTERING" in refused.value.data["hint"]
        return
    assert shared_daemon.call("bridge.set", wish)["created"]
    pair = add(
        shared_daemon, {"ifname": "vtb0", "netns": host, "bridge": {"name": "br0", "vlan": 30}}, {"netns": inner}
    )
    told = run("bridge", "-n", host, "-j", "vlan", "show", "dev", "vtb0").json()
    assert told[0]["vlans"] == [{"vlan": 30, "flags": ["PVID", "Egress Untagged"]}]
    shared_daemon.call("link.del", {"pair": pair["pair"]})


def test_a_second_default_route_goes_first_and_the_other_stays(
    shared_daemon: Daemon, netns: Namespaces
) -> None:  # as CNI's plugins make them, for containers in two networks
    inner, other = netns.make(), netns.make()
    pairs = [
        add(
            shared_daemon,
            {
                "ifname": f"eth{number}",
                "netns": inner,
                "up": True,
                "addresses": [f"10.9.{number}.2/24"],
                "routes": [{"dst": "default", "gw": f"10.9.{number}.1"}],
            },
            {"netns": other, "up": True},
        )
        for number in (0, 1)
    ]
    assert routes(inner) == ["default via 10.9.1.1 dev eth1 proto 118", "default via 10.9.0.1 dev eth0 proto 118"]
    for pair in pairs:
        shared_daemon.call("link.del", {"pair": pair["pair"]})


NOT_VALID: list[tuple[dict[str, Any], str, str]] = [
    ({"bridge": "br9"}, "no_such_bridge", "end a: there is no bridge 'br9' in its namespace"),
    ({"bridge": "lo"}, "no_such_bridge", "end a: 'lo' is no bridge but"),
    ({"bridge": "a b"}, "invalid_name", "end a: bridge 'a b' is not valid"),
    ({"bridge": {"name": "br0", "vlan": 4095}}, "invalid_params", "a.bridge.vlan: must be less than or equal to 4094"),
    ({"bridge": {"name": "br0", "vlan": 7}}, "invalid_params", "end a: bridge.vlan 7, but bridge 'br0' has no vlan_fi"),
    ({"bridge": 7}, "invalid_params", "a.bridge: must be the name of a bridge"),
    ({"addresses": ["10.0.0.2"]}, "invalid_params", "end a: addresses.0: '10.0.0.2' is not an IP address with"),
    ({"addresses": ["10.0.0.2/33"]}, "invalid_params", "end a: addresses.0: '10.0.0.2/33' is not"),
    ({"addresses": ["10.0.0.2/24", "224.0.0.1/4"]}, "invalid_params", "end a: addresses.1: 224.0.0.1/4 can't"),
    ({"addresses": ["10.0.0.2/24", "10.0.0.2/16"]}, "invalid_params", "end a: addresses: 10.0.0.2 is there twice"),
    ({"routes": [{"dst": "default"}]}, "invalid_params", "end a: routes need it to be up"),
    ({"up": True, "routes": [{"dst": "10.0.0.1/8"}]}, "invalid_params", "end a: routes.0.dst: 10.0.0.1/8 has host"),
    ({"up": True, "routes": [{"dst": "x"}]}, "invalid_params", "end a: routes.0.dst: 'x' does not appear"),
    ({"up": True, "routes": [{"dst": "10.0.0.0/8", "gw": "fd00::1"}]}, "invalid_params", "end a: routes.0.gw: fd00::1"),
    ({"up": True, "routes": [{"dst": "10.0.0.0/8", "gw": "g"}]}, "invalid_params", "end a: routes.0.gw: 'g' is not"),
    ({"up": True, "routes": [{"dst": "10.0.0.0/8"}] * 2}, "invalid_params", "end a: routes.1: 10.0.0.0/8 is there"),
    ({"up": True, "routes": [{"dst": "default", "gw": "10.7.7.7"}]}, "kernel_refused", "end a: adding route default"),
    ({"up": True, "addresses": ["fd00::2/64"]}, "kernel_refused", "end a: adding address fd00::2/64: Permission"),
]


def test_what_can_not_be_leaves_nothing(shared_daemon: Daemon, netns: Namespaces) -> None:
    host, inner = netns.make(), netns.make()  # without IPv6
    ip(host, "link", "add", "br0", "type", "bridge")
    before = ip(host, "link").out, ip(inner, "link").out
    for fields, kind, message in NOT_VALID:
        a, b = {"ifname": "vtx0", "netns": host, **fields}, {"ifname": "vtx1", "netns": inner, "up": True}
        with pytest.raises(RpcError) as refused:
            add(shared_daemon, a, b)
        assert (refused.value.kind, refused.value.message[: len(message)]) == (kind, message)
        assert refused.value.data.get("hint") or refused.value.message.startswith("a.")
    assert (ip(host, "link").out, ip(inner, "link").out) == before


def test_of_several_all_get_theirs_or_none_is_made(shared_daemon: Daemon, netns: Namespaces, host: str) -> None:
    inner = netns.make()
    wishes = [
        {
            "a": {"ifname": f"vtm{number}", "netns": host, "bridge": "br0", "up": True},
            "b": {"ifname": f"eth{number}", "netns": inner, "up": True, "addresses": [f"10.9.0.{number + 2}/24"]},
        }
        for number in range(3)
    ]
    wishes[2]["a"]["bridge"] = "br9"
    with pytest.raises(RpcError) as refused:
        shared_daemon.call("link.add", {"pairs": wishes})
    assert (refused.value.kind, refused.value.message[:16]) == ("no_such_bridge", "pairs.2: end a: ")
    wishes[2]["a"]["bridge"] = "br0"
    made = shared_daemon.call("link.add", {"pairs": wishes})
    assert [each["a"]["master"] for each in made] == ["br0"] * 3
    assert [len(addresses(inner, f"eth{number}")) for number in range(3)] == [1, 1, 1]
    for each in made:
        shared_daemon.call("link.del", {"pair": each["pair"]})


def test_a_port_comes_and_goes_and_the_pair_stays(shared_daemon: Daemon, netns: Namespaces, host: str) -> None:
    inner, name = netns.make(), fresh_name("p")
    pair = add(shared_daemon, {"ifname": name, "netns": host, "up": True}, {"netns": inner, "up": True})["pair"]

    def master() -> Any:
        return shared_daemon.call("link.get", {"pair": pair})["a"]["master"]

    ip(host, "link", "set", name, "master", "br0")
    eventually(master, lambda now: now == "br0", "the master is known")
    # The kernel says of a port that leaves its bridge what it says of a device that is deleted, in the bridge's words.
    ip(host, "link", "set", name, "nomaster")
    eventually(master, lambda now: now is None, "and that there is none")
    answer = shared_daemon.call(
        "link.set", {"pair": pair, "set": {"bridge": {"name": "br0", "hairpin": True}, "mtu": 1400}}
    )
    assert (answer["a"]["master"], port(host, name)["hairpin"]) == ("br0", True)
    with pytest.raises(RpcError) as refused:
        shared_daemon.call("link.set", {"pair": pair, "set": {"bridge": "br9", "mtu": 1300}})
    assert (refused.value.kind, master()) == ("no_such_bridge", "br0")
    answer = shared_daemon.call("link.set", {"pair": pair, "set": {"bridge": None}})
    assert (answer["a"]["master"], answer["a"]["mtu"], answer["a"]["carrier"]) == (None, 1400, True)
    shared_daemon.call("link.del", {"pair": pair})


def test_an_end_joins_the_bridge_where_it_moves_to(shared_daemon: Daemon, netns: Namespaces, host: str) -> None:
    inner, other = netns.make(), netns.make()
    pair = add(shared_daemon, {"ifname": "vtm0", "netns": other}, {"netns": inner})["pair"]
    answer = shared_daemon.call("link.set", {"pair": pair, "set": {"netns": host, "bridge": "br0", "up": True}})
    assert (answer["a"]["netns"], answer["a"]["master"]) == (host, "br0")
    answer = shared_daemon.call("link.set", {"pair": pair, "set": {"netns": other}})
    assert (answer["a"]["netns"], answer["a"]["master"]) == (other, None)
    shared_daemon.call("link.del", {"pair": pair})


def test_ipv6_where_it_is_on_by_default_needs_nothing_else(shared_daemon: Daemon, netns: Namespaces) -> None:
    inner = netns.make()
    set_sysctl(inner, "net.ipv6.conf.default.disable_ipv6", 0)
    pair = add(shared_daemon, {"netns": inner, "addresses": ["fd00::2/64"]}, {"netns": netns.make()})
    assert [each["local"] for each in addresses(inner, pair["a"]["ifname"])] == ["fd00::2"]
    shared_daemon.call("link.del", {"pair": pair["pair"]})
