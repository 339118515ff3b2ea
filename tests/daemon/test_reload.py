"""SIGHUP: the files are read again, what differs is done, nothing else is touched; a broken file does nothing."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.kit.commands import ip, run, start
from tests.kit.daemon import PROGRAMS, Daemon
from tests.kit.links import LinkMonitor, read_link
from tests.kit.netns import Namespaces
from tests.kit.pairs import make_pair
from tests.kit.rpc import RpcError
from tests.kit.static import actions, apply, as_toml, heard_until_now, static_pairs, wish
from tests.kit.waiting import eventually
from tests.rpc.listening import Listening
from vethd.config import Config
from vethd.daemon.reload import FIXED, _flat

DONE = ("static pairs applied", "configuration not valid, nothing was changed")


class Configured:
    """A daemon with a configuration file that is written anew, and what it logs about that."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.file = daemon.workdir / "vethd.toml"
        self._read = len(daemon.log())

    def reload(self, text: str) -> dict[str, dict[str, Any]]:
        """Write the file, send SIGHUP, and return the log lines by event, once the reload is over."""
        self.file.write_text(text)
        os.kill(self.daemon.pid, signal.SIGHUP)
        lines = eventually(self._lines, lambda lines: any(event in lines for event in DONE), "it is reloaded", 10)
        self._read = len(self.daemon.log())
        return lines

    def _lines(self) -> dict[str, dict[str, Any]]:
        text = self.daemon.log()[self._read :]
        return {line["event"]: line for line in map(json.loads, text[: text.rfind("\n") + 1].splitlines())}


@pytest.fixture
def configured(start_daemon: Callable[..., Daemon]) -> Callable[[str], Configured]:
    """A function that starts a daemon with this configuration."""
    return lambda text: Configured(start_daemon(config=text))


def sysctls(daemon: Daemon) -> dict[str, int]:
    values: dict[str, int] = daemon.call("sysctl.get")["values"]
    return values


def test_pairs_and_settings_are_put_into_force(configured: Callable[[str], Configured], netns: Namespaces) -> None:
    red, blue = netns.make(), netns.make()
    kept, changed, gone, new = (wish(red, blue) for _ in range(4))
    it = configured(as_toml(kept, changed, gone))
    daemon = it.daemon
    theirs = make_pair(daemon, red, blue, placement="inside")
    before = static_pairs(daemon)
    daemon.call("sysctl.set", {"values": {"busy_poll": 9}})
    changed["b"]["mtu"] = 1400
    settings = (
        '[log]\nlevel = "debug"\n[worker]\noverload = "backpressure"\nrestart_window = 1.5\n'
        "[sysctl]\nnetdev_budget = 77\n[limits]\nclients = 2\n"
    )
    with LinkMonitor(red) as in_red, LinkMonitor(blue) as in_blue:
        lines = it.reload(settings + as_toml(kept, changed, new))
        heard = heard_until_now(in_red, red) | heard_until_now(in_blue, blue)
    assert lines["configuration reloaded"]["changed"] == [
        "limits.clients",
        "log.level",
        "sysctl.busy_poll",
        "sysctl.netdev_budget",
        "worker.overload",
        "worker.restart_window",
    ]
    applied = lines["static pairs applied"]
    assert {key: applied[key] for key in ("create", "change", "replace", "remove", "keep", "failed")} == {
        "create": 1,
        "change": 2,  # the overload of pairs that say nothing of it
        "replace": 0,
        "remove": 1,
        "keep": 0,
        "failed": 0,
    }
    assert kept["a"]["ifname"] not in heard
    assert kept["b"]["ifname"] not in heard
    after = static_pairs(daemon)
    assert after.keys() == {kept["name"], changed["name"], new["name"]}
    for same in (kept, changed):
        assert after[same["name"]]["pair"] == before[same["name"]]["pair"]
        assert after[same["name"]]["overload"] == "backpressure"
    assert read_link(blue, changed["b"]["ifname"]).mtu == 1400
    assert theirs.uuid in {pair["pair"] for pair in daemon.pairs()}
    assert sysctls(daemon)["net.core.netdev_budget"] == 77
    assert sysctls(daemon)["net.core.busy_poll"] == 0  # as the file says, by saying nothing
    assert make_pair(daemon, red, blue, placement="inside", up=False).uuid
    assert daemon.pairs()[-1]["overload"] == "backpressure"
    with daemon.connect(), daemon.connect() as third, pytest.raises((RpcError, OSError, EOFError)):
        third.call("daemon.info")
    saved = daemon.call("config.save")["toml"]
    assert "clients = 2\n" in saved
    assert "restart_window = 1.5\n" in saved


