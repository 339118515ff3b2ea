"""A client of the control socket: send a request, get its result. Needs nothing but the standard library."""

from __future__ import annotations

import array
import json
import os
import socket
import struct
from typing import Any, Final

DEFAULT_SOCKET: Final = "/run/vethd/control.sock"
_CHUNK: Final = 1 << 16


class RpcError(Exception):
    """Raised when the daemon answers with an error.

    code: JSON-RPC's. kind: the stable word (see vethd.errors). errno: the kernel's, as a name, or None. hint: what to
    do, or None.
    """

    def __init__(self, code: int, message: str, data: dict[str, Any] | None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        data = data or {}
        self.kind: str = data.get("kind", "internal")
        self.errno: str | None = data.get("errno")
        self.hint: str | None = data.get("hint")


class NotRunning(Exception):
    """Raised when no daemon answers at the socket; the text says why and what to do."""


def socket_path(path: str | None = None) -> str:
    """The control socket: the argument, else $VETHD_SOCKET, else the default."""
    return path or os.environ.get("VETHD_SOCKET") or DEFAULT_SOCKET


class Client:
    """A blocking connection. The caller's own namespace is that of the thread that makes it.

    path: of the socket; see socket_path. timeout: seconds to wait for an answer. Raises NotRunning.
    """

    def __init__(self, path: str | None = None, timeout: float = 60.0) -> None:
        self.path = socket_path(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Python's own timeout makes connect non-blocking, and that fails at once while many others wait to be accepted.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", int(timeout), 0))
        self._buffer = b""
        self._id = 0
        try:
            self._socket.connect(self.path)
        except OSError as error:
            self._socket.close()
            reason = error.strerror or error
            raise NotRunning(f"{self.path}: {reason}. Is vethd running, and is this its socket?") from error
        self._socket.settimeout(timeout)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect."""
        self._socket.close()

    def call(self, method: str, params: dict[str, Any] | None = None, fds: list[int] | None = None) -> Any:
        """Call a method; fds go along and stay the caller's.

        Returns the result. Raises RpcError, or NotRunning when the daemon goes away.
        """
        self._id += 1
        request = {"jsonrpc": "2.0", "id": self._id, "method": method, "params": params or {}}
        text = json.dumps(request, separators=(",", ":")).encode() + b"\n"
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            try:
                sent = self._socket.sendmsg([text], rights)
                self._socket.sendall(text[sent:])
            except BrokenPipeError:
                pass  # it hung up; what it said before is still to be read
            answer = json.loads(self._line())
        except (OSError, ValueError) as error:
            raise NotRunning(f"{self.path}: the connection broke: {error}") from error
        if "error" in answer:
            raise RpcError(answer["error"]["code"], answer["error"]["message"], answer["error"].get("data"))
        return answer["result"]

    def _line(self) -> bytes:
        while b"\n" not in self._buffer:
            data = self._socket.recv(_CHUNK)
            if not data:
                raise ConnectionResetError("the daemon closed it")
            self._buffer += data
        line, _newline, self._buffer = self._buffer.partition(b"\n")
        return line
