"""Seeing whether a file is opened or read by anybody, through inotify."""

import ctypes
import os
import struct
from pathlib import Path
from types import TracebackType
from typing import Final, Self

IN_ACCESS: Final = 0x1
IN_MODIFY: Final = 0x2
IN_OPEN: Final = 0x20
_HEADER: Final = struct.Struct("=iIII")

_libc = ctypes.CDLL(None, use_errno=True)


class Watch:
    """Watches one file; a descriptor that only stands for the path (O_PATH) does not count as opening."""

    def __init__(self, path: Path) -> None:
        self._fd: int = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0 or _libc.inotify_add_watch(self._fd, bytes(path), IN_OPEN | IN_ACCESS | IN_MODIFY) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        os.close(self._fd)

    def seen(self) -> bool:
        """Whether somebody opened, read or wrote it since the last time."""
        try:
            return len(os.read(self._fd, 4096)) >= _HEADER.size
        except BlockingIOError:
            return False
