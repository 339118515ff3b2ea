"""What static pairs are attached to, and static bridges: made, changed by a reload, saved, and taken away again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from tests.daemon.test_reload import Configured
from tests.kit.commands import in_netns, ip
from tests.kit.daemon import Daemon
from tests.kit.links import LinkMonitor, link_exists, read_link
from tests.kit.netns import Namespaces
from tests.kit.static import apply, heard_until_now
from tests.kit.waiting import eventually
from vethd.configfiles import ConfigError, load


@pytest.fixture
def configured(start_daemon: Callable[..., Daemon]) -> Callable[[str], Configured]:
    return lambda text: Configured(start_daemon(config=text))


def lan(host: str, inner: str) -> dict[str, Any]:
    """A bridge in one namespace, and a pair from there into another."""
    return {
        "bridge": [{"name": "vbr0", "netns": host, "addresses": ["10.9.0.1/24", "fd09::1/64"], "masquerade": True}],
        "pair": [
            {
                "name": "lan",
                "a": {"ifname": "vlan0", "netns": host, "bridge": {"name": "vbr0", "hairpin": True}},
                "b": {
                    "ifname": "eth0",
                    "netns": inner,
                    "addresses": ["10.9.0.2/24", "fd09::2/64"],
                    "routes": [{"dst": "default", "gw": "10.9.0.1"}, {"dst": "default", "gw": "fd09::1"}],
                },
            }
        ],
    }


def addresses(netns: str, name: str) -> set[str]:
    told = ip(netns, "-j", "addr", "show", "dev", name).json()[0]["addr_info"]
    return {f"{each['local']}/{each['prefixlen']}" for each in told if each["scope"] == "global"}


def routes(netns: str, version: str = "-4") -> list[str]:
    lines = ip(netns, version, "route").out.splitlines()
    return [line.split(" proto ")[0] for line in lines if "proto 118" in line]


def masqueraded(netns: str) -> str:
    """The networks in the table, "" when there is none."""
    listed = in_netns(netns, "nft", "list", "set", "inet", "vethd", "nets4", check=False).out
    return " ".join(listed.partition("elements = {")[2].partition("}")[0].split())


def sysctl(netns: str, name: str) -> str:
    return in_netns(netns, "sysctl", "-n", name).out.strip()


def test_a_reload_adds_and_takes_away_what_differs(configured: Callable[[str], Configured], netns: Namespaces) -> None:
    host, inner = netns.make(ipv6=True), netns.make(ipv6=True)
    content = lan(host, inner)
    it = configured(tomli_w.dumps(content))
    assert addresses(host, "vbr0") == {"10.9.0.1/24", "fd09::1/64"}
    assert (sysctl(host, "net.ipv4.ip_forward"), sysctl(host, "net.ipv6.conf.all.forwarding")) == ("1", "1")
    assert masqueraded(host) == '10.9.0.0/24 comment "config:vbr0"'
    (before,) = it.daemon.pairs()
    assert before["a"]["master"] == "vbr0"
    ip(inner, "addr", "add", "10.5.0.5/24", "dev", "eth0")  # somebody else's
    ip(inner, "route", "add", "10.6.0.0/16", "via", "10.9.0.9")
    with LinkMonitor(inner) as monitor:
        lines = it.reload(tomli_w.dumps(content))
        assert heard_until_now(monitor, inner) & {"eth0"} == set()
    assert (lines["static pairs applied"]["keep"], lines["static pairs applied"]["change"]) == (2, 0)

    content["bridge"].append({"name": "vbr1", "netns": host})
    content["bridge"][0] |= {"addresses": ["10.9.0.1/24"], "masquerade": False, "mtu": 1400}
    content["pair"][0]["a"]["bridge"] = "vbr1"
    content["pair"][0]["b"] |= {
        "addresses": ["10.9.0.3/24"],
        "routes": [{"dst": "10.0.0.0/8", "gw": "10.9.0.1"}, {"dst": "default", "gw": "10.9.0.254"}],
    }
    with LinkMonitor(inner) as monitor:
        lines = it.reload(tomli_w.dumps(content))
        assert heard_until_now(monitor, inner) & {"eth0"} == set(), "the device itself was not touched"
    assert lines["static pairs applied"]["failed"] == 0
    assert lines["static pairs applied"]["change"] == 2
    assert (addresses(host, "vbr0"), read_link(host, "vbr0").mtu) == ({"10.9.0.1/24"}, 1400)
    assert masqueraded(host) == ""
    assert addresses(inner, "eth0") == {"10.9.0.3/24", "10.5.0.5/24"}
    assert routes(inner) == ["default via 10.9.0.254 dev eth0", "10.0.0.0/8 via 10.9.0.1 dev eth0"]
    assert routes(inner, "-6") == []
    assert "10.6.0.0/16 via 10.9.0.9 dev eth0" in ip(inner, "route").out
    (after,) = it.daemon.pairs()
    assert (after["pair"], after["a"]["master"], after["b"]["carrier"]) == (before["pair"], "vbr1", True)

    # Bridges that the configuration made go with it, one that was there before stays.
    ip(host, "link", "add", "vbr2", "type", "bridge")
    content["bridge"] = [{"name": "vbr2", "netns": host}]
    del content["pair"][0]["a"]["bridge"]
    it.reload(tomli_w.dumps(content))
    assert [link_exists(host, name) for name in ("vbr0", "vbr1", "vbr2")] == [False, False, True]
    it.reload("")
    assert link_exists(host, "vbr2")
    assert it.daemon.pairs() == []


def test_an_end_of_others_is_left_in_its_bridge(configured: Callable[[str], Configured], netns: Namespaces) -> None:
    host, inner = netns.make(), netns.make()
    content = lan(host, inner)
    del content["bridge"]
    content["pair"][0] = {
        "name": "p",
        "a": {"ifname": "vlan0", "netns": host},
        "b": {"ifname": "eth0", "netns": inner, "addresses": ["10.9.0.2/24"], "routes": [{"dst": "10.0.0.0/8"}]},
    }
    it = configured(tomli_w.dumps(content))
    ip(host, "link", "add", "brx", "type", "bridge")
    ip(host, "link", "set", "vlan0", "master", "brx")
    # What goes when a device is set down comes back with a reload.
    ip(inner, "link", "set", "eth0", "down")
    ip(inner, "addr", "flush", "dev", "eth0")
    it.reload(tomli_w.dumps(content))
    assert it.daemon.pairs()[0]["a"]["master"] == "brx"
    assert (addresses(inner, "eth0"), routes(inner)) == ({"10.9.0.2/24"}, ["10.0.0.0/8 dev eth0"])
    # One that moves is attached where it arrives.
    content["pair"][0]["b"]["netns"] = other = netns.make()
    it.reload(tomli_w.dumps(content))
    assert (addresses(other, "eth0"), routes(other)) == ({"10.9.0.2/24"}, ["10.0.0.0/8 dev eth0"])


def test_what_is_saved_makes_the_same_again(start_daemon: Callable[..., Daemon], netns: Namespaces) -> None:
    host, inner = netns.make(), netns.make()
    ip(host, "link", "add", "brx", "type", "bridge")
    daemon = start_daemon()
    a = {"ifname": "vsv0", "netns": host, "bridge": {"name": "brx", "isolated": True}}
    b = {
        "ifname": "eth0",
        "netns": inner,
        "up": True,
        "addresses": ["10.9.0.2/24", {"address": "10.8.0.2/24", "noprefixroute": True}],
        "routes": [
            {"dst": "10.9.9.9/32"},
            {"dst": "default", "gw": "10.9.0.1", "src": "10.9.0.2", "mtu": 1400, "priority": 9, "table": 77},
        ],
    }
    made = daemon.call("link.add", {"a": a, "b": b})
    file = daemon.workdir / "saved.toml"
    file.write_text(daemon.call("config.save")["toml"])
    saved = load(file).config
    (pair,), (bridge,) = saved.pair, saved.bridge
    assert (bridge.name, bridge.netns) == ("brx", host)
    before = addresses(inner, "eth0"), ip(inner, "route").out, ip(inner, "route", "show", "table", "77").out
    daemon.call("link.del", {"pair": made["pair"]})
    rows = apply(daemon, pair.model_dump(exclude_defaults=True))
    assert [row["error"] for row in rows.values()] == [None]
    after = addresses(inner, "eth0"), ip(inner, "route").out, ip(inner, "route", "show", "table", "77").out
    assert after == before
    assert "isolated on" in ip(host, "-d", "link", "show", "dev", "vsv0").out
    rows = apply(daemon, pair.model_dump(exclude_defaults=True), dry_run=True)
    assert [row["action"] for row in rows.values()] == ["keep"]


def test_what_no_bridge_or_end_can_have_is_said_by_line(tmp_path: Path) -> None:
    file = tmp_path / "vethd.toml"
    file.write_text(
        """
