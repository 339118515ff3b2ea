"""A pseudo terminal for programs that behave differently on one."""

import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class Terminal:
    """The other side of a terminal that a program runs on."""

    def __init__(self, fd: int, process: "subprocess.Popen[bytes]") -> None:
        self._fd = fd
        self.process = process
        self.text = ""

    def interrupt(self) -> None:
        """Send the program SIGINT, as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)

    def type(self, text: str) -> None:
        """Send what keys send."""
        os.write(self._fd, text.encode())

    def read_until(self, wanted: str, within: float = 15.0, after: int = 0) -> str:
        """Read until the program has printed `wanted`, beyond `after` characters, or has ended; return all of it."""
        deadline = time.monotonic() + within
        while wanted not in self.text[after:] and (left := deadline - time.monotonic()) > 0:
            if select.select([self._fd], [], [], left)[0]:
                try:
                    self.text += os.read(self._fd, 1 << 16).decode(errors="replace")
                except OSError:  # EIO: every descriptor of the program's side is closed
                    break
        assert wanted in self.text[after:], f"{wanted!r} was not printed within {within} s, only:\n{self.text}"
        return self.text

    def read_all(self, within: float = 15.0) -> str:
        """Read until the program has ended; return all it printed."""
        deadline = time.monotonic() + within
        while select.select([self._fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
            try:
                self.text += os.read(self._fd, 1 << 16).decode(errors="replace")
            except OSError:
                return self.text
        raise AssertionError(f"it did not end within {within} s, it printed:\n{self.text}")


@contextmanager
def on_terminal(command: Sequence[str], env: dict[str, str] | None = None) -> Iterator[Terminal]:
    """Run a command on a terminal of its own, as a shell would; it is killed if it has not ended by itself."""
    ours, theirs = pty.openpty()
    try:
        argv = ["setsid", "--ctty", *command]
        process = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    finally:
        os.close(theirs)
    with process:
        try:
            yield Terminal(ours, process)
        finally:
            process.kill()
            os.close(ours)
