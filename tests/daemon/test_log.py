"""The log: one line per change of state with pair, end and namespace; JSON, or words on a terminal."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kit.commands import ip
from tests.kit.daemon import PROGRAMS, Daemon
from tests.kit.frames import frame
from tests.kit.netns import Namespaces, netns_inode
from tests.kit.packets import PacketSocket
from tests.kit.pairs import Pair, make_pair
from tests.kit.terminal import on_terminal
from tests.kit.waiting import eventually

ENDS = {"a", "a_netns", "b", "b_netns"}
COMMON = {"event", "level", "timestamp"}


class Log:
    """What a daemon has logged since this was made."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._begin = len(daemon.log())

    def text(self) -> str:
        return self._daemon.log()[self._begin :]

    def lines(self, event: str | None = None) -> list[dict[str, Any]]:
        """All lines, decoded; only those of one event if that is given."""
        decoded = [json.loads(line) for line in self.text().splitlines()]
        return [line for line in decoded if event is None or line["event"] == event]

    def line(self, event: str, **fields: Any) -> dict[str, Any]:
        """The one line of an event that has these fields, as soon as it is there; without what all lines have."""

        def found() -> list[dict[str, Any]]:
            return [line for line in self.lines(event) if fields.items() <= line.items()]

        (only,) = eventually(found, bool, f"a line {event!r} with {fields}")
        return {name: value for name, value in only.items() if name not in COMMON}


@pytest.fixture
def log(shared_daemon: Daemon) -> Log:
    """What the shared daemon logs from now on; to be asked for before `pair`."""
    return Log(shared_daemon)


def test_every_line_is_json_with_event_level_and_time(log: Log, pair: Pair) -> None:
    pair.delete()
    for entry in log.lines():
        assert entry.keys() >= COMMON
        assert entry["level"] in ("debug", "info", "warning", "error")
        assert entry["timestamp"].endswith("Z")


def test_birth_and_death_of_a_pair(log: Log, shared_daemon: Daemon, netns: Namespaces) -> None:
    red, blue = netns.make(), netns.make()
    pair = make_pair(shared_daemon, red, blue, up=False)
    who = {"pair": pair.uuid, "a": pair.a.name, "b": pair.b.name}
    where = {"a_netns": netns_inode(red), "b_netns": netns_inode(blue)}
    me = f"uid 0, gid 0, pid {os.getpid()}"
    assert log.line("link added") == {
        **who,
        **where,
        "placement": "move",
        "origin": "api",
        "numqueues": 1,
        "workers": [0],
        "reason": f"link.add by {me}",
    }
    pair.delete()
    assert log.line("link deleted") == {**who, **where, "reason": f"link.del by {me}"}


def test_what_is_changed_at_an_end(log: Log, pair: Pair) -> None:
    before = len(log.lines())
    end = {"pair": pair.uuid, "end": "a", "ifname": pair.a.name, "netns": netns_inode(pair.a.netns)}
    for words, changed in (
        (("mtu", "1400"), {"mtu": 1400}),
        (("address", "02:00:00:00:00:05"), {"address": "02:00:00:00:00:05"}),
        (("txqueuelen", "77"), {"txqlen": 77}),
        (("name", "vtrnew"), {"ifname": "vtrnew", "from_ifname": pair.a.name}),
    ):
        ip(pair.a.netns, "link", "set", pair.a.name, *words)
        assert log.line("link changed", **changed) == {**end, **changed}
    pair.a.name = "vtrnew"
    peer = {"pair": pair.uuid, "end": "b", "ifname": pair.b.name, "netns": netns_inode(pair.b.netns)}
    alias = {"alias": f"vethd {pair.uuid} peer vtrnew"}
    assert log.line("link changed", **alias) == {**peer, **alias}
    assert len(log.lines()) == before + 5


def test_up_down_and_carrier(log: Log, pair: Pair) -> None:
    described: dict[str, Any] = {"pair": pair.uuid, "a": pair.a.name, "b": pair.b.name}
    described |= {"a_netns": netns_inode(pair.a.netns), "b_netns": netns_inode(pair.b.netns)}
    assert log.line("carrier") == {**described, "carrier": True}
    ip(pair.b.netns, "link", "set", pair.b.name, "down")
    assert log.line("carrier", carrier=False) == {**described, "carrier": False}
    end = {"pair": pair.uuid, "end": "b", "ifname": pair.b.name, "netns": netns_inode(pair.b.netns)}
    assert log.line("link changed", up=False) == {**end, "up": False}
    ip(pair.b.netns, "link", "set", pair.b.name, "up")
    pair.wait_carrier()
    ip(pair.a.netns, "link", "set", pair.a.name, "carrier", "off")
    assert log.line("carrier set again") == {**described, "end": "a", "carrier": True}


