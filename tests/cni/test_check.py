"""CHECK: everything that may not be as ADD left it, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.cni.plugin import Runtime
from tests.kit.commands import ip
from tests.kit.daemon import Daemon
from tests.kit.netns import RUN_NETNS
from vethd.cni.plan import host_ifname

HOST_END = host_ifname("lab", "c1", "eth0")
BRIDGE = {"bridge": "cnitest0", "isDefaultGateway": True}
#: What is changed, in which mode: whose namespace, and the words of `ip`; what is said of it.
CHANGES: list[tuple[str, dict[str, Any], str, str]] = [
    ("container", {}, "addr del 10.81.0.2/24 dev eth0", "the address 10.81.0.2/24"),
    ("container", {}, "route del default", "the route to 0.0.0.0/0 via 10.81.0.1"),
    ("container", {}, "link set eth0 down", "eth0 is down"),
    ("container", {}, "link set eth0 address 0a:00:00:00:00:09", "has the MAC address 0a:00:00:00:00:09"),
    ("container", {}, "link set eth0 name eth7", "is called eth7 now"),
    ("host", {}, f"addr del 10.81.0.1/32 dev {HOST_END}", "the address 10.81.0.1/32"),
    ("host", {}, f"route del 10.81.0.2 dev {HOST_END}", "the route to 10.81.0.2/32"),
    ("host", {}, f"link set {HOST_END} down", f"{HOST_END} is down"),
    ("host", {}, f"link set {HOST_END} name other0", "prevResult has no other0"),
    ("host", BRIDGE, f"link set {HOST_END} nomaster", "is a port of no bridge, not of cnitest0"),
    ("host", BRIDGE, f"link del {HOST_END}", "vethd has no pair for c1 in network lab"),
]


@pytest.mark.parametrize(("where", "mode", "change", "words"), CHANGES, ids=[row[2] for row in CHANGES])
def test_what_changed_is_named(
    runtime: Callable[..., Runtime],
    container: Callable[[], str],
    host: str,
    where: str,
    mode: dict[str, Any],
    change: str,
    words: str,
) -> None:
    lab, place = runtime(**mode), container()
    assert lab.add("c1", place).status == 0
    assert lab.check("c1", place).document is None
    ip(place if where == "container" else host, *change.split())
    said = lab.check("c1", place)
    assert (said.code, words in said.msg) == (101, True), said.document
    assert lab.remove("c1", place).status == 0


def test_a_result_of_somebody_else(runtime: Callable[..., Runtime], container: Callable[[], str]) -> None:
    lab, place, other = runtime(), container(), container()
    assert lab.add("c1", place).status == 0
    said = lab.check("c1", other)
    assert (said.code, "prevResult has no interface eth0" in said.msg) == (101, True)
    moved = lab.results["c1", "eth0"]
    moved["interfaces"][1]["sandbox"] = str(RUN_NETNS / other)
    said = lab.check("c1", other)
    assert (said.code, f"is not in {RUN_NETNS / other}" in said.msg) == (101, True)
    assert lab.remove("c1", place).status == 0


def test_a_lease_that_is_not_there(runtime: Callable[..., Runtime], container: Callable[[], str], leases: Any) -> None:
    lab, place = runtime(), container()
    assert lab.add("c1", place).status == 0
    (leases / "lab/10.81.0.2").unlink()
    said = lab.check("c1", place)
    assert "host-local" in said.msg
    assert lab.remove("c1", place).status == 0


def test_what_others_added_is_theirs(
    runtime: Callable[..., Runtime], container: Callable[[], str], shared_daemon: Daemon
) -> None:
    lab, place = runtime(), container()
    assert lab.add("c1", place).status == 0
    ip(place, "addr", "add", "192.0.2.7/32", "dev", "eth0")
    ip(place, "route", "add", "192.0.2.0/24", "via", "10.81.0.1")
    lab.results["c1", "eth0"]["ips"].append({"address": "192.0.2.7/32"})
    assert lab.check("c1", place).document is None
    assert lab.remove("c1", place).status == 0
