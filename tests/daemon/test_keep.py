"""What is handed to systemd, and when: before a client hears that something was done."""

from __future__ import annotations

import array
import json
import os
import shutil
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.kit.daemon import Daemon
from tests.kit.waiting import eventually
from vethd.daemon.keep import FILE
from vethd.daemon.names import as_end, end_name, half_of
from vethd.host.tap import current_name

Start = Callable[..., Daemon]
PLACE = {"netns": "/proc/self/ns/net"}


class Store:
    """Keeps descriptors as systemd does; to be asked what it has got so far. address: for $NOTIFY_SOCKET."""

    def __init__(self, address: Path) -> None:
        self.address = str(address)
        self._kept: dict[str, int] = {}
        self.listen()

    def listen(self) -> None:
        """Take messages from now on."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.setblocking(False)

    def deafen(self) -> None:
        """Take none."""
        self.kept()
        self._socket.close()
        os.unlink(self.address)

    def kept(self) -> dict[str, int]:
        """What it has, by name."""
        while True:
            try:
                data, rights, _flags, _address = self._socket.recvmsg(4096, socket.CMSG_SPACE(struct.calcsize("i")))
            except BlockingIOError:
                return self._kept
            fds = array.array("i", b"".join(data for _level, _kind, data in rights))
            message = dict(line.split("=", 1) for line in data.decode().splitlines())
            if "FDSTORE" in message:
                assert message["FDPOLL"] == "0"
                assert message["FDNAME"] not in self._kept
                (self._kept[message["FDNAME"]],) = fds
            elif "FDSTOREREMOVE" in message:
                os.close(self._kept.pop(message["FDNAME"]))

    def close(self) -> None:
        for fd in self.kept().values():
            os.close(fd)
        self._socket.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "notify")
    yield store
    store.close()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The unit's runtime directory."""
    directory = tmp_path / "state"
    directory.mkdir()
    return directory


@pytest.fixture
def daemon(start_daemon: Start, store: Store, directory: Path) -> Daemon:
    return start_daemon(env={"NOTIFY_SOCKET": store.address, "RUNTIME_DIRECTORY": f"{directory}:/elsewhere"})


def read(directory: Path) -> Any:
    return json.loads((directory / FILE).read_text())


def test_a_client_is_answered_when_a_pair_is_kept(daemon: Daemon, store: Store, directory: Path) -> None:
    made = daemon.call("link.add", {"a": PLACE, "b": PLACE, "placement": "inside", "numqueues": 2})
    kept, state = store.kept(), read(directory)
    assert [pair["uuid"] for pair in state["pairs"]] == [made["pair"]]
    ends = {end: fd for name, fd in kept.items() if (end := as_end(name))}
    (pair,) = daemon.pairs()
    half = half_of(UUID(pair["pair"]))
    assert ends.keys() == {(half, letter, queue) for letter in "ab" for queue in range(2)}
    assert {(letter, current_name(fd)) for (_half, letter, _queue), fd in ends.items()} == {
        (letter, pair[letter]["ifname"]) for letter in "ab"
    }
    assert len(kept) == 4 + len(("counters", "staging"))


def test_a_change_is_written_before_it_is_answered(daemon: Daemon, directory: Path) -> None:
    pair = daemon.call("link.add", {"a": PLACE, "b": PLACE, "placement": "inside", "token": "T"})["pair"]
    for number in range(5):
        daemon.call("link.set", {"pair": pair, "set": {"labels": {"number": str(number)}}})
        state = read(directory)
        assert state["pairs"][0]["labels"] == {"number": str(number)}
    assert [each["token"] for each in state["tokens"]] == ["T"]
    daemon.call("sysctl.set", {"values": {"netdev_budget": 64}})
    assert read(directory)["sysctls"] == {"netdev_budget": 64}


def test_a_deleted_pair_is_given_back(daemon: Daemon, store: Store, directory: Path) -> None:
    pairs = [daemon.call("link.add", {"a": PLACE, "b": PLACE, "placement": "inside"})["pair"] for _number in range(3)]
    for pair in pairs[:2]:
        daemon.call("link.del", {"pair": pair})
        assert pair not in [entry["uuid"] for entry in read(directory)["pairs"]]
    eventually(lambda: len(store.kept()), lambda count: count == 2 + 2, "they are given back")


def test_what_systemd_did_not_take_it_is_given_again(daemon: Daemon, store: Store) -> None:
    """In the same order: a pair that was deleted meanwhile is stored, and then taken out."""
    there = store.kept().keys() | set()
    store.deafen()
    stays, goes = (
        daemon.call("link.add", {"a": PLACE, "b": PLACE, "placement": "inside"})["pair"] for _number in range(2)
    )
    daemon.call("link.del", {"pair": goes})
    store.listen()
    ends = {end_name(UUID(stays), letter, 0) for letter in ("a", "b")}
    eventually(lambda: store.kept().keys() - there, lambda names: names == ends, "it has what it should")
    assert daemon.log().count("systemd not told") == 1
    daemon.call("link.del", {"pair": stays})
    eventually(lambda: store.kept().keys() - there, lambda names: not names, "it is given back")


def test_what_it_never_takes_is_said_at_the_end(daemon: Daemon, store: Store) -> None:
    daemon.expected_errors.append("systemd not told")
    store.deafen()
    pair = daemon.call("link.add", {"a": PLACE, "b": PLACE, "placement": "inside"})["pair"]
    daemon.stop()
    store.listen()
    (line,) = [line for line in daemon.log().splitlines() if '"level": "error"' in line]
    assert all(end_name(UUID(pair), letter, 0) in line for letter in ("a", "b"))


def test_numbers_of_events_are_never_used_twice(daemon: Daemon, directory: Path) -> None:
    """What is written is behind all that may have been told since; a daemon that ends by itself knows the last one."""
    pair = daemon.call("link.add", {"a": PLACE, "b": PLACE, "placement": "inside"})["pair"]
    daemon.call("link.del", {"pair": pair})
    told = daemon.call("daemon.info")["seq"]
    assert read(directory)["seq"] > told + 1000
    daemon.stop()
    assert told < read(directory)["seq"] < told + 1000


def test_a_state_that_can_not_be_written_is_said_once_and_disturbs_nobody(
    daemon: Daemon, directory: Path, store: Store
) -> None:
    daemon.expected_errors.append("state not written")
    shutil.rmtree(directory)
    for _ in range(3):
        daemon.call("link.add", {"a": PLACE, "b": PLACE, "placement": "inside"})
    assert daemon.log().count("state not written") == 1
    assert len(store.kept()) == 2 + 6
    directory.mkdir()
    daemon.call("link.add", {"a": PLACE, "b": PLACE, "placement": "inside"})
    assert len(read(directory)["pairs"]) == 4
