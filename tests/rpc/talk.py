"""Talking with the daemon over its control socket, line by line: say this, hear that - and see it all when it breaks.

    talk.say({"jsonrpc": "2.0", "id": 1, "method": "link.list"})
    talk.hear(result(1, []))

When the daemon says something else than was expected, or nothing, the test fails with the conversation as it was
expected to be and as it was, one marked against the other.
"""

from __future__ import annotations

import array
import difflib
import json
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from vethd.errors import KINDS

HANG_UP: Final = "(hangs up)"
SILENCE: Final = "(nothing)"
_CODES: Final = {error.kind: error.code for error in KINDS}
_LONGEST: Final = 2000


class Anything:
    """Equal to whatever comes."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "..."


ANYTHING: Final = Anything()


def request(number: Any, method: str, **params: Any) -> dict[str, Any]:
    """A request with parameters by name."""
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


def result(number: Any, value: Any = ANYTHING) -> dict[str, Any]:
    """The answer when all went well."""
    return {"jsonrpc": "2.0", "id": number, "result": value}


def refused(number: Any, kind: str, message: Any = ANYTHING, **data: Any) -> dict[str, Any]:
    """The answer when it did not; data: `hint` and `errno`, or nothing to accept any."""
    expected = {"kind": kind, **data} if data else _OfKind(kind)
    return {"jsonrpc": "2.0", "id": number, "error": {"code": _CODES[kind], "message": message, "data": expected}}


class _OfKind:
    """Equal to the `data` of any error of a kind."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def __eq__(self, other: object) -> bool:
        return isinstance(other, dict) and other.get("kind") == self._kind

    def __hash__(self) -> int:
        return hash(self._kind)

    def __repr__(self) -> str:
        return f"{{'kind': {self._kind!r}, ...}}"


class Talk:
    """One connection to the control socket, with a transcript. Without a path it is not connected yet."""

    def __init__(self, path: Path | str | None, within: float = 10.0) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._pending = b""
        self._expected: list[str] = []
        self._actual: list[str] = []
        self._within = within
        if path is not None:
            self.connect(path)

    def connect(self, path: Path | str) -> None:
        """Connect; the daemon sees the credentials of the process that does it."""
        try:
            self.socket.connect(str(path))
        except OSError:
            self.socket.close()
            raise
        self.socket.settimeout(self._within)

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    # -- saying -------------------------------------------------------------------------------------------------------

    def say(self, message: Any, fds: Sequence[int] = ()) -> None:
        """Send one line: a text as it is, anything else as JSON."""
        text = message if isinstance(message, str) else json.dumps(message)
        self.send(text.encode() + b"\n", fds)

    def send(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send bytes that need not be a line."""
        line = f"> {data[:_LONGEST]!r}{f' with {len(fds)} fds' if fds else ''}"
        self._expected.append(line)
        self._actual.append(line)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        sent = self.socket.sendmsg([data], rights)
        if data[sent:]:
            self.socket.sendall(data[sent:])

    def say_no_more(self) -> None:
        """Close the sending half."""
        self.socket.shutdown(socket.SHUT_WR)

    # -- hearing ------------------------------------------------------------------------------------------------------

    def hear(self, expected: Any) -> Any:
        """The next line, which must be this JSON value; what is ANYTHING in it may be anything."""
        heard = self._line()
        value = heard if heard in (HANG_UP, SILENCE) else json.loads(heard)
        self._compare(expected, value)
        return value

    def hear_hanging_up(self) -> None:
        """The daemon closes the connection, and says nothing before that."""
        self._compare(HANG_UP, self._line())

    def hear_nothing(self) -> None:
        """No answer comes to what was said: that to a later request is the next one, and answers keep their order."""
        self.say(request("now?", "daemon.info"))
        self.hear(result("now?"))

    def _compare(self, expected: Any, actual: Any) -> None:
        self._expected.append(f"< {expected}")
        self._actual.append(f"< {expected}" if expected == actual else f"< {actual}"[:_LONGEST])
        if expected != actual:
            raise AssertionError("\n".join(difflib.ndiff(self._expected, self._actual)))

    def _line(self) -> str:
        try:
            while b"\n" not in self._pending:
                data = self.socket.recv(1 << 16)
                if not data:
                    return HANG_UP
                self._pending += data
        except TimeoutError:
            return SILENCE
        except ConnectionResetError:
            return HANG_UP
        line, _newline, self._pending = self._pending.partition(b"\n")
        return line.decode()
