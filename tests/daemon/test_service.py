"""What the daemon says to whoever started it as systemd does, and what it takes from it."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from tests.kit.daemon import Daemon
from tests.kit.netns import fresh_name
from tests.kit.processes import open_files
from vethd.daemon.service import Service

Start = Callable[..., Daemon]


class Manager:
    """The socket at which systemd hears of its services. address: for $NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(20)
        self._socket.bind(address.replace("@", "\0", 1))

    def hear(self, key: str) -> dict[str, str]:
        """The next message that has this key; those before it are left out."""
        while True:
            lines = self._socket.recv(4096).decode().splitlines()
            message = dict(line.split("=", 1) for line in lines)
            if key in message:
                return message

    def waiting(self) -> int:
        """How many messages are there and not heard; they are not heard any more."""
        count = 0
        while select.select([self._socket], [], [], 0)[0]:
            self._socket.recv(4096)
            count += 1
        return count

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    abstract = getattr(request, "param", "path") == "abstract"
    manager = Manager(f"@{fresh_name('notify')}" if abstract else str(tmp_path / "notify"))
    yield manager
    manager.close()


@pytest.mark.parametrize("manager", ["path", "abstract"], indirect=True)
def test_it_says_when_it_serves_reloads_and_ends(manager: Manager, start_daemon: Start) -> None:
    daemon = start_daemon(env={"NOTIFY_SOCKET": manager.address})
    assert manager.hear("READY") == {"READY": "1", "STATUS": "0 pairs, 1 workers"}
    os.kill(daemon.pid, signal.SIGHUP)
    reloading = manager.hear("RELOADING")
    assert 0 < int(reloading["MONOTONIC_USEC"]) < 1 << 63
    assert manager.hear("READY") == {"READY": "1"}
    daemon.stop()
    assert manager.hear("STOPPING") == {"STOPPING": "1", "STATUS": "stopping"}


def test_the_status_counts_pairs(manager: Manager, start_daemon: Start) -> None:
    daemon = start_daemon(env={"NOTIFY_SOCKET": manager.address})
    manager.hear("READY")
    end = {"netns": "/proc/self/ns/net"}
    daemon.call("link.add", {"a": end, "b": end, "placement": "inside"})
    assert manager.hear("STATUS") == {"STATUS": "1 pairs, 1 workers"}


def test_it_feeds_the_watchdog(manager: Manager, start_daemon: Start) -> None:
    start_daemon(env={"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "100000"})
    for _ in range(3):
        manager.hear("WATCHDOG")


def test_a_watchdog_of_another_process_is_none_of_its_business(manager: Manager, start_daemon: Start) -> None:
    daemon = start_daemon(env={"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"})
    manager.hear("READY")
    daemon.stop()
    heard = manager.hear("STOPPING")
    assert "WATCHDOG" not in heard


def test_nobody_listens(tmp_path: Path, start_daemon: Start) -> None:
    daemon = start_daemon(env={"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    daemon.expected_errors.append("systemd not told")  # at its end: what it has is lost then
    assert daemon.pairs() == []
    assert "systemd not told" in daemon.log()


# -- a socket that is there already -----------------------------------------------------------------------------------


def activated(path: Path) -> list[str]:
    """A prefix that executes its arguments as soon as somebody connects, and gives them the socket."""
    return ["systemd-socket-activate", "--listen", str(path), "--fdname=control"]


def test_it_takes_the_socket_that_systemd_opened(tmp_path: Path, start_daemon: Start) -> None:
    path = tmp_path / "vethd0" / "control.sock"
    daemon = start_daemon(prefix=activated(path))
    assert daemon.pairs() == []
    assert os.readlink(f"/proc/{daemon.pid}/fd/3").startswith("socket:")
    for process in daemon.family():
        names = [entry.split(b"=")[0] for entry in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")]
        assert process.pid == daemon.pid or not {b"LISTEN_FDS", b"NOTIFY_SOCKET"} & set(names)
    daemon.reexec()
    assert daemon.pairs() == []
    daemon.stop()
    assert path.is_socket()  # not ours to remove


@pytest.mark.parametrize("variables", ["LISTEN_PID=1 LISTEN_FDS=1", "LISTEN_PID=$$ LISTEN_FDS=0"])
def test_what_was_not_left_for_it_is_not_taken(start_daemon: Start, variables: str) -> None:
    script = f'exec env {variables} LISTEN_FDNAMES=control "$@"'
    assert start_daemon(prefix=["sh", "-c", script, "sh"]).pairs() == []


def test_what_else_was_left_is_closed(tmp_path: Path, start_daemon: Start) -> None:
    other = tmp_path / "other"
    other.touch()
    script = f'exec 3<{other}; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=other exec "$@"'
    daemon = start_daemon(prefix=["sh", "-c", script, "sh"])
    assert str(other) not in open_files(daemon.pid)


async def test_the_watchdog_is_fed_while_the_daemon_is_well(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    service = Service(structlog.get_logger())
    assert (await asyncio.to_thread(manager.hear, "WATCHDOG")) == {"WATCHDOG": "1"}
    asked = asyncio.Event()

    def well() -> bool:
        asked.set()
        return False

    service.well = well
    for _ in range(3):
        asked.clear()
        await asked.wait()
    assert manager.waiting() <= 1, "it is fed no more; one message may have been on its way"
    service.well = lambda: True
    assert (await asyncio.to_thread(manager.hear, "WATCHDOG")) == {"WATCHDOG": "1"}
    service.close()
