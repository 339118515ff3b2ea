"""From a container to the outside world: TCP, UDP, ICMP and path MTU, over IPv4 and IPv6, by NAT and by plain routing.

The NAT is the one of config/nat.toml, as a user would take it; only the names of its namespaces are others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.outside import world
from tests.e2e.outside.world import (
    HOST4,
    HOST6,
    NARROW,
    WORLD4,
    WORLD6,
    World,
    forget_mtus,
    learned_mtu,
    ping,
    tcp,
    udp,
)
from tests.kit.commands import in_netns, ip
from tests.kit.daemon import Daemon
from tests.kit.netns import RUN_NETNS, Namespaces, fresh_name
from tests.kit.static import static_pairs

EXAMPLE = Path(__file__).parents[3] / "config/nat.toml"
#: What reaches the world, and the address that the host has there.
BOTH = [(WORLD4, HOST4), (WORLD6, HOST6)]


@dataclass(frozen=True)
class Machine:
    """A daemon whose own namespace is the host's, with the pairs of the example."""

    daemon: Daemon
    outside: World
    red: str
    blue: str


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    namespaces = Namespaces()
    try:
        outside = world.make(namespaces)
        red, blue = fresh_name("red"), fresh_name("blue")
        text = EXAMPLE.read_text().replace('netns = "red"', f'netns = "{red}"')
        text = text.replace('netns = "blue"', f'netns = "{blue}"')
        daemon = Daemon(
            tmp_path_factory.mktemp("vethd"), config=text, prefix=("nsenter", f"--net={RUN_NETNS / outside.host}")
        )
        daemon.start()
        try:
            for name in (red, blue):
                namespaces.adopt(name)
            yield Machine(daemon, outside, red, blue)
            daemon.check_books()
        finally:
            daemon.stop()
        daemon.check_log()
    finally:
        namespaces.close()


def test_everything_of_the_example_is_there(machine: Machine) -> None:
    assert static_pairs(machine.daemon).keys() == {"red", "blue"}
    ports = ip(machine.outside.host, "-br", "link", "show", "master", "vbr0").out
    assert {line.split()[0] for line in ports.splitlines()} == {"vred", "vblue"}


def test_containers_reach_each_other(machine: Machine) -> None:
    assert ping(machine.red, "10.77.0.3").ok
    assert tcp(machine.red, machine.blue, "10.77.0.3") == "10.77.0.2"


@pytest.mark.parametrize(("to", "source"), BOTH)
def test_the_world_sees_the_host(machine: Machine, to: str, source: str) -> None:
    assert ping(machine.blue, to).ok
    assert udp(machine.blue, machine.outside.world, to) == source
    assert tcp(machine.blue, machine.outside.world, to) == source


@pytest.mark.parametrize(("to", "overhead"), [(WORLD4, 28), (WORLD6, 48)])
def test_the_path_mtu_is_learned_through_nat(machine: Machine, to: str, overhead: int) -> None:
    fits, too_big = str(NARROW - overhead), str(NARROW - overhead + 1)
    assert ping(machine.blue, to, "-M", "do", "-s", fits).ok
    answer = ping(machine.blue, to, "-M", "do", "-s", too_big)
    assert not answer.ok
    assert learned_mtu(machine.blue, to) == NARROW
    # A segment of the full MTU that goes out before that is known comes back as "too big", and TCP sends smaller ones.
    forget_mtus(machine.blue, machine.outside.world)
    assert learned_mtu(machine.blue, to) == 0
    assert tcp(machine.blue, machine.outside.world, to)
    assert learned_mtu(machine.blue, to) == NARROW


def test_what_the_masquerade_is_taken_away_from_is_silent(machine: Machine) -> None:
    """The negative control: without it the world does not answer."""
    rules = in_netns(machine.outside.host, "nft", "-s", "list", "table", "inet", "vethd").out
    in_netns(machine.outside.host, "nft", "delete", "table", "inet", "vethd")
    try:
        assert not ping(machine.blue, WORLD4, "-c", "1", "-W", "1").ok
    finally:
        restored = machine.daemon.workdir / "rules.nft"
        restored.write_text(rules)
        in_netns(machine.outside.host, "nft", "-f", str(restored))
    assert ping(machine.blue, WORLD4).ok


@pytest.mark.parametrize("placement", ["move", "inside"])
def test_plain_routing_shows_the_container_itself(machine: Machine, netns: Namespaces, placement: str) -> None:
    """As CNI's ptp: no bridge, no NAT; a route to the container's address, and the world has one back."""
    outside, inner = machine.outside, netns.make(ipv6=True)
    pair = machine.daemon.call(
        "link.add",
        {
            "a": {
                "ifname": "vptp",
                "netns": outside.host,
                "up": True,
                "addresses": ["10.66.0.1/32", "fd66::1/128"],
                "routes": [{"dst": "10.66.0.2", "scope": "link"}, {"dst": "fd66::2"}],
            },
            "b": {
                "ifname": "eth0",
                "netns": inner,
                "up": True,
                "addresses": [{"address": "10.66.0.2/24", "noprefixroute": True}, "fd66::2/128"],
                "routes": [
                    {"dst": "10.66.0.1", "scope": "link"},
                    {"dst": "default", "gw": "10.66.0.1", "src": "10.66.0.2"},
                    {"dst": "fd66::1"},
                    {"dst": "default", "gw": "fd66::1"},
                ],
            },
            "placement": placement,
        },
    )["pair"]
    try:
        for where, via4, via6 in (
            (outside.hop, HOST4, HOST6),
            (outside.far, "203.0.113.1", "2001:db8:0:3::1"),
            (outside.world, "198.51.100.1", "2001:db8:0:2::1"),
        ):
            ip(where, "route", "replace", "10.66.0.2", "via", via4)
            ip(where, "-6", "route", "replace", "fd66::2", "via", via6)
        for to, own, overhead in ((WORLD4, "10.66.0.2", 28), (WORLD6, "fd66::2", 48)):
            forget_mtus(outside.world)
            assert ping(inner, to, "-M", "do", "-s", str(NARROW - overhead)).ok
            assert udp(inner, outside.world, to) == own
            assert tcp(inner, outside.world, to) == own
            assert tcp(outside.world, inner, own) == to
            assert learned_mtu(inner, to) == NARROW
    finally:
        machine.daemon.call("link.del", {"pair": pair})
