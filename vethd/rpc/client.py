"""A client of the control socket, for other programs. Needs nothing but the standard library.

    with Client() as client:
        pair = client.link_add(a={"ifname": "eth0", "netns": "red"}, b={"ifname": "eth0", "netns": "blue"})
        print(pair["a"]["address"], client.stats_get(pair=pair["pair"]))

There is one method for each of the daemon's (see wire.py), and `call` for any by its name. `AsyncClient` is the twin
for asyncio, which is imported only with it. Strings in `netns` fields are opened by the client and sent along; `netns`
opens one for several calls.

When the daemon goes away, the next call connects again. What is lost half-way is asked again where that is safe: it
only looks, or it carries a token, which the client adds. Otherwise NotRunning says that the outcome is not known.
"""

from __future__ import annotations

import array
import os
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Self, Unpack

from vethd.rpc.conversation import PENDING, Lines, NotRunning, Request, RpcError
from vethd.rpc.listening import Events, State
from vethd.rpc.namespaces import Namespace, netns
from vethd.rpc.wire import Calls

if TYPE_CHECKING:
    from vethd.rpc.aio import AsyncClient
    from vethd.rpc.shapes import SubscribeParams

__all__ = ["AsyncClient", "Client", "Events", "Namespace", "NotRunning", "RpcError", "State", "netns", "socket_path"]

DEFAULT_SOCKET: Final = "/run/vethd/control.sock"
CHUNK: Final = 1 << 16


def socket_path(path: str | None = None) -> str:
    """The control socket: the argument, else $VETHD_SOCKET, else the default."""
    return path or os.environ.get("VETHD_SOCKET") or DEFAULT_SOCKET


class Client(Calls):
    """A blocking connection, for one thread. The caller's own namespace is that of the thread that makes it.

    path: of the socket; see socket_path. timeout: seconds to wait for an answer. Raises NotRunning.
    """

    def __init__(self, path: str | None = None, timeout: float = 60.0) -> None:
        self.path = socket_path(path)
        self.timeout = timeout
        self._home = own_netns()
        self._number = 0
        self._lines = Lines()
        self._socket: socket.socket | None = None
        try:
            self._connect()
        except OSError as error:
            raise unreachable(self.path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect; a call connects again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def call(self, method: str, params: Mapping[str, Any] | None = None, fds: Sequence[int] | None = None) -> Any:
        """Call a method by name; fds go along and stay the caller's.

        Returns the result. Raises RpcError, or NotRunning when the daemon goes away.
        """
        self._number += 1
        request = Request(self._number, method, params, fds)
        try:
            if self._socket is None or hung_up(self._socket, self._lines):
                self._connect_again()
            try:
                return self._ask(request)
            except ConnectionError as error:
                if not request.repeatable:
                    raise
                lost = error
            try:
                self._connect_again()
            except NotRunning:
                raise lost from None
            return self._ask(request)
        except (OSError, ValueError) as error:
            self.close()
            raise broken(self.path, error, request) from error
        except (RpcError, NotRunning):
            raise
        except BaseException:  # in the middle of a line, perhaps
            self.close()
            raise
        finally:
            request.close()

    def events(self, patience: float = 60.0, **params: Unpack[SubscribeParams]) -> Events:
        """Iterate over events, beginning with the present State; over a connection of its own.

            for event in client.events(topics=["link"]):
                if isinstance(event, State):
                    ...  # everything, as it is now: replaces what was known
                else:
                    print(event["event"], event["fields"])

        topics, since, interval: see events.subscribe. patience: seconds to wait for a daemon that went away.
        Raises NotRunning, RpcError.
        """
        return Events(Client(self.path, self.timeout), params, patience)

    def listen(self) -> dict[str, Any]:
        """Wait for a line that answers no request, however long. Raises OSError, ValueError when there are no more."""
        if self._socket is None:
            raise ConnectionResetError("not connected")
        self._socket.settimeout(None)
        while (message := self._lines.take()) is PENDING:
            self._lines.feed(self._socket.recv(CHUNK))
        heard: dict[str, Any] = message
        return heard

    def _connect_again(self) -> None:
        """Raises NotRunning."""
        self.close()
        check_home(self.path, self._home)
        try:
            self._connect()
        except OSError as error:
            raise unreachable(self.path, error) from error

    def _connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Python's own timeout makes connect non-blocking, and that fails at once while many others wait to be accepted.
        seconds, rest = divmod(self.timeout, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", int(seconds), int(rest * 1e6)))
        try:
            sock.connect(self.path)
        except OSError:
            sock.close()
            raise
        self._lines = Lines()
        self._socket = sock

    def _ask(self, request: Request) -> Any:
        """Send a request and wait for its result. Raises RpcError, OSError, ValueError."""
        assert self._socket is not None
        deadline = time.monotonic() + self.timeout
        try:
            self._socket.settimeout(self.timeout)
            sent = self._socket.sendmsg([request.text], rights(request.fds))
            self._socket.sendall(request.text[sent:])
        except BrokenPipeError:
            pass  # it hung up; what it said before is still to be read
        while (result := self._lines.answer(request.number)) is PENDING:
            self._socket.settimeout(max(deadline - time.monotonic(), 1e-3))
            self._lines.feed(self._socket.recv(CHUNK))
        return result


def own_netns() -> int:
    """The inode of the calling thread's network namespace."""
    return os.stat("/proc/thread-self/ns/net").st_ino


def check_home(path: str, home: int) -> None:
    """Raise NotRunning when this thread is in another namespace than the client was made in."""
    if own_netns() != home:
        raise NotRunning(
            f"{path}: the connection is gone, and was made in another network namespace: make a new client"
        )


def hung_up(sock: socket.socket, lines: Lines) -> bool:
    """Whether the daemon closed an idle connection. Raises RpcError when it said why, and that was not its idleness."""
    sock.settimeout(0)
    try:
        while True:
            lines.feed(sock.recv(CHUNK))
    except BlockingIOError:
        return False
    except OSError:
        pass
    try:
        lines.answer(0)
    except ConnectionResetError:
        pass
    return True


def rights(fds: Sequence[int]) -> list[tuple[int, int, array.array[int]]]:
    """File descriptors as ancillary data."""
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []


def unreachable(path: str, error: OSError) -> NotRunning:
    """What to say when nobody listens, or not to us."""
    forbidden = isinstance(error, PermissionError)
    hint = "May you enter its directory?" if forbidden else "Is vethd running, and is this its socket?"
    return NotRunning(f"{path}: {error.strerror or error}. {hint}")


def broken(path: str, error: Exception, request: Request) -> NotRunning:
    """What to say when a connection broke while a request was on its way."""
    return NotRunning(f"{path}: the connection broke: {error}", outcome_unknown=not request.looks)


def __getattr__(name: str) -> Any:
    if name == "AsyncClient":  # asyncio costs three times as much as all of this
        from vethd.rpc.aio import AsyncClient

        return AsyncClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
