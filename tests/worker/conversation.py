"""Talking with a worker over its channel, line by line: say this, hear that - and see the whole talk when it breaks.

    talk.say("add", ends=[...], fds=[3, 4])
    talk.hear("ack", seq=2)

Each packet is one line of the transcript. When the worker says something else than was expected, or nothing, the test
fails with the transcript as it was expected to be and as it was, one marked against the other.
"""

from __future__ import annotations

import array
import difflib
import itertools
import json
import socket
from collections.abc import Callable
from typing import Any, Final

MAX_MESSAGE: Final = 1 << 16
SILENCE: Final = "(nothing)"
HANG_UP: Final = "(hung up)"


class Where:
    """A field's value that must meet a condition instead of being equal: `Where(lambda n: n >= 16, ">= 16")`."""

    def __init__(self, condition: Callable[[Any], bool], text: str) -> None:
        self._condition = condition
        self._text = text

    def __eq__(self, other: object) -> bool:
        return self._condition(other)

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return f"<{self._text}>"


def at_least(least: int) -> Where:
    """Any integer not below `least`."""
    return Where(lambda value: type(value) is int and value >= least, f">= {least}")


def one_of(*words: str) -> Where:
    """Any of these words."""
    return Where(lambda value: value in words, " or ".join(words))


class Conversation:
    """The supervisor's side of a channel, with a transcript."""

    def __init__(self, sock: socket.socket, within: float = 10.0) -> None:
        self._socket = sock
        self._socket.settimeout(within)
        self._sequence = itertools.count(1)
        self._expected: list[str] = []
        self._actual: list[str] = []
        self._ignored: set[str] = set()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    # -- saying -------------------------------------------------------------------------------------------------------

    def say(self, op: str, fds: list[int] | None = None, **fields: Any) -> int:
        """Send a message with the next sequence number; returns the number."""
        seq = next(self._sequence)
        self.say_raw(json.dumps({"op": op, "seq": seq, **fields}).encode(), fds)
        return seq

    def say_raw(self, packet: bytes, fds: list[int] | None = None) -> None:
        """Send a packet that need not be a message."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        line = f"> {packet.decode(errors='replace')}{f' with {len(fds)} fds' if fds else ''}"
        self._expected.append(line)
        self._actual.append(line)
        self._socket.sendmsg([packet], rights)

    # -- hearing ------------------------------------------------------------------------------------------------------

    def hear(self, op: str, **fields: Any) -> dict[str, Any]:
        """The next message, which must be exactly this one; values may be `Where`."""
        wanted = {"op": op, **fields}
        packet = self._next()
        heard = json.loads(packet) if isinstance(packet, bytes) else packet
        if heard == wanted:
            line = f"< {json.dumps(heard)}"
            self._expected.append(line)
            self._actual.append(line)
            assert isinstance(heard, dict)
            return heard
        self._expected.append(f"< {wanted!r}")
        self._actual.append(f"< {heard!r}")
        raise AssertionError(f"the worker said something else\n{self._difference()}")

    def hear_hang_up(self) -> None:
        """The worker must close the channel now, without another word."""
        packet = self._next()
        if packet != HANG_UP:
            self._expected.append(f"< {HANG_UP}")
            self._actual.append(f"< {packet!r}")
            raise AssertionError(f"the worker did not hang up\n{self._difference()}")

    def ask(self, op: str, fds: list[int] | None = None, **fields: Any) -> None:
        """Send a message whose acknowledgement must be the very next word."""
        self.hear("ack", seq=self.say(op, fds, **fields))

    def ignore(self, op: str) -> None:
        """From now on messages with this op may come at any time; they stand in the transcript, but are not heard."""
        self._ignored.add(op)

    def _next(self) -> bytes | str:
        while True:
            packet = self._receive()
            if isinstance(packet, str) or not self._ignored or json.loads(packet).get("op") not in self._ignored:
                return packet
            line = f"  {packet.decode()}"
            self._expected.append(line)
            self._actual.append(line)

    def _receive(self) -> bytes | str:
        try:
            packet = self._socket.recv(MAX_MESSAGE)
        except TimeoutError:
            return SILENCE
        except ConnectionResetError:
            return HANG_UP
        return packet or HANG_UP

    def _difference(self) -> str:
        return "\n".join(difflib.ndiff(self._expected, self._actual))