def test_a_reload_without_a_change_is_silent(configured: Callable[[str], Configured], netns: Namespaces) -> None:
    red, blue = netns.make(), netns.make()
    one = wish(red, blue, a={"mtu": 9000, "alias": "mine"}, labels={"x": "1"})
    it = configured(as_toml(one))
    before = it.daemon.pairs()
    with LinkMonitor(red) as in_red, LinkMonitor(blue) as in_blue:
        for _ in range(3):
            lines = it.reload(as_toml(one))
            assert lines["configuration reloaded"]["changed"] == []
            assert lines["static pairs applied"]["keep"] == 1
        assert heard_until_now(in_red, red) | heard_until_now(in_blue, blue) == set()
    assert it.daemon.pairs() == before
    ip(red, "link", "set", one["a"]["ifname"], "mtu", "1400")
    assert it.reload(as_toml(one))["static pairs applied"]["change"] == 1
    assert read_link(red, one["a"]["ifname"]).mtu == 9000


def test_traffic_does_not_notice(configured: Callable[[str], Configured], netns: Namespaces) -> None:
    red, blue = netns.make(), netns.make()
    one = wish(red, blue)
    it = configured(as_toml(one))
    it.daemon.expected_errors += ["configuration not valid"]
    for number, place in enumerate((red, blue)):
        ip(place, "address", "add", f"192.0.2.{number + 1}/24", "dev", one["ab"[number]]["ifname"])
    (before,) = it.daemon.pairs()
    counted = it.daemon.stats(before["pair"])["a"]["read"]
    settings = "[sysctl]\nnetdev_budget = 77\n[limits]\nclients = 8\n"
    ping = start(red, ["ping", "-i", "0.002", "-c", "200", "-q", "192.0.2.2"])
    with ping, LinkMonitor(red) as in_red, LinkMonitor(blue) as in_blue:
        heard: set[str] = set()
        while ping.poll() is None:
            other = wish(red, blue, placement="inside")
            assert it.reload(settings + as_toml(other, one))["static pairs applied"]["create"] == 1
            assert DONE[1] in it.reload(as_toml(one, one))
            assert it.reload(as_toml(one))["static pairs applied"]["remove"] == 1
            heard |= heard_until_now(in_red, red) | heard_until_now(in_blue, blue)
        out, _err = ping.communicate()
    assert "200 received, 0% packet loss" in out
    assert heard
    assert heard.isdisjoint({one["a"]["ifname"], one["b"]["ifname"]})
    assert it.daemon.pairs() == [before]  # its ifindex and generation, too
    assert it.daemon.stats(before["pair"])["a"]["read"] >= counted + 200


def test_a_broken_file_changes_nothing(configured: Callable[[str], Configured], netns: Namespaces) -> None:
    red = netns.make()
    one = wish(red, red)
    it = configured(as_toml(one))
    it.daemon.expected_errors += ["configuration not valid"]
    before, values = it.daemon.pairs(), sysctls(it.daemon)
    listener = Listening(it.daemon.socket)
    listener.subscribe(topics=["config"])
    line = it.reload("[sysctl]\nnetdev_budget = 77\nx = 1\n")["configuration not valid, nothing was changed"]
    assert listener.event()["fields"] == {"errors": [line["why"]]}
    listener.close()
    assert line["level"] == "error"
    assert line["why"].startswith(f"{it.file}:3: sysctl.x: unknown (known in sysctl: netdev_max_backlog, ")
    assert (it.daemon.pairs(), sysctls(it.daemon)) == (before, values)
    assert it.reload("[sysctl]\nnetdev_budget = 77\n")["static pairs applied"]["remove"] == 1
    assert sysctls(it.daemon)["net.core.netdev_budget"] == 77


