"""What a method is, and what it knows of the request it answers."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from vethd.errors import InvalidParams, NoSuchNetns, VethdError
from vethd.host import netns
from vethd.rpc.access import Role
from vethd.rpc.connection import Connection
from vethd.rpc.schema.base import NetnsRef


class Call:
    """One request's surroundings: who asks, and the file descriptors that came along.

    afterwards: what is to be done once the answer is on its way.
    """

    def __init__(self, connection: Connection, fds: list[int]) -> None:
        self.connection = connection
        self.peer = connection.peer
        self.fds = fds
        self.afterwards: list[Callable[[], None]] = []

    @contextmanager
    def netns(self, ref: str | NetnsRef | None, what: str) -> Iterator[int]:
        """An fd of the namespace that a request names, or of the caller's own; closed after the body.

        Raises NoSuchNetns, InvalidParams, NotPermitted.
        """
        fd = self._open(ref, what)
        try:
            yield fd
        finally:
            os.close(fd)  # an open fd would keep the namespace alive

    def own_netns(self) -> tuple[int, int]:
        """Identity of the caller's own namespace."""
        with self.netns(None, "the caller") as fd:
            return netns.identity(fd)

    def _open(self, ref: str | NetnsRef | None, what: str) -> int:
        if ref is None:
            try:
                return netns.of_socket(self.connection.sock.fileno())
            except OSError as error:  # it disconnected, or we may not see its namespace
                raise netns.not_opened(f"{what}: the caller's own", "name one: netns NAME", error) from error
            except ValueError as error:
                raise NoSuchNetns(f"{what}: the caller's own: {error}", hint="name one: netns NAME") from error
        if isinstance(ref, str) or ref.fd is None:
            return open_ref(ref, what)
        if ref.fd >= len(self.fds):
            raise InvalidParams(
                f"{what}: netns.fd {ref.fd}, but {len(self.fds)} file descriptors came with the request",
                hint="send the descriptor with the last bytes of the request's line (SCM_RIGHTS)",
            )
        netns.check(self.fds[ref.fd], f"{what}: the file descriptor sent along")
        try:
            return os.dup(self.fds[ref.fd])
        except OSError as error:
            raise netns.not_opened(f"{what}: the file descriptor sent along", "send it again", error) from error


def open_ref(ref: str | NetnsRef, what: str) -> int:
    """An fd of the namespace of this name, path or pid; the caller closes it. Raises NoSuchNetns, LimitReached."""
    try:
        if isinstance(ref, str):
            return netns.open_path(ref) if ref.startswith("/") else netns.open_name(ref)
        if ref.name is not None:
            return netns.open_name(ref.name)
        if ref.path is not None:
            return netns.open_path(ref.path)
        assert ref.pid is not None
        return netns.open_pid(ref.pid)
    except VethdError as error:
        which_end = what.removesuffix("netns")
        raise type(error)(which_end + error.message, hint=error.hint, errno=error.errno) from error


@dataclass(frozen=True, slots=True)
class Method:
    """A method of the control socket.

    name: as requests say it. params: the model of its parameters, whose docstring is what it does. result: the type of
    what it returns. role: what the caller must be allowed. call: does it; raises VethdErrors that a client can meet.
    errors: which kinds, beside those of every method (invalid_params, not_permitted, shutting_down).
    example: parameters that work on a daemon that has the pair `veth0`/`veth1` of the documentation.
    """

    name: str
    params: type[BaseModel]
    result: Any
    role: Role
    call: Callable[[Any, Call], Awaitable[Any]]
    errors: tuple[type[VethdError], ...] = ()
    example: dict[str, Any] = field(default_factory=dict)
