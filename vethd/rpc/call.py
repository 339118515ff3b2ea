"""What a method is, and what it knows of the request it answers."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from vethd.errors import InvalidParams, NoSuchNetns, NotPermitted, VethdError
from vethd.host import netns
from vethd.host.opening import Paths
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
        self._paths = Paths()

    async def open_paths(self, params: BaseModel) -> None:
        """Open the namespaces at paths that the parameters name, before the method asks for them."""
        if self.peer.role >= Role.CHANGE:
            await self._paths.open(paths_in(params))

    def close(self) -> None:
        """The request is answered: close everything that came along or was opened for it."""
        for fd in self.fds:
            os.close(fd)
        self._paths.close()

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
            self._require_change(ref, what)
            return open_ref(ref, what, self._paths)
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

    def _require_change(self, ref: str | NetnsRef, what: str) -> None:
        """Raise NotPermitted when somebody who only looks names a path or a pid: the daemon sees more than they do, and
        what it says of either would tell them of it.
        """
        by_pid = isinstance(ref, NetnsRef) and ref.pid is not None
        if (by_pid or _path_of(ref) is not None) and self.peer.role < Role.CHANGE:
            raise NotPermitted(
                f"{what}: uid {self.peer.uid} may not let vethd look at a {'pid' if by_pid else 'path'}",
                hint="open the namespace and send its descriptor, as vethctl does: netns.fd",
            )


def open_ref(ref: str | NetnsRef, what: str, paths: Paths) -> int:
    """An fd of the namespace of this name, path or pid; the caller closes it. paths: where paths are open already.

    Raises NoSuchNetns, LimitReached.
    """
    try:
        path = _path_of(ref)
        if path is not None:
            return paths.fd(path)
        if isinstance(ref, str):
            return netns.open_name(ref)
        if ref.name is not None:
            return netns.open_name(ref.name)
        assert ref.pid is not None
        return netns.open_pid(ref.pid)
    except VethdError as error:
        which_end = what.removesuffix("netns")
        raise type(error)(which_end + error.message, hint=error.hint, errno=error.errno) from error


def paths_in(value: Any) -> Iterator[str]:
    """The paths by which models name namespaces, in whatever depth."""
    if isinstance(value, NetnsRef):
        if value.path is not None:
            yield value.path
    elif isinstance(value, BaseModel):
        for name, field_value in value:
            if name == "netns" and isinstance(field_value, str):
                if field_value.startswith("/"):
                    yield field_value
            elif isinstance(field_value, BaseModel | list | tuple):
                yield from paths_in(field_value)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from paths_in(each)


def _path_of(ref: str | NetnsRef) -> str | None:
    if isinstance(ref, str):
        return ref if ref.startswith("/") else None
    return ref.path


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
