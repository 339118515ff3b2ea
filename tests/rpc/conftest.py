"""Connections to the shared daemon's control socket, and the check that no descriptor stays behind in it."""

from collections.abc import Callable, Iterator

import pytest

from tests.kit.daemon import Daemon
from tests.kit.processes import open_files
from tests.kit.waiting import settled
from tests.rpc.listening import Listening
from tests.rpc.talk import Talk


@pytest.fixture
def talker(shared_daemon: Daemon) -> Iterator[Callable[..., Talk]]:
    """A function that opens a conversation with the shared daemon; `talker(socket=PATH)` opens one with another.

    After the test the shared daemon must not hold more file descriptors than before.
    """
    shared_daemon.pairs()  # the kit's own connection, which stays
    before = len(open_files(shared_daemon.pid))
    talks: list[Talk] = []

    def connect(socket: object = shared_daemon.socket) -> Talk:
        talks.append(Talk(str(socket)))
        return talks[-1]

    yield connect
    for talk in talks:
        talk.close()
    shared_daemon.clear()
    after = settled(lambda: len(open_files(shared_daemon.pid)), lambda count: count <= before)
    assert after <= before, f"the daemon holds {after} file descriptors, {before} before the test"


@pytest.fixture
def talk(talker: Callable[..., Talk]) -> Talk:
    """A conversation with the shared daemon."""
    return talker()


@pytest.fixture
def hear(talker: Callable[..., Talk], shared_daemon: Daemon) -> Iterator[Callable[[], Listening]]:
    """A function that opens a conversation with the shared daemon that hears events."""
    opened: list[Listening] = []

    def connect() -> Listening:
        opened.append(Listening(shared_daemon.socket))
        return opened[-1]

    yield connect
    for listening in opened:
        listening.close()
