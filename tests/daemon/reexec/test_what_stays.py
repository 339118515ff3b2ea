"""daemon.reexec: the program is replaced, and nobody at either end of a pair can tell."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

from tests.kit.commands import ip
from tests.kit.daemon import Daemon
from tests.kit.frames import numbered
from tests.kit.links import LinkMonitor, all_links
from tests.kit.netns import Namespaces, fresh_name
from tests.kit.packets import PacketSocket
from tests.kit.pairs import Pair, make_pair, make_pair_between_fresh
from tests.kit.processes import open_files, status_field
from tests.kit.static import as_toml, heard_until_now, static_pairs, wish
from tests.kit.traffic import Numbered, Transfer, frame_crosses, looks, silent
from tests.kit.waiting import eventually
from tests.pairs.killing import log_lines
from tests.rpc.listening import Listening
from tests.rpc.talk import ANYTHING


def test_a_transfer_goes_on_and_nobody_hears_anything(daemon: Daemon, netns: Namespaces) -> None:
    pair = make_pair_between_fresh(daemon, netns, numqueues=2)
    transfer = Transfer(pair)
    family, seen, listed = daemon.family(), looks(pair), daemon.pairs()
    transfer.goes_on()
    with silent(pair):
        daemon.reexec()
        transfer.goes_on()
    assert daemon.family() == family
    assert looks(pair) == seen
    assert daemon.pairs() == listed
    transfer.finish()
    pair.delete()


def test_every_frame_of_a_flood_arrives_once_and_nothing_leaks(daemon: Daemon, pair: Pair) -> None:
    with Numbered(pair) as flood:
        daemon.reexec()
        files, memory, family = descriptors(daemon), resident(daemon), daemon.family()
        for _ in range(4):
            flood.goes_on()
            daemon.reexec()
        assert (descriptors(daemon), daemon.family()) == (files, family)
        assert inheritable(daemon.pid) == {"0", "1", "2"}
        assert resident(daemon) < 1.05 * memory
    assert pair.stats()["a"]["drops"]["WORKER_LOST"] == 0


def descriptors(daemon: Daemon) -> dict[str, int]:
    """Open descriptors of the supervisor by kind, once the answer to the last request is all that it does."""
    daemon.call("daemon.info")
    return dict(Counter(target.partition(":[")[0] for target in open_files(daemon.pid)))


def inheritable(pid: int) -> set[str]:
    """Numbers of the descriptors that a program executed by a process would have, too."""
    found = set()
    for entry in Path(f"/proc/{pid}/fdinfo").iterdir():
        flags = next(line for line in entry.read_text().splitlines() if line.startswith("flags:"))
        if not int(flags.split()[1], 8) & os.O_CLOEXEC:
            found.add(entry.name)
    return found


def resident(daemon: Daemon) -> int:
    """Memory of the supervisor, in KiB."""
    return int(status_field(daemon.pid, "VmRSS").split()[0])


def test_whatever_was_set_stays(daemon: Daemon, netns: Namespaces) -> None:
    pair = make_pair_between_fresh(daemon, netns)
    changes = (
        ("a", {"mtu": 1400, "txqueuelen": 50, "alias": "größe", "gro": True, "address": "02:00:00:00:77:01"}),
        ("b", {"up": False, "labels": {"tier": "front"}, "overload": "backpressure", "worker": 1}),
    )
    for letter, change in changes:
        end = pair.a if letter == "a" else pair.b
        daemon.call("link.set", {"ifname": end.name, "netns": end.netns, "set": change})
    with PacketSocket(pair.a.netns, pair.a.name) as source:
        for number in range(3):
            source.send(numbered(number))  # to an end that is down
    daemon.call("sysctl.set", {"values": {"netdev_budget": 64}})
    a, b = ({"ifname": fresh_name(letter), "netns": pair.a.netns} for letter in "ab")
    with_token = {"a": a, "b": b, "token": fresh_name("token")}
    made = daemon.call("link.add", with_token)
    stats, listed, sysctls = pair.wait_quiet(), daemon.pairs(), daemon.call("sysctl.get")
    daemon.reexec()
    assert daemon.pairs() == listed
    assert daemon.call("sysctl.get") == sysctls
    assert pair.wait_quiet() == stats
    assert daemon.call("link.add", with_token) == made, "it was made again"
    assert len(daemon.pairs()) == 2
    known = {"ifname": pair.b.name, "netns": pair.b.netns, "generation": listed[0]["generation"]}
    daemon.call("link.set", {**known, "set": {"up": True}})
    pair.wait_carrier()
    frame_crosses(pair)
    daemon.call("sysctl.set", {"values": {"netdev_budget": 300}})


def test_events_are_numbered_on_and_a_listener_gets_a_snapshot(daemon: Daemon, pair: Pair) -> None:
    ear = Listening(daemon.socket)
    heard = ear.subscribe()
    daemon.reexec()
    (last,) = ear.until("daemon", "reexec")
    ear.hear_hanging_up()
    ear.close()
    ear = Listening(daemon.socket)
    answer = ear.subscribe(since={"server_id": heard["server_id"], "seq": last["seq"]})
    assert answer["server_id"] != heard["server_id"]
    assert (answer["found"], answer["events"]) == (False, [])
    assert answer["snapshot"]["pairs"] == daemon.pairs()
    assert [worker["pid"] for worker in answer["snapshot"]["workers"]] == daemon.workers()
    assert answer["seq"] >= last["seq"] == heard["seq"] + 1
    ip(pair.a.netns, "link", "set", pair.a.name, "mtu", "1400")
    event = ear.until("link", "changed", mtu=1400)[-1]
    assert daemon.pairs()[0]["generation"] == event["seq"] > answer["seq"]
    ear.close()


def test_a_reload_afterwards_disturbs_nothing(daemon: Daemon, netns: Namespaces, config: Path) -> None:
    red, blue = netns.make(), netns.make()
    static, mine = wish(red, blue, labels={"x": "1"}), make_pair(daemon, red, blue)
    config.write_text(config.read_text() + as_toml(static))
    reload(daemon)
    as_configured = static_pairs(daemon)[static["name"]]
    changed = {"ifname": static["b"]["ifname"], "netns": blue}
    daemon.call("link.set", {**changed, "set": {"mtu": 1300}})
    before = daemon.pairs()
    with LinkMonitor(red) as in_red, LinkMonitor(blue) as in_blue:
        daemon.reexec()
        assert daemon.pairs() == before
        assert heard_until_now(in_red, red) | heard_until_now(in_blue, blue) == set()
        reload(daemon)
        assert heard_until_now(in_red, red) | heard_until_now(in_blue, blue) == {changed["ifname"]}
    assert static_pairs(daemon)[static["name"]] == {**as_configured, "generation": ANYTHING}
    mine.delete()


def reload(daemon: Daemon) -> None:
    """Let it read its configuration again, and return when it has done what that says."""
    noticed = len(log_lines(daemon, "static pairs applied"))
    os.kill(daemon.pid, signal.SIGHUP)
    eventually(lambda: log_lines(daemon, "static pairs applied")[noticed:], bool, "it is reloaded", within=20)


def test_200_pairs_stay_and_one_more_can_be_made(daemon: Daemon, netns: Namespaces) -> None:
    red, blue = netns.make(), netns.make()
    for number in range(200):
        a, b = (
            {"ifname": f"vtxa{number}", "netns": red, "up": True},
            {"ifname": f"vtxb{number}", "netns": blue, "up": True},
        )
        daemon.call("link.add", {"a": a, "b": b, "placement": "inside"})
    pairs, links, files = daemon.pairs(), all_links(red).keys(), descriptors(daemon)
    daemon.reexec()
    assert all_links(red).keys() == links
    assert descriptors(daemon) == files
    assert daemon.pairs() == pairs
    other = make_pair_between_fresh(daemon, netns)
    frame_crosses(other)
    other.delete()


def test_sigusr2_does_the_same(daemon: Daemon, pair: Pair) -> None:
    before = daemon.call("daemon.info")
    noticed = len(log_lines(daemon, "replacing the program"))
    os.kill(daemon.pid, signal.SIGUSR2)
    (line,) = eventually(lambda: log_lines(daemon, "replacing the program")[noticed:], bool, "it begins", within=20)
    assert line["reason"] == "SIGUSR2"
    daemon.hang_up()
    after = daemon.call("daemon.info")
    assert after["server_id"] != before["server_id"]
    assert after["pid"] == before["pid"]
    frame_crosses(pair)


def test_vethctl_waits_for_the_next_program(daemon: Daemon, pair: Pair) -> None:
    before = daemon.call("daemon.info")["server_id"]
    daemon.hang_up()
    assert daemon.ctl("daemon", "reexec").out.startswith(
        f"vethd {daemon.call('daemon.info')['version']} pid {daemon.pid} pairs 1 "
    )
    assert daemon.call("daemon.info")["server_id"] != before
