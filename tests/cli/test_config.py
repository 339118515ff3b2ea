"""vethctl config: what a file asks for is done or shown, and what is there is written to a file."""

from __future__ import annotations

import json
import stat
import tomllib
from pathlib import Path

import pytest

from tests.daemon import program
from tests.kit.commands import ip
from tests.kit.daemon import Daemon
from tests.kit.links import read_link
from tests.kit.netns import Namespaces
from tests.kit.pairs import make_pair
from tests.kit.static import as_toml, static_pairs, wish


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the file of a test is."""
    return tmp_path / "pairs.toml"


def test_what_is_saved_is_valid_and_what_is_there(shared_daemon: Daemon, netns: Namespaces, file: Path) -> None:
    red, blue = netns.make(), netns.make()
    one = wish(red, blue, placement="inside", labels={"rack": "7"}, overload="backpressure", b={"alias": "mine"})
    file.write_bytes(b"\xef\xbb\xbf" + as_toml(one).encode())
    file.chmod(0o640)
    assert shared_daemon.ctl("config", "apply", str(file)).out.startswith(f"create {one['name']} pair ")
    assert shared_daemon.ctl("config", "apply", str(file)).out == ""
    shared_daemon.ctl("link", "set", one["a"]["ifname"], "netns", red, "mtu", "1400")
    answer = shared_daemon.ctl("config", "save", str(file))
    assert (answer.out, answer.err, stat.S_IMODE(file.stat().st_mode)) == ("", "", 0o640)
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert program.vethd("check-config", file).code == 0
    before = shared_daemon.pairs()
    assert before[0]["a"]["mtu"] == 1400
    assert shared_daemon.ctl("config", "apply", str(file), "prune").out == ""
    assert shared_daemon.pairs() == before
    assert shared_daemon.ctl("config", "save").out == file.read_text()


def test_dry_run_shows_what_would_be_done(shared_daemon: Daemon, netns: Namespaces, file: Path) -> None:
    red = netns.make()
    one, gone = wish(red, red, placement="inside"), wish(red, red, placement="inside")
    file.write_text(as_toml(one, gone))
    shared_daemon.ctl("config", "apply", str(file))
    theirs = make_pair(shared_daemon, red, red, placement="inside", up=False)
    before = static_pairs(shared_daemon)
    one["a"] |= {"mtu": 9000, "up": False}
    file.write_text(as_toml(one))
    shown = shared_daemon.ctl("config", "apply", str(file), "prune", "dry-run").out
    assert shown.splitlines() == [
        f"remove {gone['name']} pair {before[gone['name']]['pair']}",
        f"change {one['name']} pair {before[one['name']]['pair']}",
        "    a.mtu: 1500 -> 9000",
        "    a.up: true -> false",
    ]
    assert static_pairs(shared_daemon) == before
    assert shared_daemon.ctl("config", "apply", str(file), "prune").out == shown
    assert read_link(red, one["a"]["ifname"]).mtu == 9000
    assert {pair["pair"] for pair in shared_daemon.pairs()} == {before[one["name"]]["pair"], theirs.uuid}


def test_what_fails_is_said_and_told_by_the_exit_status(shared_daemon: Daemon, netns: Namespaces, file: Path) -> None:
    red = netns.make()
    good, bad = wish(red, red, placement="inside"), wish(red, red, placement="inside", a={"mtu": 67})
    file.write_text(as_toml(bad, good))
    answer = shared_daemon.ctl("config", "apply", str(file), check=False)
    assert answer.code == 2
    lines = answer.out.splitlines()
    at = lines.index(f"create {bad['name']}")
    assert lines[at + 1].startswith("    failed: a.mtu: 67 is not in 68..65521")
    assert lines[at + 2] == "    hint: use a value in 68..65521"
    assert static_pairs(shared_daemon).keys() == {good["name"]}
    plan = json.loads(shared_daemon.ctl("-j", "config", "apply", str(file), check=False).out)
    assert (plan["applied"], plan["failed"], {row["action"] for row in plan["plan"]}) == (True, 1, {"keep", "create"})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[pair]\n", ["pair is not a list of tables", "hint: write [[pair]], with two brackets"]),
        (b"x = \n", ["Invalid value (at line 1, column 5)"]),
        (b"\xff", ["'utf-8' codec can't decode byte 0xff"]),
    ],
)
def test_a_file_without_sense_changes_nothing(
    shared_daemon: Daemon, file: Path, content: bytes, said: list[str]
) -> None:
    file.write_bytes(content)
    answer = shared_daemon.ctl("config", "apply", str(file), check=False)
    assert (answer.code, answer.out) == (1, "")
    first, *hints = answer.err.splitlines()
    assert f"{file}: {said[0]}" in first
    assert hints == said[1:]


def test_files_that_can_not_be_opened(shared_daemon: Daemon, tmp_path: Path) -> None:
    for words, verb in ((("apply", "none"), "open"), (("save", "none/x"), "write")):
        answer = shared_daemon.ctl("config", words[0], str(tmp_path / words[1]), check=False)
        assert answer.code == 1
        assert f"Cannot {verb} file" in answer.err
        assert "No such file or directory" in answer.err


def test_what_can_not_be_saved_is_named(shared_daemon: Daemon, netns: Namespaces) -> None:
    red = netns.make()
    pair = make_pair(shared_daemon, red, red, placement="inside", up=False)
    ip(red, "link", "set", pair.a.name, "alias", "\udcff")
    shared_daemon.call("link.set", {"pair": pair.uuid, "set": {"mtu": 1400}})
    answer = shared_daemon.ctl("config", "save")
    assert answer.err == f"left out: {pair.uuid}: the alias of end a is not UTF-8\n"
    assert "pair" not in tomllib.loads(answer.out)
