"""Make a named network namespace, as `ip netns add` does: a namespace is bound to a file of /run/netns by a mount.

So that others see it, the mount must be made where they see it. A daemon in a sandbox can't do that: it may not mount,
or what it mounts stays within its own mount namespace, and all that others see is an empty file. Then systemd is asked
for it, at the socket of `vethd-netns.socket`. What was made stays, whoever used it.

Source: netns_add in ip/ipnetns.c of iproute2.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from vethd.errors import NoSuchNetns
from vethd.host import netns

_MS_BIND, _MS_REC, _MS_SHARED = 1 << 12, 1 << 14, 1 << 20
#: Where a line with a name is answered by `made`, or by what went wrong.
SOCKET: Final = "/run/vethd/netns.sock"
#: Seconds that systemd may take.
_ANSWER_WITHIN: Final = 30.0

_libc = ctypes.CDLL(None, use_errno=True)


def add(name: str) -> str:
    """Make a namespace that others see; how, in words. One that somebody made meanwhile is as good.

    May wait for systemd; the calling thread is where it was afterwards. Raises NoSuchNetns.
    """
    try:
        if _sandboxed():
            raise PermissionError(errno.EPERM, "nobody else sees its mounts")
        _mount(name)
    except FileExistsError:
        return "by somebody else"
    except ValueError as error:  # a NUL, or half a surrogate pair
        raise _not_made(name, str(error)) from error
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EACCES, errno.EROFS):
            raise _not_made(name, str(error.strerror)) from error
        refused = _ask_systemd(name)
        if refused is not None:
            raise _not_made(name, f"the daemon may not ({error.strerror}), and systemd: {refused}") from error
        return "by systemd"
    return "by the daemon"


def _not_made(name: str, why: str) -> NoSuchNetns:
    return NoSuchNetns(f"netns {name!r} is not there and can't be made: {why}", hint=f"ip netns add {name}")


def _mount(name: str) -> None:
    """Make a namespace and bind it to its file. Raises FileExistsError, OSError; nothing is left then."""
    netns.NETNS_DIR.mkdir(mode=0o755, parents=True, exist_ok=True)
    path = netns.NETNS_DIR / name
    with _locked():
        _share()
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))
        try:
            home = netns.current()
            try:
                netns.unshare()
                try:
                    _call_mount("/proc/thread-self/ns/net", path, _MS_BIND)
                finally:
                    netns.setns(home)
            finally:
                os.close(home)
        except OSError:
            path.unlink()
            raise


@contextmanager
def _locked() -> Iterator[None]:
    """Keep out whoever else is making one: two of them would put the directory's mount there twice."""
    fd = os.open(netns.NETNS_DIR, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _share() -> None:
    """Let mounts in the directory reach all mount namespaces that see it, and be undone there."""
    try:
        _call_mount("", netns.NETNS_DIR, _MS_SHARED | _MS_REC)
    except OSError as error:
        if error.errno != errno.EINVAL:  # it is no mount yet
            raise
        _call_mount(str(netns.NETNS_DIR), netns.NETNS_DIR, _MS_BIND | _MS_REC)
        _call_mount("", netns.NETNS_DIR, _MS_SHARED | _MS_REC)


def _call_mount(source: str, target: Path, flags: int) -> None:
    if _libc.mount(source.encode(), os.fsencode(target), b"none", ctypes.c_ulong(flags), None):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


def _sandboxed() -> bool:
    """True when systemd gave the daemon a mount namespace of its own, whose mounts reach nobody else."""
    if os.environ.get("SYSTEMD_EXEC_PID") != str(os.getpid()):
        return False
    around = [""]
    with open("/proc/self/mountinfo") as mounts:
        for line in mounts:
            fields, _dash, _rest = line.partition(" - ")
            point, *optional = [fields.split()[4], *fields.split()[6:]]
            if netns.NETNS_DIR.is_relative_to(point) and len(point) >= len(around[0]):
                around = [point, *optional]
    return any(word.startswith("master:") for word in around)


def _ask_systemd(name: str) -> str | None:
    """Let the unit make the namespace; why that failed, or None."""
    if "\n" in name:
        return "not with a line break in the name"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_ANSWER_WITHIN)
            connection.connect(SOCKET)
            connection.sendall(os.fsencode(name) + b"\n")
            answer = b"".join(iter(partial(connection.recv, 4096), b"")).decode(errors="replace").strip()
    except OSError as error:
        return f"{SOCKET}: {error.strerror or error}"
    return None if answer == "made" else answer or "no answer"
