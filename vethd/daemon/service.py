"""What passes between the daemon and systemd, see sd_notify(3) and sd_listen_fds(3). Without systemd nothing does.

Both protocols are a few lines, and no package on PyPI speaks all of them without a C compiler: sending file descriptors
is missing from most. Nothing here waits for systemd longer than SEND_WITHIN; it may be busy with others.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from structlog.typing import FilteringBoundLogger

_FIRST: Final = 3  # SD_LISTEN_FDS_START
#: Seconds for a message that has to arrive; the others are left out when systemd does not keep up.
SEND_WITHIN: Final = 5.0
#: Seconds between two looks at what the status line says.
_STATUS_EVERY: Final = 1.0


def listen_fds() -> list[tuple[str, int]]:
    """Names and numbers of the file descriptors that systemd left for this process; to be asked once, at the start.

    They are close-on-exec from now on, and children don't see that there were any. A name may stand for several.
    """
    pid, count, names = (os.environ.pop(f"LISTEN_{name}", "") for name in ("PID", "FDS", "FDNAMES"))
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    fds = range(_FIRST, _FIRST + int(count))
    for fd in fds:
        os.set_inheritable(fd, False)
    named = names.split(":") if names else []
    named += ["unknown"] * (len(fds) - len(named))  # as sd_listen_fds_with_names does
    return list(zip(named, fds, strict=False))


class Service:
    """Tells systemd how the daemon is, and feeds its watchdog while the event loop turns; to be made on that loop.

    well: whether the daemon is; the watchdog is not fed while it is not.
    Nothing at all happens unless $NOTIFY_SOCKET is set.
    """

    def __init__(self, log: FilteringBoundLogger) -> None:
        self._loop = asyncio.get_running_loop()
        self._log = log
        self.well: Callable[[], bool] = lambda: True
        self._status = ""
        self._told = ""
        self._stopping = False
        self._timer: asyncio.TimerHandle | None = None
        self._feeding: asyncio.TimerHandle | None = None
        self._socket: socket.socket | None = None
        self._address = os.environ.get("NOTIFY_SOCKET", "").replace("@", "\0", 1)
        if self._address[:1] in ("/", "\0"):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.settimeout(SEND_WITHIN)
            if (period := _watchdog_period()) is not None:
                self._feed(period)

    @property
    def present(self) -> bool:
        """True when there is a systemd to talk to."""
        return self._socket is not None

    def send(self, *lines: str, fds: Sequence[int] = ()) -> bool:
        """Send one message, such as `READY=1`, and file descriptors with it. False when it did not arrive."""
        if self._socket is None:
            return False
        try:
            self.deliver(*lines, fds=fds)
        except OSError as error:
            self._log.warning("systemd not told", message=lines[0], error=str(error))
            return False
        return True

    def deliver(self, *lines: str, fds: Sequence[int] = ()) -> None:
        """Send one message to the systemd that is present. Raises OSError when it does not arrive."""
        assert self._socket is not None
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))] if fds else []
        self._socket.sendmsg(["\n".join(lines).encode()], rights, 0, self._address)

    def ready(self) -> None:
        """Start-up or a reload is done."""
        if not self._stopping:
            self.send("READY=1", *self._new_status())

    def reloading(self) -> None:
        """A reload begins; `ready` ends it."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """The daemon ends; the watchdog is fed until the loop does."""
        self._stopping = True
        self.send("STOPPING=1", "STATUS=stopping")

    def set_status(self, status: str) -> None:
        """What `systemctl status` shows; at most one message per second is spent on it."""
        self._status = status
        if self._socket is not None and self._timer is None and not self._stopping:
            self._timer = self._loop.call_later(_STATUS_EVERY, self._tell_status)

    def close(self) -> None:
        """Tell nothing more."""
        for timer in (self._timer, self._feeding):
            if timer is not None:
                timer.cancel()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _tell_status(self) -> None:
        self._timer = None
        if not self._stopping:
            self._try(*self._new_status())

    def _new_status(self) -> Iterable[str]:
        if self._status == self._told:
            return ()
        self._told = self._status
        return (f"STATUS={self._status}",)

    def _feed(self, period: float) -> None:
        self._feeding = self._loop.call_later(period, self._feed, period)
        if self.well():
            self._try("WATCHDOG=1")

    def _try(self, *lines: str) -> None:
        """Send a message if that can be done at once: the next one says as much."""
        if self._socket is not None and lines:
            try:
                self._socket.sendto("\n".join(lines).encode(), socket.MSG_DONTWAIT, self._address)
            except OSError:
                pass


def _watchdog_period() -> float | None:
    """Seconds between two feedings of the watchdog: half of what it waits for. None when there is none for us."""
    usec = os.environ.get("WATCHDOG_USEC", "")
    if not usec.isdigit() or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(usec) / 2e6