[[bridge]]
name = "br0"
masquerade = true
[[bridge]]
name = "br0"
addresses = ["10.0.0.1"]
[[pair]]
name = "p"
[pair.a]
ifname = "x0"
up = false
routes = [{ dst = "default" }]
[pair.b]
ifname = "br0"
addresses = ["fd00::/129"]
bridge = "a b"
"""
    )
    with pytest.raises(ConfigError) as wrong:
        load(file)
    assert [str(finding).removeprefix(f"{file}:").partition(" (")[0] for finding in wrong.value.findings] == [
        "4: bridge.0.masquerade: it has no addresses",
        f'6: bridge.1.name: "br0" is the bridge in {file}:3 already',
        "7: bridge.1.addresses.0: '10.0.0.1' is not an IP address with the length of its prefix",
        "13: pair.0.a.routes: routes need it to be up",
        f'15: pair.0.b.ifname: "br0" is the end in {file}:3 already',
        "16: pair.0.b.addresses.0: 'fd00::/129' is not an IP address with the length of its prefix",
        "17: pair.0.b.bridge: 'a b' is not valid",
    ]


def test_the_next_program_knows_which_bridges_are_its_own(
    configured: Callable[[str], Configured], netns: Namespaces
) -> None:
    host, inner = netns.make(), netns.make()
    content = lan(host, inner)
    content["bridge"][0]["addresses"] = ["10.9.0.1/24"]
    content["pair"][0]["b"] |= {"addresses": ["10.9.0.2/24"], "routes": [{"dst": "default", "gw": "10.9.0.1"}]}
    it = configured(tomli_w.dumps(content))
    with LinkMonitor(inner) as monitor, LinkMonitor(host) as other:
        it.daemon.reexec()
        assert (heard_until_now(monitor, inner) | heard_until_now(other, host)) & {"eth0", "vlan0", "vbr0"} == set()
    assert it.daemon.pairs()[0]["a"]["master"] == "vbr0"
    assert (addresses(inner, "eth0"), routes(inner)) == ({"10.9.0.2/24"}, ["default via 10.9.0.1 dev eth0"])
    assert masqueraded(host) == '10.9.0.0/24 comment "config:vbr0"'
    it.reload("")
    assert not link_exists(host, "vbr0")
    assert masqueraded(host) == ""


def test_what_the_kernel_refuses_is_undone(start_daemon: Callable[..., Daemon], netns: Namespaces) -> None:
    host, inner = netns.make(), netns.make()
    daemon = start_daemon()
    for name in ("br0", "br1"):
        daemon.call("bridge.set", {"name": name, "netns": host})
    wish: dict[str, Any] = {
        "name": "p",
        "a": {"ifname": "vlan0", "netns": host, "bridge": {"name": "br0", "hairpin": True}},
        "b": {
            "ifname": "eth0",
            "netns": inner,
            "addresses": ["10.9.0.2/24", "10.9.0.3/24"],
            "routes": [{"dst": "default", "gw": "10.9.0.1"}],
        },
    }
    assert [row["error"] for row in apply(daemon, wish).values()] == [None]

    def now() -> list[Any]:
        port = ip(host, "-d", "-j", "link", "show", "dev", "vlan0").json()[0]
        data = port["linkinfo"]["info_slave_data"]
        return [port["master"], port["mtu"], data["hairpin"], addresses(inner, "eth0"), ip(inner, "route").out]

    before = now()
    refused = {
        **wish,
        "a": {**wish["a"], "bridge": "br1", "mtu": 1400},
        "b": {**wish["b"], "addresses": ["10.8.0.2/24"], "routes": [{"dst": "default", "gw": "10.7.0.1"}]},
    }
    (row,) = apply(daemon, refused).values()
    assert (row["action"], row["error"]["kind"]) == ("change", "kernel_refused")
    assert row["error"]["message"].startswith("end b: adding route default via 10.7.0.1: ")
    assert "give the end an address in the network of gw" in row["error"]["hint"]
    assert now() == before
    assert [row["action"] for row in apply(daemon, wish).values()] == ["keep"]


def test_a_pair_waits_for_its_bridge(configured: Callable[[str], Configured], netns: Namespaces) -> None:
    host, inner = netns.make(), netns.make()
    content = lan(host, inner)
    del content["bridge"]
    del content["pair"][0]["b"]["addresses"], content["pair"][0]["b"]["routes"]
    other = {"name": "other", "a": {"ifname": "vo0", "netns": host}, "b": {"ifname": "vo1", "netns": inner}}
    content["pair"].append(other)
    it = configured(tomli_w.dumps(content))
    assert [pair["name"] for pair in it.daemon.pairs()] == ["other"]
    it.daemon.reexec()
    ip(host, "link", "add", "vbr9", "type", "bridge")  # not that one
    ip(host, "link", "add", "vbr0", "type", "bridge")
    eventually(lambda: {pair["name"] for pair in it.daemon.pairs()}, lambda names: "lan" in names, "it is made")
    assert next(pair["a"]["master"] for pair in it.daemon.pairs() if pair["name"] == "lan") == "vbr0"
    # One that the configuration wants no more is waited for no more, and the namespace is not kept alive by it.
    content["pair"][0]["a"]["bridge"] = "vbr1"
    it.reload(tomli_w.dumps(content))
    it.reload(tomli_w.dumps({"pair": [other]}))
    ip(host, "link", "add", "vbr1", "type", "bridge")
    it.reload(tomli_w.dumps({"pair": [other]}))
    assert [pair["name"] for pair in it.daemon.pairs()] == ["other"]


READ_ONLY = ("unshare", "--mount", "sh", "-c", 'mount -o bind,ro /proc/sys /proc/sys && exec "$@"', "sh")


def test_forwarding_that_can_not_be_switched_on_is_said(start_daemon: Callable[..., Daemon], netns: Namespaces) -> None:
    host, inner = netns.make(), netns.make()
    content = lan(host, inner)
    content["bridge"][0]["addresses"] = ["10.9.0.1/24"]
    content["pair"][0]["b"] |= {"addresses": ["10.9.0.2/24"], "routes": []}
    daemon = start_daemon(config=tomli_w.dumps(content), prefix=READ_ONLY)
    (line,) = [json.loads(line) for line in daemon.log().splitlines() if "static pair failed" in line]
    assert line["name"] == f"bridge vbr0 netns {host}"
    assert line["error"] == "masquerade: net.ipv4.ip_forward can't be switched on: Read-only file system"
    assert line["hint"] == "switch it on: sysctl net.ipv4.ip_forward=1"
    assert daemon.pairs()[0]["a"]["master"] == "vbr0"  # the bridge is there all the same


def test_bridges_may_be_applied_by_a_client(shared_daemon: Daemon, netns: Namespaces) -> None:
    host = netns.make()
    bridge = {"name": "vbr0", "netns": host, "addresses": ["10.9.0.1/24"]}
    where = f"bridge vbr0 netns {host}"

    def applied(*bridges: dict[str, Any], **options: bool) -> list[tuple[str, str, Any]]:
        plan = shared_daemon.call("config.apply", {"pairs": [], "bridges": list(bridges), **options})["plan"]
        return [(row["name"], row["action"], row["error"] and row["error"]["message"]) for row in plan]

    assert applied(bridge, dry_run=True) == [(where, "create", None)]
    assert not link_exists(host, "vbr0")
    assert applied(bridge) == [(where, "create", None)]
    assert applied(bridge, dry_run=True) == applied(bridge) == [(where, "keep", None)]
    assert applied({**bridge, "mtu": 1400}) == [(where, "change", None)]
    wrong = {**bridge, "addresses": ["10.9.0.1"]}
    refusal = "addresses.0: '10.9.0.1' is not an IP address with the length of its prefix"
    assert applied(wrong, prune=True) == [(where, "keep", refusal)]
    assert applied(prune=True, dry_run=True) == [("bridge vbr0", "remove", None)]
    assert link_exists(host, "vbr0")
    assert applied(prune=True) == [("bridge vbr0", "remove", None)]
    assert not link_exists(host, "vbr0")
