"""ADD and DEL in earnest: a real daemon, real namespaces, Debian's host-local."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cni.conftest import V4, V6, leased
from tests.cni.plugin import STOCK, Runtime, call
from tests.kit.commands import in_netns, ip, ip_json, run
from tests.kit.daemon import Daemon
from tests.kit.netns import RUN_NETNS, Namespaces
from tests.kit.waiting import eventually
from vethd.cni.plan import host_ifname
from vethd.cni.result import VERSIONS, parse

Make = Callable[..., Runtime]
MODES = pytest.mark.parametrize("mode", [{}, {"bridge": "cnitest0", "isDefaultGateway": True}], ids=["ptp", "bridge"])


def reaches(netns: str, address: str) -> bool:
    """Whether NETNS hears from an address, perhaps not at the first attempt: IPv6 looks for duplicates first."""
    return in_netns(netns, "ping", "-c", "1", "-w", "10", "-i", "0.2", address, check=False).ok


def silent(netns: str, address: str) -> bool:
    """Whether NETNS hears nothing from an address."""
    return not in_netns(netns, "ping", "-c", "2", "-i", "0.1", "-W", "1", address, check=False).ok


def address(said: Any, family: str = ".") -> str:
    """The address in a result."""
    return next(str(each["address"]).split("/")[0] for each in said["ips"] if family in each["address"])


@MODES
def test_two_containers_reach_each_other_and_the_host(
    runtime: Make, container: Callable[[], str], shared_daemon: Daemon, host: str, leases: Path, mode: dict[str, Any]
) -> None:
    lab, places = runtime([V4, V6], **mode), [container(), container()]
    said = [lab.add(f"c{number}", place) for number, place in enumerate(places)]
    assert [each.err for each in said] == ["", ""]
    results = [each.document for each in said]
    for family in (".", ":"):
        assert reaches(places[0], address(results[1], family))
        assert reaches(places[1], address(results[0], family))
        assert reaches(host, address(results[0], family))
        assert reaches(places[0], results[0]["ips"][family == ":"]["gateway"])
    assert [lab.check(f"c{number}", place).document for number, place in enumerate(places)] == [None, None]
    for number, place in enumerate(places):
        assert lab.remove(f"c{number}", place).status == 0
        assert [link["ifname"] for link in ip_json(place, "link")] == ["lo"]
    assert leased(leases) == {}
    assert lab.remove("c0", places[0]).status == 0
    assert shared_daemon.pairs() == []


def test_the_result_says_what_is_there(runtime: Make, container: Callable[[], str], host: str) -> None:
    lab, place = runtime(bridge="cnitest0", isGateway=True, mtu=1400, dns={"search": ["example.org"]}), container()
    said = lab.add("c1", place).document
    assert said["cniVersion"] == "1.1.0"
    names = [each["name"] for each in said["interfaces"]]
    assert names == ["cnitest0", host_ifname("lab", "c1", "eth0"), "eth0"]
    for each in said["interfaces"]:
        inside = each["name"] == "eth0"
        (link,) = ip_json(place if inside else host, "link", "show", each["name"])
        assert (each["mac"], each["mtu"]) == (link["address"], link["mtu"])
        assert each.get("sandbox") == (str(RUN_NETNS / place) if inside else None)
    assert said["interfaces"][1]["mtu"] == said["interfaces"][2]["mtu"] == 1400
    assert said["ips"] == [{"address": "10.81.0.2/24", "gateway": "10.81.0.1", "interface": 2}]
    assert said["routes"] == [{"dst": "0.0.0.0/0"}]
    assert said["dns"] == {"search": ["example.org"]}
    assert lab.remove("c1", place).status == 0


def test_ptp_routes_as_the_stock_plugin_does(runtime: Make, container: Callable[[], str], host: str) -> None:
    lab = runtime(cniVersion="1.0.0")
    stock = Runtime(host, lab.socket, lab.fields, program=STOCK / "ptp")
    outcomes = []
    for each in (lab, stock):
        place = container()
        said = each.add("c1", place, type="ptp")
        own = address(said.document)
        shown = [
            {key: str(route.get(key)).replace(own, "OWN") for key in ("dst", "gateway", "scope", "prefsrc")}
            for route in ip_json(place, "route")
        ]
        there = [route["dst"] for route in ip_json(host, "route") if route["dst"] == own]
        outcomes.append((sorted(shown, key=json.dumps), len(there)))
        assert each.remove("c1", place).status == 0
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version(runtime: Make, container: Callable[[], str], version: str) -> None:
    lab, place = runtime([V4, V6], cniVersion=version), container()
    said = lab.add("c1", place)
    assert said.status == 0, said
    assert said.document["cniVersion"] == version
    assert [ip["address"] for ip in parse(said.document, "ADD")["ips"]] == ["10.81.0.2/24", "fd81::2/64"]
    if VERSIONS.index(version) >= VERSIONS.index("0.4.0"):
        assert lab.check("c1", place).document is None
    assert lab.remove("c1", place).status == 0


def test_no_addresses_at_all(runtime: Make, container: Callable[[], str]) -> None:
    lab, places = runtime([], bridge="cnitest0"), [container(), container()]
    for number, place in enumerate(places):
        assert lab.add(f"c{number}", place).document["interfaces"][2]["name"] == "eth0"
        ip(place, "addr", "add", f"10.82.0.{number + 1}/24", "dev", "eth0")
    assert reaches(places[0], "10.82.0.2")
    assert lab.check("c0", places[0]).document is None
    for number, place in enumerate(places):
        assert lab.remove(f"c{number}", place).status == 0


def test_which_container_is_this(runtime: Make, container: Callable[[], str], shared_daemon: Daemon) -> None:
    lab, place = runtime(), container()
    said = lab.add("c1", place, "net1", args="IgnoreUnknown=1;K8S_POD_NAME=web-0;K8S_POD_NAMESPACE=shop")
    assert said.status == 0
    (pair,) = shared_daemon.pairs()
    labels = {"container": "c1", "interface": "net1", "network": "lab", "pod": "web-0", "pod-namespace": "shop"}
    assert (pair["origin"], pair["labels"]) == ("cni", labels)
    shown = shared_daemon.ctl("link", "show", host_ifname("lab", "c1", "net1")).out
    assert "web-0" in shown
    assert lab.remove("c1", place, "net1").status == 0


def test_an_interface_of_that_name_is_there(
    runtime: Make, container: Callable[[], str], shared_daemon: Daemon, leases: Path
) -> None:
    lab, place = runtime(bridge="cnitest0", isGateway=True, ipMasq=True), container()
    ip(place, "tuntap", "add", "eth0", "mode", "tap")
    said = lab.add("c1", place)
    assert (said.code, "eth0" in said.msg) == (100, True), said.document
    assert (leased(leases), shared_daemon.pairs()) == ({}, [])
    assert [link["ifname"] for link in ip_json(place, "link")] == ["lo", "eth0"]
    ip(place, "link", "del", "eth0")


def test_a_second_add_leaves_the_first_alone(runtime: Make, container: Callable[[], str], leases: Path) -> None:
    lab, place = runtime(), container()
    first = lab.add("c1", place).document
    said = lab.add("c1", place)
    assert (said.code, "CNI_IFNAME" in said.msg) == (100, True)
    assert leased(leases) == {"10.81.0.2": "c1"}
    assert reaches(place, first["ips"][0]["gateway"])
    assert lab.remove("c1", place).status == 0


def test_a_container_in_two_networks(
    runtime: Make, container: Callable[[], str], shared_daemon: Daemon, host: str, leases: Path
) -> None:
    place = container()
    lab = runtime(bridge="cnitest0", isGateway=True)
    other = runtime([[{"subnet": "10.83.0.0/24"}]], name="other", bridge="cnitest1", isGateway=True)
    assert lab.add("c1", place).status == 0
    said = other.add("c1", place, "eth1")
    assert said.status == 0, said.document
    assert reaches(place, "10.81.0.1")
    assert reaches(place, "10.83.0.1")
    assert [route["dev"] for route in ip_json(place, "route", "show", "default")] == ["eth1", "eth0"]
    assert other.remove("c1", place, "eth1").status == 0
    assert [route["dev"] for route in ip_json(place, "route", "show", "default")] == ["eth0"]
    assert reaches(place, "10.81.0.1")
    assert lab.remove("c1", place).status == 0


@pytest.mark.parametrize("said", ["", "gone"])
def test_del_after_the_namespace_died(
    runtime: Make, container: Callable[[], str], netns: Namespaces, shared_daemon: Daemon, leases: Path, said: str
) -> None:
    lab, place = runtime(ipMasq=True), container()
    assert lab.add("c1", place).status == 0
    netns.delete(place)
    assert lab.remove("c1", str(RUN_NETNS / place) if said else "").status == 0
    assert (leased(leases), shared_daemon.pairs()) == ({}, [])


@MODES
def test_del_while_no_daemon_answers(
    runtime: Make, container: Callable[[], str], shared_daemon: Daemon, host: str, leases: Path, mode: dict[str, Any]
) -> None:
    lab, place = runtime(ipMasq=True, **mode), container()
    assert lab.add("c1", place).status == 0
    assert lab.status(socket="/nonexistent/control.sock").code == 51
    assert lab.remove("c1", place, socket="/nonexistent/control.sock").status == 0
    assert leased(leases) == {}
    assert [link["ifname"] for link in ip_json(place, "link")] == ["lo"]
    assert not [link for link in ip_json(host, "link") if link["ifname"].startswith("veth")]
    eventually(shared_daemon.pairs, lambda pairs: pairs == [], "the daemon sees that they are gone")
    assert lab.status(socket="/nonexistent/control.sock").code == 50


def test_del_without_a_daemon_leaves_what_is_not_vethds(runtime: Make, container: Callable[[], str]) -> None:
    lab, place = runtime(), container()
    ip(place, "tuntap", "add", "eth0", "mode", "tap")
    assert lab.remove("c1", place, socket="/nonexistent/control.sock").status == 0
    assert [link["ifname"] for link in ip_json(place, "link")] == ["lo", "eth0"]


def test_masqueraded_while_it_is_there(
    runtime: Make, container: Callable[[], str], netns: Namespaces, host: str
) -> None:
    lab, places, world = runtime(ipMasq=True), [container(), container()], netns.make(ipv6=True)
    run("ip", "link", "add", "up0", "netns", host, "type", "veth", "peer", "name", "up0", "netns", world)
    for place, own in ((host, "192.0.2.1/24"), (world, "192.0.2.2/24")):
        ip(place, "addr", "add", own, "dev", "up0")
        ip(place, "link", "set", "up0", "up")
    assert [lab.add(f"c{number}", place).status for number, place in enumerate(places)] == [0, 0]
    assert all(reaches(place, "192.0.2.2") for place in places)
    assert lab.remove("c0", places[0]).status == 0
    assert "10.81.0.2" not in in_netns(host, "nft", "list", "table", "inet", "vethd").out
    assert lab.check("c1", places[1]).document is None
    assert reaches(places[1], "192.0.2.2")
    in_netns(host, "nft", "delete", "table", "inet", "vethd")
    assert silent(places[1], "192.0.2.2")
    assert lab.check("c1", places[1]).code == 101
    assert lab.remove("c1", places[1]).status == 0


def test_vlans_of_one_bridge(runtime: Make, container: Callable[[], str], host: str) -> None:
    places = {"c1": 7, "c2": 7, "c3": 8}
    found = {name: container() for name in places}
    results = {}
    lab = runtime(bridge="cnitest0")
    if not ip(host, "link", "add", "vlans", "type", "bridge", "vlan_filtering", "1", check=False).ok:
        said = lab.add("c1", found["c1"], vlan=7)
        assert (said.code, "CONFIG_BRIDGE_VLAN_FILTERING" in said.document["details"]) == (100, True)
        return
    for name, vlan in places.items():
        said = lab.add(name, found[name], vlan=vlan)
        assert said.status == 0, said.document
        results[name] = address(said.document)
    assert reaches(found["c1"], results["c2"])
    assert silent(found["c1"], results["c3"])
    for name in places:
        assert lab.remove(name, found[name]).status == 0


def test_a_container_reaches_itself_by_hairpin(runtime: Make, container: Callable[[], str], host: str) -> None:
    lab, place = runtime(bridge="cnitest0", hairpinMode=True, isGateway=True), container()
    assert lab.add("c1", place).status == 0
    shown = run("nsenter", f"--net={RUN_NETNS / host}", "bridge", "-d", "-j", "link").json()
    assert [link["hairpin"] for link in shown if link.get("master") == "cnitest0"] == [True]
    assert lab.remove("c1", place).status == 0


def test_a_mac_and_an_address_of_the_runtimes_choice(runtime: Make, container: Callable[[], str], leases: Path) -> None:
    lab, place = runtime(bridge="cnitest0"), container()
    asked = {"mac": "0a:00:27:00:00:07", "ips": ["10.81.0.77/24"]}
    said = lab.add("c1", place, runtimeConfig=asked).document
    assert (said["interfaces"][2]["mac"], address(said)) == ("0a:00:27:00:00:07", "10.81.0.77")
    assert ip_json(place, "link", "show", "eth0")[0]["address"] == "0a:00:27:00:00:07"
    assert lab.remove("c1", place).status == 0


def test_a_container_that_takes_over_an_address_is_reached_at_once(runtime: Make, container: Callable[[], str]) -> None:
    """Its neighbours believe for half a minute what they know by ARP of the one that is gone."""
    lab, near, places = runtime(bridge="cnitest0"), container(), [container(), container()]
    assert lab.add("c0", near).status == 0
    for number, place in enumerate(places, 1):
        said = lab.add(f"c{number}", place, runtimeConfig={"ips": ["10.81.0.77/24"]}).document
        assert address(said) == "10.81.0.77"
        in_netns(near, "ping", "-c", "1", "-W", "5", "10.81.0.77")
        assert lab.remove(f"c{number}", place).status == 0
    assert lab.remove("c0", near).status == 0


def test_as_podman_reloads_a_network(runtime: Make, container: Callable[[], str]) -> None:
    """It asks for what the container had by CNI_ARGS; host-local reads IP there, we MAC."""
    lab, place = runtime(bridge="cnitest0"), container()
    said = lab.add("c1", place, args="IgnoreUnknown=1;MAC=0a:00:27:00:00:08;IP=10.81.0.11").document
    assert (said["interfaces"][2]["mac"], address(said)) == ("0a:00:27:00:00:08", "10.81.0.11")
    assert lab.remove("c1", place).status == 0


def test_limits(runtime: Make, container: Callable[[], str], host: str) -> None:
    lab, place = runtime(), container()
    limits = {"ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 40_000_000_000, "egressBurst": 8}
    asked: dict[str, Any] = {"runtimeConfig": {"bandwidth": limits}}
    said = lab.add("c1", place, **asked)
    assert said.status == 0, said.document

    def bucket(netns: str, device: str) -> tuple[int, int]:
        (qdisc,) = run("tc", "-n", netns, "-j", "qdisc", "show", "dev", device).json()
        assert qdisc["kind"] == "tbf"
        return qdisc["options"]["rate"], qdisc["options"]["burst"]

    outside = said.document["interfaces"][0]["name"]
    assert bucket(host, outside)[0] == 1_000_000
    assert bucket(host, outside)[1] == pytest.approx(100_000, rel=0.01)
    assert bucket(place, "eth0")[0] == 5_000_000_000
    assert reaches(place, "10.81.0.1")
    assert lab.check("c1", place, **asked).document is None
    run("tc", "-n", place, "qdisc", "del", "dev", "eth0", "root")
    assert lab.check("c1", place, **asked).code == 101
    assert lab.remove("c1", place).status == 0


def test_in_a_chain(runtime: Make, container: Callable[[], str], host: str) -> None:
    """Behind loopback, and before tuning: each adds to what the one before said."""
    lab, place = runtime(cniVersion="1.0.0"), container()
    environment = lab.environment("c1", place, "eth0")
    first = call("ADD", lab.config(type="loopback"), environment | {"CNI_IFNAME": "lo"}, host, STOCK / "loopback")
    second = lab.add("c1", place, prevResult=first.document)
    assert [each["name"] for each in second.document["interfaces"]] == ["lo", host_ifname("lab", "c1", "eth0"), "eth0"]
    assert [each["interface"] for each in second.document["ips"]][-1] == 2
    tuned = lab.config(type="tuning", mac="0a:00:27:00:00:09", prevResult=second.document)
    third = call("ADD", tuned, environment, host, STOCK / "tuning")
    lab.results["c1", "eth0"] = third.document
    assert lab.check("c1", place).document is None
    assert lab.remove("c1", place).status == 0


def test_the_daemon_has_no_room(
    start_daemon: Callable[..., Daemon], container: Callable[[], str], host: str, leases: Path
) -> None:
    full = start_daemon(config="[limits]\nmax_pairs = 1\n")
    ipam = {"type": "host-local", "dataDir": str(leases), "ranges": [V4]}
    lab = Runtime(host, full.socket, {"cniVersion": "1.1.0", "name": "lab", "ipam": ipam})
    assert lab.status().document is None
    places = [container(), container()]
    assert lab.add("c0", places[0]).status == 0
    said = lab.add("c1", places[1])
    assert said.code == 11, said.document
    assert leased(leases) == {"10.81.0.2": "c0"}
    assert lab.status().code == 50
    assert lab.remove("c0", places[0]).status == 0
