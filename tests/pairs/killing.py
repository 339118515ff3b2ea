"""Ending workers, and seeing who takes their place."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.kit.daemon import Daemon
from tests.kit.frames import frame
from tests.kit.packets import PacketSocket
from tests.kit.pairs import End, Pair
from tests.kit.processes import sleeping, status_field
from tests.kit.waiting import eventually

#: Log lines at level error that a test with kills must expect.
DIED = ("worker died", "spare worker died")
NO_DELAY = "[worker]\ncount = {count}\nrestart_window = 0.0\n"


def helpers(daemon: Daemon) -> list[int]:
    """The pids of all worker processes, the spare included."""
    return [process.pid for process in daemon.family() if process.pid != daemon.pid]


def spares(daemon: Daemon) -> list[int]:
    """The pids of worker processes that no slot uses."""
    return sorted(set(helpers(daemon)) - set(daemon.workers()))


def wait_spare(daemon: Daemon, within: float = 10.0) -> int:
    """Wait until exactly one spare stands by, confined and asleep; its pid."""

    def ready(pid: int) -> bool:
        return status_field(pid, "NoNewPrivs") == "1" and sleeping(pid)

    def one_ready(pids: list[int]) -> bool:
        try:
            return len(pids) == 1 and ready(pids[0])
        except (FileNotFoundError, ProcessLookupError):
            return False

    return eventually(lambda: spares(daemon), one_ready, "one spare is ready", within)[0]


def wait_workers(daemon: Daemon, count: int, other_than: set[int], within: float = 10.0) -> list[int]:
    """Wait until `count` workers serve, none of them one of those pids."""
    return eventually(
        daemon.workers,
        lambda pids: len(pids) == count and not other_than & set(pids),
        f"{count} new workers serve",
        within,
    )


def kill_worker(daemon: Daemon) -> int:
    """SIGKILL the only worker; its pid."""
    (victim,) = daemon.workers()
    os.kill(victim, signal.SIGKILL)
    return victim


def log_lines(daemon: Daemon, event: str) -> list[dict[str, Any]]:
    """The daemon's log lines of one event."""
    lines = [json.loads(line) for line in daemon.log().splitlines() if line.startswith("{")]
    return [line for line in lines if line.get("event") == event]


@contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    """These processes do nothing during the body (SIGSTOP), and go on after it."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


class Flood:
    """Frames from both ends of a pair, as fast as two threads can send them. sent: how many the kernel took."""

    def __init__(self, pair: Pair, size: int = 200) -> None:
        self._stop = threading.Event()
        self._data = frame(size)
        self.sent = 0
        ends: tuple[End, End] = (pair.a, pair.b)
        self._threads = [threading.Thread(target=self._run, args=(end,), name=f"flood {end.name}") for end in ends]

    def _run(self, end: End) -> None:
        with PacketSocket(end.netns, end.name) as sender:
            while not self._stop.is_set():
                self.sent += sender.try_send(self._data) == "ok"

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()


@contextmanager
def flooded(pair: Pair) -> Iterator[Flood]:
    """A flood both ways, under way; it ends with the body, or before by its `stop`."""
    flood = Flood(pair)
    before = pair.b.state().stats["rx_packets"]
    flood.start()
    try:
        eventually(
            lambda: pair.b.state().stats["rx_packets"], lambda now: now > before + 1000, "the flood is under way"
        )
        yield flood
    finally:
        flood.stop()
