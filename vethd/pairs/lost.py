"""`LostFrames`: what dead workers had in hand is counted, and nobody waits for a worker that hangs.

The count compares with the kernel's counters, which are those of a whole device. So if other workers have queues of the
same pairs, they hand these in for the time of the count: they deliver what they read, and get them back after it. A
worker that dies meanwhile is at rest, too: its frames are counted with the others. One that does not answer soon, and
so perhaps never, is not waited for: the pairs that it shares are forwarded by the others, and owed a count, which takes
place when it has answered or died.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from structlog.typing import FilteringBoundLogger

from vethd.host.threads import HostThreads
from vethd.pairs.pair import Pair, QueuePair
from vethd.pairs.slot import Slot
from vethd.pairs.stats import charge_lost, kernel_stats
from vethd.worker.child import WorkerDied
from vethd.worker.counters import Counters

#: Seconds that a count waits for workers to hand in queues; each time that this was too short, so many times as long.
COUNT_WITHIN: Final = 0.1
LONGER: Final = 4
#: Seconds until a count that failed (no file descriptor was free) is tried again.
RETRY: Final = 0.5


class LostFrames:
    """Counts frames of dead workers; one per daemon.

    slots: of all workers. taken(slot, queues, future) is called for queues that a worker gets back. start: runs what
    nobody waits for. lock: held during a count, and by whoever gives a worker queues that it did not have; while it is
    held, nobody waits for a worker longer than a count does. counts: how many there were.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        threads: HostThreads,
        counters: Counters,
        log: FilteringBoundLogger,
        taken: Callable[[Slot, QueuePair, asyncio.Future[None]], None],
        start: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._slots = slots
        self._threads = threads
        self._counters = counters
        self._log = log
        self._taken = taken
        self._start = start
        self.lock = asyncio.Lock()
        self.counts = 0
        self._owed: set[Pair] = set()
        self._late: set[asyncio.Future[None]] = set()
        self._counting_owed = False

    async def count(self, pairs: Collection[Pair], within: float = COUNT_WITHIN) -> int:
        """Count what dead workers had in hand of these pairs, as WORKER_LOST; how many frames that was.

        within: seconds to wait for other workers; pairs of one that takes longer are counted later.
        """
        while True:
            try:
                async with self.lock, self._at_rest(pairs, within) as resting:
                    kernel = await kernel_stats([end for pair in resting for end in pair.ends], self._threads)
                    self._owed.difference_update(resting)
                    return sum(
                        charge_lost(pair, kernel, self._counters)
                        for pair in resting
                        if all(end.number in kernel for end in pair.ends)
                    )
            except OSError as error:
                self._log.error("lost frames not counted, trying again", error=repr(error))
                await asyncio.sleep(RETRY)

    @asynccontextmanager
    async def _at_rest(self, pairs: Collection[Pair], within: float) -> AsyncIterator[Collection[Pair]]:
        """During the body no worker has a queue of the pairs given to it; what was read of them before is delivered.

        These are the pairs that were asked for, but for those of which a worker did not hand in its queues in time.
        Workers that are not `holding` are dead, or wait for the lock that the caller holds.
        """
        self.counts += 1
        held = [(slot, [queues for queues in slot.queues if queues.pair in pairs]) for slot in self._slots]
        held = [(slot, mine) for slot, mine in held if mine and slot.holding]
        for slot, mine in held:
            slot.serving.clear()
            slot.resting.update(mine)
        handing = {slot: asyncio.ensure_future(_hand_in(slot, mine)) for slot, mine in held}
        if handing:
            await asyncio.wait(handing.values(), timeout=within)
        late = [slot for slot, handed in handing.items() if not handed.done()]
        missing = {queues.pair for slot, mine in held if slot in late for queues in mine}
        try:
            yield [pair for pair in pairs if pair not in missing]
        finally:
            for slot, mine in held:
                if slot in late:
                    self._late.add(handing[slot])
                    self._start(self._give_late(slot, mine, handing[slot]))
                else:
                    self.give(slot, mine)
            if missing:
                self._owed |= missing
                self._start(self._count_owed(LONGER * within))

    def give(self, slot: Slot, queues: Iterable[QueuePair]) -> None:
        """Let a worker forward queues again that it was asked to hand in; not those that it has got back already."""
        for each in queues:
            if each in slot.resting:
                slot.resting.remove(each)
                if each in slot.queues and slot.holding:
                    self._taken(slot, each, slot.add(each))
        slot.settle()

    async def _give_late(self, slot: Slot, queues: Iterable[QueuePair], handed: asyncio.Future[None]) -> None:
        await handed
        self._late.remove(handed)
        async with self.lock:
            self.give(slot, queues)

    async def _count_owed(self, within: float) -> None:
        """Count what could not be counted because of a worker, when none keeps us waiting; one such task is enough."""
        if self._counting_owed:
            return
        self._counting_owed = True
        try:
            while owed := {pair for pair in self._owed if pair.is_live()}:
                if self._late:
                    await asyncio.wait(self._late)
                lost = await self.count(owed, within)
                self._log.info("lost frames counted late", pairs=len(owed), frames_lost=lost)
                within *= LONGER
            self._owed.clear()
        finally:
            self._counting_owed = False


async def _hand_in(slot: Slot, queues: list[QueuePair]) -> None:
    """Let a worker deliver what it has read of queues, and read them no more; if it dies, it has."""
    with suppress(WorkerDied):
        await asyncio.gather(*(slot.take_away(each) for each in queues))
