"""Log lines for systemd's journal by its own protocol, so that `journalctl VETHD_PAIR=...` finds them.

A datagram per line, each field in it a name and a value. Source: systemd.io/JOURNAL_NATIVE_PROTOCOL.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any, Final

import structlog
from structlog.typing import EventDict, WrappedLogger

SOCKET: Final = "/run/systemd/journal/socket"
#: syslog's severities of our levels, syslog(3).
PRIORITIES: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
#: Fields of the journal for what has different names in different lines; a line may have several values of a field.
#: All else is VETHD_ and its name. Namespaces are named by inode, as in /proc/PID/ns/net, or by what was asked for.
FIELDS: Final = {
    "netns": "NETNS",
    "a_netns": "NETNS",
    "b_netns": "NETNS",
    "from_netns": "NETNS",
    "a": "VETHD_IFNAME",
    "b": "VETHD_IFNAME",
    "from_ifname": "VETHD_IFNAME",
}
#: Seconds to wait for a journal that does not keep up.
_SEND_WITHIN: Final = 1.0


def on_stderr() -> bool:
    """True when standard error goes to the journal, see `JOURNAL_STREAM` in systemd.exec(5)."""
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class Journald:
    """The last processor of lines that the journal takes. Those that it does not take go on to the next one."""

    def __init__(self, path: str = SOCKET) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(_SEND_WITHIN)

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        """Send a line. Raises DropEvent when that is done."""
        try:
            self._socket.sendto(datagram(event), self._path)
        except OSError:  # it is being restarted, or the line is longer than a datagram
            return event
        raise structlog.DropEvent


def datagram(event: EventDict) -> bytes:
    """A line as the journal takes it."""
    return b"".join(_field(name, value) for name, value in _fields(event))


def _fields(event: EventDict) -> Iterator[tuple[str, str]]:
    said = {name: value for name, value in event.items() if name not in ("event", "level", "exception")}
    text = " ".join([event["event"], *(f"{name}={_plain(value)}" for name, value in said.items())])
    yield "MESSAGE", "\n".join([text, *([event["exception"]] if "exception" in event else [])])
    yield "PRIORITY", str(PRIORITIES[event["level"]])
    yield "SYSLOG_IDENTIFIER", "vethd"
    yield "VETHD_EVENT", event["event"]
    for name, value in said.items():
        yield FIELDS.get(name, f"VETHD_{name.upper()}"), _text(value)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


def _plain(value: Any) -> str:
    """A value in a sentence; quoted where it could be taken for more: who owns a namespace names its interfaces."""
    text = _text(value)
    return text if text and text.isprintable() and not set(text) & set(" \"'=") else repr(text)


def _field(name: str, value: str) -> bytes:
    raw = value.encode(errors="backslashreplace")
    if b"\n" in raw:
        return b"%s\n%s%s\n" % (name.encode(), len(raw).to_bytes(8, "little"), raw)
    return b"%s=%s\n" % (name.encode(), raw)
