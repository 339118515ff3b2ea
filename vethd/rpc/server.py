"""The control socket: listens, and has a place for at most so many clients. connection.py serves each of them.

Strangers, who may do nothing, never have more than one in STRANGERS of the places.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from structlog.typing import FilteringBoundLogger

from vethd.config import LimitConfig
from vethd.errors import LimitReached
from vethd.host import limits
from vethd.rpc.access import Peer, Role, peer_of
from vethd.rpc.connection import Connection, Handle
from vethd.rpc.envelope import refusal

STRANGERS: Final = 8
#: Seconds without accepting when no file descriptor is free; the listener stays readable all the while.
_ACCEPT_PAUSE: Final = 0.5
#: Clients that may wait to be accepted; a non-blocking connect fails above that.
_BACKLOG: Final = 1024


class AlreadyRunning(Exception):
    """Raised when another process listens on the control socket."""


class UnsafeDirectory(Exception):
    """Raised when somebody else could put a socket of theirs in the place of ours. hint: what to do about it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class Server:
    """Listens at `path` and keeps at most `limits.clients` connections.

    limits: may be replaced; the time-outs are then for who connects from then on.
    """

    def __init__(self, path: Path, limits: LimitConfig, handle: Handle, log: FilteringBoundLogger) -> None:
        self._loop = asyncio.get_running_loop()
        self._path = path
        self.limits = limits
        self._handle = handle
        self._log = log
        self._connections: set[Connection] = set()
        self._socket: socket.socket | None = None
        self._paused = False
        self.inode = 0

    def adopt(self, listener: int, inode: int | None) -> None:
        """Listen on the socket of a predecessor, where that is; who connected meanwhile waits until `serve`.

        inode: of its path, None when that is not known: the one there is now; 0 when the path is not ours to remove.
        Raises OSError when it is no socket.
        """
        self._socket = socket.socket(fileno=listener)
        self._socket.setblocking(False)
        self._path = Path(self._socket.getsockname())
        with suppress(FileNotFoundError):  # somebody removed it
            self.inode = self._path.stat().st_ino if inode is None else inode

    @property
    def connected(self) -> int:
        """Clients that are connected."""
        return len(self._connections)

    def bind(self) -> None:
        """Take the path; who connects waits until `serve`. Raises AlreadyRunning, UnsafeDirectory, OSError."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.setblocking(False)
        try:
            check_directory(self._path)
            _remove_stale(self._path)
            listener.bind(str(self._path))
            os.chmod(self._path, 0o666)  # who may do what is decided per connection, see access.py
            listener.listen(_BACKLOG)
            self.inode = self._path.stat().st_ino
        except OSError as error:
            listener.close()
            raise OSError(error.errno, error.strerror or str(error), str(self._path)) from error
        except (AlreadyRunning, UnsafeDirectory):
            listener.close()
            raise
        self._socket = listener

    def serve(self) -> None:
        """Accept clients."""
        self._paused = False
        self._accept_on()

    def _accept_on(self) -> None:
        if self._socket is not None and not self._paused:
            self._loop.add_reader(self._socket.fileno(), self._accept)

    @property
    def listener(self) -> int:
        """The fd that listens."""
        assert self._socket is not None
        return self._socket.fileno()

    @property
    def path(self) -> Path:
        """Where it listens."""
        return self._path

    def pause(self) -> None:
        """Accept nobody for now; who connects waits until `serve`."""
        self._paused = True
        self._loop.remove_reader(self.listener)

    @property
    def busy(self) -> bool:
        """True while clients are connected."""
        return bool(self._connections)

    async def settle(self) -> None:
        """Let what is being handled finish, and disconnect everybody."""
        await asyncio.gather(*(connection.finish() for connection in self._connections))

    async def stop(self) -> None:
        """Take no more connections, remove the socket, and let what is being handled finish."""
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
            if self._path.exists() and self._path.stat().st_ino == self.inode:  # still ours
                self._path.unlink()
        await self.settle()

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
                self._loop.call_later(_ACCEPT_PAUSE, self._accept_on)
            return
        sock.setblocking(False)
        try:
            peer = peer_of(sock)
            self._check_limits(peer)
            limits.check_descriptor(sock.fileno(), limits.KEPT_FROM_CLIENTS)
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
            connection = Connection(self._loop, sock, peer, self._handle, self.limits, self._log)
            connection.on_close.append(partial(self._connections.discard, connection))
            self._connections.add(connection)

    def _check_limits(self, peer: Peer) -> None:
        """Raise LimitReached when there is no place for one more."""
        clients = self.limits.clients
        if len(self._connections) >= clients:
            raise LimitReached(
                f"{clients} clients are connected", hint="disconnect some, or raise clients in the configuration"
            )
        strangers = sum(other.peer.role is Role.NOTHING for other in self._connections)
        if peer.role is Role.NOTHING and strangers >= max(1, clients // STRANGERS):
            raise LimitReached(f"{strangers} clients without rights are connected", hint="try again later")


def check_directory(path: Path) -> None:
    """Insist that only root and the daemon's user can replace the socket. Raises UnsafeDirectory, OSError."""
    directory = path.parent
    status = directory.stat()
    if status.st_uid not in (0, os.geteuid()):
        raise UnsafeDirectory(
            f"control socket {path}: its directory belongs to uid {status.st_uid}, who could replace it",
            hint=f"chown root {directory}, or choose another path",
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX:
        raise UnsafeDirectory(
            f"control socket {path}: others may write to its directory (mode {stat.S_IMODE(status.st_mode):04o}) and "
            "could replace it",
            hint=f"chmod go-w {directory}, or choose another path",
        )


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
