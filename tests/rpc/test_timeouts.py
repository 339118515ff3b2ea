"""A client that asks nothing, or reads nothing, does not keep its place; test_connection.py has the finer points."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.daemon import Daemon
from tests.kit.waiting import eventually
from tests.rpc.talk import Talk, refused, request, result
from tests.rpc.test_clients import fill

MESSAGE, HINT = "nothing was asked for 0.5 seconds", "connect again, or raise idle_timeout in the configuration"


@pytest.fixture(scope="module")
def impatient_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("impatient"), config="[limits]\nidle_timeout = 0.5\nwrite_timeout = 0.5\n")
    daemon.start()
    yield daemon
    daemon.stop()
    daemon.check_log()


@pytest.fixture
def impatient(impatient_daemon: Daemon) -> Iterator[Callable[[], Talk]]:
    """A function that opens a conversation with the impatient daemon."""
    talks: list[Talk] = []

    def connect() -> Talk:
        talks.append(Talk(impatient_daemon.socket))
        return talks[-1]

    yield connect
    for talk in talks:
        talk.close()


@pytest.mark.parametrize("said", [b"", b'{"jsonrpc": "2.0", "id": 1, "meth', b"\n"], ids=["nothing", "half", "blank"])
def test_who_asks_nothing_is_told_so_and_disconnected(impatient: Callable[[], Talk], said: bytes) -> None:
    talk = impatient()
    if said:
        talk.send(said)
    talk.hear(refused(None, "timed_out", MESSAGE, hint=HINT))
    talk.hear_hanging_up()


def test_who_asked_something_is_told_so_later(impatient: Callable[[], Talk]) -> None:
    talk = impatient()
    talk.say(request(1, "link.list"))
    talk.hear(result(1, []))
    talk.hear(refused(None, "timed_out", MESSAGE, hint=HINT))
    talk.hear_hanging_up()


def test_who_reads_nothing_is_disconnected_and_the_log_says_why(
    impatient: Callable[[], Talk], impatient_daemon: Daemon
) -> None:
    talk = impatient()
    with contextlib.suppress(ConnectionError):
        fill(talk.socket)
    (line,) = eventually(lambda: _stuck(impatient_daemon.log_path), bool, "it is disconnected")
    assert (line["event"], line["uid"], line["pid"]) == ("client disconnected", os.getuid(), os.getpid())


def _stuck(log: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line for line in lines if line.get("why", "").startswith("it read nothing for 0.5 seconds while ")]
