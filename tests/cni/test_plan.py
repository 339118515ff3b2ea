"""What ADD asks the daemon for, and the result that it prints."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vethd.cni.config import read
from vethd.cni.errors import CniError
from vethd.cni.plan import Plan, finished, host_ifname, is_host_ifname, plan, pod_labels
from vethd.cni.request import Request

NET = {"cniVersion": "1.1.0", "name": "lab", "type": "vethd-cni", "ipam": {"type": "host-local"}}
REQUEST = Request("ADD", "c1", "/run/netns/c1", "eth0")
HOST = host_ifname("lab", "c1", "eth0")
V4 = {"address": "10.1.0.5/24", "gateway": "10.1.0.1"}
V6 = {"address": "fd00::5/64", "gateway": "fd00::1"}


def planned(ips: list[dict[str, Any]], routes: list[dict[str, Any]] | None = None, **more: Any) -> Plan:
    dns = {"nameservers": ["10.1.0.2"]} if ips else {}
    given = {"interfaces": [], "ips": ips, "routes": routes or [], "dns": dns}
    return plan(REQUEST, read(NET | more, "ADD", {}), given)


def test_routed_through_the_host_as_ptp_does() -> None:
    asked = planned([V4, V6], [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}])
    assert asked.bridge is None
    assert asked.host == {
        "ifname": HOST,
        "up": True,
        "addresses": ["10.1.0.1/32", "fd00::1/128"],
        "routes": [{"dst": "10.1.0.5/32", "scope": "link"}, {"dst": "fd00::5/128", "scope": "link"}],
    }
    assert asked.container == {
        "ifname": "eth0",
        "up": True,
        "address": "02:76:0a:01:00:05",
        "addresses": [
            {"address": "10.1.0.5/24", "noprefixroute": True},
            {"address": "fd00::5/64", "noprefixroute": True},
        ],
        "routes": [
            {"dst": "10.1.0.1/32", "src": "10.1.0.5", "scope": "link"},
            {"dst": "fd00::1/128", "src": "fd00::5", "scope": "link"},
            {"dst": "10.1.0.0/24", "gw": "10.1.0.1", "src": "10.1.0.5"},
            {"dst": "fd00::/64", "gw": "fd00::1", "src": "fd00::5"},
            {"dst": "0.0.0.0/0", "gw": "10.1.0.1"},
            {"dst": "::/0", "gw": "fd00::1"},
        ],
    }
    assert asked.families == ("4", "6")
    assert asked.sources == ()


def test_two_addresses_behind_one_gateway_share_its_routes() -> None:
    asked = planned([V4, V4 | {"address": "10.1.0.6/24"}])
    assert asked.host["addresses"] == ["10.1.0.1/32"]
    assert [route["dst"] for route in asked.container["routes"]] == ["10.1.0.1/32", "10.1.0.0/24"]


def test_an_address_that_is_its_whole_network_has_no_route_to_it() -> None:
    asked = planned([{"address": "10.1.0.5/32", "gateway": "169.254.1.1"}], [{"dst": "0.0.0.0/0"}])
    assert [route["dst"] for route in asked.container["routes"]] == ["169.254.1.1/32", "0.0.0.0/0"]


def test_ptp_needs_a_gateway() -> None:
    with pytest.raises(CniError) as raised:
        planned([{"address": "10.1.0.5/24"}])
    assert raised.value.code == 7
    assert "gateway" in raised.value.msg


def test_a_bridge_that_is_a_gateway() -> None:
    asked = planned(
        [V4, {"address": "fd00::5/64"}],
        [{"dst": "10.9.0.0/16", "gw": "10.1.0.9"}],
        bridge="br0",
        isDefaultGateway=True,
        hairpinMode=True,
        mtu=1400,
    )
    assert asked.bridge == {"name": "br0", "mtu": 1400, "addresses": ["10.1.0.1/24", "fd00::1/64"]}
    assert asked.host == {"ifname": HOST, "up": True, "mtu": 1400, "bridge": {"name": "br0", "hairpin": True}}
    assert asked.container["addresses"] == ["10.1.0.5/24", "fd00::5/64"]
    assert asked.container["routes"] == [
        {"dst": "10.9.0.0/16", "gw": "10.1.0.9"},
        {"dst": "0.0.0.0/0", "gw": "10.1.0.1"},
        {"dst": "::/0", "gw": "fd00::1"},
    ]
    assert asked.result["ips"] == [V4, V6]
    assert asked.result["routes"] == asked.container["routes"]
    assert asked.families == ("4", "6")


def test_a_default_route_that_the_ipam_plugin_gives_is_not_doubled() -> None:
    asked = planned([V4], [{"dst": "0.0.0.0/0"}], bridge="br0", isDefaultGateway=True)
    assert asked.container["routes"] == [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}]
    assert asked.result["routes"] == [{"dst": "0.0.0.0/0"}]


def test_a_bridge_that_is_none() -> None:
    asked = planned([V4], [{"dst": "0.0.0.0/0"}], bridge="br0", vlan=7, promiscMode=True, portIsolation=True)
    assert asked.bridge == {"name": "br0", "promisc": True, "vlan_filtering": True}
    assert asked.host["bridge"] == {"name": "br0", "isolated": True, "vlan": 7}
    assert asked.families == ()


@pytest.mark.parametrize("more", [{}, {"bridge": "br0", "isGateway": True}])
def test_without_addresses_it_is_a_wire(more: dict[str, Any]) -> None:
    asked = planned([], **more)
    assert asked.host.get("addresses", []) == asked.container["addresses"] == asked.container["routes"] == []
    assert (asked.families, asked.sources) == ((), ())


@pytest.mark.parametrize(
    ("ips", "asked", "mac"),
    [
        ([V4, V6], None, "02:76:0a:01:00:05"),
        ([V6, V4], None, "02:76:00:00:00:05"),
        ([V4], "0A:00:27:00:00:07", "0a:00:27:00:00:07"),
        ([], "0a:00:27:00:00:07", "0a:00:27:00:00:07"),
        ([], None, None),
    ],
)
def test_the_mac_address_is_what_was_asked_for_or_follows_from_the_first_ip_address(
    ips: list[dict[str, Any]], asked: str | None, mac: str | None
) -> None:
    runtime = {} if asked is None else {"mac": asked}
    assert planned(ips, bridge="br0", runtimeConfig=runtime).container.get("address") == mac


def test_masquerading_is_for_the_containers_addresses() -> None:
    assert planned([V4, V6], ipMasq=True).sources == ("10.1.0.5/24", "fd00::5/64")


def test_what_a_route_may_say() -> None:
    said = {"dst": "10.9.0.0/16", "mtu": 1400, "advmss": 1360, "priority": 5, "table": 7, "scope": 253}
    route = planned([V4], [said], bridge="br0").container["routes"][0]
    assert route == {"dst": "10.9.0.0/16", "mtu": 1400, "advmss": 1360, "priority": 5, "table": 7, "scope": "link"}


@pytest.mark.parametrize(
    ("ips", "routes"),
    [
        ([{"address": "10.1.0.5"}], None),
        ([{"address": "10.1.0.5/33"}], []),
        ([V4 | {"gateway": "nonsense"}], []),
        ([V4], [{"dst": "nonsense"}]),
        ([V4], [{"dst": "10.0.0.0/8", "scope": 17}]),
    ],
)
def test_nonsense_of_an_ipam_plugin(ips: list[dict[str, Any]], routes: list[dict[str, Any]] | None) -> None:
    if routes is None:  # ipaddress reads it as a network of one, as the kernel would
        assert planned(ips, bridge="br0").container["addresses"] == ["10.1.0.5/32"]
        return
    with pytest.raises(CniError) as raised:
        planned(ips, routes)
    assert (raised.value.code, "host-local" in raised.value.msg) == (6, True)


MADE = {
    "a": {"ifname": HOST, "address": "0a:00:00:00:00:01", "mtu": 1500},
    "b": {"ifname": "eth0", "address": "0a:00:00:00:00:02", "mtu": 1500},
}
HOST_END = {"name": HOST, "mac": "0a:00:00:00:00:01", "mtu": 1500}
CONTAINER_END = {"name": "eth0", "mac": "0a:00:00:00:00:02", "mtu": 1500, "sandbox": "/run/netns/c1"}


def test_the_result_of_ptp() -> None:
    result = finished(planned([V4]), REQUEST, read(NET, "ADD", {}), None, MADE)
    assert result == {
        "interfaces": [HOST_END, CONTAINER_END],
        "ips": [V4 | {"interface": 1}],
        "routes": [],
        "dns": {"nameservers": ["10.1.0.2"]},
    }


def test_the_result_of_a_bridge_behind_another_plugin() -> None:
    previous = {
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "lo", "sandbox": "/run/netns/c1"}],
        "ips": [{"address": "127.0.0.1/8", "interface": 0}],
        "routes": [{"dst": "10.7.0.0/16"}],
        "dns": {"domain": "example.org"},
    }
    network = read(NET | {"bridge": "br0", "prevResult": previous, "dns": {"search": ["lab"]}}, "ADD", {})
    asked = planned([V4], [{"dst": "0.0.0.0/0"}], bridge="br0", dns={"search": ["lab"]})
    bridge = {"name": "br0", "ifindex": 7, "address": "0a:00:00:00:00:03", "mtu": 1500, "created": True}
    assert finished(asked, REQUEST, network, bridge, MADE) == {
        "interfaces": [
            previous["interfaces"][0],  # type: ignore[index]
            {"name": "br0", "mac": "0a:00:00:00:00:03", "mtu": 1500},
            HOST_END,
            CONTAINER_END,
        ],
        "ips": [{"address": "127.0.0.1/8", "interface": 0}, V4 | {"interface": 3}],
        "routes": [{"dst": "10.7.0.0/16"}, {"dst": "0.0.0.0/0"}],
        "dns": {"search": ["lab"]},
    }


def test_what_the_runtime_says_of_the_pod() -> None:
    args = {"K8S_POD_NAME": "web-0", "K8S_POD_NAMESPACE": "n" * 300, "K8S_POD_UID": "x"}
    assert pod_labels(REQUEST._replace(args=args)) == {"pod": "web-0", "pod-namespace": "n" * 255}
    assert pod_labels(REQUEST) == {}


@given(st.text(), st.text(), st.text())
def test_the_name_on_the_host_is_one_and_known_again(network: str, container: str, ifname: str) -> None:
    name = host_ifname(network, container, ifname)
    assert len(name) == 15
    assert is_host_ifname(name)
    assert name == host_ifname(network, container, ifname)
    assert name != host_ifname(network + "\0", container, ifname)


@pytest.mark.parametrize("name", ["veth0", "veth12345678", "vethg2345678901", "eth0", "abcd12345678901"])
def test_other_names_are_not(name: str) -> None:
    assert not is_host_ifname(name)
