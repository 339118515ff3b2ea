"""The control socket: accept, read lines, answer lines.

Built on recvmsg, because file descriptors come beside the text (an asyncio stream would lose them). A request is one
line of at most MAX_REQUEST bytes; what one connection asks is done and answered in order; connections take turns, one
request each. File descriptors belong to the line that holds the last byte of the sendmsg they came with; those that the
request did not name are closed after it.

Nobody can make the daemon hoard: while MAX_UNSENT bytes wait for a client that does not read, or MAX_WAITING requests
for their turn, no more are taken from its socket. Who may do nothing hears so once and is disconnected; such strangers
never have more than one in STRANGERS of the places for clients.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from structlog.typing import FilteringBoundLogger

from vethd.errors import InvalidParams, InvalidRequest, LimitReached, VethdError
from vethd.rpc.access import Peer, Role, peer_of
from vethd.rpc.envelope import refusal
from vethd.worker.channel import MAX_FDS, receive

MAX_REQUEST: Final = 1 << 20
MAX_UNSENT: Final = 16 << 20
MAX_WAITING: Final = 64
STRANGERS: Final = 8
_CHUNK: Final = 1 << 16
#: Seconds without accepting when no file descriptor is free; the listener stays readable all the while.
_ACCEPT_PAUSE: Final = 0.5
#: Clients that may wait to be accepted; a non-blocking connect fails above that.
_BACKLOG: Final = 1024

Handle = Callable[["Connection", bytes, list[int]], Awaitable[str | None]]


class AlreadyRunning(Exception):
    """Raised when another process listens on the control socket."""


class Connection:
    """One client. peer: who it is. Its requests are handled one after the other.

    handle(connection, line, fds) returns the answer's text, or None for none; it owns the fds.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        peer: Peer,
        handle: Handle,
        on_close: Callable[[Connection], None],
        log: FilteringBoundLogger,
    ) -> None:
        self._loop = loop
        self.sock = sock
        self.peer = peer
        self._handle = handle
        self._on_close = on_close
        self._log = log
        self._buffer = bytearray()
        self._tail_fds: list[int] = []
        self._requests: deque[tuple[bytes, list[int]]] = deque()
        self._unsent = bytearray()
        self._room = asyncio.Event()
        self._room.set()
        self._task: asyncio.Task[None] | None = None
        self._reading = False
        self._no_more = False
        self._leaving = False
        self._closed = False
        self._last_words: str | None = None
        self._read_on()

    def close(self) -> None:
        """Disconnect. A request that is being handled is finished; nobody reads its answer."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self.sock.fileno())
        self._loop.remove_writer(self.sock.fileno())
        self.sock.close()
        for fds in (self._tail_fds, *(fds for _line, fds in self._requests)):
            _close_all(fds)
        self._requests.clear()
        self._room.set()
        self._on_close(self)

    async def finish(self) -> None:
        """Answer what has been read, then disconnect; a client that does not read its answers is not waited for."""
        self._leaving = True
        self._room.set()
        self._stop_reading()
        if self._task is not None:
            await asyncio.wait([self._task])
        self.close()

    # -- reading ------------------------------------------------------------------------------------------------------

    def _read_on(self) -> None:
        if not self._reading and not self._no_more and not self._closed:
            self._reading = True
            self._loop.add_reader(self.sock.fileno(), self._readable)

    def _read_off(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self.sock.fileno())

    def _stop_reading(self) -> None:
        """Take no more requests, for good."""
        self._no_more = True
        self._read_off()

    def _readable(self) -> None:
        try:
            data, fds = receive(self.sock, _CHUNK, MAX_FDS + 1)  # one more than allowed tells that it is too many
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if self.peer.role is Role.NOTHING:
            _close_all(fds)
            fds = []
        try:
            if data:
                self._split(data, fds)
            else:  # it sends no more; what it asked is still answered, also without a newline at the end
                self._stop_reading()
                if self._buffer or self._tail_fds:
                    self._split(b"\n", [])
        except VethdError as error:  # it would not fit: this is the last that the client hears, after its other answers
            self._log.warning("request refused", why=error.message, uid=self.peer.uid, pid=self.peer.pid)
            self._last_words = refusal(error)
            self._stop_reading()
        if len(self._requests) > MAX_WAITING:
            self._read_off()
        if self._task is None and self._requests:
            self._task = self._loop.create_task(self._work())
        self._close_if_done()

    def _split(self, data: bytes, fds: list[int]) -> None:
        """Take what was received apart into requests; the rest of an unfinished line is kept.

        Raises InvalidRequest, InvalidParams when a line is too long or has too many descriptors.
        """
        head, *others = data.split(b"\n")
        self._buffer += head
        lines: list[bytes] = []
        if others:
            lines, self._buffer = [bytes(self._buffer), *others[:-1]], bytearray(others[-1])
        for at, line in enumerate(lines):
            mine, self._tail_fds = self._tail_fds, []
            if at == len(lines) - 1 and not self._buffer:
                mine, fds = mine + fds, []
            if len(line) > MAX_REQUEST:
                _close_all(mine + fds)
                raise _too_long()
            if line.strip() or mine:
                self._requests.append((line, mine))
        self._tail_fds += fds
        if len(self._buffer) > MAX_REQUEST:
            raise _too_long()
        if len(self._tail_fds) > MAX_FDS:
            raise InvalidParams("too many file descriptors for one request", hint=f"send at most {MAX_FDS}")

    # -- handling -----------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        try:
            while self._requests:
                line, fds = self._requests.popleft()
                try:
                    answer = await self._answer(line, fds)
                except VethdError as error:
                    answer = refusal(error)
                if answer is not None:
                    self._send(answer)
                if self.peer.role is Role.NOTHING:
                    self.close()
                await self._room.wait()
                if len(self._requests) <= MAX_WAITING // 2:
                    self._read_on()
                await asyncio.sleep(0)  # the others' turn
        finally:
            self._task = None
            self._close_if_done()

    async def _answer(self, line: bytes, fds: list[int]) -> str | None:
        """What `handle` answers; whatever else it raises is a bug, and no reason to leave the client waiting."""
        try:
            return await self._handle(self, line, fds)
        except Exception as error:
            self._log.exception("request not answered", uid=self.peer.uid, pid=self.peer.pid)
            raise VethdError(f"not answered: {error!r}", hint="this is a bug; the log has more") from error

    # -- sending ------------------------------------------------------------------------------------------------------

    def _send(self, text: str) -> None:
        if self._closed:
            return
        self._unsent += text.encode() + b"\n"
        self._flush()
        if len(self._unsent) > MAX_UNSENT and not self._leaving:
            self._room.clear()

    def _flush(self) -> None:
        try:
            while self._unsent:
                with memoryview(self._unsent) as view:
                    sent = self.sock.send(view)
                del self._unsent[:sent]
        except BlockingIOError:
            self._loop.add_writer(self.sock.fileno(), self._flush)
            return
        except OSError:
            self.close()
            return
        self._loop.remove_writer(self.sock.fileno())
        self._room.set()
        self._close_if_done()

    def _close_if_done(self) -> None:
        if not self._no_more or self._task is not None or self._requests or self._unsent or self._closed:
            return
        if self._last_words is None:
            self.close()
        else:
            text, self._last_words = self._last_words, None
            self._send(text)


class Server:
    """Listens at `path` and keeps at most `clients` connections."""

    def __init__(self, path: Path, clients: int, handle: Handle, log: FilteringBoundLogger) -> None:
        self._loop = asyncio.get_running_loop()
        self._path = path
        self._clients = clients
        self._handle = handle
        self._log = log
        self._connections: set[Connection] = set()
        self._socket: socket.socket | None = None
        self._inode = 0

    def bind(self) -> None:
        """Take the path; who connects waits until `serve`. Raises AlreadyRunning, OSError."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.setblocking(False)
        try:
            _remove_stale(self._path)
            listener.bind(str(self._path))
            os.chmod(self._path, 0o666)  # who may do what is decided per connection, see access.py
            listener.listen(_BACKLOG)
            self._inode = self._path.stat().st_ino
        except OSError as error:
            listener.close()
            raise OSError(error.errno, error.strerror or str(error), str(self._path)) from error
        except AlreadyRunning:
            listener.close()
            raise
        self._socket = listener

    def serve(self) -> None:
        """Accept clients."""
        if self._socket is not None:
            self._loop.add_reader(self._socket.fileno(), self._accept)

    async def stop(self) -> None:
        """Take no more connections, remove the socket, and let what is being handled finish."""
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
            if self._path.exists() and self._path.stat().st_ino == self._inode:  # still ours
                self._path.unlink()
        await asyncio.gather(*(connection.finish() for connection in self._connections))

    def _accept(self) -> None:
        assert self._socket is not None
        try:
            sock, _address = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            self._log.error("accept failed", error=error.strerror)
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
                self._loop.remove_reader(self._socket.fileno())
                self._loop.call_later(_ACCEPT_PAUSE, self.serve)
            return
        sock.setblocking(False)
        try:
            peer = peer_of(sock)
            self._check_limits(peer)
        except LimitReached as error:
            self._log.warning("client refused", why=error.message, uid=peer.uid, pid=peer.pid)
            try:
                sock.send(refusal(error).encode() + b"\n")
            except OSError:
                pass
            sock.close()
        except OSError:  # gone before we could ask who it was
            sock.close()
        else:
            forget = self._connections.discard
            self._connections.add(Connection(self._loop, sock, peer, self._handle, forget, self._log))

    def _check_limits(self, peer: Peer) -> None:
        """Raise LimitReached when there is no place for one more."""
        if len(self._connections) >= self._clients:
            raise LimitReached(
                f"{self._clients} clients are connected", hint="disconnect some, or raise clients in the configuration"
            )
        strangers = sum(other.peer.role is Role.NOTHING for other in self._connections)
        if peer.role is Role.NOTHING and strangers >= max(1, self._clients // STRANGERS):
            raise LimitReached(f"{strangers} clients without rights are connected", hint="try again later")


def _too_long() -> InvalidRequest:
    return InvalidRequest(f"a request above {MAX_REQUEST} bytes", hint="send several")


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def _remove_stale(path: Path) -> None:
    """Remove a socket that nobody listens on. Raises AlreadyRunning, naming who does."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:
            raise AlreadyRunning(f"somebody listens on {path} already, and does not answer") from None
        raise AlreadyRunning(f"pid {peer_of(probe).pid} listens on {path} already")
