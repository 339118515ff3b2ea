"""A service manager for a daemon of a test: what systemd does for vethd.service, without the sandbox.

It listens at the control socket, keeps the file descriptors that the daemon sends with FDSTORE=1, and hands them all to
the process that is started next. See sd_notify(3), sd_listen_fds(3); tests/e2e/service has the real one.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

#: Executes its arguments with these descriptors as 3, 4, ... and their names in the environment.
_SHIM: Final = """\
import fcntl, os, sys
fds, names = [int(word) for word in sys.argv[1].split(",")], sys.argv[2]
first = 4 + names.count(":")
copies = [fcntl.fcntl(fd, fcntl.F_DUPFD, first) for fd in fds]
for number, fd in enumerate(copies, 3):
    os.dup2(fd, number)
os.closerange(first, max(fds + copies) + 1)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(copies)), LISTEN_FDNAMES=names)
os.execv(sys.argv[3], sys.argv[3:])
"""
_MOST: Final = 253  # SCM_MAX_FD


class Manager:
    """Manages one daemon, until it is closed. workdir: for its sockets and the state. control: path of the socket."""

    def __init__(self, workdir: Path) -> None:
        self.control = workdir / "control.sock"
        state = workdir / "state"
        state.mkdir()
        self.env = {"NOTIFY_SOCKET": str(workdir / "notify"), "RUNTIME_DIRECTORY": str(state)}
        self._control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._control.bind(str(self.control))
        self._control.listen(4096)
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(self.env["NOTIFY_SOCKET"])
        self._notify.setblocking(False)
        self._lock = threading.Lock()
        self._kept: list[tuple[str, int]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="manager", daemon=True)
        self._thread.start()

    def kept(self) -> Counter[str]:
        """How many descriptors it keeps of each name."""
        with self._lock:
            self._hear()
            return Counter(name for name, _fd in self._kept)

    @contextmanager
    def handing_over(self) -> Iterator[tuple[Sequence[str], Sequence[int]]]:
        """The next process is started in the body: a command that executes its arguments, and descriptors to pass."""
        with self._lock:
            self._hear()  # what the last one sent before it died
            kept = [("control", self._control.fileno()), *reversed(self._kept)]
            names, fds = zip(*kept, strict=True)
            shim = (sys.executable, "-ISc", _SHIM, ",".join(map(str, fds)), ":".join(names))
            yield shim, fds

    def release(self) -> None:
        """Keep nothing any more: the daemon was stopped for good."""
        with self._lock:
            self._hear()
            for _name, fd in self._kept:
                os.close(fd)
            self._kept.clear()

    def close(self) -> None:
        """Listen no more."""
        self._over.set()
        self._thread.join()
        self.release()
        self._notify.close()
        self._control.close()

    def _listen(self) -> None:
        while not self._over.is_set():
            select.select([self._notify], [], [], 0.1)
            with self._lock:
                self._hear()

    def _hear(self) -> None:
        """Do what all messages say that are there."""
        while True:
            try:
                data, fds, _flags, _address = socket.recv_fds(self._notify, 4096, _MOST)
            except BlockingIOError:
                return
            message = dict(line.split("=", 1) for line in data.decode().splitlines())
            if "FDSTORE" in message:
                self._kept += [(message["FDNAME"], fd) for fd in fds]
            elif "FDSTOREREMOVE" in message:
                gone = [each for each in self._kept if each[0] == message["FDNAME"]]
                self._kept = [each for each in self._kept if each not in gone]
                fds = [*fds, *(fd for _name, fd in gone)]
            if "FDSTORE" not in message:
                for fd in fds:
                    os.close(fd)
