"""The client's twin for asyncio; other programs have it from vethd.rpc.client."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Self, Unpack

from vethd.rpc.client import CHUNK, broken, check_home, hung_up, own_netns, rights, socket_path, unreachable
from vethd.rpc.conversation import PENDING, Lines, NotRunning, Request, RpcError
from vethd.rpc.listening import FIRST_PAUSE, LONGEST_PAUSE, Following, State
from vethd.rpc.wire import AsyncCalls

if TYPE_CHECKING:
    from vethd.rpc.shapes import Event, Since, SubscribeParams

#: Seconds between attempts to connect while more wait to be accepted than the daemon's socket holds.
_FULL_PAUSE: Final = 0.02


class AsyncClient(AsyncCalls):
    """A connection for one event loop; tasks take turns on it. The caller's own namespace is that of the thread that
    makes it. It connects with the first call, or as a context manager: `async with AsyncClient() as client`.

    path: of the socket; see socket_path. timeout: seconds to wait for an answer.
    """

    def __init__(self, path: str | None = None, timeout: float = 60.0) -> None:
        self.path = socket_path(path)
        self.timeout = timeout
        self._home = own_netns()
        self._number = 0
        self._lines = Lines()
        self._socket: socket.socket | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        async with self._turn:
            await self._connect_again()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect, while no call is under way; the next one connects again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def call(self, method: str, params: Mapping[str, Any] | None = None, fds: Sequence[int] | None = None) -> Any:
        """Call a method by name; fds go along and stay the caller's.

        Returns the result. Raises RpcError, or NotRunning when the daemon goes away.
        """
        self._number += 1
        request = Request(self._number, method, params, fds)
        try:
            async with self._turn:
                return await self._call(request)
        finally:
            request.close()

    def events(self, patience: float = 60.0, **params: Unpack[SubscribeParams]) -> AsyncEvents:
        """Iterate over events, `async for`, beginning with the present State; over a connection of its own.

        topics, since, interval: see events.subscribe. patience: seconds to wait for a daemon that went away.
        """
        return AsyncEvents(AsyncClient(self.path, self.timeout), params, patience)

    async def listen(self) -> dict[str, Any]:
        """Wait for a line that answers no request, however long. Raises OSError, ValueError when there are no more."""
        if self._socket is None:
            raise ConnectionResetError("not connected")
        while (message := self._lines.take()) is PENDING:
            self._lines.feed(await asyncio.get_running_loop().sock_recv(self._socket, CHUNK))
        heard: dict[str, Any] = message
        return heard

    async def _call(self, request: Request) -> Any:
        try:
            if self._socket is None or hung_up(self._socket, self._lines):
                await self._connect_again()
            try:
                return await self._ask(request)
            except ConnectionError as error:
                if not request.repeatable:
                    raise
                lost = error
            try:
                await self._connect_again()
            except NotRunning:
                raise lost from None
            return await self._ask(request)
        except (OSError, ValueError) as error:
            self.close()
            raise broken(self.path, error, request) from error
        except (RpcError, NotRunning):
            raise
        except BaseException:  # cancelled in the middle of a line, perhaps
            self.close()
            raise

    async def _connect_again(self) -> None:
        """Raises NotRunning."""
        self.close()
        check_home(self.path, self._home)
        try:
            async with asyncio.timeout(self.timeout):
                self._socket = await connected(self.path)
        except OSError as error:
            raise unreachable(self.path, error) from error
        self._lines = Lines()

    async def _ask(self, request: Request) -> Any:
        """Send a request and wait for its result. Raises RpcError, OSError, ValueError."""
        assert self._socket is not None
        async with asyncio.timeout(self.timeout):
            return await ask(self._socket, self._lines, request)


async def connected(path: str) -> socket.socket:
    """A connection. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        while True:
            try:
                sock.connect(path)
            except BlockingIOError:  # no event says when there is room again
                await asyncio.sleep(_FULL_PAUSE)
            else:
                return sock
    except BaseException:
        sock.close()
        raise


async def ask(sock: socket.socket, lines: Lines, request: Request) -> Any:
    """Send a request and wait for its result. Raises RpcError, OSError, ValueError."""
    loop = asyncio.get_running_loop()
    try:
        sent = sock.sendmsg([request.text], rights(request.fds))  # there is room: what was sent before is answered
        await loop.sock_sendall(sock, request.text[sent:])
    except BrokenPipeError:
        pass  # it hung up; what it said before is still to be read
    while (result := lines.answer(request.number)) is PENDING:
        lines.feed(await loop.sock_recv(sock, CHUNK))
    return result


class AsyncEvents:
    """Iterates over events, without end; a State comes where it begins, and where events were missed.

    Subscribes when first asked, or as a context manager. When the daemon goes away it waits for `patience` seconds for
    it to be back and goes on after the last event. Raises NotRunning, RpcError.
    """

    def __init__(self, client: AsyncClient, params: SubscribeParams, patience: float) -> None:
        self._client = client
        self._patience = patience
        self._following = Following(params)
        self._begun = False

    async def __aenter__(self) -> Self:
        await self._subscribe()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.close()

    def __aiter__(self) -> AsyncIterator[Event | State]:
        return self

    async def __anext__(self) -> Event | State:
        following = self._following
        if not self._begun:
            await self._subscribe()
        while not following.ready:
            try:
                following.heard(await self._client.listen())
            except (OSError, ValueError):
                await self._subscribe_again()
        return following.give()

    @property
    def since(self) -> Since | None:
        """The last event that was given: with it as `since`, another listener goes on from here."""
        return self._following.given

    def close(self) -> None:
        """Hear no more."""
        self._client.close()

    async def _subscribe(self) -> None:
        try:
            self._following.begun(await self._client.call("events.subscribe", self._following.params()))
        except BaseException:
            self._client.close()
            raise
        self._begun = True

    async def _subscribe_again(self) -> None:
        self._client.close()
        deadline, pause = time.monotonic() + self._patience, FIRST_PAUSE
        while True:
            try:
                return await self._subscribe()
            except NotRunning:
                if time.monotonic() + pause > deadline:
                    raise
            await asyncio.sleep(pause)  # nothing tells when somebody listens again
            pause = min(2 * pause, LONGEST_PAUSE)
