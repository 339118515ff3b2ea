"""A file system that never answers: FUSE, with nobody at the other end of it."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def hanging(at: Path) -> Iterator[Path]:
    """Mount one; whoever looks at a path in it waits until the body ends, and gets ENOTCONN then."""
    at.mkdir()
    fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    if _libc.mount(b"vethd-test", bytes(at), b"fuse", 0, options):
        error = ctypes.get_errno()
        os.close(fuse)
        raise OSError(error, os.strerror(error), str(at))
    try:
        yield at / "ns"
    finally:
        os.close(fuse)
        _libc.umount2(bytes(at), _MNT_DETACH)
