"""The channel between supervisor and worker: SOCK_SEQPACKET, one JSON object per packet, file descriptors beside it.

Message by message it is described in docs/worker-protocol.md. Both sides use `Channel`; what a worker says is checked
by `parse_report` before the supervisor believes it, for a worker may have been taken over by a frame.
"""

from __future__ import annotations

import array
import asyncio
import json
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, Final

#: Raised when messages change their meaning; a supervisor drains workers of another version.
PROTOCOL_VERSION: Final = 4
#: A packet is one message; the largest is an `add` of a pair, well below 1 KiB.
MAX_MESSAGE: Final = 65536
MAX_FDS: Final = 16
#: A sender whose frames' headers are refused is reported at this many frames, and at each doubling after.
HDR_INVALID_REPORT: Final = 16

Message = dict[str, Any]


class ChannelError(Exception):
    """Raised when the other side said something that is not in the protocol."""


class Channel:
    """One end of the channel on an asyncio loop. Sending never blocks and keeps order.

    on_message(message, fds) is called for each packet; it owns the fds. on_close(reason) is called once, when the other
    side is gone or said something that is no message.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        on_message: Callable[[Message, list[int]], None],
        on_close: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._on_message = on_message
        self._on_close = on_close
        self._unsent: deque[tuple[bytes, list[int]]] = deque()
        self._closed = False
        sock.setblocking(False)
        loop.add_reader(sock.fileno(), self._readable)

    def send(self, message: Message, fds: list[int] | None = None) -> None:
        """Send a message; the fds stay the caller's and must stay open until the other side has answered."""
        if self._closed:
            return
        self._unsent.append((json.dumps(message, separators=(",", ":")).encode(), fds or []))
        if len(self._unsent) == 1:
            self._flush()

    def close(self) -> None:
        """Close the channel; on_close is not called."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()

    def _flush(self) -> None:
        while self._unsent:
            data, fds = self._unsent[0]
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
            try:
                self._sock.sendmsg([data], rights)
            except BlockingIOError:
                self._loop.add_writer(self._sock.fileno(), self._flush)
                return
            except OSError as error:
                self._lost("closed" if isinstance(error, ConnectionError) else error.strerror or str(error))
                return
            self._unsent.popleft()
        self._loop.remove_writer(self._sock.fileno())

    def _readable(self) -> None:
        try:
            data, fds = receive(self._sock)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost("closed" if isinstance(error, ConnectionError) else error.strerror or str(error))
            return
        try:
            message = json.loads(data) if data else None
            if not isinstance(message, dict):
                raise ValueError("not an object")
        except (ValueError, RecursionError) as error:  # the latter: nested thousands of levels deep
            for fd in fds:  # there may be some even beside an empty packet
                os.close(fd)
            self._lost(f"not a message: {error}" if data else "closed")
            return
        self._on_message(message, fds)

    def _lost(self, reason: str) -> None:
        if not self._closed:
            self.close()
            self._on_close(reason)


def receive(sock: socket.socket, size: int = MAX_MESSAGE, max_fds: int = MAX_FDS) -> tuple[bytes, list[int]]:
    """What one recvmsg gives: at most `size` bytes and the fds beside them; b"" when the other side is gone."""
    data, ancillary, _flags, _address = sock.recvmsg(
        size, socket.CMSG_SPACE(max_fds * array.array("i").itemsize), socket.MSG_CMSG_CLOEXEC
    )
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    return data, list(fds)


#: What a worker may say: per `op` the fields it must have and their types.
_REPORTS: Final[dict[str, dict[str, type]]] = {
    "ready": {"version": int, "pid": int, "frameio": str, "datapath": str, "why": str},
    "unable": {"why": str, "remedy": str},
    "ack": {"seq": int},
    "refused": {"seq": int, "why": str},
    "gone": {"end": int},
    "hdr_invalid": {"end": int, "frames": int},
}
#: Of a text in a report; characters.
LONGEST_TEXT: Final = 500


def parse_report(message: Message) -> Message:
    """What a worker said, checked field by field.

    Raises ChannelError when the operation is unknown, or a field is missing, extra, of the wrong type, or out of range.
    """
    op = message.get("op")
    fields = _REPORTS.get(op) if isinstance(op, str) else None
    if fields is None:
        raise ChannelError(f"unknown op {str(op)[:40]!r}")
    if message.keys() != fields.keys() | {"op"}:
        raise ChannelError(f"{op}: fields {str(sorted(message))[:200]} are not those of the protocol")
    for name, kind in fields.items():
        value = message[name]
        if type(value) is not kind:
            raise ChannelError(f"{op}: field {name} is not of type {kind.__name__}")
        if isinstance(value, int) and not 0 <= value < 1 << 63:
            raise ChannelError(f"{op}: field {name} is out of range")
        if isinstance(value, str) and len(value) > LONGEST_TEXT:
            raise ChannelError(f"{op}: field {name} is too long")
        if isinstance(value, str) and not value.isprintable():  # it ends up in logs and on terminals
            raise ChannelError(f"{op}: field {name} is not printable")
    return message
