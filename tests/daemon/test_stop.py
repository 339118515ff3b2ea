"""Stopping: SIGTERM and SIGINT delete everything and exit with 0; nothing of the daemon is left."""

import json
import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.daemon import program
from tests.kit.daemon import Daemon
from tests.kit.links import all_links
from tests.kit.netns import Namespaces, fresh_name
from tests.kit.pairs import make_pair
from tests.kit.processes import survivors
from tests.kit.static import as_toml, wish
from tests.kit.waiting import eventually
from tests.rpc.talk import ANYTHING, Talk, request, result

LINE = json.dumps(request(1, "daemon.info")).encode() + b"\n"


def stop(daemon: Daemon, number: signal.Signals = signal.SIGTERM, within: float = 15.0) -> None:
    """Send the daemon a signal and wait for its end, which must be a good one."""
    family = daemon.family()
    os.kill(daemon.pid, number)
    assert eventually(lambda: daemon.exit_code, lambda code: code is not None, "it ends", within) == 0
    assert survivors(family) == []
    assert not daemon.socket.exists()
    daemon.kill()  # collects what has ended already


@pytest.fixture
def stopping(daemon: Daemon) -> Callable[..., None]:
    """`stop` for the daemon of the test."""
    return partial(stop, daemon)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_takes_devices_namespaces_processes_and_socket_along(
    daemon: Daemon, netns: Namespaces, stopping: Callable[..., None], number: signal.Signals
) -> None:
    places = [netns.make() for _ in range(3)]
    for placement in ("move", "inside"):
        for other in places[1:]:
            make_pair(daemon, places[0], other, placement=placement)
    stopping(number)
    for place in places:
        assert all_links(place).keys() == {"lo"}
        netns.delete(place)
    assert netns.undead() == []
    events = [json.loads(line)["event"] for line in daemon.log().splitlines()]
    assert events[-6:] == ["stopping", *["link deleted"] * 4, "stopped"]


def test_a_second_signal_changes_nothing(daemon: Daemon, netns: Namespaces, stopping: Callable[..., None]) -> None:
    red = netns.make()
    for _ in range(5):
        make_pair(daemon, red, red, placement="inside", up=False)
    os.kill(daemon.pid, signal.SIGTERM)
    stopping(signal.SIGINT)
    assert all_links(red).keys() == {"lo"}


def test_signals_that_never_end_change_nothing(daemon: Daemon, netns: Namespaces) -> None:
    """From the first one on until the process is gone, also while the interpreter takes itself apart."""
    red = netns.make()
    for _ in range(3):
        make_pair(daemon, red, red, placement="inside", up=False)
    family = daemon.family()
    while daemon.exit_code is None:
        os.kill(daemon.pid, signal.SIGTERM)
    assert daemon.exit_code == 0
    assert survivors(family) == []
    assert all_links(red).keys() == {"lo"}
    daemon.kill()  # collects what has ended already


def test_many_pairs_are_made_no_further_and_none_of_them_stays(
    daemon: Daemon, netns: Namespaces, stopping: Callable[..., None]
) -> None:
    """One request for more pairs than can be made in the time that a stop may take."""
    red, blue = netns.make(), netns.make()
    pairs = [{"a": {"ifname": f"vts{n}", "netns": red}, "b": {"ifname": f"vts{n}", "netns": blue}} for n in range(500)]
    talk = Talk(daemon.socket)
    talk.say(request(1, "link.add", pairs=pairs))
    eventually(daemon.log, lambda text: "link added" in text, "the first pair is there")
    stopping(signal.SIGTERM, within=5.0)
    answer = talk.hear(ANYTHING)
    assert answer["error"]["data"]["kind"] == "shutting_down"
    assert answer["error"]["message"].startswith("pairs.")
    talk.close()
    assert daemon.log().count('"link added"') < len(pairs)
    assert [sorted(all_links(place)) for place in (red, blue)] == [["lo"], ["lo"]]


@pytest.mark.parametrize(("before", "after"), [(0, 300), (60, 0)])
def test_a_reload_is_broken_off(
    start_daemon: Callable[..., Daemon], netns: Namespaces, before: int, after: int
) -> None:
    """While it makes pairs, and while it deletes them: neither is a pair made after the signal, nor does one stay."""
    red, blue = netns.make(), netns.make()
    wishes = [wish(red, blue, placement="inside") for _ in range(max(before, after))]
    daemon = start_daemon(config=as_toml(*wishes[:before]))
    assert len(daemon.pairs()) == before
    (daemon.workdir / "vethd.toml").write_text(as_toml(*wishes[:after]))
    seen = len(daemon.log())
    os.kill(daemon.pid, signal.SIGHUP)
    eventually(lambda: daemon.log()[seen:], lambda text: '"link ' in text, "it has begun")
    stop(daemon)
    events = [json.loads(line)["event"] for line in daemon.log()[seen:].splitlines()]
    told = events.index("stopping")
    assert events[told:].count("link added") <= 1, "the one that was being made"
    assert events.count("link deleted") == before + events.count("link added")
    assert events.count("link added") < max(after, 1)
    assert events[-1] == "stopped"
    assert [sorted(all_links(place)) for place in (red, blue)] == [["lo"], ["lo"]]


