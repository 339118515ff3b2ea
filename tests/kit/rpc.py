"""A small JSON-RPC 2.0 client for the control socket, independent of vethd's own."""

import array
import itertools
import json
import socket
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class RpcError(Exception):
    """The daemon answered with an error object."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(json.dumps(error))
        self.code: int = error["code"]
        self.message: str = error["message"]
        self.data: dict[str, Any] = error.get("data") or {}

    @property
    def kind(self) -> str:
        """The stable word for this error."""
        return str(self.data.get("kind"))


class RpcClient:
    """One connection to the control socket, one JSON text per line."""

    def __init__(self, path: Path, within: float = 20.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(within)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._pending = b""
        self._ids = itertools.count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def send_text(self, text: str | bytes, fds: tuple[int, ...] = ()) -> None:
        """Send raw bytes, with file descriptors if given; a test may send what no client would."""
        data = text.encode() if isinstance(text, str) else text
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        sent = self._socket.sendmsg([data], ancillary)
        self._socket.sendall(data[sent:])

    def read_line(self) -> Any:
        """Return the next JSON text the daemon sends; EOFError when it hangs up instead."""
        while b"\n" not in self._pending:
            data = self._socket.recv(1 << 16)
            if not data:
                raise EOFError("the daemon closed the connection")
            self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        return json.loads(line)

    def call(self, method: str, params: Any = None, fds: tuple[int, ...] = ()) -> Any:
        """Call a method and return its result; RpcError when the daemon refuses."""
        number = next(self._ids)
        request = {"jsonrpc": "2.0", "id": number, "method": method, "params": params if params is not None else {}}
        self.send_text(json.dumps(request) + "\n", fds)
        while True:
            answer = self.read_line()
            if isinstance(answer, dict) and answer.get("id") == number:
                if "error" in answer:
                    raise RpcError(answer["error"])
                return answer["result"]