def test_a_move(log: Log, pair: Pair, shared_daemon: Daemon, netns: Namespaces) -> None:
    green = netns.make()
    ip(pair.a.netns, "link", "set", pair.a.name, "netns", green)
    assert log.line("link moved") == {
        "pair": pair.uuid,
        "end": "a",
        "ifname": pair.a.name,
        "netns": netns_inode(green),
        "from_netns": netns_inode(pair.a.netns),
    }
    shared_daemon.clear()


@pytest.mark.parametrize(
    ("kill", "reason"),
    [
        (lambda pair, netns: ip(pair.a.netns, "link", "del", pair.a.name), "device a ({a}) was deleted"),
        (lambda pair, netns: netns.delete(pair.b.netns), "device b ({b}) is gone"),
    ],
    ids=["its device", "its namespace"],
)
def test_why_a_pair_went(
    log: Log, pair: Pair, netns: Namespaces, kill: Callable[[Pair, Namespaces], None], reason: str
) -> None:
    kill(pair, netns)
    gone = log.line("link deleted")
    assert gone.keys() == {"pair", "reason", *ENDS}
    assert gone["pair"] == pair.uuid
    assert gone["reason"] in (reason.format(a=pair.a.name, b=pair.b.name), f"device b ({pair.b.name}) was deleted")


def test_death_and_replacement_of_a_worker(daemon: Daemon, pair: Pair) -> None:
    log = Log(daemon)
    daemon.expected_errors.append("worker died")
    (pid,) = daemon.workers()
    os.kill(pid, signal.SIGKILL)
    died = log.line("worker died")
    assert died["pid"] == pid
    assert (died["worker"], "signal 9" in died["why"]) == (0, True)
    assert log.line("worker replaced") == {"worker": 0, "pairs": 1, "frames_lost": 0}


def test_nothing_is_logged_per_frame(log: Log, pair: Pair) -> None:
    ip(pair.b.netns, "link", "set", pair.b.name, "mtu", "1000")
    log.line("link changed", mtu=1000)
    before = log.text()
    with PacketSocket(pair.a.netns, pair.a.name) as sender:
        for n in range(500):
            sender.send(frame(60 + 2 * n))
    stats = pair.wait_quiet()
    assert stats["a"]["read"] >= 500
    assert stats["a"]["drops"]["PKT_TOO_BIG"] > 0
    assert log.text() == before


def test_looking_leaves_no_line(log: Log, shared_daemon: Daemon) -> None:
    for method in ("link.list", "stats.get", "softnet.get", "daemon.info"):
        shared_daemon.call(method)
    assert log.text() == ""


# -- how it looks -----------------------------------------------------------------------------------------------------


def test_the_level_is_a_setting(start_daemon: Callable[..., Daemon], netns: Namespaces) -> None:
    daemon = start_daemon(config='[log]\nlevel = "warning"\n')
    red = netns.make()
    make_pair(daemon, red, red, placement="inside", up=False).delete()
    assert daemon.log() == ""


def test_words_instead_of_json_are_a_setting(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon(config='[log]\nformat = "console"\n')
    text = daemon.log()
    assert "vethd serves" in text
    assert f"socket='{daemon.socket}'" in text
    assert "{" not in text
    assert "\033" not in text


@pytest.mark.parametrize(("form", "words"), [("auto", True), ("console", True), ("json", False)])
def test_on_a_terminal_it_is_words_unless_json_is_asked_for(tmp_path: Path, form: str, words: bool) -> None:
    config = tmp_path / "vethd.toml"
    config.write_text(f'socket = "{tmp_path}/sock"\n[log]\nformat = "{form}"\n')
    with on_terminal([str(PROGRAMS / "vethd"), "--config", str(config)]) as terminal:
        text = terminal.read_until("vethd serves")
        terminal.process.terminate()
        text = terminal.read_all()
    assert terminal.process.returncode == 0
    if words:
        assert "\033[" in text
        assert '{"' not in text
    else:
        assert [json.loads(entry)["event"] for entry in text.splitlines()][-1] == "stopped"
        assert "\033" not in text


def test_a_name_can_not_give_the_terminal_orders(tmp_path: Path, netns: Namespaces) -> None:
    red = netns.make()
    config = tmp_path / "vethd.toml"
    config.write_text(f'socket = "{tmp_path}/sock"\n')
    evil = "\033[31mvtr"
    with on_terminal([str(PROGRAMS / "vethd"), "--config", str(config)]) as terminal:
        terminal.read_until("vethd serves")
        words = ["link", "add", evil, "netns", red, "type", "veth", "peer", "netns", red]
        daemon = Daemon(tmp_path)
        daemon.socket = tmp_path / "sock"
        daemon.ctl(*words)
        text = terminal.read_until("link added")
        terminal.process.terminate()
        text = terminal.read_all()
    assert evil not in text
    assert repr(evil) in text
