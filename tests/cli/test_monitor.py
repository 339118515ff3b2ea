"""vethctl monitor: what it tells of a real daemon, from where on, and how it ends."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.outcome import refused
from tests.kit.daemon import PROGRAMS, Daemon
from tests.kit.frames import frame
from tests.kit.netns import Namespaces
from tests.kit.packets import PacketSocket
from tests.kit.pairs import Pair, make_pair
from tests.kit.waiting import eventually
from tests.rpc.scripted import Scripted, answer
from vethd.cli.grammar import UsageError, Words
from vethd.cli.monitor import read_monitor, told

VETHCTL = str(PROGRAMS / "vethctl")


def now(daemon: Daemon) -> str:
    """The last event, as `since` wants it."""
    info = daemon.call("daemon.info")
    return f"{info['server_id']}:{info['seq']}"


class Monitor:
    """A running `vethctl monitor`."""

    def __init__(self, process: "subprocess.Popen[bytes]", out: Path, err: Path) -> None:
        self.process = process
        self._out, self._err = out, err

    @property
    def text(self) -> str:
        """What it has printed."""
        return self._out.read_text()

    @property
    def errors(self) -> str:
        """What it has printed on standard error."""
        return self._err.read_text()

    def until(self, wanted: str) -> list[str]:
        """Wait until it has printed this; all lines so far."""
        eventually(lambda: self.text, lambda text: wanted in text, f"{wanted!r} is told", within=15)
        return self.text.splitlines()

    def ends(self) -> int:
        """Wait for its end; the exit status."""
        return self.process.wait(15)


Start = Callable[..., Monitor]


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[Start]:
    """A function that starts one: options before `monitor`, then its words; it is killed in the end."""
    started: list[Monitor] = []
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}

    def start(socket: Path, *words: str, options: tuple[str, ...] = ()) -> Monitor:
        out, err = tmp_path / f"out{len(started)}", tmp_path / f"err{len(started)}"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            argv = [VETHCTL, "-S", str(socket), *options, "monitor", *words]
            process = subprocess.Popen(argv, stdout=stdout, stderr=stderr, env=buffered)
            started.append(Monitor(process, out, err))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()


@contextmanager
def listening(daemon: Daemon, start: Start, *words: str) -> Iterator[Monitor]:
    """A monitor that has begun to listen, to topic daemon at least; what it printed so far is not empty."""
    heard = start(daemon.socket, *words)
    budgets = iter(range(301, 10000))

    def poke() -> str:
        daemon.call("sysctl.set", {"values": {"net.core.netdev_budget": next(budgets)}})
        return heard.text

    eventually(poke, bool, "it listens", within=15)
    yield heard
    daemon.call("sysctl.set", {"values": {"net.core.netdev_budget": 300}})


# -- what it tells ----------------------------------------------------------------------------------------------------


def test_the_life_of_a_pair(shared_daemon: Daemon, netns: Namespaces, monitor: Start) -> None:
    red, blue = netns.make(), netns.make()
    since = now(shared_daemon)
    shared_daemon.ctl(*f"link add vma netns {red} up type veth peer vmb netns {blue} placement inside".split())
    shared_daemon.ctl("-n", red, "link", "set", "vma", "mtu", "1400", "label", "role=web")
    shared_daemon.ctl("-n", blue, "link", "set", "vmb", "up")
    shared_daemon.ctl("-n", blue, "link", "set", "vmb", "name", "vmc")
    shared_daemon.ctl("-n", blue, "link", "set", "vmc", "netns", red)
    shared_daemon.ctl("link", "del", "vmc", "netns", red)
    lines = monitor(shared_daemon.socket, "since", since).until("Deleted ")
    heads = [line for line in lines if line.startswith("[")]
    for pattern in (
        rf"\[link\] \d+: vma: <NO-CARRIER,BROADCAST,MULTICAST,UP> mtu 1500 state DOWN qlen 1000 netns {red}",
        rf"\[link\] \d+: vmb: <BROADCAST,MULTICAST> mtu 1500 state DOWN qlen 1000 netns {blue}",
        rf"\[link\] \d+: vma: <NO-CARRIER,BROADCAST,MULTICAST,UP> mtu 1400 .* netns {red}",
        rf"\[carrier\] vma netns {red} peer vmb netns {blue} carrier on",
        rf"\[link\] \d+: vmc: <.*> mtu 1500 .* netns {blue}",
        rf"\[link\] \d+: vmc: <.*> mtu 1500 .* netns {red}",
        rf"\[link\] Deleted \d+: vma: <.*> mtu 1400 .* netns {red}",
    ):
        found = [at for at, head in enumerate(heads) if re.fullmatch(pattern, head)]
        assert found, (pattern, heads)
        heads = heads[found[0] + 1 :]  # in this order
    assert "    label role=web" in lines
    assert re.search(r"^    reason link\.del by uid 0, gid 0, pid \d+$", "\n".join(lines), re.MULTILINE)
    assert any(re.fullmatch(rf"\[carrier\] vma netns {red} state UP", line) for line in lines)


def test_link_alone_has_no_labels_as_ip_monitor_link(shared_daemon: Daemon, netns: Namespaces, monitor: Start) -> None:
    since = now(shared_daemon)
    pair = make_pair(shared_daemon, netns.make(), netns.make(), up=True, placement="inside")
    pair.delete()
    lines = monitor(shared_daemon.socket, "link", "since", since).until("Deleted ")
    assert re.match(rf"\d+: {pair.a.name}: <", lines[0])
    assert not [line for line in lines if "carrier" in line or line.startswith("[")]
    others = monitor(shared_daemon.socket, "c", "since", since).until("carrier on")  # the first of: carrier, config
    assert all(line.startswith("[carrier] ") for line in others)


def test_drops_settings_and_configuration(daemon: Daemon, pair: Pair, monitor: Start) -> None:
    with listening(daemon, monitor) as heard:
        assert re.match(r"\[daemon\] sysctl net\.core\.netdev_budget \d+$", heard.text.splitlines()[0])
        daemon.call("link.set", {"pair": pair.uuid, "end": "b", "set": {"mtu": 500}})
        with PacketSocket(pair.a.netns, pair.a.name) as sender:
            sender.try_send(frame(1000))
        heard.until(f"[drop] {pair.a.name} netns {pair.a.netns} dropped point PKT_TOO_BIG frames 1 total 1 interval ")
        daemon.call("config.apply", {"pairs": []})
        heard.until("[config] applied create 0 change 0 replace 0 remove 0 keep 0 reason ")


def test_json_is_what_the_daemon_sent_and_the_run_that_it_is(
    shared_daemon: Daemon, netns: Namespaces, monitor: Start
) -> None:
    since = now(shared_daemon)
    pair = make_pair(shared_daemon, netns.make(), netns.make(), up=True, placement="inside")
    pair.delete()
    lines = monitor(shared_daemon.socket, "since", since, options=("-j",)).until('"deleted"')
    server_id, _colon, seq = since.rpartition(":")
    topics = ["link", "carrier", "worker", "drop", "config", "daemon"]
    with shared_daemon.connect() as client:
        params = {"topics": topics, "since": {"server_id": server_id, "seq": int(seq)}}
        events = client.call("events.subscribe", params)["events"]
    assert [json.loads(line) for line in lines] == [{"server_id": server_id, **event} for event in events]
    last = json.loads(lines[-2])
    again = monitor(shared_daemon.socket, "since", f"{server_id}:{last['seq']}", options=("-j",)).until('"deleted"')
    assert again == lines[-1:]


def test_under_option_n_only_links_that_are_there(shared_daemon: Daemon, netns: Namespaces, monitor: Start) -> None:
    red, blue = netns.make(), netns.make()
    since = now(shared_daemon)
    one = make_pair(shared_daemon, red, blue, up=False, placement="inside")
    other = make_pair(shared_daemon, blue, blue, up=False, placement="inside")
    shared_daemon.ctl("-n", red, "link", "set", one.a.name, "netns", blue)  # the last that red sees of it
    shared_daemon.ctl("-n", blue, "link", "set", one.a.name, "mtu", "1400")
    shared_daemon.ctl("-n", blue, "link", "set", other.b.name, "netns", red)
    lines = monitor(shared_daemon.socket, "link", "since", since, options=("-n", red)).until(f"{other.b.name}: ")
    assert [line.split()[1].rstrip(":") for line in lines if line[0] != " "] == [
        one.a.name,
        one.a.name,
        other.b.name,
    ]
    said = monitor(shared_daemon.socket, "link", "since", since, options=("-n", red, "-j")).until(other.uuid)
    assert [json.loads(line)["pair"] for line in said] == [one.uuid, one.uuid, other.uuid]


@pytest.mark.parametrize(
    ("option", "first"),
    [
        ("-t", r"Timestamp: \w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4} \d{6} usec\n\[link\] \d+: vm"),
        ("-ts", r"\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\] \[link\] \d+: vm"),
        ("-o", r"\[link\] \d+: vm[^\n]*\\    link/ether [^\n]*\n\[link\] \d+: vm"),
        ("-d", r"\[link\] (?:.*\n)+    vethd pair "),
    ],
)
def test_options(shared_daemon: Daemon, netns: Namespaces, monitor: Start, option: str, first: str) -> None:
    since = now(shared_daemon)
    names = {"ifname": "vma"}, {"ifname": "vmb"}
    make_pair(shared_daemon, netns.make(), netns.make(), up=False, placement="inside", a=names[0], b=names[1])
    heard = monitor(shared_daemon.socket, "since", since, options=(option,))
    heard.until("vmb: ")
    assert re.match(first, heard.text), heard.text


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, ""),
        ({"id": 0, "pid": None, "why": "", "queues": []}, " id 0"),
        ({"values": {"net.core.netdev_budget": 7}}, " net.core.netdev_budget 7"),
        ({"files": ["/a", "/b"], "reason": "x\033[1m"}, " files /a,/b reason x\\x1b[1m"),
    ],
)
def test_fields_in_words(fields: dict[str, Any], text: str) -> None:
    assert told(fields) == text


# -- from where on ----------------------------------------------------------------------------------------------------


def test_what_is_not_known_any_more_is_refused(shared_daemon: Daemon) -> None:
    hint = "hint: leave `since` out, and look at the present state: vethctl link show"
    error = "Error: what came after 0:3 is not known."
    refused(shared_daemon.ctl("monitor", "since", "0:3", check=False), 2, error, hint)


def test_since_beside_the_topics() -> None:
    since = {"server_id": "4f:1", "seq": 20}
    assert read_monitor(Words(["d", "since", "4f:1:20", "li"])) == (["drop", "link"], since)
    assert read_monitor(Words(["s", "4f:1:20", "all"]))[1] == since
    assert len(read_monitor(Words([]))[0]) == 6


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("lunk", 'Error: "lunk" is a garbage.'),
        ("since", "Command line is not complete."),
        ("since 20", 'Error: argument "20" is wrong: Invalid "since" value'),
        ("since :20", 'Error: argument ":20" is wrong: Invalid "since" value'),
        ("since a:-1", 'Error: argument "a:-1" is wrong: Invalid "since" value'),
        ("since a:1 since a:2", 'Error: duplicate "since".'),
    ],
)
def test_words_without_sense(words: str, complaint: str) -> None:
    with pytest.raises(UsageError) as raised:
        read_monitor(Words(words.split()))
    assert str(raised.value) == complaint


# -- how it ends ------------------------------------------------------------------------------------------------------


def test_it_ends_with_the_daemon(daemon: Daemon, monitor: Start) -> None:
    with listening(daemon, monitor) as heard:
        since = now(daemon)
        quiet = monitor(daemon.socket, "daemon", "since", since)
        daemon.call("sysctl.set", {"values": {"net.core.netdev_budget": 99}})
        quiet.until("netdev_budget 99")
        daemon.stop()
        assert (heard.ends(), quiet.ends()) == (2, 2)
        assert heard.text.splitlines()[-1] == "[daemon] stopping"
        assert quiet.text == "[daemon] sysctl net.core.netdev_budget 99\n[daemon] stopping\n"
        assert heard.errors == quiet.errors == "vethctl: the daemon is gone\n"
        daemon.start()
        late = monitor(daemon.socket, "since", since)
        assert late.ends() == 2
        assert late.errors.startswith(f"Error: what came after {since} is not known.\n")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_listener_that_is_ended_leaves_nothing_behind(
    shared_daemon: Daemon, monitor: Start, number: int, status: int
) -> None:
    def clients() -> int:
        limits: dict[str, int] = shared_daemon.call("daemon.info")["limits"]
        return limits["clients"]

    before = clients()
    with listening(shared_daemon, monitor, "daemon") as heard:
        assert clients() == before + 1
        heard.process.send_signal(number)
        assert heard.ends() == status
        assert heard.errors == ""
        eventually(clients, lambda found: found == before, "the daemon has let it go")


def test_a_reader_that_leaves_ends_it(shared_daemon: Daemon) -> None:
    since = now(shared_daemon)
    for budget in (299, 300):
        shared_daemon.ctl("sysctl", f"netdev_budget={budget}")
    line = f"{VETHCTL} -S {shared_daemon.socket} monitor since {since} | head -n1; echo ${{PIPESTATUS[0]}}"
    argv = ["bash", "-c", line]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as shell:
        assert shell.stdout is not None
        assert shell.stderr is not None
        assert shell.stdout.readline() == "[daemon] sysctl net.core.netdev_budget 299\n"
        shared_daemon.ctl("sysctl", "netdev_budget=301")  # one more line, that nobody reads
        shared_daemon.ctl("sysctl", "netdev_budget=300")
        assert (shell.stdout.read(), shell.stderr.read()) == ("1\n", "")


def test_it_says_why_the_daemon_hung_up(tmp_path: Path) -> None:
    begin = {"subscription": 1, "server_id": "x", "seq": 0, "found": False, "events": []}
    state: dict[str, Any] = {"snapshot": {"pairs": [], "workers": []}}
    slow = {"jsonrpc": "2.0", "id": None, "error": {"code": -32017, "message": "too slow", "data": {}}}
    with Scripted(tmp_path / "sock", [[answer(begin | state), slow]]):
        done = subprocess.run(
            [VETHCTL, "-S", str(tmp_path / "sock"), "monitor"], capture_output=True, text=True, timeout=30, check=False
        )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "vethctl: too slow\n")
