"""Many clients at once: none can delay, starve or crowd out another."""

import contextlib
import json
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.kit.daemon import Daemon
from tests.kit.limits import free_descriptors
from tests.kit.processes import open_files, status_field
from tests.kit.waiting import eventually
from tests.rpc.talk import Talk, refused, request, result

LINE = json.dumps(request(1, "daemon.info")).encode() + b"\n"


def fill(sock: socket.socket) -> int:
    """Send requests, and never read an answer, until the daemon takes no more; the bytes it took."""
    sock.settimeout(0.5)
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < 64 << 20:
            sent += sock.send(LINE * 500)
    return sent


def memory(pid: int) -> int:
    """Resident memory, bytes."""
    return int(status_field(pid, "VmRSS").split()[0]) * 1024


def test_a_client_that_does_not_read_delays_nobody_and_costs_little(
    start_daemon: Callable[..., Daemon], talker: Callable[..., Talk]
) -> None:
    daemon = start_daemon()
    quick, stuck = talker(daemon.socket), talker(daemon.socket)
    before = memory(daemon.pid)
    taken = fill(stuck.socket)
    began = time.monotonic()
    for n in range(100):
        quick.say(request(n, "link.list"))
        quick.hear(result(n, []))
    assert time.monotonic() - began < 2
    assert memory(daemon.pid) - before < 64 << 20
    stuck.socket.settimeout(10)
    for _ in range(taken // len(LINE)):  # nothing of what it asked is forgotten
        stuck.hear(result(1))


def test_a_client_that_asks_without_end_leaves_the_others_their_turn(talker: Callable[..., Talk]) -> None:
    greedy, modest = talker(), talker()
    stop = threading.Event()

    def ask() -> None:
        with contextlib.suppress(OSError):
            while not stop.is_set():
                greedy.socket.sendall(LINE * 1000)

    def listen() -> None:
        with contextlib.suppress(OSError):
            while greedy.socket.recv(1 << 16):
                pass

    threads = [threading.Thread(target=ask), threading.Thread(target=listen)]
    for thread in threads:
        thread.start()
    try:
        slowest = 0.0
        for n in range(50):
            began = time.monotonic()
            modest.say(request(n, "link.list"))
            modest.hear(result(n, []))
            slowest = max(slowest, time.monotonic() - began)
    finally:
        stop.set()
        greedy.socket.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
    assert slowest < 0.5, f"one answer took {slowest:.2f} s"


def test_a_client_that_leaves_in_the_middle_is_forgotten(talker: Callable[..., Talk], shared_daemon: Daemon) -> None:
    before = len(open_files(shared_daemon.pid))
    for data in (b"", b'{"jsonrpc"', LINE, LINE * 100, b"[" + LINE.strip() + b"]\n"):
        for _ in range(20):
            talk = talker()
            talk.send(data) if data else None
            talk.close()
    eventually(lambda: len(open_files(shared_daemon.pid)), lambda count: count <= before, "all of them are forgotten")
    talk = talker()
    talk.say(request(1, "link.list"))
    talk.hear(result(1, []))


def test_a_client_that_leaves_before_its_answer_is_forgotten(
    talker: Callable[..., Talk], shared_daemon: Daemon
) -> None:
    before = len(open_files(shared_daemon.pid))
    for _ in range(20):
        talk = talker()
        talk.send(LINE)
        select.select([talk.socket], [], [])
        os.kill(shared_daemon.pid, signal.SIGSTOP)  # it hears the rest and the hanging up at once
        talk.send(b'{"jsonrpc"')
        talk.close()
        os.kill(shared_daemon.pid, signal.SIGCONT)
    eventually(lambda: len(open_files(shared_daemon.pid)), lambda count: count <= before, "all of them are forgotten")


def test_ten_thousand_clients_one_after_the_other_leave_nothing(shared_daemon: Daemon) -> None:
    for _ in range(200):  # allocators and caches settle
        _ask_once(shared_daemon.socket)
    memory_before, fds_before = memory(shared_daemon.pid), len(open_files(shared_daemon.pid))
    for _ in range(10_000):
        _ask_once(shared_daemon.socket)
    eventually(lambda: len(open_files(shared_daemon.pid)), lambda count: count <= fds_before, "no descriptor is left")
    assert memory(shared_daemon.pid) - memory_before < 2 << 20


def test_256_clients_at_once_leave_nothing(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon()
    daemon.pairs()  # the kit's own connection, which stays
    fds_before = len(open_files(daemon.pid))
    memory_before: int | None = None
    for _ in range(5):
        talks = [Talk(daemon.socket) for _ in range(255)]
        for talk in talks:
            talk.send(LINE * 4)
        for talk in talks[::2]:
            for _ in range(4):
                talk.hear(result(1))
        for talk in talks:
            talk.close()
        eventually(lambda: len(open_files(daemon.pid)), lambda count: count <= fds_before, "all are forgotten")
        if memory_before is None:  # the first time is for allocators and caches
            memory_before = memory(daemon.pid)
    assert memory_before is not None
    assert memory(daemon.pid) - memory_before < 2 << 20


def _ask_once(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(10)
        client.connect(str(path))
        client.sendall(LINE)
        assert client.recv(1 << 16).startswith(b'{"jsonrpc":"2.0","id":1,"result"')


# -- limits -----------------------------------------------------------------------------------------------------------


def test_256_clients_are_served_and_the_next_is_told_why_not(
    start_daemon: Callable[..., Daemon], talker: Callable[..., Talk]
) -> None:
    daemon = start_daemon()
    daemon.pairs()
    talks = [talker(daemon.socket) for _ in range(255)]  # the test kit's own connection is the 256th
    for n, talk in enumerate(talks):
        talk.say(request(n, "link.list"))
    for n, talk in enumerate(talks):
        talk.hear(result(n, []))
    hint = "disconnect some, or raise clients in the configuration"
    for _ in range(3):
        late = talker(daemon.socket)
        late.hear(refused(None, "limit_reached", "256 clients are connected", hint=hint))
        late.hear_hanging_up()
    talks[0].close()

    def served() -> bool:
        talk = talker(daemon.socket)
        try:
            talk.say(request(1, "link.list"))
            talk.hear(result(1, []))
        except (AssertionError, ConnectionError):
            return False
        return True

    eventually(served, bool, "a place became free")


def test_the_limit_of_clients_is_a_setting(start_daemon: Callable[..., Daemon], talker: Callable[..., Talk]) -> None:
    daemon = start_daemon(config="[limits]\nclients = 2\n")
    daemon.pairs()
    talk, late = talker(daemon.socket), talker(daemon.socket)
    late.hear(refused(None, "limit_reached", "2 clients are connected"))
    talk.say(request(1, "link.list"))
    talk.hear(result(1, []))


@pytest.fixture
def few_fds(start_daemon: Callable[..., Daemon]) -> Daemon:
    """A daemon that may have 60 file descriptors."""
    daemon: Daemon = start_daemon(prefix=["prlimit", "--nofile=60"])
    daemon.expected_errors.append("accept failed")
    return daemon


def test_without_a_free_descriptor_clients_wait_and_the_daemon_does_not_spin(
    few_fds: Daemon, talker: Callable[..., Talk]
) -> None:
    few_fds.pairs()

    def tries() -> list[datetime]:
        lines = [json.loads(line) for line in few_fds.log().splitlines()]
        return [datetime.fromisoformat(line["timestamp"]) for line in lines if line["event"] == "accept failed"]

    with free_descriptors(few_fds.pid, 0):
        talks = [talker(few_fds.socket) for _ in range(5)]
        first, second, third, *_others = eventually(tries, lambda times: len(times) >= 3, "it tried three times")
    assert min(second - first, third - second) > timedelta(seconds=0.4)
    for talk in talks:
        talk.say(request(1, "link.list"))
        talk.hear(result(1, []))
