"""Completion: what may stand at the cursor, and that real shells offer it."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.commands import run
from tests.kit.daemon import PROGRAMS, Daemon
from tests.kit.netns import Namespaces
from tests.kit.pairs import make_pair
from tests.kit.terminal import Terminal, on_terminal
from vethd.cli.complete import candidates

SHELLS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "zsh, installed": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}


def found(*words: str) -> list[str]:
    """The candidates for the last word."""
    return [word for word, _text in candidates(list(words))]


# -- places -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("li", ["link"]),
        ("link ", ["add", "set", "delete", "show"]),
        ("l s", ["set", "show"]),
        ("link show", ["show"]),
        ("link sh x", []),
        ("daemon ", ["info", "reexec"]),
        ("link add v type ", ["veth"]),
        ("link add v type veth p", ["peer", "placement"]),
        ("link add v type veth peer w pl", ["placement"]),
        ("link add v placement ", ["move", "inside"]),
        ("link add v gro o", ["on", "off"]),
        ("link set v overload ", ["drop", "backpressure"]),
        ("link show origin c", ["config", "cni"]),
        ("monitor link d", ["drop", "daemon"]),
        ("config apply f pr", ["prune"]),
        ("completion ", ["bash", "zsh", "fish"]),
        ("help ", ["link", "stats", "softnet", "sysctl", "monitor", "config", "daemon", "top", "completion"]),
        ("help daemon r", ["reexec"]),
        ("-d", ["-details"]),
        ("-j -s li", ["link"]),
        ("-n nowhere li", ["link"]),
        ("-c=a", ["-c=auto", "-c=always"]),
        ("-color=n", ["-color=never"]),
        # where nothing is known
        ("link add v mtu ", []),
        ("link add v address 0", []),
        ("lunk ", []),
        ("link paint ", []),
        ("-x ", []),
        ("link show netns /nowhere ", []),
        ("link add v mtu x type ", []),
    ],
)
def test_keywords(line: str, expected: list[str]) -> None:
    assert found(*line.split(" ")) == expected


def test_nothing_is_done_while_completing(shared_daemon: Daemon, netns: Namespaces) -> None:
    pair = make_pair(shared_daemon, netns.make(), netns.make(), up=False, placement="inside")
    before = shared_daemon.pairs()
    for words in (["link", "del", pair.a.name], ["link", "set", pair.a.name, "up"], ["sysctl", "netdev_budget=7"]):
        for last in ("", "x"):
            found("-S", str(shared_daemon.socket), *words, last)
    assert shared_daemon.pairs() == before
    assert "netdev_budget = 300" in shared_daemon.ctl("sysctl").out


def test_what_the_daemon_knows(shared_daemon: Daemon, netns: Namespaces) -> None:
    red, blue = netns.make(), netns.make()
    pair = make_pair(shared_daemon, red, blue, up=False, placement="inside")
    a, b = pair.a.name, pair.b.name
    shared_daemon.call("link.set", {"pair": pair.uuid, "set": {"labels": {"role": "web 1", "tier": "1"}}})
    here = ("-S", str(shared_daemon.socket))
    for command in ("show", "del", "set"):
        assert set(found(*here, "link", command, "vt")) == {a, b}
    assert found(*here, "stats", "dev", "") == sorted([a, b])
    assert found(*here, "-n", red, "link", "show", "vt") == [a]
    assert {red, blue} <= set(found(*here, "link", "show", a, "netns", ""))
    assert found(*here, "-n", blue[:-1]).count(blue) == 1
    assert found(*here, "link", "show", "label", "") == ["role=web 1", "tier=1"]
    assert found(*here, "link", "set", a, "nolabel", "") == ["role", "tier"]
    assert found(*here, "link", "set", a, "worker", "") == ["0"]
    assert found(*here, "sysctl", "get", "netdev_b") == ["netdev_budget", "netdev_budget_usecs"]
    assert "net.core.netdev_budget" in found(*here, "sysctl", "net.")


def test_namespaces_are_those_of_the_machine_and_those_of_the_daemon(
    shared_daemon: Daemon, netns: Namespaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    red, blue, empty = netns.make(), netns.make(), netns.make()
    make_pair(shared_daemon, red, blue, up=False, placement="inside")
    words = ("-S", str(shared_daemon.socket), "link", "show", "netns", "")
    assert {red, blue, empty} <= set(found(*words))
    monkeypatch.setattr("vethd.cli.complete._namespaces", set)
    assert set(found(*words)) == {red, blue}


def test_names_that_would_trouble_a_terminal_are_left_out(shared_daemon: Daemon, netns: Namespaces) -> None:
    red = netns.make()
    make_pair(shared_daemon, red, red, up=False, placement="inside", a={"ifname": "vt\033[1m"}, b={"ifname": "vt;x"})
    assert found("-S", str(shared_daemon.socket), "link", "show", "vt") == ["vt;x"]


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some.toml").touch()
    (tmp_path / "some.d").mkdir()
    (tmp_path / ".hidden").touch()
    monkeypatch.chdir(tmp_path)
    assert found("config", "apply", "") == ["some.d/", "some.toml"]
    assert found("-b", f"{tmp_path}/some.t") == [f"{tmp_path}/some.toml"]
    assert found("-S", ".h") == [".hidden"]
    assert found("-S", "nowhere/") == []


def test_a_daemon_that_does_not_answer_costs_only_its_names(tmp_path: Path) -> None:
    assert found("-S", str(tmp_path / "none"), "link", "show", "n") == ["netns"]


def test_what_the_shells_read(tmp_path: Path) -> None:
    lines = run(str(PROGRAMS / "vethctl"), "complete", "--", "link", "s").out.splitlines()
    assert lines == ["set\tchange an end or its pair", "show\tshow links; what `link` alone does"]
    assert run(str(PROGRAMS / "vethctl"), "complete", "--").out.startswith("link\t")


# -- shells -----------------------------------------------------------------------------------------------------------


class Shell:
    """A shell on a terminal that has read our completion."""

    def __init__(self, name: str, terminal: Terminal) -> None:
        self._terminal = terminal
        terminal.type("PS1='rea''dy> '\n" if name != "fish" else "function fish_prompt; echo 'rea''dy> '; end\n")
        terminal.read_until("ready> ")
        compinit = "autoload -Uz compinit && compinit -u -D"
        source = {
            "bash": 'eval "$(vethctl completion bash)"',
            "zsh": f'{compinit}; eval "$(vethctl completion zsh)"',
            "zsh, installed": f"mkdir ~/f; vethctl completion zsh >~/f/_vethctl; fpath=(~/f $fpath); {compinit}",
            "fish": "vethctl completion fish | source",
        }[name]
        terminal.type(f"{source}; echo do''ne\n")
        terminal.read_until("done")

    def completed(self, line: str, wanted: str) -> None:
        """Type a line and a tab, see what the shell adds, and take the line back."""
        before = len(self._terminal.text)
        self._terminal.type(f"{line}\t")
        self._terminal.read_until(wanted, after=before + len(line))
        self._terminal.type("\x15")


@pytest.fixture(params=list(SHELLS))
def shell(request: pytest.FixtureRequest, shared_daemon: Daemon, tmp_path: Path) -> Iterator[Shell]:
    env = {
        "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "TERM": "vt100",
        "LANG": "C.UTF-8",
        "VETHD_SOCKET": str(shared_daemon.socket),
    }
    with on_terminal(SHELLS[request.param], env) as terminal:
        yield Shell(request.param, terminal)


def test_a_shell_completes(shell: Shell, shared_daemon: Daemon, netns: Namespaces) -> None:
    red, names = netns.make(), ({"ifname": "vtcable"}, {"ifname": "vtx;id"})
    pair = make_pair(shared_daemon, red, red, up=False, placement="inside", a=names[0], b=names[1])
    shared_daemon.call("link.set", {"pair": pair.uuid, "set": {"labels": {"role": "web"}}})
    shell.completed("vethctl so", "ftnet")
    shell.completed("vethctl link show vtc", "able")
    shell.completed(f"vethctl link show netns {red[:-2]}", red[-2:])
    shell.completed("vethctl link show label ro", "le=web")
    shell.completed("vethctl link show label role=", "web")
    shell.completed("vethctl link show vtx", r"\;id")


def test_what_bash_inserts_is_no_command(shared_daemon: Daemon, netns: Namespaces) -> None:
    """The name of an interface is up to whoever owns its namespace."""
    red = netns.make()
    make_pair(shared_daemon, red, red, up=False, placement="inside", a={"ifname": "vt$(id)"}, b={"ifname": "vtq"})
    script = """
        eval "$(vethctl completion bash)"
        COMP_WORDS=(vethctl link show "vt\\$") COMP_CWORD=3
        _vethctl
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    env = {"PATH": f"{PROGRAMS}:{os.environ['PATH']}", "VETHD_SOCKET": str(shared_daemon.socket)}
    done = subprocess.run(["bash", "--norc", "-c", script], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "vt\\$\\(id\\)\n"


@pytest.mark.parametrize(
    ("words", "reply"),
    [
        (["-c", "=", "al"], ["always"]),
        (["-c", "="], ["auto", "always", "never"]),
        (["link", "add", "v", "address", "02", ":", "00", ":", "01", "type", ""], ["veth"]),
        (["link", "set", "v", "label", "a", "=", "b", "over"], ["overload"]),
    ],
)
def test_bash_cuts_words_at_signs(words: list[str], reply: list[str]) -> None:
    listed = " ".join(f"'{word}'" for word in words)
    script = f"""
        eval "$(vethctl completion bash)"
        COMP_WORDS=(vethctl {listed}) COMP_CWORD={len(words)}
        _vethctl
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    env = {"PATH": f"{PROGRAMS}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "--norc", "-c", script], env=env, capture_output=True, text=True, check=True)
    assert re.split(r"\s+", done.stdout.strip()) == reply