@pytest.mark.parametrize("broken", ["a file", "a drop-in", "no file"])
def test_systemctl_reload_fails_where_a_file_is_broken(configured: Callable[[str], Configured], broken: str) -> None:
    it = configured("[sysctl]\nnetdev_budget = 77\n")
    drop_in = it.file.parent / "conf.d" / "a.toml"
    drop_in.parent.mkdir()
    drop_in.touch()
    if broken == "no file":
        it.file.unlink()
    else:
        (it.file if broken == "a file" else drop_in).write_text("[sysctl]\nnetdev_budget = 0\n")
    log = it.daemon.log()
    vethd = PROGRAMS / "vethd"
    answer = run("sh", "-c", f"{vethd} --config {it.file} check-config && kill -HUP {it.daemon.pid}", check=False)
    assert answer.code == 2
    assert answer.out.startswith(f"{drop_in if broken == 'a drop-in' else it.file}:")
    assert sysctls(it.daemon)["net.core.netdev_budget"] == 77
    assert it.daemon.log() == log


def test_what_needs_a_restart_is_named_and_kept(configured: Callable[[str], Configured]) -> None:
    it = configured("[worker]\ncount = 1\n")
    text = (
        'socket = "/elsewhere"\n[log]\nformat = "json"\n[worker]\ncount = 2\ncpus = [0]\nframeio = "syscalls"\n'
        "watchdog = 3\n[limits]\nmax_pairs = 7\n"
    )
    for _ in range(2):  # it is not forgotten
        lines = it.reload(text)
        keys = lines["settings need a restart of vethd"]["keys"]
        assert set(keys) | {"socket", "worker.frameio"} == FIXED  # the test's own option, and maybe variable, overrule
        assert "socket" not in keys
        assert lines["configuration reloaded"]["changed"] == []
    info = it.daemon.call("daemon.info")
    assert (len(info["workers"]), info["max_pairs"]) == (1, 4096)
    assert "count = 1\n" in it.daemon.call("config.save")["toml"]


def test_drop_ins_are_read_again_and_named(configured: Callable[[str], Configured]) -> None:
    it = configured("")
    assert it.daemon.call("daemon.info")["config"] == [str(it.file)]
    drop_in = it.file.parent / "conf.d" / "a.toml"
    drop_in.parent.mkdir()
    drop_in.write_text("[sysctl]\ndev_weight = 7\n")
    assert it.reload("")["configuration reloaded"]["files"] == [str(it.file), str(drop_in)]
    assert it.daemon.call("daemon.info")["config"] == [str(it.file), str(drop_in)]
    assert sysctls(it.daemon)["net.core.dev_weight"] == 7


def test_the_log_level_changes(configured: Callable[[str], Configured], netns: Namespaces) -> None:
    it = configured("")
    it.file.write_text('[log]\nlevel = "error"\n')
    os.kill(it.daemon.pid, signal.SIGHUP)
    red = netns.make()
    eventually(lambda: 'level = "error"' in it.daemon.call("config.save")["toml"], bool, "it has been reloaded", 10)
    one = wish(red, red)
    apply(it.daemon, one)
    assert one["a"]["ifname"] not in it.daemon.log()
    assert "link added" in it.reload("") or actions(apply(it.daemon, one))


def test_many_signals_are_one_reload_more(configured: Callable[[str], Configured], netns: Namespaces) -> None:
    red = netns.make()
    it = configured("")
    one = wish(red, red)
    it.file.write_text(as_toml(one))
    for _ in range(50):
        os.kill(it.daemon.pid, signal.SIGHUP)
    eventually(lambda: static_pairs(it.daemon).keys(), lambda names: one["name"] in names, "the pair is there", 10)
    assert it.daemon.log().count("configuration reloaded") < 50


def test_every_setting_is_either_applied_or_named() -> None:
    assert _flat(Config()).keys() >= FIXED
