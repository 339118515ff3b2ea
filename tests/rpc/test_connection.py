"""One connection alone, with a handler of the test's own."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import structlog

from vethd.rpc.access import Peer, Role
from vethd.rpc.server import Connection

Handle = Callable[[Connection, bytes, list[int]], Awaitable[str | None]]
Connect = Callable[[Handle], tuple[Connection, socket.socket]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """A function that makes a connection with a handler; it returns it and the client's end."""
    made: list[tuple[Connection, socket.socket]] = []

    def begin(handle: Handle) -> tuple[Connection, socket.socket]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        theirs.settimeout(10)
        peer = Peer(os.getpid(), 0, 0, Role.CHANGE)
        connection = Connection(
            asyncio.get_running_loop(), ours, peer, handle, lambda _connection: None, structlog.get_logger()
        )
        made.append((connection, theirs))
        return connection, theirs

    yield begin
    for connection, theirs in made:
        connection.close()
        theirs.close()


async def test_the_loop_turns_between_the_requests_of_a_connection(connect: Connect) -> None:
    turns: list[int] = []
    turn = 0
    done = asyncio.Event()

    async def handle(_connection: Connection, line: bytes, _fds: list[int]) -> None:
        turns.append(turn)
        if line == b"last":
            done.set()

    _connection, client = connect(handle)
    client.send(b"x\n" * 100 + b"last\n")
    async with asyncio.timeout(10):
        while not done.is_set():
            turn += 1
            await asyncio.sleep(0)
    assert len(set(turns)) == 101


async def test_finishing_does_not_wait_for_a_client_that_never_stops(connect: Connect) -> None:
    handled = 0
    under_way = asyncio.Event()

    async def handle(_connection: Connection, _line: bytes, _fds: list[int]) -> None:
        nonlocal handled
        handled += 1
        client.send(b"more\nmore\n")
        if handled == 3:
            under_way.set()
        await asyncio.sleep(0)

    connection, client = connect(handle)
    client.send(b"first\n")
    async with asyncio.timeout(10):
        await under_way.wait()
        await connection.finish()
    before = handled
    await asyncio.sleep(0)
    assert handled == before
    assert connection.sock.fileno() == -1


async def test_finishing_lets_what_is_at_work_come_to_its_end(connect: Connect) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def handle(_connection: Connection, line: bytes, _fds: list[int]) -> str:
        begun.set()
        await go_on.wait()
        return line.decode()

    connection, client = connect(handle)
    client.send(b"one\ntwo\n")
    async with asyncio.timeout(10):
        await begun.wait()
        finishing = asyncio.ensure_future(connection.finish())
        await asyncio.sleep(0)
        assert not finishing.done()
        go_on.set()
        await finishing
    assert client.recv(100) == b"one\ntwo\n"
    assert client.recv(100) == b""


async def test_one_request_at_a_time(connect: Connect) -> None:
    at_work, most = 0, 0
    done = asyncio.Event()

    async def handle(_connection: Connection, line: bytes, _fds: list[int]) -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0)
        at_work -= 1
        if line == b"last":
            done.set()

    _connection, client = connect(handle)
    client.send(b"x\n" * 20 + b"last\n")
    async with asyncio.timeout(10):
        await done.wait()
    assert most == 1
