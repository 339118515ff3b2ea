"""Results, in and out of every version of the specification."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vethd.cni.errors import CniError
from vethd.cni.result import LATEST, VERSIONS, at_least, parse, printed

FULL: dict[str, Any] = {
    "interfaces": [
        {"name": "cni0", "mac": "0a:00:00:00:00:01", "mtu": 1500},
        {"name": "eth0", "mac": "0a:00:00:00:00:02", "mtu": 1500, "sandbox": "/run/netns/c1"},
    ],
    "ips": [
        {"address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 1},
        {"address": "fd00::5/64", "gateway": "fd00::1", "interface": 1},
        {"address": "10.2.0.5/16", "interface": 1},
    ],
    "routes": [
        {"dst": "0.0.0.0/0", "gw": "10.1.0.1", "mtu": 1400, "advmss": 1360, "priority": 5, "table": 7, "scope": 0},
        {"dst": "::/0"},
    ],
    "dns": {"nameservers": ["10.1.0.1"], "search": ["example.org"]},
}
BARE = [{"name": "cni0", "mac": "0a:00:00:00:00:01"}, {**FULL["interfaces"][1]}]
BARE[1].pop("mtu")
OLD_ROUTES = [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}, {"dst": "::/0"}]
WITH_VERSION = [{"version": "6" if ":" in ip["address"] else "4", **ip} for ip in FULL["ips"]]
FAMILIES = {
    "ip4": {"ip": "10.1.0.5/16", "gateway": "10.1.0.1", "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}]},
    "ip6": {"ip": "fd00::5/64", "gateway": "fd00::1", "routes": [{"dst": "::/0"}]},
    "dns": FULL["dns"],
}
LISTS = {"interfaces": BARE, "ips": WITH_VERSION, "routes": OLD_ROUTES, "dns": FULL["dns"]}


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("0.1.0", FAMILIES),
        ("0.2.0", FAMILIES),
        ("0.3.0", LISTS),
        ("0.3.1", LISTS),
        ("0.4.0", LISTS),
        ("1.0.0", LISTS | {"ips": FULL["ips"]}),
        ("1.1.0", FULL),
    ],
)
def test_printed_as_each_version_has_it(version: str, expected: dict[str, Any]) -> None:
    assert printed(FULL, version) == {"cniVersion": version} | expected


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_printed_is_read_again(version: str) -> None:
    once = parse(printed(FULL, version), "x")
    assert parse(printed(once, version), "x") == once
    assert [ip["address"] for ip in once["ips"]][:2] == ["10.1.0.5/16", "fd00::5/64"]
    assert once["dns"] == FULL["dns"]


def test_the_latest_loses_nothing() -> None:
    assert parse(printed(FULL, LATEST), "x") == FULL


def test_empty_lists_are_left_out() -> None:
    assert printed(parse({"cniVersion": "1.0.0"}, "x"), "1.1.0") == {"cniVersion": "1.1.0", "dns": {}}


def test_the_result_of_an_ipam_plugin_has_no_interfaces() -> None:
    said = {"cniVersion": "0.3.1", "ips": [{"version": "4", "address": "10.1.0.5/16"}], "dns": {}}
    assert parse(said, "x") == {"interfaces": [], "ips": [{"address": "10.1.0.5/16"}], "routes": [], "dns": {}}


def test_no_version_is_the_first() -> None:
    assert parse({"ip4": {"ip": "10.1.0.5/16"}}, "x")["ips"] == [{"address": "10.1.0.5/16"}]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (None, "host-local is not a JSON object"),
        ([], "not a JSON object"),
        ({"cniVersion": "2.0.0"}, "cniVersion '2.0.0' is none of 0.1.0"),
        ({"cniVersion": "1.0.0", "ips": {}}, None),
        ({"cniVersion": "1.0.0", "ips": {"a": 1}}, "ips is not a list of objects"),
        ({"cniVersion": "1.0.0", "ips": ["10.1.0.5/16"]}, "ips is not a list of objects"),
        ({"cniVersion": "1.0.0", "ips": [{"gateway": "10.1.0.1"}]}, "one of ips has no address"),
        ({"cniVersion": "1.0.0", "routes": [{"gw": "10.1.0.1"}]}, "one of routes has no dst"),
        ({"cniVersion": "1.0.0", "interfaces": [{"mac": "x"}]}, "one of interfaces has no name"),
        (
            {"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.5/16", "interface": 0}]},
            "an interface that is not there",
        ),
        ({"cniVersion": "1.0.0", "dns": []}, None),
        ({"cniVersion": "1.0.0", "dns": [1]}, "dns is not an object"),
        ({"ip4": [1]}, "ip4 is not an object"),
        ({"ip4": {}}, "one of ips has no address"),
    ],
)
def test_what_is_no_result_is_refused(said: Any, words: str | None) -> None:
    if words is None:
        parse(said, "host-local")
        return
    with pytest.raises(CniError) as raised:
        parse(said, "host-local")
    assert raised.value.code == 6
    assert words in raised.value.msg


@given(st.sampled_from(VERSIONS), st.sampled_from(VERSIONS))
def test_versions_are_in_order(one: str, other: str) -> None:
    numbers = [tuple(map(int, version.split("."))) for version in (one, other)]
    assert at_least(one, other) == (numbers[0] >= numbers[1])
