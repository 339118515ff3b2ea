"""Opening namespaces at paths that others give, which may lead into a file system that does not answer.

Nobody can be called back from there, and who waits on the event loop stops everything. So a thread opens them, and if
it does not come back in time it is left behind; it closes what it opens later. Names, pids and descriptors need none of
this: they lead to file systems of the kernel's own.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Iterable
from typing import Final, Self

from vethd.errors import LimitReached, NoSuchNetns, VethdError
from vethd.host import netns

#: Seconds for all paths of one request.
WITHIN: Final = 2.0
#: Threads that may have been left behind; then no further paths are opened until one of them is back.
MOST: Final = 8

_left_behind: set[threading.Thread] = set()


class Paths:
    """Namespaces at paths, open as long as its owner needs them."""

    def __init__(self) -> None:
        self._found: dict[str, int | VethdError] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    async def open(self, paths: Iterable[str]) -> None:
        """Open what is there; returns after WITHIN seconds at the latest. Nothing is raised before `fd` is asked."""
        wanted = set(paths) - self._found.keys()
        if not wanted:
            return
        if len(_left_behind) >= MOST:
            error = LimitReached(
                f"{MOST} openings of paths hang already",
                hint="a file system does not answer; send descriptors of namespaces (netns.fd)",
            )
            self._found |= dict.fromkeys(wanted, error)
            return
        opening = _Opening(sorted(wanted))
        self._found |= await opening.outcome()

    def fd(self, path: str) -> int:
        """A new fd of the namespace at a path that was opened before; the caller closes it. Raises VethdError."""
        found = self._found[path]
        if isinstance(found, VethdError):
            raise type(found)(found.message, hint=found.hint, errno=found.errno)
        try:
            return os.dup(found)
        except OSError as error:
            raise netns.not_opened(f"netns path {path!r}", "try again", error) from error

    def close(self) -> None:
        """Close what is open."""
        for found in self._found.values():
            if isinstance(found, int):
                os.close(found)
        self._found.clear()


class _Opening:
    """A thread that opens paths, one after the other, and what became of them."""

    def __init__(self, paths: list[str]) -> None:
        self._paths = paths
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._done = asyncio.Event()
        self._found: dict[str, int | VethdError] = {}
        self._too_late = False
        self._thread = threading.Thread(target=self._run, name="open", daemon=True)  # nobody waits for it at the end
        self._thread.start()

    async def outcome(self) -> dict[str, int | VethdError]:
        """The fd of each path, or why there is none."""
        try:
            async with asyncio.timeout(WITHIN):
                await self._done.wait()
        except TimeoutError:
            pass
        with self._lock:
            self._too_late = True
            if len(self._found) < len(self._paths):
                _left_behind.add(self._thread)
        return {path: self._found[path] if path in self._found else _late(path) for path in self._paths}

    def _run(self) -> None:
        for path in self._paths:
            found: int | VethdError
            try:
                found = netns.open_path(path)
            except VethdError as error:
                found = error
            with self._lock:
                if not self._too_late:
                    self._found[path] = found
                    continue
                _left_behind.discard(self._thread)
            if isinstance(found, int):
                os.close(found)
            return
        self._loop.call_soon_threadsafe(self._done.set)


def _late(path: str) -> NoSuchNetns:
    return NoSuchNetns(
        f"netns path {path!r} did not open within {WITHIN:g} s",
        hint="its file system does not answer; send a descriptor of the namespace (netns.fd)",
        errno=errno.ETIMEDOUT,
    )
