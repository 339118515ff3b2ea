"""GC, crashes, and many at once."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.cni.conftest import leased
from tests.cni.plugin import PROGRAM, Runtime
from tests.kit.commands import in_netns, ip_json
from tests.kit.daemon import Daemon
from tests.kit.netns import RUN_NETNS, Namespaces
from tests.kit.waiting import eventually

Make = Callable[..., Runtime]
MANY = 8


def test_orphans_are_removed_with_all_that_is_theirs(
    runtime: Make, container: Callable[[], str], shared_daemon: Daemon, host: str, leases: Path
) -> None:
    lab, places = runtime(ipMasq=True), [container() for _ in range(3)]
    other = runtime([[{"subnet": "10.83.0.0/24"}]], name="other", ipMasq=True)
    for number, place in enumerate(places):
        assert lab.add(f"c{number}", place).status == 0
    assert other.add("c0", places[0], "eth1").status == 0
    assert lab.collect([("c1", "eth0"), ("c2", "eth1")]).document is None
    left = sorted((pair["labels"]["network"], pair["labels"]["container"]) for pair in shared_daemon.pairs())
    assert left == [("lab", "c1"), ("other", "c0")]
    assert leased(leases) == {"10.81.0.3": "c1", "10.83.0.2": "c0"}
    rules = in_netns(host, "nft", "list", "table", "inet", "vethd").out
    assert [name for name in ("10.81.0.2", "10.81.0.3", "10.81.0.4", "10.83.0.2") if name in rules] == [
        "10.81.0.3",
        "10.83.0.2",
    ]
    assert lab.check("c1", places[1]).document is None
    assert lab.collect([]).document is None
    assert other.collect([("c0", "eth1")]).document is None
    assert other.remove("c0", places[0], "eth1").status == 0


def test_what_a_dead_container_left_in_the_packet_filter(
    runtime: Make, container: Callable[[], str], netns: Namespaces, shared_daemon: Daemon, host: str, leases: Path
) -> None:
    lab, place = runtime(ipMasq=True, name="n" * 80), container()
    assert lab.add("c" * 64, place).status == 0
    netns.delete(place)
    eventually(shared_daemon.pairs, lambda pairs: pairs == [], "its pair is gone with it")
    assert "10.81.0.2" in in_netns(host, "nft", "list", "table", "inet", "vethd").out
    assert lab.collect([]).document is None
    assert in_netns(host, "nft", "list", "tables").out == ""
    assert lab.remove("c" * 64).status == 0  # the lease: this host-local has no GC, and there is no pair to tell of it


def test_a_plugin_that_is_killed_before_it_could_say_what_it_made(
    runtime: Make, container: Callable[[], str], shared_daemon: Daemon, leases: Path
) -> None:
    lab, place = runtime(), container()
    reading, writing = os.pipe()
    room = fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    assert os.write(writing, bytes(room)) == room
    variables = {"CNI_COMMAND": "ADD", **lab.environment("c1", place, "eth0")}
    enter = ["/usr/bin/nsenter", f"--net={RUN_NETNS / lab.host}", "--", str(PROGRAM)]
    plugin = subprocess.Popen(enter, stdin=subprocess.PIPE, stdout=writing, env=variables)
    assert plugin.stdin is not None
    plugin.stdin.write(lab.config().encode())
    plugin.stdin.close()
    eventually(shared_daemon.pairs, lambda pairs: len(pairs) == 1, "the pair is made", 20)
    assert plugin.poll() is None, "it waits for somebody to read"
    plugin.kill()
    plugin.wait()
    os.close(reading)
    os.close(writing)
    assert leased(leases) == {"10.81.0.2": "c1"}
    assert lab.collect([]).document is None
    assert (leased(leases), shared_daemon.pairs()) == ({}, [])
    assert [link["ifname"] for link in ip_json(place, "link")] == ["lo"]


def test_it_goes_on_behind_a_failure_and_says_so(
    runtime: Make, container: Callable[[], str], shared_daemon: Daemon, leases: Path
) -> None:
    lab, places = runtime(), [container(), container()]
    for number, place in enumerate(places):
        assert lab.add(f"c{number}", place).status == 0
    said = lab.collect([], ipam={"type": "no-such-plugin"})
    assert said.code == 7
    assert said.msg.count("no-such-plugin") == 3  # for each of both, and for the rest
    assert shared_daemon.pairs() == []
    for number, place in enumerate(places):
        assert lab.remove(f"c{number}", place).status == 0


@pytest.mark.parametrize("mode", [{}, {"bridge": "cnitest0", "isDefaultGateway": True, "ipMasq": True}])
def test_many_at_once(
    runtime: Make, container: Callable[[], str], shared_daemon: Daemon, leases: Path, mode: dict[str, Any]
) -> None:
    lab, places = runtime(**mode), [container() for _ in range(MANY)]
    with ThreadPoolExecutor(MANY) as threads:
        said = list(threads.map(lambda number: lab.add(f"c{number}", places[number]), range(MANY)))
        assert [each.status for each in said] == [0] * MANY, [each.document for each in said]
        addresses = {each.document["ips"][0]["address"] for each in said}
        assert len(addresses) == len(leased(leases)) == MANY
        ping = ["ping", "-c", "1", "-w", "10", "-i", "0.2", "10.81.0.1"]
        assert all(threads.map(lambda place: in_netns(place, *ping, check=False).ok, places))

        def in_turn(number: int) -> list[int]:
            """DEL and ADD of others run at the same time."""
            calls = [lab.remove(f"c{number}", places[number])]
            if number % 2:
                calls += [lab.add(f"d{number}", places[number]), lab.remove(f"d{number}", places[number])]
            return [each.status for each in calls]

        assert {status for statuses in threads.map(in_turn, range(MANY)) for status in statuses} == {0}
    assert shared_daemon.pairs() == []


def test_status(runtime: Make) -> None:
    lab = runtime()
    assert (lab.status().status, lab.status().document) == (0, None)
    said = lab.status(ipam={"type": "no-such-plugin"})
    assert (said.code, "no-such-plugin" in said.msg) == (7, True)
