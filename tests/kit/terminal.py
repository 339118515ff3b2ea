"""A pseudo terminal for programs that behave differently on one."""

import codecs
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyte


class Terminal:
    """The other side of a terminal that a program runs on. text: all that was printed."""

    def __init__(self, fd: int, process: "subprocess.Popen[bytes]", columns: int, lines: int) -> None:
        self._fd = fd
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.Stream(self._screen)
        self.process = process
        self.text = ""

    def interrupt(self) -> None:
        """Send the program SIGINT, as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)

    def type(self, text: str) -> None:
        """Send what keys send."""
        os.write(self._fd, text.encode())

    def resize(self, columns: int, lines: int) -> None:
        """Make it another size, of which the program is told."""
        self._screen.resize(lines, columns)
        set_size(self._fd, columns, lines)

    def modes(self) -> list[Any]:
        """Echo, line editing and so on: what termios(3) has."""
        return termios.tcgetattr(self._fd)

    def screen(self) -> list[str]:
        """The lines that are seen now, as far as they were read."""
        return [line.rstrip() for line in self._screen.display]

    def read_until(self, wanted: str, within: float = 15.0, after: int = 0) -> str:
        """Read until the program has printed `wanted`, beyond `after` characters, or has ended; return all of it."""
        self._read(lambda: wanted in self.text[after:], within)
        assert wanted in self.text[after:], f"{wanted!r} was not printed within {within} s, only:\n{self.text}"
        return self.text

    def see(self, wanted: Callable[[list[str]], object], what: str, within: float = 15.0) -> list[str]:
        """Read until the screen is as wanted; return its lines."""
        self._read(lambda: bool(wanted(self.screen())), within)
        seen = self.screen()
        assert wanted(seen), "\n".join([f"not within {within} s: {what}; the screen:", *seen])
        return seen

    def read_all(self, within: float = 15.0) -> str:
        """Read until the program has ended; return all it printed."""
        ended = self._read(lambda: False, within)
        assert ended, f"it did not end within {within} s, it printed:\n{self.text}"
        return self.text

    def hang_up(self) -> None:
        """Close the terminal, as when its window is."""
        os.close(self._fd)
        self._fd = -1

    def close(self) -> None:
        """Let it go, if it was not hung up already."""
        if self._fd >= 0:
            self.hang_up()

    def _read(self, enough: Callable[[], bool], within: float) -> bool:
        """Read until it is enough, the time is over, or the program has ended: then true."""
        deadline = time.monotonic() + within
        while not enough() and (left := deadline - time.monotonic()) > 0:
            if select.select([self._fd], [], [], left)[0]:
                try:
                    text = self._decoder.decode(os.read(self._fd, 1 << 16))
                except OSError:  # EIO: every descriptor of the program's side is closed
                    return True
                self.text += text
                self._stream.feed(text)
        return False


def set_size(fd: int, columns: int, lines: int) -> None:
    """TIOCSWINSZ."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


@contextmanager
def on_terminal(
    command: Sequence[str], env: dict[str, str] | None = None, columns: int = 80, lines: int = 24
) -> Iterator[Terminal]:
    """Run a command on a terminal of its own, as a shell would; it is killed if it has not ended by itself."""
    ours, theirs = pty.openpty()
    try:
        set_size(ours, columns, lines)
        argv = ["setsid", "--ctty", *command]
        process = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    finally:
        os.close(theirs)
    terminal = Terminal(ours, process, columns, lines)
    with process:
        try:
            yield terminal
        finally:
            process.kill()
            terminal.close()
