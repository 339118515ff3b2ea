"""dellink: both ends of a pair go together, whichever of them went first.

The worker lets go of them first and delivers what it had accepted; then both devices are deleted at the same time on
the `reap` threads, and only then are the numbers free for others.
"""

from __future__ import annotations

import asyncio

from structlog.typing import FilteringBoundLogger

from vethd.host.locate import delete
from vethd.host.threads import HostThreads
from vethd.pairs.pair import Pair, PairState, describe
from vethd.pairs.registry import Registry
from vethd.pairs.workers import Workers


class Deleter:
    """Deletes pairs; one per daemon."""

    def __init__(self, threads: HostThreads, registry: Registry, workers: Workers, log: FilteringBoundLogger) -> None:
        self._threads = threads
        self._registry = registry
        self._workers = workers
        self._log = log
        self._going: dict[Pair, asyncio.Task[None]] = {}

    async def dellink(self, pair: Pair, reason: str) -> None:
        """Delete a LIVE pair and return when both devices are gone; a DYING one goes only once, and is waited for.

        reason: for the log; who or what wanted it. Source: veth_dellink in drivers/net/veth.c.
        """
        self.start(pair, reason)
        if pair in self._going:
            await asyncio.shield(self._going[pair])

    def start(self, pair: Pair, reason: str) -> None:
        """Delete a pair without waiting for it."""
        if pair.state is not PairState.LIVE:
            return
        pair.state = PairState.DYING
        self._registry.remove(pair)
        self._going[pair] = task = asyncio.ensure_future(self._delete(pair, reason))
        task.add_done_callback(lambda _task: self._going.pop(pair))

    async def _delete(self, pair: Pair, reason: str) -> None:
        await self._workers.release(pair)
        results = await asyncio.gather(
            *(self._threads.reap(delete, end.fd) for end in pair.ends), return_exceptions=True
        )
        self._registry.give_numbers(end.number for end in pair.ends)
        for end, result in zip(pair.ends, results, strict=True):
            if isinstance(result, BaseException):
                # It goes with its last descriptor, and the worker's and ours are closed.
                self._log.warning("device only closed", **describe(pair), end=end.letter, error=str(result))
        self._log.info("link deleted", **describe(pair), reason=reason)

    async def all(self, reason: str) -> None:
        """Delete every pair, and wait for those that are going already."""
        for pair in self._registry:
            self.start(pair, reason)
        await asyncio.gather(*self._going.values())
