"""Annotations as parameters of link.add, and the daemon's errors in their words; without a daemon."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from vethd.oci.annotations import OPTIONS, AnnotationError, blamed, pairs, read
from vethd.rpc.schema.link import LinkAddParams

ETH0 = "vethd.network.eth0."
CHECKOUT = Path(__file__).parents[2]
SAMPLE = CHECKOUT / "config/oci/config.json"
PAGE = CHECKOUT / "docs/man/vethd-oci.8.rst"
EVERYTHING = {
    f"{ETH0}addresses": "10.88.0.1/24, fd00::1/64",
    f"{ETH0}gateway": "10.88.0.254,fd00::fe",
    f"{ETH0}routes": "10.9.0.0/16 via 10.88.0.7 metric 5, 10.10.0.0/16 src 10.88.0.1 mtu 1400 table 7",
    f"{ETH0}mac": "02:00:00:00:00:01",
    f"{ETH0}mtu": "9000",
    f"{ETH0}bridge": "br0",
    f"{ETH0}hairpin": "true",
    f"{ETH0}isolated": "false",
    f"{ETH0}vlan": "7",
    f"{ETH0}host-name": "web%d",
    f"{ETH0}host-addresses": "10.99.0.1/32",
    f"{ETH0}host-routes": "10.88.0.1",
    f"{ETH0}labels": "tier=web, app=shop=1",
    "org.example.other": "1",
}


def asked(annotations: dict[str, Any]) -> list[dict[str, Any]]:
    return pairs(read(annotations), "c1", "/proc/7/ns/net")


def test_every_option_goes_where_it_belongs() -> None:
    assert {name.removeprefix(ETH0) for name in EVERYTHING if name.startswith(ETH0)} == OPTIONS.keys()
    assert asked(EVERYTHING) == [
        {
            "a": {
                "up": True,
                "bridge": {"name": "br0", "hairpin": True, "isolated": False, "vlan": 7},
                "ifname": "web%d",
                "addresses": ["10.99.0.1/32"],
                "routes": [{"dst": "10.88.0.1"}],
                "mtu": 9000,
            },
            "b": {
                "ifname": "eth0",
                "netns": "/proc/7/ns/net",
                "up": True,
                "addresses": ["10.88.0.1/24", "fd00::1/64"],
                "routes": [
                    {"dst": "10.9.0.0/16", "gw": "10.88.0.7", "priority": 5},
                    {"dst": "10.10.0.0/16", "src": "10.88.0.1", "mtu": 1400, "table": 7},
                    {"dst": "default", "gw": "10.88.0.254"},
                    {"dst": "default", "gw": "fd00::fe"},
                ],
                "address": "02:00:00:00:00:01",
                "mtu": 9000,
            },
            "labels": {"tier": "web", "app": "shop=1", "container": "c1", "interface": "eth0"},
            "origin": "oci",
        }
    ]
    LinkAddParams.model_validate({"pairs": asked(EVERYTHING)})


def test_the_sample_is_what_the_daemon_takes() -> None:
    LinkAddParams.model_validate({"pairs": asked(json.loads(SAMPLE.read_text())["annotations"])})


def test_interfaces_keep_their_order_and_may_have_dots_in_their_names() -> None:
    made = asked({"vethd.network.eth1.mtu": "1400", "vethd.network.eth0.5.mtu": "1300"})
    assert [pair["b"]["ifname"] for pair in made] == ["eth1", "eth0.5"]


@pytest.mark.parametrize(
    ("addresses", "mac"),
    [
        ("10.88.0.1/24, 10.88.0.2/24", "02:76:0a:58:00:01"),
        ("fd00:88::1:2/64", "02:76:00:01:00:02"),
        ("10.88.0.300/24", None),
    ],
)
def test_the_mac_address_follows_from_the_first_ip_address(addresses: str, mac: str | None) -> None:
    ((pair,)) = asked({f"{ETH0}addresses": addresses})
    assert pair["b"].get("address") == mac


def test_without_annotations_nothing_is_asked_for() -> None:
    assert asked({"org.example.other": "1"}) == []


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        (f"{ETH0}adress", "10.0.0.1/8", "'adress' is unknown (known: addresses, gateway, "),
        ("vethd.network.eth0", "10.0.0.1/8", "not of the form vethd.network.IFNAME.OPTION, such as "),
        ("vethd.network..mtu", "1500", "not of the form "),
        ("vethd.netwrok.eth0.mtu", "1500", "not of the form "),
        (f"{ETH0}addresses", "", "must be a string with something in it"),
        (f"{ETH0}mtu", 1500, "must be a string with something in it"),
        (f"{ETH0}mtu", "big", "'big' is no number"),
        (f"{ETH0}hairpin", "yes", "'yes' is neither true nor false"),
        (f"{ETH0}labels", "tier", "'tier' is not of the form NAME=VALUE"),
        (f"{ETH0}routes", "10.0.0.0/8 via", "'10.0.0.0/8 via' is not of the form DST [via GATEWAY] "),
        (f"{ETH0}routes", "10.0.0.0/8,", "'' is not of the form DST "),
        (f"{ETH0}routes", "10.0.0.0/8 dev eth1", "'dev' is unknown (known: via, src, "),
        (f"{ETH0}routes", "10.0.0.0/8 mtu big", "'big' is no number"),
        (f"{ETH0}vlan", "7", "says how to be a port; `bridge` is missing"),
    ],
)
def test_what_makes_no_sense_is_told_by_its_name(name: str, value: Any, reason: str) -> None:
    with pytest.raises(AnnotationError) as told:
        read({name: value})
    assert str(told.value).startswith(f"annotation {name}: {reason}")


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("pairs.0: end b: addresses.1: 'x' is none", f"annotation {ETH0}addresses: addresses.1: 'x' is none"),
        ("pairs.0: end b: addresses: 10.88.0.1 is there twice", f"annotation {ETH0}addresses: addresses: 10.88"),
        ("pairs.0: end b: adding address 10.88.0.1/24: no", f"annotation {ETH0}addresses: adding address 10.88"),
        ("pairs.0: end a: addresses.0: 'x' is none", f"annotation {ETH0}host-addresses: addresses.0: "),
        ("pairs.0.b.routes.1.mtu: too small", f"annotation {ETH0}routes: routes.1.mtu: too small"),
        ("pairs.0: end b: routes.2.gw: 'x' is none", f"annotation {ETH0}gateway: routes.2.gw: 'x' is none"),
        ("pairs.0: end b: adding route default via 10.9.9.9: no", f"annotation {ETH0}gateway: adding route default"),
        ("pairs.0: end b: adding route 10.9.0.0/16 via x: no", f"annotation {ETH0}routes: adding route 10.9"),
        ("pairs.0: end a: routes.0.dst: 'x' is none", f"annotation {ETH0}host-routes: routes.0.dst: "),
        ("pairs.0: end b: address 'zz' is not six bytes", f"annotation {ETH0}mac: address 'zz' is not six"),
        ("pairs.0: end a: mtu 70000 is not in 68..65521", f"annotation {ETH0}mtu: mtu 70000 is not in"),
        ("pairs.0: end a: name 'a b' is not valid", f"annotation {ETH0}host-name: name 'a b' is not valid"),
        ("pairs.0: end a: there is no bridge 'br0' in", f"annotation {ETH0}bridge: there is no bridge 'br0' in"),
        ("pairs.0.a.bridge.object.vlan: too big", f"annotation {ETH0}bridge: bridge.object.vlan: too big"),
        ("pairs.0: end a: bridge.vlan 7, but", f"annotation {ETH0}vlan: bridge.vlan 7, but"),
        ("pairs.0.labels.tier: too long", f"annotation {ETH0}labels: labels.tier: too long"),
        ("pairs.0.labels.a b: must match", f"annotation {ETH0}labels: labels.a b: must match"),
        ("pairs.0: end b: moving it: no", "eth0: moving it: no"),
        ("pairs.1: end a: mtu 70000 is not in", "annotation vethd.network.eth1.mtu: mtu 70000 is not in"),
        ("pairs.1: end b: there is no bridge", "eth1: there is no bridge"),
        ("pairs: 3 pairs need 6 queues, 5 are left", "pairs: 3 pairs need 6 queues, 5 are left"),
        ("shutting down: really", "shutting down: really"),
    ],
)
def test_what_the_daemon_refuses_is_told_by_its_annotation(message: str, said: str) -> None:
    assert blamed(message, read({**EVERYTHING, "vethd.network.eth1.mtu": "70000"})).startswith(said)


def test_the_page_has_every_option_and_the_samples() -> None:
    text = PAGE.read_text()
    terms = re.findall(r"^\*\*([a-z-]+)\*\* = ", text, re.MULTILINE)
    assert terms == list(OPTIONS)
    example = text.split("\nEXAMPLE\n")[1]
    parts, hook = (json.loads(f"{{{braced}}}") for braced in _indented(example))
    assert parts == json.loads(SAMPLE.read_text())
    assert hook == json.loads((CHECKOUT / "config/oci/hooks.d/vethd.json").read_text())


def _indented(text: str) -> list[str]:
    """Blocks of the page that are shown as they are, without braces around them."""
    blocks = re.findall(r"::\n\n((?:    .*\n)+)", text)
    return [
        block.strip().removeprefix("{").removesuffix("\n    }") if block.startswith("    {") else block
        for block in blocks
    ]
