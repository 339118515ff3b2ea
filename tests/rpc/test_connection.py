"""One connection alone, with a handler of the test's own, and a clock that the test turns."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import structlog

from tests.rpc.clock import ClockLoop
from vethd.config import LimitConfig
from vethd.errors import LimitReached
from vethd.rpc.access import Peer, Role
from vethd.rpc.connection import Connection

Handle = Callable[[Connection, bytes, list[int]], Awaitable[str | None]]
Connect = Callable[[Handle], tuple[Connection, socket.socket]]

LIMITS = LimitConfig(idle_timeout=900.0, write_timeout=30.0)


@pytest.fixture
async def clock() -> ClockLoop:
    """The loop of the test's connections."""
    return ClockLoop()


@pytest.fixture
async def connect(clock: ClockLoop) -> AsyncIterator[Connect]:
    """A function that makes a connection with a handler; it returns it and the client's end, which does not block."""
    made: list[tuple[Connection, socket.socket]] = []

    def begin(handle: Handle) -> tuple[Connection, socket.socket]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        theirs.setblocking(False)
        peer = Peer(os.getpid(), 0, 0, Role.CHANGE)
        loop: Any = clock
        connection = Connection(loop, ours, peer, handle, LIMITS, structlog.get_logger())
        made.append((connection, theirs))
        return connection, theirs

    yield begin
    for connection, theirs in made:
        connection.close()
        theirs.close()
    assert clock.timers() == 0


async def echo(_connection: Connection, line: bytes, _fds: list[int]) -> str:
    return line.decode()


class AtWork:
    """Requests that are under way until the test lets them go on. begun: the first one is."""

    def __init__(self) -> None:
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()

    async def handle(self, _connection: Connection, line: bytes, _fds: list[int]) -> str:
        self.begun.set()
        await self.go_on.wait()
        return line.decode()


async def heard(client: socket.socket, lines: int | None = None) -> list[bytes]:
    """What a client hears: so many lines, or all until it is disconnected."""
    data = b""
    async with asyncio.timeout(10):
        while lines is None or data.count(b"\n") < lines:
            try:
                chunk = await asyncio.get_running_loop().sock_recv(client, 1 << 16)
            except ConnectionResetError:  # it had sent something that nobody read
                break
            if not chunk:
                break
            data += chunk
    return data.splitlines()


def kind(line: bytes) -> str:
    """The kind of the error that a line says; it belongs to no request."""
    answer = json.loads(line)
    assert answer["id"] is None
    return str(answer["error"]["data"]["kind"])


# -- requests ---------------------------------------------------------------------------------------------------------


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
    at_work = AtWork()
    connection, client = connect(at_work.handle)
    client.send(b"one\ntwo\n")
    async with asyncio.timeout(10):
        await at_work.begun.wait()
        finishing = asyncio.ensure_future(connection.finish())
        await asyncio.sleep(0)
        assert not finishing.done()
        at_work.go_on.set()
        await finishing
    assert await heard(client) == [b"one", b"two"]


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


# -- what nobody asked for --------------------------------------------------------------------------------------------


async def test_notifications_keep_their_place_among_the_answers(connect: Connect) -> None:
    async def handle(connection: Connection, line: bytes, _fds: list[int]) -> str:
        connection.notify(f"before {line.decode()}")
        return line.decode()

    connection, client = connect(handle)
    connection.notify("first")
    client.send(b"1\n2\n")
    assert await heard(client, 5) == [b"first", b"before 1", b"1", b"before 2", b"2"]


async def test_what_the_kernel_has_not_taken_is_unsent(connect: Connect) -> None:
    connection, client = connect(echo)
    assert connection.unsent == 0
    line = "x" * 1000
    sent = 0
    while not connection.unsent:
        connection.notify(line)
        sent += 1
    before = connection.unsent
    connection.notify(line)
    assert connection.unsent == before + 1001
    assert await heard(client, sent + 1) == [line.encode()] * (sent + 1)
    assert connection.unsent == 0


async def test_who_is_disconnected_hears_its_answers_and_last_of_all_why(connect: Connect) -> None:
    at_work = AtWork()
    connection, client = connect(at_work.handle)
    client.send(b"one\ntwo\n")
    await at_work.begun.wait()
    connection.notify("event")
    connection.disconnect(LimitReached("too much"))
    connection.disconnect(LimitReached("again"))
    connection.notify("too late")
    client.send(b"three\n")
    at_work.go_on.set()
    event, one, two, last = await heard(client)
    assert (event, one, two, kind(last)) == (b"event", b"one", b"two", "limit_reached")
    assert json.loads(last)["error"]["message"] == "too much"


