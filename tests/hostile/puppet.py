"""A worker of a running daemon, taken over: its process is stopped, and the test speaks and writes in its place."""

from __future__ import annotations

import array
import ctypes
import json
import mmap
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

_PIDFD_GETFD: Final = 438
_libc = ctypes.CDLL(None, use_errno=True)


class Puppet:
    """pid: of the worker. counters: a descriptor of the counters, as the worker has it."""

    def __init__(self, pid: int, channel: socket.socket, counters: int) -> None:
        self.pid = pid
        self._channel = channel
        self.counters = counters

    def say(self, *messages: object, fds: list[int] | None = None) -> None:
        """Send messages to the supervisor; bytes as they are."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        for message in messages:
            data = message if isinstance(message, bytes) else json.dumps(message).encode()
            try:
                self._channel.sendmsg([data], rights)
            except (ConnectionError, BlockingIOError):  # the supervisor has had enough, or can take no more now
                return

    def scribble(self, byte: int) -> None:
        """Fill all counters, its own and others', with a byte."""
        size = os.fstat(self.counters).st_size
        with mmap.mmap(self.counters, size) as rows:
            rows[:] = bytes([byte]) * size


@contextmanager
def taken_over(pid: int) -> Iterator[Puppet]:
    """Stop a worker and act in its place; it is left as it is then."""
    with ExitStack() as stack:
        os.kill(pid, signal.SIGSTOP)
        pidfd = os.pidfd_open(pid)
        stack.callback(os.close, pidfd)
        stdio = (0, 1, 2)
        targets = {int(fd): os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
        memfd = min(fd for fd, target in targets.items() if target.startswith("/memfd:vethd-counters"))
        counters = _get(pidfd, memfd)
        stack.callback(os.close, counters)
        for fd, target in targets.items():
            if target.startswith("socket:") and fd not in stdio:
                found = socket.socket(fileno=_get(pidfd, fd))
                stack.callback(found.close)
                if found.type == socket.SOCK_SEQPACKET:
                    channel = found
        yield Puppet(pid, channel, counters)


def _get(pidfd: int, fd: int) -> int:
    """A duplicate of another process's descriptor; see pidfd_getfd(2)."""
    duplicate = int(_libc.syscall(_PIDFD_GETFD, pidfd, fd, 0))
    if duplicate < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    os.set_inheritable(duplicate, False)
    return duplicate
