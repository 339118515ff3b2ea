"""One client of the control socket: its lines come in, are handled one after the other, and answers go out in order.

Built on recvmsg, because file descriptors come beside the text (an asyncio stream would lose them). A request is one
line of at most MAX_REQUEST bytes. File descriptors belong to the line that holds the last byte of the sendmsg they came
with; those that the request did not name are closed after it.

Nobody can make the daemon hoard, or keep a place for nothing:

* While MAX_UNSENT bytes wait for a client that does not read, or MAX_WAITING requests for their turn, no more are taken
  from its socket.
* Who asks nothing for `idle_timeout` seconds is told so and disconnected, unless it listens to events; half a request
  is none.
* Who lets answers wait for `write_timeout` seconds, and takes not a byte of them, is disconnected.
* Who may do nothing hears so once and is disconnected.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from structlog.typing import FilteringBoundLogger

from vethd.config import LimitConfig
from vethd.errors import InvalidParams, InvalidRequest, TimedOut, VethdError
from vethd.rpc.access import Peer, Role
from vethd.rpc.envelope import refusal
from vethd.worker.channel import MAX_FDS, receive

MAX_REQUEST: Final = 1 << 20
MAX_UNSENT: Final = 16 << 20
MAX_WAITING: Final = 64
_CHUNK: Final = 1 << 16

Handle = Callable[["Connection", bytes, list[int]], Awaitable[str | None]]


class Connection:
    """One client. Its requests are handled one after the other.

    handle(connection, line, fds) returns the answer's text, or None for none; it owns the fds.
    limits: the time-outs, in seconds.

    peer: who it is. listening: it waits for what `notify` sends, and so is never idle.
    on_close: called once each when the connection is over, whoever ended it; also from within `notify`.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        peer: Peer,
        handle: Handle,
        limits: LimitConfig,
        log: FilteringBoundLogger,
    ) -> None:
        self._loop = loop
        self.sock = sock
        self.peer = peer
        self.listening = False
        self.on_close: list[Callable[[], None]] = []
        self._handle = handle
        self._limits = limits
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
        self._disconnecting = False
        self._closed = False
        self._last_words: str | None = None
        self._idle_since = loop.time()
        self._stuck_since: float | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._stuck_timer: asyncio.TimerHandle | None = None
        if limits.idle_timeout:
            self._idle_timer = loop.call_later(limits.idle_timeout, self._check_idle)
        self._read_on()

    @property
    def unsent(self) -> int:
        """Bytes that wait for the client to read, those that the kernel has taken not counted."""
        return len(self._unsent)

    def notify(self, text: str) -> None:
        """Send a line that nobody asked for, after the answers so far; nothing when the connection is (nearly) over."""
        if not self._disconnecting:
            self._send(text)

    def disconnect(self, error: VethdError) -> None:
        """Take no more requests, answer those that have come, say why as the last line, and close.

        A client that does not read hears it if it does so within the write time-out.
        """
        if self._disconnecting or self._closed:
            return
        self._disconnecting = True
        self._last_words = refusal(error)
        self._log.info("client disconnected", why=error.message, uid=self.peer.uid, pid=self.peer.pid)
        self._stop_reading()
        self._close_if_done()

    def close(self) -> None:
        """Disconnect at once. A request that is being handled is finished; nobody reads its answer."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self.sock.fileno())
        self._loop.remove_writer(self.sock.fileno())
        self.sock.close()
        for timer in (self._idle_timer, self._stuck_timer):
            if timer is not None:
                timer.cancel()
        for fds in (self._tail_fds, *(fds for _line, fds in self._requests)):
            _close_all(fds)
        self._requests.clear()
        self._unsent.clear()
        self._room.set()
        while self.on_close:
            self.on_close.pop(0)()

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
        more = self._take()
        # A client that hangs up without having read everything leaves an error behind, after which uvloop drops the
        # reader (uv__poll_io, UVPoll._fatal_error). All that it sent is there: nothing is to be waited for.
        if more and self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            while self._take():
                pass

    def _take(self) -> bool:
        """Receive once; whether to receive again."""
        try:
            data, fds = receive(self.sock, _CHUNK, MAX_FDS + 1)  # one more than allowed tells that it is too many
        except BlockingIOError:
            return False
        except OSError:
            self.close()
            return False
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
        except VethdError as error:  # it would not fit
            self.disconnect(error)
        if len(self._requests) > MAX_WAITING:
            self._read_off()
        if self._task is None and self._requests:
            self._task = self._loop.create_task(self._work())
        self._close_if_done()
        return not self._no_more and not self._closed

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
            self._idle_since = self._loop.time()
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
                self._stuck_since = None
        except BlockingIOError:
            self._loop.add_writer(self.sock.fileno(), self._flush)
            if self._stuck_since is None:
                self._stuck_since = self._loop.time()
            if self._stuck_timer is None:
                self._stuck_timer = self._loop.call_later(self._limits.write_timeout, self._check_stuck)
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

    # -- time-outs: a timer runs on while requests come and go, and looks when it fires --------------------------------

    def _check_idle(self) -> None:
        now, timeout = self._loop.time(), self._limits.idle_timeout
        if self.listening or self._task is not None or self._unsent:
            self._idle_since = now
        left = self._idle_since + timeout - now
        if left > 0:
            self._idle_timer = self._loop.call_later(left, self._check_idle)
        else:
            hint = "connect again, or raise idle_timeout in the configuration"
            self.disconnect(TimedOut(f"nothing was asked for {timeout:g} seconds", hint=hint))

    def _check_stuck(self) -> None:
        self._stuck_timer = None
        if self._stuck_since is None:
            return
        timeout = self._limits.write_timeout
        left = self._stuck_since + timeout - self._loop.time()
        if left > 0:
            self._stuck_timer = self._loop.call_later(left, self._check_stuck)
        else:
            why = f"it read nothing for {timeout:g} seconds while {len(self._unsent)} bytes waited"
            self._log.info("client disconnected", why=why, uid=self.peer.uid, pid=self.peer.pid)
            self.close()


def _too_long() -> InvalidRequest:
    return InvalidRequest(f"a request above {MAX_REQUEST} bytes", hint="send several")


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
