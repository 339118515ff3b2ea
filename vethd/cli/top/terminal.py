"""Keys and signals of a terminal, and the terminal as it was before, whatever happens."""

from __future__ import annotations

import os
import select
import signal
import termios
import tty
from types import FrameType, TracebackType
from typing import Final, Self

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGWINCH)
#: What the keys send; both forms of the arrows.
_KEYS: Final = {
    "\033[A": "up",
    "\033OA": "up",
    "k": "up",
    "\033[B": "down",
    "\033OB": "down",
    "j": "down",
    "\033[5~": "page up",
    "\033[6~": "page down",
    "q": "quit",
    "s": "sort",
    "p": "pause",
}


class Hangup(Exception):
    """Raised when the terminal is gone."""


class Terminal:
    """Standard input without echo and line editing; signals and wakes arrive as events beside the keys.

    Ctrl-Z does nothing: a stopped program would leave its screen behind.
    """

    def __init__(self) -> None:
        self._fd = 0
        self._before = termios.tcgetattr(self._fd)
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._handlers = {number: signal.getsignal(number) for number in _SIGNALS}

    def __enter__(self) -> Self:
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, _noted)
        tty.setcbreak(self._fd)
        mode = termios.tcgetattr(self._fd)
        mode[6][termios.VSUSP] = b"\0"
        termios.tcsetattr(self._fd, termios.TCSADRAIN, mode)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)
        except termios.error:
            pass  # it hung up
        signal.set_wakeup_fd(-1)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def wake(self) -> None:
        """Let `events` return; may be called from any thread."""
        try:
            os.write(self._wake_write, b"\0")
        except BlockingIOError:
            pass  # it is awake

    def events(self, within: float) -> tuple[list[str], list[int]]:
        """The keys and signals that came; waits for at least one, or a wake, at most `within` seconds.

        Raises Hangup.
        """
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        ready = {fd for fd, _events in poll.poll(within * 1000)}
        signals = [number for number in os.read(self._wake_read, 4096) if number] if self._wake_read in ready else []
        return keys(self._typed()) if self._fd in ready else [], signals

    def _typed(self) -> str:
        try:
            typed = os.read(self._fd, 4096)
        except OSError as error:
            raise Hangup from error
        if not typed:
            raise Hangup
        return typed.decode(errors="replace")


def _noted(number: int, frame: FrameType | None) -> None:
    """The wakeup fd has its number."""


def keys(typed: str) -> list[str]:
    """What was typed, in words; what means nothing is left out."""
    found = []
    while typed:
        code = next((code for code in _KEYS if typed.startswith(code)), typed[0])
        if code in _KEYS:
            found.append(_KEYS[code])
        typed = typed[len(code) :]
    return found
