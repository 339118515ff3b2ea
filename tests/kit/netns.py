"""Network namespaces for one test: made, entered, deleted, and proved dead afterwards.

A namespace lives on after `ip netns del` while anything still refers to it: a process, a socket, a TAP file descriptor
that was opened inside. That is why nothing here keeps a descriptor or a thread inside one, and why `Namespaces.close`
waits for the kernel to report each of them really gone. It can tell because every namespace gets an nsid in the
test's own namespace, and the kernel takes the nsid away when the namespace dies.
"""

import ctypes
import itertools
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from tests.kit.commands import require_root, run
from tests.kit.waiting import settled

P = ParamSpec("P")
T = TypeVar("T")

RUN_NETNS = Path("/run/netns")
PREFIX = f"vt{os.getpid()}"
CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count(1)

# Far above those the kernel assigns by itself (the lowest free), so that no nsid is ever met again in another role.
NSID_BASE = 1_000_000 + os.getpid() % 1_000_000 * 1000


def fresh_name(kind: str = "n") -> str:
    """Return a name no other test of this machine uses, at most 15 bytes: fit for a device or a namespace."""
    return f"{PREFIX}{kind}{next(_numbers)}"


def inside(netns: str | None, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call `function` in a thread whose network namespace is NETNS (None: where we are); the thread ends with it.

    Sockets made by the function keep belonging to NETNS when they are used elsewhere, and keep it alive until closed.
    """
    if netns is None:
        return function(*args, **kwargs)
    results: list[T] = []
    errors: list[BaseException] = []

    def enter_and_call() -> None:
        try:
            fd = os.open(RUN_NETNS / netns, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _libc.setns(fd, CLONE_NEWNET) != 0:
                    number = ctypes.get_errno()
                    raise OSError(number, f"setns to {netns}: {os.strerror(number)}")
            finally:
                os.close(fd)
            results.append(function(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - it is raised again in the calling thread
            errors.append(error)

    thread = threading.Thread(target=enter_and_call, name=f"in-{netns}")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def socket_in(netns: str | None, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """Make a socket that belongs to NETNS; it pins the namespace until it is closed."""
    return inside(netns, socket.socket, family, kind | socket.SOCK_CLOEXEC, protocol)


def set_sysctl(netns: str, key: str, value: int | str) -> None:
    """Set a `net.*` sysctl inside NETNS."""
    path = Path("/proc/sys") / key.replace(".", "/")
    inside(netns, path.write_text, str(value))


def netns_inode(netns: str) -> int:
    """Return the inode number that identifies NETNS in `/proc/PID/ns/net`."""
    return (RUN_NETNS / netns).stat().st_ino


def known_nsids() -> set[int]:
    """Return every nsid that the test's own namespace has for another one."""
    listed: list[dict[str, Any]] = run("ip", "-j", "netns", "list-id").json()
    return {entry["nsid"] for entry in listed}


class Namespaces:
    """A factory of namespaces that removes everything it made."""

    def __init__(self) -> None:
        self._nsids: dict[str, int] = {}
        self._deleted: dict[int, str] = {}

    def __iter__(self) -> Any:
        return iter(list(self._nsids))

    def make(self, *, ipv6: bool = False) -> str:
        """Make a namespace with `lo` up and return its name; without `ipv6` no device in it speaks IPv6 by itself."""
        require_root()
        name = fresh_name()
        run("ip", "netns", "add", name)
        self.adopt(name)
        if not ipv6:
            for scope in ("all", "default"):
                set_sysctl(name, f"net.ipv6.conf.{scope}.disable_ipv6", 1)
        run("ip", "-n", name, "link", "set", "lo", "up")
        return name

    def adopt(self, name: str) -> None:
        """Look after a namespace that somebody else made, as if it were made here."""
        self._nsids[name] = nsid = NSID_BASE + next(_numbers)
        run("ip", "netns", "set", name, str(nsid))

    def delete(self, name: str) -> None:
        """Take NAME away as `ip netns del` does; the kernel ends the namespace as soon as nothing refers to it."""
        run("ip", "netns", "del", name)
        self._deleted[self._nsids.pop(name)] = name

    def undead(self, within: float = 5.0) -> list[str]:
        """Return the deleted namespaces that something still keeps alive after `within` seconds."""
        left = settled(lambda: known_nsids() & self._deleted.keys(), lambda nsids: not nsids, within)
        return sorted(self._deleted[nsid] for nsid in left)

    def close(self) -> None:
        """Delete what is left and insist that every namespace made here is dead."""
        for name in list(self._nsids):
            self.delete(name)
        undead = self.undead() if self._deleted else []
        assert not undead, f"deleted, but something keeps these namespaces alive: {undead}"
        self._deleted.clear()
