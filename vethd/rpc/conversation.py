"""What both clients say and hear, without a socket: requests as lines, lines as results and errors."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

from vethd.rpc.namespaces import open_all
from vethd.rpc.wire import LOOKING, NETNS, WITH_TOKEN

#: What `Lines.answer` returns while the answer is not there yet; any JSON value may be a result.
PENDING: Final = object()


class RpcError(Exception):
    """Raised when the daemon answers with an error.

    code: JSON-RPC's. kind: the stable word (see vethd.errors). errno: the kernel's, as a name, or None. hint: what to
    do, or None.
    """

    def __init__(self, code: int, message: str, data: Mapping[str, Any] | None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        data = data or {}
        self.kind: str = data.get("kind", "internal")
        self.errno: str | None = data.get("errno")
        self.hint: str | None = data.get("hint")


class NotRunning(Exception):
    """Raised when no daemon answers at the socket; the text says why and what to do.

    outcome_unknown: the request was sent, and whether it was done is not known.
    """

    def __init__(self, text: str, *, outcome_unknown: bool = False) -> None:
        super().__init__(text + ("; whether it was done is not known" if outcome_unknown else ""))
        self.outcome_unknown = outcome_unknown


class Request:
    """One request, ready to be sent, as often as it takes.

    number: its id. text: the line that asks for it. fds: go along with it. repeatable: doing it twice is as good as
    once. looks: it changes nothing.
    """

    def __init__(
        self, number: int, method: str, params: Mapping[str, Any] | None, fds: Sequence[int] | None = None
    ) -> None:
        self.number = number
        self.looks = method in LOOKING
        if method in WITH_TOKEN:
            params = {"token": os.urandom(16).hex(), **(params or {})}
        self.repeatable = self.looks or bool(params and params.get("token"))
        self._opened = open_all(params or {}, NETNS.get(method, ()), fds or ())
        self.fds = self._opened.fds
        request = {"jsonrpc": "2.0", "id": number, "method": method, "params": self._opened.params}
        try:
            self.text = json.dumps(request, separators=(",", ":")).encode() + b"\n"
        except BaseException:  # not to be said in JSON
            self._opened.close()
            raise

    def close(self) -> None:
        """Close the namespaces that were opened for it."""
        self._opened.close()


class Lines:
    """What came from the daemon, line by line."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0

    def feed(self, data: bytes) -> None:
        """Take what was received. Raises ConnectionResetError when that is nothing: the daemon hung up."""
        if not data:
            raise ConnectionResetError("the daemon closed it")
        self._buffer += data

    def take(self) -> Any:
        """The next line's JSON value, or PENDING. Raises ValueError when it is no JSON object."""
        end = self._buffer.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(self._buffer)
            return PENDING
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        message = json.loads(line)
        if not isinstance(message, dict):
            raise ValueError("not an answer")
        return message

    def answer(self, number: int) -> Any:
        """The result of the request with this number, or PENDING; what else comes meanwhile is passed over.

        Raises RpcError, also for an error that is about the connection instead of a request; ConnectionResetError when
        that is that nothing was asked for too long; ValueError.
        """
        while (message := self.take()) is not PENDING:
            error = message.get("error")
            if error is not None and message.get("id") in (number, None):
                refused = RpcError(error["code"], error["message"], error.get("data"))
                if refused.kind == "timed_out":
                    raise ConnectionResetError(refused.message)
                raise refused
            if message.get("id") == number and "result" in message:
                return message["result"]
        return PENDING
