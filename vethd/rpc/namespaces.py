"""Namespaces that a request names: opened by the client, with its rights and in its view of the file system, and sent
along as file descriptors.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

#: File descriptors that the daemon takes with one request.
MAX_FDS: Final = 16


class Namespace:
    """An open network namespace, for the `netns` fields of requests; stays the same one whatever becomes of its name.

    fd: of it; while it is open, the namespace lives.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __enter__(self) -> Namespace:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let it go."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def netns(where: str | int) -> Namespace:
    """Open a namespace: a name from `ip netns`, a path (with a slash in it), or the pid of a process in it.

    Raises RpcError of kind no_such_netns.
    """
    return Namespace(_open(where, "netns"))


class Opened(NamedTuple):
    """Parameters in which namespaces are file descriptors. fds: all that go along. own: those to be closed."""

    params: Mapping[str, Any]
    fds: list[int]
    own: list[int]

    def close(self) -> None:
        """Close what was opened."""
        while self.own:
            os.close(self.own.pop())


def open_all(params: Mapping[str, Any], places: Sequence[tuple[str, ...]], fds: Sequence[int]) -> Opened:
    """Open what stands in these places of the parameters (see wire.NETNS). fds: the caller's, sent before the others.

    Names beyond what can be sent along are left for the daemon to open. Raises RpcError of kind no_such_netns, and
    ValueError when too many others are left.
    """
    opened = Opened(params, list(fds), [])
    wanted: dict[str | Namespace, str] = {}

    def note(value: Any, place: str) -> Any:
        if isinstance(value, str | Namespace):
            wanted.setdefault(value, place)
        return value

    for place in places:
        _replaced(params, place, note)
    numbers: dict[str | Namespace, int] = {}
    try:
        for value in sorted(wanted, key=_may_be_left):
            if len(opened.fds) >= MAX_FDS:
                if _may_be_left(value):
                    break
                raise ValueError(
                    f"at most {MAX_FDS} namespaces can be sent with one request; give names, or send several"
                )
            if isinstance(value, str):
                opened.own.append(_open(value, wanted[value]))
                opened.fds.append(opened.own[-1])
            else:
                opened.fds.append(value.fd)
            numbers[value] = len(opened.fds) - 1
    except BaseException:
        opened.close()
        raise

    def by_number(value: Any, _place: str) -> Any:
        number = numbers.get(value) if isinstance(value, str | Namespace) else None
        return value if number is None else {"fd": number}

    for place in places:
        params = _replaced(params, place, by_number)
    return Opened(params, opened.fds, opened.own)


def _may_be_left(value: str | Namespace) -> bool:
    """Whether the daemon can open it as well: a name, while a path such as /proc/self/ns/net means another to it."""
    return isinstance(value, str) and "/" not in value


def _replaced(value: Any, place: tuple[str, ...], replace: Callable[[Any, str], Any], name: str = "") -> Any:
    """The value, with what stands in a place of it replaced; nothing is changed in the value itself."""
    if not place:
        return replace(value, name)
    first, rest = place[0], place[1:]
    if first == "*" and isinstance(value, list | tuple):
        return [_replaced(item, rest, replace, f"{name}.{at}") for at, item in enumerate(value)]
    if isinstance(value, Mapping) and value.get(first) is not None:
        return {**value, first: _replaced(value[first], rest, replace, f"{name}.{first}" if name else first)}
    return value


def _open(where: str | int, what: str) -> int:
    if isinstance(where, int):
        path, hint = f"/proc/{where}/ns/net", "is that process still running?"
    elif "/" in where:
        path, hint = where, "give the path of a namespace file, such as /proc/PID/ns/net"
    else:
        path, hint = f"/run/netns/{where}", f"create it first: ip netns add {where}"
    try:  # O_NONBLOCK: a FIFO would wait for somebody who writes
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        import errno

        from vethd.errors import NoSuchNetns
        from vethd.rpc.conversation import RpcError

        data = {"kind": NoSuchNetns.kind, "hint": hint}
        if isinstance(error, OSError) and error.errno is not None:
            data["errno"] = errno.errorcode[error.errno]
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise RpcError(NoSuchNetns.code, f"{what}: {where!r}: {reason}", data) from error
