"""The socket that docker connects to: systemd's, or one of our own."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path
from typing import Self

from vethd.daemon.service import listen_fds


class NotStarted(Exception):
    """Raised when there can't be such a socket; the text says why and what to do."""


class Listener:
    """It. socket: what to accept connections from. passed: systemd has opened it, and will go on listening.

    path: where to make one, for root alone, if systemd has passed none. Raises NotStarted, OSError.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._inode = 0
        passed = [fd for _name, fd in listen_fds()]
        self.passed = bool(passed)
        self.socket = socket.socket(fileno=passed[0]) if passed else socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        if not passed:
            try:
                self._bind()
            except BaseException:
                self.socket.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.hide()
        self.socket.close()

    def hide(self) -> None:
        """Let nobody find it any more, if it is our own; who has connected is still heard."""
        if self._inode and os.path.exists(self._path) and os.stat(self._path).st_ino == self._inode:
            os.unlink(self._path)
        self._inode = 0

    def _bind(self) -> None:
        Path(self._path).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _make_room(self._path)
        before = os.umask(0o177)
        try:
            self.socket.bind(self._path)
        except OSError as error:
            raise NotStarted(f"{self._path}: {error.strerror}") from error
        finally:
            os.umask(before)
        self._inode = os.stat(self._path).st_ino
        self.socket.listen(128)


def _make_room(path: str) -> None:
    """Remove a socket that nobody listens at. Raises NotStarted."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise NotStarted(f"{path} is not a socket: remove it, or choose another path with --plugin")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.connect(path)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno != errno.ECONNREFUSED:
            raise NotStarted(f"{path}: {error.strerror}") from error
        os.unlink(path)
    else:
        raise NotStarted(f"{path}: another vethd-docker listens there")
