"""Static pairs whose bridge is not there yet: vethd is started before what else configures the network.

They are made as soon as somebody makes the bridge. The kernel says so on the socket on which the follower hears of
ends, once the bridge's namespace has an id in the staging namespace; that does not keep the namespace alive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager

from structlog.typing import FilteringBoundLogger

from vethd.errors import NoSuchBridge, VethdError
from vethd.host.rtnl import Rtnl
from vethd.host.threads import HostThreads
from vethd.pairs.attachment import as_port
from vethd.pairs.bridges import Bridges, BridgeSpec
from vethd.pairs.follow import Follower
from vethd.pairs.static import Row
from vethd.rpc.schema.config import StaticPair

#: Opens, for as long as its body runs, the namespaces of a pair's ends: a's, then b's.
OpenEnds = Callable[[StaticPair], AbstractAsyncContextManager[tuple[int, int]]]


class Waiting:
    """Those that wait; one per daemon. opened: see OpenEnds. make: makes static pairs."""

    def __init__(
        self,
        threads: HostThreads,
        bridges: Bridges,
        follower: Follower,
        opened: OpenEnds,
        make: Callable[[list[StaticPair]], Awaitable[None]],
        log: FilteringBoundLogger,
    ) -> None:
        self._threads = threads
        self._bridges = bridges
        self._follower = follower
        self._opened = opened
        self._make = make
        self._log = log
        self._pairs: dict[str, StaticPair] = {}
        self._again = False
        self._task: asyncio.Task[None] | None = None

    async def note(self, pairs: Iterable[StaticPair], rows: Iterable[Row], *, all_of_them: bool) -> None:
        """Let those wait for which there was no bridge. all_of_them: no other pair is wished for any more."""
        asked = {pair.name: pair for pair in pairs}
        stay = {} if all_of_them else {name: pair for name, pair in self._pairs.items() if name not in asked}
        failed = {row.step.name for row in rows if isinstance(row.error, NoSuchBridge)}
        await self.wait([*stay.values(), *(pair for name, pair in asked.items() if name in failed)])

    async def wait(self, pairs: Iterable[StaticPair]) -> None:
        """Let these wait, and no others."""
        self._pairs = {pair.name: pair for pair in pairs}
        self._follower.on_bridge = self._look_again if self._pairs else None
        for pair in list(self._pairs.values()):
            await self._listen(pair)
        if self._pairs:
            self._look_again()  # it may have come before anybody listened

    async def stop(self) -> None:
        """Wait for none any more; returns when nothing is under way."""
        self._pairs = {}
        self._follower.on_bridge = None
        if self._task is not None:
            await asyncio.wait([self._task])

    def _look_again(self) -> None:
        self._again = True
        if self._task is None:
            self._task = asyncio.ensure_future(self._look())

    async def _look(self) -> None:
        try:
            while self._again and self._pairs:
                self._again = False
                ready = [pair for pair in self._pairs.values() if await self._ready(pair)]
                for pair in ready:
                    self._pairs.pop(pair.name, None)
                if ready:
                    await self._make(ready)
        except Exception:  # noqa: BLE001 - nobody waits for it
            self._log.exception("waiting for bridges failed")
        finally:
            self._task = None

    async def _listen(self, pair: StaticPair) -> None:
        """Let the kernel say what happens where the ends of a pair belong."""
        try:
            async with self._opened(pair) as places:
                for place in places:
                    await self._threads.follow(_assign_nsid, place)
        except (VethdError, OSError) as error:
            self._log.warning("no word of a bridge will come", name=pair.name, error=str(error))

    async def _ready(self, pair: StaticPair) -> bool:
        """Whether every bridge that a pair wants is there."""
        try:
            async with self._opened(pair) as places:
                for end, place in zip((pair.a, pair.b), places, strict=True):
                    if end.bridge is not None and not await self._bridges.exists(
                        BridgeSpec(as_port(end.bridge).bridge, place)
                    ):
                        return False
        except VethdError:
            return False
        return True


def _assign_nsid(place: int) -> None:
    with Rtnl() as here:
        here.assign_nsid(place)
