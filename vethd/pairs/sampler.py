"""`Sampler`: drops as events, for as long as somebody listens to them.

A worker only counts; it tells nobody of a single frame. So the counters are read every so often, and what they grew by
is one event per end and drop point. Listeners of the same interval share readings and events; whoever joins between
two of them has a first event of its own, that counts from then. While nobody listens, nothing is read.

What workers count stands in memory and is compared as it stands. What only the kernel counts (NO_CARRIER, TAP_RING)
costs a request per end, so it is asked at most every KERNEL_INTERVAL, and for a small part of the time.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar
from uuid import UUID

from structlog.typing import FilteringBoundLogger

from vethd.drops import DropPoint
from vethd.host.threads import HostThreads
from vethd.pairs.journal import Event, Journal
from vethd.pairs.pair import Pair
from vethd.pairs.registry import Registry
from vethd.pairs.stats import look
from vethd.worker.counters import Counters, add_drops

#: Intervals are rounded up to a multiple of this many seconds, so that there are not as many as there are listeners.
STEP: Final = 0.1
#: Seconds between two looks at the kernel's counters, at least; but never less than so many times what a look takes.
KERNEL_INTERVAL: Final = 1.0
KERNEL_PAUSE: Final = 10
#: Pairs that the kernel is asked about in one go; a carrier change waits no longer than that for the thread.
KERNEL_CHUNK: Final = 16

Listener = TypeVar("Listener")
#: The drops of both ends of each pair, as they stood; with the pair, which may be gone from every table by now.
_Counts = dict[UUID, tuple[Pair, bytes, bytes]]


@dataclass(slots=True)
class _Cohort(Generic[Listener]):
    """Listeners that have been told the same. counts: what that is. since: when that was, in the loop's time."""

    counts: _Counts
    since: float
    listeners: list[Listener]


@dataclass(slots=True)
class _Beat(Generic[Listener]):
    """Listeners of one interval: a cohort, and one of each who joined since the last event. task: keeps time."""

    task: asyncio.Task[None]
    cohorts: list[_Cohort[Listener]] = field(default_factory=list)


class Sampler(Generic[Listener]):
    """Makes drop events; one per daemon.

    settled: see `look`.
    tell: called with listeners and with events for all of them; it must not block or raise.
    """

    def __init__(
        self,
        threads: HostThreads,
        registry: Registry,
        counters: Counters,
        journal: Journal,
        settled: Callable[[Pair], bool],
        tell: Callable[[list[Listener], list[Event]], None],
        log: FilteringBoundLogger,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._threads = threads
        self._registry = registry
        self._counters = counters
        self._journal = journal
        self._settled = settled
        self._tell = tell
        self._log = log
        self._beats: dict[int, _Beat[Listener]] = {}
        self._kernel_lock = asyncio.Lock()
        self._kernel_due = 0.0

    def join(self, listener: Listener, interval: float) -> None:
        """Tell a listener what is dropped from now on, every `interval` seconds."""
        steps = math.ceil(interval / STEP - 1e-6)
        beat = self._beats.get(steps)
        if beat is None:
            beat = self._beats[steps] = _Beat(self._loop.create_task(self._keep(steps)))
        beat.cohorts.append(_Cohort(self._read(), self._loop.time(), [listener]))

    def leave(self, listener: Listener) -> list[Event]:
        """Tell it no more; what was dropped since it was last told."""
        for steps, beat in self._beats.items():
            for cohort in beat.cohorts:
                if listener in cohort.listeners:
                    cohort.listeners.remove(listener)
                    if not any(each.listeners for each in beat.cohorts):
                        beat.task.cancel()
                        del self._beats[steps]
                    return list(self._grown(cohort, self._read(), self._journal.seq))
        return []

    def heard(self, event: Event) -> None:
        """An event is about to be told; what was dropped of a pair that is no more is told before that."""
        if event.topic != "link" or event.event not in ("added", "deleted"):
            return
        assert event.pair is not None
        uuid = UUID(event.pair)
        for cohort in [cohort for beat in self._beats.values() for cohort in beat.cohorts]:
            if event.event == "added":
                cohort.counts[uuid] = self._registry.by_uuid(uuid), b"", b""
            elif uuid in cohort.counts:
                pair = cohort.counts[uuid][0]
                events = list(self._grown(cohort, {uuid: self._row(pair)}, event.seq - 1))
                del cohort.counts[uuid]
                self._tell(cohort.listeners, events)

    async def ask_kernel(self, if_due: bool = False) -> None:
        """Count what only the kernel's counters tell; with if_due, unless it was asked lately."""
        async with self._kernel_lock:
            began = self._loop.time()
            if if_due and began < self._kernel_due:
                return
            pairs = [pair for pair in self._registry if pair.is_live()]
            try:
                for first in range(0, len(pairs), KERNEL_CHUNK):
                    await look(pairs[first : first + KERNEL_CHUNK], self._threads, self._counters, self._settled)
            except OSError as error:  # no file descriptor is free: the next look counts it
                self._log.warning("kernel counters not read", error=repr(error))
            took = self._loop.time() - began
            self._kernel_due = began + max(KERNEL_INTERVAL, KERNEL_PAUSE * took)

    async def _keep(self, steps: int) -> None:
        while True:
            await asyncio.sleep(steps * STEP)
            await self.ask_kernel(if_due=True)
            self._beat(self._beats[steps])

    def _beat(self, beat: _Beat[Listener]) -> None:
        """Tell all listeners of one interval what grew; they are one cohort then."""
        counts, seq = self._read(), self._journal.seq
        cohorts, listeners = beat.cohorts, [each for cohort in beat.cohorts for each in cohort.listeners]
        grown = [list(self._grown(cohort, counts, seq)) for cohort in cohorts]
        beat.cohorts = [_Cohort(counts, self._loop.time(), listeners)]
        for cohort, events in zip(cohorts, grown, strict=True):
            self._tell(cohort.listeners, events)

    def _read(self) -> _Counts:
        return {pair.uuid: self._row(pair) for pair in self._registry if pair.is_live()}

    def _row(self, pair: Pair) -> tuple[Pair, bytes, bytes]:
        packed = self._counters.packed_drops
        return (
            pair,
            packed([queue.number for queue in pair.a.queues]),
            packed([queue.number for queue in pair.b.queues]),
        )

    def _grown(self, cohort: _Cohort[Listener], counts: _Counts, seq: int) -> Iterator[Event]:
        """One event per end and point whose counter is higher than what a cohort was told."""
        interval = round(self._loop.time() - cohort.since, 3)
        for uuid, row in counts.items():
            before = cohort.counts.get(uuid)
            if row == before:
                continue
            for end, packed, packed_before in zip(
                row[0].ends, row[1:], before[1:] if before else (b"", b""), strict=True
            ):
                total, told = add_drops(packed), add_drops(packed_before)
                for point in DropPoint:
                    if frames := total[point] - told[point]:
                        fields = {"point": point.name, "frames": frames, "total": total[point], "interval": interval}
                        yield Event(seq, self._journal.clock(), "drop", "dropped", str(uuid), end.letter, fields)