def test_a_stop_takes_no_longer_with_many_pairs(
    daemon: Daemon, netns: Namespaces, stopping: Callable[..., None]
) -> None:
    """500 devices: one after the other they would take nine seconds."""
    places = [netns.make() for _ in range(4)]
    with daemon.connect() as client:
        client.call(
            "link.add",
            {
                "pairs": [
                    {end: {"ifname": f"vts{end}{n}", "netns": places[(n + at) % 4]} for at, end in enumerate("ab")}
                    | {"placement": "inside"}
                    for n in range(250)
                ]
            },
        )
    stopping(signal.SIGTERM, within=5.0)
    assert [sorted(all_links(place)) for place in places] == [["lo"]] * 4


def test_workers_that_hang_do_not_hold_it_up(start_daemon: Callable[..., Daemon], netns: Namespaces) -> None:
    """They have a second to answer then, however patient the daemon was."""
    daemon, red = start_daemon(config="[worker]\nwatchdog = 60.0\n"), netns.make()
    daemon.expected_errors += ["worker died"]
    make_pair(daemon, red, red, placement="inside")
    for process in daemon.family():
        if process.pid != daemon.pid:
            os.kill(process.pid, signal.SIGSTOP)
    daemon.stop(within=5.0)


def test_requests_that_were_read_are_answered_and_new_pairs_are_refused(
    daemon: Daemon, netns: Namespaces, stopping: Callable[..., None]
) -> None:
    red = netns.make()
    talk, name = Talk(daemon.socket), fresh_name()
    ends = [({"ifname": f"{name}a{n}", "netns": red}, {"ifname": f"{name}b{n}", "netns": red}) for n in range(50)]
    talk.say([request(n, "link.add", a=a, b=b) for n, (a, b) in enumerate(ends)])
    talk.say(request("last", "link.list"))
    eventually(daemon.log, lambda text: "link added" in text, "the first pair is there")
    stopping(signal.SIGTERM)
    answers = talk.hear(ANYTHING)
    kinds = ["made" if "result" in answer else answer["error"]["data"]["kind"] for answer in answers]
    assert kinds == sorted(kinds)  # made, made, ..., shutting_down, shutting_down, ...
    assert kinds[0] == "made"
    assert kinds[-1] == "shutting_down"
    refusal = answers[-1]["error"]
    assert refusal["message"] == "the daemon is shutting down"
    assert refusal["data"]["hint"] == "try again when it is back"
    talk.hear(result("last"))
    talk.hear_hanging_up()
    talk.close()
    assert all_links(red).keys() == {"lo"}


def test_clients_that_do_not_read_and_clients_that_never_stop_asking_can_not_hold_it_up(
    daemon: Daemon, stopping: Callable[..., None]
) -> None:
    stuck, greedy = Talk(daemon.socket), Talk(daemon.socket)
    stuck.socket.settimeout(0.3)
    with suppress(TimeoutError):
        while True:
            stuck.socket.send(LINE * 500)

    def ask() -> None:
        with suppress(OSError):
            while True:
                greedy.socket.sendall(LINE * 100)
                greedy.socket.recv(1 << 20)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        stopping(signal.SIGTERM)
    finally:
        stuck.close()
        with suppress(OSError):
            greedy.socket.shutdown(socket.SHUT_RDWR)
        asking.join()
        greedy.close()


def test_a_socket_that_somebody_else_has_taken_over_is_left_alone(daemon: Daemon) -> None:
    daemon.pairs()
    daemon.socket.unlink()
    with socket.socket(socket.AF_UNIX) as successor:
        successor.bind(str(daemon.socket))
        daemon.stop()
        assert daemon.socket.is_socket()


def test_a_signal_while_it_starts_is_obeyed_too(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with program.running("--socket", path) as process:
        eventually(path.is_socket, bool, "it has taken the socket, and starts its workers")
        process.terminate()
        _out, log = process.communicate(timeout=15)
    assert process.returncode == 0
    assert json.loads(log.splitlines()[-1])["event"] == "stopped"
    assert not path.exists()
