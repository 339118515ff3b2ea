"""Network namespaces: open and check one, enter one in a thread, make the daemon's own.

setns works per thread, and a thread left in a namespace keeps that namespace alive. So only the host threads
(host/threads.py) enter one, through `inside`, which always goes back.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

from vethd.errors import NoSuchNetns, VethdError, no_fd_left

CLONE_NEWNET: Final = 0x40000000
_NS_GET_NSTYPE: Final = 0xB703
_SIOCGSKNS: Final = 0x894C
NETNS_DIR: Final = Path("/run/netns")

_named: dict[tuple[int, int], str] = {}  # what names() last said
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), what)


def setns(fd: int) -> None:
    """Move the calling thread into the network namespace behind fd. Raises OSError."""
    _check(_libc.setns(fd, CLONE_NEWNET), "setns")


def unshare() -> None:
    """Move the calling thread into a new, empty network namespace. Raises OSError."""
    _check(_libc.unshare(CLONE_NEWNET), "unshare")


@contextmanager
def inside(fd: int, home: int) -> Iterator[None]:
    """Run the body in the namespace behind fd, then bring the thread back to `home`, whatever happened."""
    setns(fd)
    try:
        yield
    finally:
        setns(home)


def current() -> int:
    """A new fd of the calling thread's network namespace; the caller closes it."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def of_socket(fd: int) -> int:
    """A new fd of the namespace that a socket belongs to - for an accepted connection the caller's own.

    Source: SIOCGSKNS, socket(7). Raises OSError.
    """
    return int(fcntl.ioctl(fd, _SIOCGSKNS))


def identity(fd: int) -> tuple[int, int]:
    """What makes a namespace the same as another: (device, inode) of its nsfs file."""
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def home() -> tuple[int, int]:
    """Identity of the daemon's own namespace, which its main thread never leaves: while it runs, that can't die."""
    status = os.stat("/proc/self/ns/net")
    return status.st_dev, status.st_ino


def check(fd: int, what: str) -> None:
    """Raise NoSuchNetns, naming `what`, unless fd is a network namespace."""
    try:
        kind = fcntl.ioctl(fd, _NS_GET_NSTYPE)
    except OSError:
        kind = 0
    if kind != CLONE_NEWNET:
        raise NoSuchNetns(f"{what} is not a network namespace", hint="give a name from `ip netns`, a path, or a pid")


def check_name(name: str) -> None:
    """Raise NoSuchNetns unless `ip netns` could have a namespace of that name."""
    if not name or "/" in name or "\0" in name or name in (".", ".."):
        raise NoSuchNetns(f"netns {name!r} is not a namespace name", hint="a path must be absolute")


def open_name(name: str) -> int:
    """An fd of the namespace that `ip netns` calls `name`. Raises NoSuchNetns, LimitReached."""
    check_name(name)
    return _open(f"{NETNS_DIR}/{name}", f"netns {name!r}", f"create it first: ip netns add {name}")


def open_path(path: str) -> int:
    """An fd of the namespace at an absolute path such as /proc/PID/ns/net. Raises NoSuchNetns."""
    return _open(path, f"netns path {path!r}", "give the path of a namespace file, such as /proc/PID/ns/net")


def open_pid(pid: int) -> int:
    """An fd of a process's namespace. Raises NoSuchNetns."""
    return _open(f"/proc/{pid}/ns/net", f"the netns of pid {pid}", "is the process still running?")


def _open(path: str, what: str, hint: str) -> int:
    """Open a namespace file, touching nothing that is not one: a FIFO or device is looked at, never opened."""
    try:
        found = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        raise not_opened(what, hint, error) from error
    except ValueError as error:  # a NUL, or half a surrogate pair
        raise NoSuchNetns(f"{what}: {error}", hint=hint) from error
    try:
        status = os.fstat(found)
        if not stat.S_ISREG(status.st_mode) or status.st_dev != _nsfs():
            raise NoSuchNetns(f"{what} is not a network namespace", hint=hint)
        try:
            fd = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise not_opened(what, hint, error) from error
    finally:
        os.close(found)
    try:
        check(fd, what)
    except NoSuchNetns:
        os.close(fd)
        raise
    return fd


@cache
def _nsfs() -> int:
    """The device number of the file system that all namespace files are on."""
    return os.stat("/proc/self/ns/net").st_dev


def not_opened(what: str, hint: str, error: OSError) -> VethdError:
    """The error of a client whose namespace `what` can't be opened."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return no_fd_left(f"{what}: ", error.errno)
    return NoSuchNetns(f"{what}: {error.strerror}", hint=hint, errno=error.errno)


def names() -> dict[tuple[int, int], str]:
    """The names that `ip netns` knows, by identity; none when there is no descriptor free to look with."""
    found: dict[tuple[int, int], str] = {}
    try:
        entries = sorted(NETNS_DIR.iterdir())
    except OSError:
        return found
    for entry in entries:
        try:
            status = entry.stat()
        except FileNotFoundError:  # deleted while we looked
            continue
        found.setdefault((status.st_dev, status.st_ino), entry.name)
    return found


def name_of(identity: tuple[int, int]) -> str | None:
    """A name that `ip netns` knows for one namespace. All are looked through only when the last one found is wrong."""
    name = _named.get(identity)
    if name is not None:
        try:
            status = os.stat(f"{NETNS_DIR}/{name}")
        except OSError:
            status = None
        if status is not None and (status.st_dev, status.st_ino) == identity:
            return name
    _named.clear()
    _named.update(names())
    return _named.get(identity)