async def test_who_is_disconnected_while_it_does_not_read_hears_why_when_it_does(connect: Connect) -> None:
    connection, client = connect(echo)
    while not connection.unsent:
        connection.notify("x" * 1000)
    connection.disconnect(LimitReached("too much"))
    assert connection.sock.fileno() != -1
    lines = await heard(client)
    assert set(lines[:-1]) == {b"x" * 1000}
    assert kind(lines[-1]) == "limit_reached"


@pytest.mark.parametrize("end", ["close", "disconnect", "hang up", "finish"])
async def test_whoever_ends_it_who_wants_to_know_is_told_once(connect: Connect, end: str) -> None:
    connection, client = connect(echo)
    told: list[int] = []
    over = asyncio.Event()
    connection.on_close += [lambda: told.append(1), lambda: told.append(2), over.set]
    match end:
        case "close":
            connection.close()
        case "disconnect":
            connection.disconnect(LimitReached("too much"))
        case "hang up":
            client.close()
        case "finish":
            await connection.finish()
    async with asyncio.timeout(10):
        await over.wait()
    connection.close()
    connection.notify("nobody hears it")
    connection.disconnect(LimitReached("nor this"))
    assert told == [1, 2]
    assert connection.unsent == 0


# -- time -------------------------------------------------------------------------------------------------------------


async def test_who_asks_nothing_is_told_so_and_disconnected(connect: Connect, clock: ClockLoop) -> None:
    connection, client = connect(echo)
    clock.pass_time(899)
    assert connection.sock.fileno() != -1
    clock.pass_time(1)
    (last,) = await heard(client)
    assert kind(last) == "timed_out"
    assert json.loads(last)["error"]["message"] == "nothing was asked for 900 seconds"


async def test_half_a_request_is_none(connect: Connect, clock: ClockLoop) -> None:
    _connection, client = connect(echo)
    for _ in range(9):
        client.send(b"half")
        clock.pass_time(100)
        await asyncio.sleep(0)
    assert [kind(line) for line in await heard(client)] == ["timed_out"]


async def test_a_request_puts_it_off(connect: Connect, clock: ClockLoop) -> None:
    connection, client = connect(echo)
    for _ in range(5):
        clock.pass_time(600)
        client.send(b"x\n")
        assert await heard(client, 1) == [b"x"]
    clock.pass_time(899)
    assert connection.sock.fileno() != -1
    clock.pass_time(1)
    assert [kind(line) for line in await heard(client)] == ["timed_out"]


async def test_who_waits_for_an_answer_is_not_idle(connect: Connect, clock: ClockLoop) -> None:
    at_work = AtWork()
    connection, client = connect(at_work.handle)
    client.send(b"x\n")
    await at_work.begun.wait()
    clock.pass_time(10_000)
    at_work.go_on.set()
    assert await heard(client, 1) == [b"x"]
    clock.pass_time(899)
    assert connection.sock.fileno() != -1


async def test_a_listener_is_never_idle_until_it_listens_no_more(connect: Connect, clock: ClockLoop) -> None:
    connection, client = connect(echo)
    connection.listening = True
    clock.pass_time(10_000)
    connection.notify("still here")
    assert await heard(client, 1) == [b"still here"]
    connection.listening = False
    clock.pass_time(900)
    assert [kind(line) for line in await heard(client)] == ["timed_out"]


async def test_who_reads_nothing_is_disconnected(connect: Connect, clock: ClockLoop) -> None:
    connection, client = connect(echo)
    connection.listening = True
    while not connection.unsent:
        connection.notify("x" * 1000)
    clock.pass_time(29)
    assert connection.sock.fileno() != -1
    clock.pass_time(1)
    assert connection.sock.fileno() == -1
    assert set((await heard(client))[:-1]) == {b"x" * 1000}


async def test_who_reads_slowly_stays(connect: Connect, clock: ClockLoop) -> None:
    connection, client = connect(echo)
    for _ in range(5):
        while connection.unsent < 1 << 20:
            connection.notify("x" * 1000)
        clock.pass_time(29)
        before = connection.unsent
        async with asyncio.timeout(10):
            while connection.unsent == before:
                await asyncio.get_running_loop().sock_recv(client, 1 << 16)
                await asyncio.sleep(0)
        assert connection.sock.fileno() != -1


async def test_only_the_time_counts_in_which_something_waits(connect: Connect, clock: ClockLoop) -> None:
    """A client that has read all its answers may take its time before the next ones."""
    connection, client = connect(echo)
    connection.notify("x" * (1 << 20))
    clock.pass_time(25)
    await heard(client, 1)
    clock.pass_time(4)
    connection.notify("x" * (1 << 20))
    clock.pass_time(29)
    assert connection.sock.fileno() != -1
    clock.pass_time(1)
    assert connection.sock.fileno() == -1
