"""The host threads: everything that can wait for RTNL runs here, never on the event loop.

Two single threads, so that a carrier change never queues behind a thousand creations, and a pool in which devices die
(each takes 16-21 ms of waiting, which parallel threads share). All of them live in the daemon's *staging* namespace:
TAPs are opened there and moved out, so their fds do not keep the target namespaces alive; and there the ids live
under which the kernel reports the events of all the others.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from vethd.host import netns

P = ParamSpec("P")
T = TypeVar("T")

#: Devices that die at the same time. Each thread mostly waits for RCU.
REAPERS: Final = 64


class HostThreads:
    """The threads `create`, `follow` and the pool `reap`, all in the staging namespace.

    staging: an fd of that namespace, of which a predecessor's may be given. It dies with the daemon. Raises OSError.
    """

    def __init__(self, staging: int | None = None) -> None:
        self._create = ThreadPoolExecutor(1, "create")
        self.staging = self._create.submit(_enter_staging, staging).result()
        enter: dict[str, Any] = {"initializer": netns.setns, "initargs": (self.staging,)}
        self._follow = ThreadPoolExecutor(1, "follow", **enter)
        self._reap = ThreadPoolExecutor(REAPERS, "reap", **enter)

    async def create(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a call that makes or prepares devices."""
        return await asyncio.wrap_future(self._create.submit(call, *args, **kwargs))

    async def follow(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a call that reads or corrects the state of devices that exist."""
        return await asyncio.wrap_future(self._follow.submit(call, *args, **kwargs))

    async def follow_device(
        self, fd: int, call: Callable[Concatenate[int, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a call on a device's fd, as `follow` does. It gets a duplicate: the fd may be closed meanwhile."""
        duplicate = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 0)
        return await self.follow(_call_and_close, duplicate, partial(call, duplicate, *args, **kwargs))

    async def reap(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a call in which a device dies."""
        return await asyncio.wrap_future(self._reap.submit(call, *args, **kwargs))

    def close(self) -> None:
        """Wait for what runs, then let go of the threads and the staging namespace."""
        for executor in (self._create, self._follow, self._reap):
            executor.shutdown()
        os.close(self.staging)


def _call_and_close(fd: int, call: Callable[[], T]) -> T:
    try:
        return call()
    finally:
        os.close(fd)


def _enter_staging(staging: int | None) -> int:
    if staging is not None:
        netns.setns(staging)
        return staging
    netns.unshare()
    return netns.current()
