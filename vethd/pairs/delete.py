"""dellink: both ends of a pair go together, whichever of them went first.

The worker lets go of them first and delivers what it had accepted; then both devices are deleted at the same time on
the `reap` threads. Nobody finds them any more once the kernel says RTM_DELLINK, and who asked is answered then; their
memory it gives back 16-21 ms later, and only then are the fds closed and the numbers free for others.
"""

from __future__ import annotations

import asyncio

from structlog.typing import FilteringBoundLogger

from vethd.host.locate import delete
from vethd.host.threads import HostThreads
from vethd.pairs.journal import Journal
from vethd.pairs.pair import End, Pair, PairState, describe
from vethd.pairs.registry import Registry
from vethd.pairs.workers import Workers


class Deleter:
    """Deletes pairs; one per daemon."""

    def __init__(
        self,
        threads: HostThreads,
        registry: Registry,
        workers: Workers,
        journal: Journal,
        log: FilteringBoundLogger,
    ) -> None:
        self._threads = threads
        self._registry = registry
        self._workers = workers
        self._journal = journal
        self._log = log
        self._going: dict[Pair, asyncio.Task[None]] = {}
        self._gone: dict[Pair, asyncio.Event] = {}  # of the same pairs; set when nobody finds them any more
        self._leaving: dict[tuple[int, int], asyncio.Event] = {}  # the same for devices, by End.key

    async def dellink(self, pair: Pair, reason: str) -> None:
        """Delete a LIVE pair and return when both devices are gone; a DYING one goes only once, and is waited for.

        reason: for the log; who or what wanted it. Source: veth_dellink in drivers/net/veth.c.
        """
        self.start(pair, reason)
        if pair in self._gone:
            await self._gone[pair].wait()

    async def closed(self, pair: Pair) -> None:
        """Return when the fds of a pair that is going are closed, and its numbers free."""
        if pair in self._going:
            await asyncio.shield(self._going[pair])

    @property
    def busy(self) -> bool:
        """True while a pair is going."""
        return bool(self._going)

    async def settle(self) -> None:
        """Return when the pairs that are going are closed."""
        if self._going:
            await asyncio.wait(self._going.values())

    async def one_closed(self) -> bool:
        """Return when one of the pairs that are going has given its numbers back; False when none is going."""
        if not self._going:
            return False
        await asyncio.wait(self._going.values(), return_when=asyncio.FIRST_COMPLETED)
        return True

    def start(self, pair: Pair, reason: str) -> None:
        """Delete a pair without waiting for it."""
        if pair.state is not PairState.LIVE:
            return
        pair.state = PairState.DYING
        self._registry.remove(pair)
        self._gone[pair] = asyncio.Event()
        self._going[pair] = task = asyncio.ensure_future(self._delete(pair, reason))
        task.add_done_callback(lambda _task: self._closed(pair))

    def leaving(self) -> list[Pair]:
        """Pairs of which it is not said yet that they are deleted."""
        return [pair for pair, gone in self._gone.items() if not gone.is_set()]

    def heard(self, nsid: int, ifindex: int) -> None:
        """A device that is no end of a LIVE pair was deleted."""
        gone = self._leaving.get((nsid, ifindex))
        if gone is not None:
            gone.set()

    def _closed(self, pair: Pair) -> None:
        del self._going[pair]
        self._gone.pop(pair).set()

    async def _delete(self, pair: Pair, reason: str) -> None:
        await self._workers.release(pair)
        gone = [asyncio.Event() for _end in pair.ends]
        dying = asyncio.gather(*map(self._delete_device, pair.ends, gone), return_exceptions=True)
        for event in gone:
            await event.wait()
        self._log.info("link deleted", **describe(pair), reason=reason)
        self._journal.record("link", "deleted", pair, reason=reason)
        self._gone[pair].set()
        results = await dying
        self._registry.give_numbers(queue.number for end in pair.ends for queue in end.queues)
        for end, result in zip(pair.ends, results, strict=True):
            if isinstance(result, BaseException):
                # It goes with its last descriptor, and the worker's and ours are closed.
                self._log.warning("device only closed", **describe(pair), end=end.letter, error=str(result))

    async def _delete_device(self, end: End, gone: asyncio.Event) -> None:
        key = end.key
        self._leaving[key] = gone
        try:
            await self._threads.reap(delete, *(queue.fd for queue in end.queues), known=(end.netns, end.nsid))
        finally:
            del self._leaving[key]
            gone.set()  # also when it was not heard of

    async def all(self, reason: str) -> None:
        """Delete every pair, and wait for those that are going already."""
        for pair in self._registry:
            self.start(pair, reason)
        await asyncio.gather(*self._going.values())
