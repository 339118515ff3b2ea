"""`[[pair]]` of the configuration: there before the daemon answers anybody, with namespaces that it makes."""

from __future__ import annotations

import json
import shlex
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.daemon import program
from tests.kit.commands import run
from tests.kit.daemon import Daemon
from tests.kit.links import all_links
from tests.kit.netns import RUN_NETNS, Namespaces, fresh_name
from tests.kit.static import Wish, actions, apply, as_toml, static_pairs, wish
from vethd.host.netns_add import SOCKET


@pytest.fixture
def missing(netns: Namespaces) -> Iterator[str]:
    """A name of a namespace that is not there; what is made of it is looked after."""
    name = fresh_name("n")
    yield name
    if (RUN_NETNS / name).exists():
        netns.adopt(name)


def test_pairs_are_there_before_anybody_is_answered(
    start_daemon: Callable[..., Daemon], netns: Namespaces, missing: str
) -> None:
    one, other = wish(netns.make(), missing), wish(missing, missing)
    daemon = start_daemon(config=as_toml(one, other))
    events = [json.loads(line)["event"] for line in daemon.log().splitlines()]
    assert events.count("link added") == 2
    assert events.index("static pairs applied") < events.index("vethd serves")
    pairs = static_pairs(daemon)
    assert pairs.keys() == {one["name"], other["name"]}
    assert pairs[one["name"]]["b"]["netns"] == missing
    assert all(pair[letter]["carrier"] for pair in pairs.values() for letter in "ab")
    assert actions(apply(daemon, one, other, prune=True)) == {one["name"]: "keep", other["name"]: "keep"}


def test_one_that_can_not_be_made_is_said_and_the_others_are_made(
    start_daemon: Callable[..., Daemon], netns: Namespaces
) -> None:
    red = netns.make()
    good, bad = wish(red, red), wish(red, "/proc/1/ns/none")
    daemon = start_daemon(config=as_toml(bad, good))
    assert static_pairs(daemon).keys() == {good["name"]}
    (line,) = [json.loads(line) for line in daemon.log().splitlines() if "static pair failed" in line]
    assert (line["name"], line["action"]) == (bad["name"], "create")
    assert line["error"].startswith("end b: netns path '/proc/1/ns/none': ")


def test_a_namespace_is_made_where_all_see_it(
    start_daemon: Callable[..., Daemon], netns: Namespaces, missing: str
) -> None:
    daemon = start_daemon(config=as_toml(wish(missing, netns.make())))
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    assert [mount[8] for mount in mounts if mount[4] == f"{RUN_NETNS}/{missing}"] == ["nsfs"]
    assert any(mount[4] == str(RUN_NETNS) and mount[6].startswith("shared:") for mount in mounts)
    daemon.stop()
    assert all_links(missing).keys() == {"lo"}  # it stays


def test_sigterm_does_not_wait_for_pairs_that_are_not_made_yet(tmp_path: Path, netns: Namespaces) -> None:
    red, path = netns.make(), tmp_path / "vethd.toml"
    path.write_text(as_toml(*(wish(red, red) for _ in range(200))))
    with program.running("--config", path, "--socket", tmp_path / "sock") as process:
        assert process.stderr is not None
        while "link added" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        _out, log = process.communicate(timeout=30)
    assert process.returncode == 0
    assert log.count('"link added"') < 100
    assert all_links(red).keys() == {"lo"}


# -- a daemon that may not mount --------------------------------------------------------------------------------------


class Maker:
    """Stands for systemd, and answers a daemon that asks for a namespace; makes it where the tests see it.

    answer: what to say instead. asked: names it was asked for.
    """

    def __init__(self, directory: Path, answer: str | None) -> None:
        self.asked: list[str] = []
        self._answer = answer
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(directory / Path(SOCKET).name))
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):  # closed
            while True:
                connection, _address = self._socket.accept()
                with connection, connection.makefile("rw") as stream:
                    self.asked.append(stream.readline())
                    if self._answer is None:
                        run("ip", "netns", "add", self.asked[-1].strip("\n"))
                    stream.write(self._answer or "made\n")

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


@pytest.fixture
def sandboxed(tmp_path: Path, start_daemon: Callable[..., Daemon]) -> Iterator[Callable[..., tuple[Maker, Daemon]]]:
    """A function that starts a daemon that may not make mounts that others see, and who makes them for it.

    how: what keeps the daemon from it; by default /run/netns is read-only to it.
    """
    makers: list[Maker] = []
    directory = tmp_path / "run"
    directory.mkdir()

    def start(
        *wishes: Wish, answer: str | None = None, how: str = "mount -o remount,bind,ro /run/netns"
    ) -> tuple[Maker, Daemon]:
        makers.append(Maker(directory, answer))
        there = "mount --rbind /run/netns /mnt && mount -t tmpfs tmpfs /run && mkdir /run/netns /run/vethd"
        there += f" && mount --rbind /mnt /run/netns && mount --bind {shlex.quote(str(directory))} /run/vethd"
        return makers[0], start_daemon(config=as_toml(*wishes), prefix=program.with_mount(f"{there} && {how}"))

    yield start
    for maker in makers:
        maker.close()


@pytest.mark.parametrize(
    "how",
    ["mount -o remount,bind,ro /run/netns", "export SYSTEMD_EXEC_PID=$$"],
    ids=["it is read-only", "systemd gave it mounts of its own"],
)
def test_systemd_is_asked_where_the_daemon_may_not(
    sandboxed: Callable[..., tuple[Maker, Daemon]], netns: Namespaces, how: str
) -> None:
    name = fresh_name("n") + "-x y"
    maker, daemon = sandboxed(wish(netns.make(), name), how=how)
    netns.adopt(name)
    assert maker.asked == [f"{name}\n"]
    assert len(static_pairs(daemon)) == 1


def test_what_systemd_says_is_passed_on(sandboxed: Callable[..., tuple[Maker, Daemon]], netns: Namespaces) -> None:
    name = fresh_name("n")
    _maker, daemon = sandboxed(wish(netns.make(), name), answer="Cannot create it.\n")
    (line,) = [json.loads(line) for line in daemon.log().splitlines() if "static pair failed" in line]
    assert line["error"] == (
        f"netns {name!r} is not there and can't be made: the daemon may not (Read-only file system), and systemd:"
        " Cannot create it."
    )
    assert line["hint"] == f"ip netns add {name}"
    assert not (RUN_NETNS / name).exists()
