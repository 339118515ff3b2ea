"""`Workers`: which worker forwards which queues of a pair, and what happens when one dies.

Queue i of one end and queue i of the other are a pair of their own to a worker; those of one pair are spread over the
workers. A slot is a place for a worker and keeps its number, its queues and its counters while processes come and go.
One more process, the spare, stands by ready and confined, because a cold start costs a tenth of a second::

    process ends -> what it held is counted (WORKER_LOST) -> the spare takes slot and queues -> a new spare starts

The supervisor's own fds keep the links meanwhile: no device, address or carrier changes, and the TAPs' rings hold up to
txqueuelen frames.

How they are counted, and what other workers that share a pair have to do with it, stands in lost.py.

When the daemon's program is replaced, the processes go on forwarding and the new program takes them over (`adopt`).
One that speaks another version of the protocol is drained and replaced; what it had read is delivered then.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, ParamSpec, Protocol, TypeVar

from structlog.typing import FilteringBoundLogger

from vethd.errors import InvalidParams, LimitReached, WorkerFailed
from vethd.frameio.choice import Wanted
from vethd.host.threads import HostThreads
from vethd.pairs.journal import Journal
from vethd.pairs.lost import LostFrames
from vethd.pairs.pair import End, Pair, PairState, QueuePair
from vethd.pairs.registry import Registry
from vethd.pairs.slot import RESTART_WINDOW, Slot, facts, restart_delay
from vethd.pairs.stats import charge_lost, kernel_stats
from vethd.worker.channel import Message
from vethd.worker.child import ANSWER_WITHIN, Child, Kept, WorkerDied, WorkerRefused
from vethd.worker.counters import Counters

#: Seconds until a replacement that failed is tried again.
RETRY = 0.5
#: Seconds in which a worker has to answer once the daemon is to end.
HURRIED = 1.0

P = ParamSpec("P")
T = TypeVar("T")


class Reports(Protocol):
    """Who is told what workers report; the follower."""

    def gone(self, end: End) -> None:
        """The worker can't read or write the end any more."""

    def hdr_invalid(self, end: End, frames: int) -> None:
        """The kernel refused the headers of this many frames that came from the end."""


class Workers:
    """All worker processes of the daemon.

    count: how many slots. sysctls: backlog settings of each worker, to be changed by set_sysctls only.
    restart_window: see RESTART_WINDOW; seconds.
    frameio: how workers read and write; see frameio/choice.py. cpus: that workers are bound to, one each, in turn.
    answer_within: seconds after which a worker that does not answer is killed, see worker/child.py.
    reports: who is told what workers say of ends; set before the first pair is taken.
    """

    def __init__(
        self,
        count: int,
        sysctls: dict[str, int | bool],
        threads: HostThreads,
        registry: Registry,
        counters: Counters,
        journal: Journal,
        log: FilteringBoundLogger,
        restart_window: float = RESTART_WINDOW,
        frameio: Wanted = "auto",
        cpus: Sequence[int] = (),
        answer_within: float = ANSWER_WITHIN,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.sysctls = sysctls
        self._threads = threads
        self._registry = registry
        self._counters = counters
        self._journal = journal
        self._log = log
        self.restart_window = restart_window
        self._frameio: Wanted = frameio
        self._cpus = cpus
        self._answer_within = answer_within
        self._slots = [Slot(number) for number in range(count)]
        self._spare: Child | None = None
        self._foreign: list[Child] = []
        self._strays: list[Pair] = []
        self._spare_lock = asyncio.Lock()
        self._spare_deaths = 0
        self._lost = LostFrames(self._slots, threads, counters, log, self._given, self._start)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self.reports: Reports | None = None

    def adopt(self, kept: Iterable[Kept], slots: Mapping[Pair, Sequence[int]]) -> None:
        """Take over what a predecessor left, before `start`.

        kept: its processes; of slots that are more than configured, too. slots: for each pair, who forwards its queues,
        if that is known.
        """
        for one in kept:
            try:
                child = self._spawn(one)
            except OSError as error:
                self._log.error("worker not taken over", worker=one.slot, pid=one.pid, error=repr(error))
                os.close(one.channel)
                continue
            child.ends = self._counters.ends
            if child.foreign and one.slot is None and one.ready:  # a spare holds nothing
                child.stop()
            elif child.foreign:
                self._foreign.append(child)
            elif one.slot is None:
                self._spare = child
            else:
                self._slots += [Slot(number) for number in range(len(self._slots), one.slot + 1)]
                self._slots[one.slot].child = child
                self._slots[one.slot].holding = True
        for pair, numbers in slots.items():
            if len(numbers) < len(pair.queues) or max(numbers) >= len(self._slots):
                self._strays.append(pair)
                continue
            for queues, number in zip(pair.queues, numbers, strict=True):
                queues.worker = number
                self._slots[number].queues[queues] = None

    async def start(self) -> None:
        """Let a worker serve in every slot, those that were adopted or new ones, and start the spare.

        Raises WorkerFailed when that is impossible and there is no pair to keep.
        """
        empty = [slot for slot in self._slots if slot.child is None]
        async with self._lost.lock:  # no count before those that can't be asked for queues have ended
            await asyncio.gather(*map(self._retire, self._foreign))
        await asyncio.gather(*(self._resume(slot) for slot in self._slots if slot not in empty))
        for slot in empty:
            if slot.queues and (lost := await self._lost.count(slot.pairs)):
                self._log.warning("frames of a former worker lost", worker=slot.number, frames_lost=lost)
        for slot in empty:
            slot.child = self._spawn()
        if self._spare is None:
            self._spare = self._spawn()
        for slot in empty:
            try:
                await self._serve(slot)
            except WorkerDied as error:  # with pairs to keep, its death has started its replacement
                if not len(self._registry):
                    raise WorkerFailed(f"worker {slot.number} does not start: {error}", hint=error.remedy) from error
        await self._take_strays()

    async def _resume(self, slot: Slot) -> None:
        """See whether an adopted worker is well, and tell it the settings: these may be others now."""
        with suppress(WorkerDied):  # then it is being replaced
            await slot.ask("sysctl", values=self.sysctls)
            slot.up = True
            slot.settle()

    async def _retire(self, child: Child) -> None:
        """Let a worker of another version of the protocol deliver what it has read, and end."""
        with suppress(WorkerDied):
            await child.request("drain")
        child.stop()
        await child.ended.wait()
        self._log.warning("worker of another version retired", pid=child.pid, why=child.why_dead)

    async def _take_strays(self) -> None:
        """Take the pairs of which nobody knows who forwarded them: whoever did has ended by now."""
        if not self._strays:
            return
        kernel = await self._insist(kernel_stats, [end for pair in self._strays for end in pair.ends], self._threads)
        for pair in self._strays:
            if all(end.number in kernel for end in pair.ends):
                charge_lost(pair, kernel, self._counters)
            await self.take(pair)
        self._strays.clear()

    def serving(self) -> list[tuple[Slot, Message]]:
        """Every slot, with what the worker in it said in `ready`; nothing while it is being replaced."""
        return [(slot, slot.child.ready.result() if slot.child and slot.up else {}) for slot in self._slots]

    def children(self) -> list[tuple[int | None, Child]]:
        """Every worker process and its slot, None for the spare."""
        processes: list[tuple[int | None, Child | None]] = [(slot.number, slot.child) for slot in self._slots]
        return [(slot, child) for slot, child in [*processes, (None, self._spare)] if child is not None]

    @property
    def busy(self) -> bool:
        """True while a worker is being replaced or started, or has not answered everything asked."""
        return bool(self._tasks) or any(child.busy for _slot, child in self.children())

    async def settle(self) -> None:
        """Return when what is under way now is done."""
        if self._tasks:
            await asyncio.wait(self._tasks)
        await asyncio.gather(*(child.settle() for _slot, child in self.children()))

    def failing(self) -> float:
        """Seconds for which there is no worker that serves in some slot, although one is wanted; 0 when all serve."""
        now = self._loop.time()
        return max((now - slot.failing for slot in self._slots if slot.failing is not None), default=0.0)

    def hurry(self) -> None:
        """The daemon is to end: be less patient with workers from now on."""
        self._answer_within = min(self._answer_within, HURRIED)
        for _slot, child in self.children():
            child.hurry(self._answer_within)

    def _emptiest(self) -> Slot:
        return min(self._slots, key=lambda slot: (len(slot.queues), slot.number))

    async def take(self, pair: Pair) -> None:
        """Give each queue of a pair to the worker with the fewest; returns when all are read at both ends.

        Raises LimitReached when one of them has no means for it; the pair is to be released then.
        """
        for queues in pair.queues:
            while not (slot := self._emptiest()).serving.is_set():
                await slot.serving.wait()
            if pair.state is PairState.DYING:  # while we waited
                return
            slot.queues[queues] = None
            queues.worker = slot.number
            try:
                await slot.add(queues)
            except WorkerDied:
                await slot.until_serving()  # the successor took it with the others
            except WorkerRefused as error:
                slot.queues.pop(queues, None)
                raise _refused(slot, error) from error

    async def release(self, pair: Pair) -> None:
        """Take a pair from its workers; returns when they have delivered what they had and closed its fds."""
        taken = [(self._slots[queues.worker], queues) for queues in pair.queues]
        taken = [(slot, queues) for slot, queues in taken if queues in slot.queues]
        for slot, queues in taken:
            del slot.queues[queues]
        await asyncio.gather(*(self._release(slot, queues) for slot, queues in taken))

    async def _release(self, slot: Slot, queues: QueuePair) -> None:
        if slot.child is None:  # its fds died with the worker, and the successor does not get these queues
            return
        await slot.until_serving()
        with suppress(WorkerDied):  # the same
            await slot.take_away(queues)

    async def tell(self, end: End) -> None:
        """Tell the workers how an end is now; done when they know. Its carrier is told apart, see set_carrier."""
        await asyncio.gather(*(self._set(end, queues, facts(end)) for queues in end.pair.queues))

    async def set_carrier(self, end: End, carrier: bool) -> None:
        """Tell the workers whether an end is to have a carrier; done when they know."""
        await asyncio.gather(*(self._set(end, queues, {"carrier": carrier}) for queues in end.pair.queues))

    async def _set(self, end: End, queues: QueuePair, values: dict[str, Any]) -> None:
        slot = self._slots[queues.worker]
        await slot.until_serving()
        try:
            await slot.ask("set", end=end.queues[queues.index].number, **values)
        except WorkerDied:
            await slot.until_serving()  # the successor was told with everything else

    async def set_sysctls(self, values: dict[str, int]) -> None:
        """Change backlog settings; done when all workers that serve know. The others are told before they serve."""
        self.sysctls = {**self.sysctls, **values}
        await asyncio.gather(*(self._set_sysctls(slot, values) for slot, ready in self.serving() if ready))

    async def _set_sysctls(self, slot: Slot, values: dict[str, int]) -> None:
        with suppress(WorkerDied):  # its successor is told before it serves
            await slot.ask("sysctl", values=values)

    def require(self, number: int) -> None:
        """Raise InvalidParams when there is no worker of this number."""
        if number >= len(self._slots):
            raise InvalidParams(
                f"worker {number}: there are workers 0 to {len(self._slots) - 1}",
                hint="`vethctl daemon info` lists them; `count` in [worker] says how many there are",
            )

    async def move(self, pair: Pair, number: int) -> None:
        """Let one worker forward all queues of a pair from now on; returns when it reads them all.

        Each queue is read by nobody for a moment, in which the rings of the TAPs hold its frames: the old worker has
        delivered what it read, and its rows are final, before the new one takes it. Raises WorkerFailed, LimitReached.
        """
        target = self._slots[number]
        for queues in pair.queues:
            while queues.worker != number and pair.is_live():
                source = self._slots[queues.worker]
                await source.until_serving()
                await target.until_serving()
                await self._pass_on(queues, source, target)

    async def _pass_on(self, queues: QueuePair, source: Slot, target: Slot) -> None:
        """Take queues from one worker and give them to another; nothing has happened if they are still the first's."""
        if queues not in source.queues and queues.pair.is_live():
            raise WorkerFailed(f"pair {queues.pair.uuid} can't be read at present", hint="try again; the log says more")
        counts = self._lost.counts
        try:
            await source.take_away(queues)
        except WorkerDied:  # what it had in hand is to be counted, and so it keeps them
            return
        async with self._lost.lock:
            if queues not in source.queues or counts != self._lost.counts:  # released; or given back after a count
                return
            del source.queues[queues]
            target.queues[queues] = None
            queues.worker = target.number
            adding = target.add(queues) if target.holding else None  # else with the others
        try:
            if adding is not None:
                await adding
        except WorkerDied:  # its successor takes them with the others
            pass
        except WorkerRefused as error:
            await self._send_back(queues, source, target)
            raise _refused(target, error) from error

    async def _send_back(self, queues: QueuePair, source: Slot, target: Slot) -> None:
        async with self._lost.lock:
            if queues in target.queues:
                del target.queues[queues]
                source.queues[queues] = None
                queues.worker = source.number
                if source.holding:
                    self._given(source, queues, source.add(queues))

    async def stop(self, drain: bool = False) -> None:
        """Let all workers end, and wait until they have. drain: they deliver first what they have read."""
        self._stopping = True
        for task in list(self._tasks):
            task.cancel()
        if drain:
            await asyncio.gather(*(self._drain(slot) for slot in self._slots))
        children = [child for child in (self._spare, *(slot.child for slot in self._slots)) if child is not None]
        for child in children:
            child.stop()
        await asyncio.gather(*(child.ended.wait() for child in children))

    async def _drain(self, slot: Slot) -> None:
        with suppress(WorkerDied):  # the next daemon counts what it had
            await slot.ask("drain")

    def _spawn(self, kept: Kept | None = None) -> Child:
        return Child(self._loop, self._on_report, self._on_death, self._frameio, kept, self._answer_within)

    async def _serve(self, slot: Slot) -> None:
        """Make the child of a slot forward the slot's queues. Raises WorkerDied."""
        child = slot.child
        if child is None:
            raise WorkerDied(f"worker {slot.number} died before it was needed")
        ready = await child.ready
        cpu = self._cpus[slot.number % len(self._cpus)] if self._cpus else None
        await child.hello(slot.number, self._counters.fd, self._counters.ends, cpu)
        await child.request("sysctl", values=(told := self.sysctls))
        async with self._lost.lock:  # a count of another worker's frames needs these queues at rest
            if slot.child is not child:
                raise WorkerDied(child.why_dead)
            adding = {queues: slot.add(queues) for queues in slot.queues}
            slot.holding = True
        for queues, added in adding.items():
            await self._taken(slot, queues, added)
        while told is not self.sysctls:  # changed meanwhile
            await child.request("sysctl", values=(told := self.sysctls))
        if slot.child is not child:
            raise WorkerDied(child.why_dead)
        slot.up, slot.failing = True, None
        slot.settle()
        about = {
            "pid": child.pid,
            "pairs": len(slot.pairs),
            "queues": len(slot.queues),
            **{name: ready[name] for name in ("datapath", "frameio", "why")},
        }
        self._log.info("worker serves", worker=slot.number, **about)
        self._journal.record("worker", "serving", id=slot.number, **about)

    async def _taken(self, slot: Slot, queues: QueuePair, added: asyncio.Future[None]) -> None:
        """Wait until a worker has queues that it, or the one before it, has had already. Raises WorkerDied."""
        try:
            await added
        except WorkerRefused as error:
            self._log.error("worker can't read a pair", worker=slot.number, pair=str(queues.pair.uuid), why=str(error))
            if self.reports is not None:
                self.reports.gone(queues.pair.a)

    def _given(self, slot: Slot, queues: QueuePair, added: asyncio.Future[None]) -> None:
        """A worker is about to get back queues; nobody waits for it."""
        self._start(self._taken_again(slot, queues, added))

    async def _taken_again(self, slot: Slot, queues: QueuePair, added: asyncio.Future[None]) -> None:
        with suppress(WorkerDied):  # then its successor gets them
            await self._taken(slot, queues, added)

    def _on_report(self, child: Child, message: Message) -> None:
        slot = next((slot for slot in self._slots if slot.child is child), None)
        end = self._registry.numbered(message["end"])
        if self.reports is None or slot is None or end is None:
            return  # of an end that went meanwhile
        if not any(queues in slot.queues for queues in end.pair.queues):
            return
        if message["op"] == "gone":
            self.reports.gone(end)
        else:
            self.reports.hdr_invalid(end, message["frames"])

    def _on_death(self, child: Child) -> None:
        if self._stopping:
            return
        if child is self._spare:
            self._spare = None
            delay = self._spare_delay(child)
            self._log.error("spare worker died", pid=child.pid, why=child.why_dead, next_in=delay)
            self._journal.record("worker", "spare_died", died_pid=child.pid, reason=child.why_dead)
            self._start(self._new_spare(delay))
            return
        for slot in self._slots:
            if slot.child is child:
                slot.vacate()
                self._log.error("worker died", worker=slot.number, pid=child.pid, why=child.why_dead)
                gone = dict.fromkeys(("pid", "datapath", "frameio", "why"))
                self._journal.record(
                    "worker", "died", id=slot.number, **gone, died_pid=child.pid, reason=child.why_dead
                )
                self._start(self._replace(slot))

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _replace(self, slot: Slot) -> None:
        delay = slot.restart_delay(self.restart_window)
        if delay:
            self._log.warning("worker restart delayed", worker=slot.number, seconds=delay)
            self._journal.record("worker", "delayed", id=slot.number, seconds=delay)
            await asyncio.sleep(delay)
        slot.failing = slot.failing or self._loop.time()
        lost = await self._lost.count(slot.pairs)
        if self._spare is not None:
            slot.child, self._spare = self._spare, None
        else:
            slot.child = await self._insist(self._new_child)
        try:
            await self._serve(slot)
        except WorkerDied:
            return  # its death starts the next replacement
        self._log.info("worker replaced", worker=slot.number, pairs=len(slot.pairs), frames_lost=lost)
        self._journal.record("worker", "replaced", id=slot.number, frames_lost=lost)
        await self._new_spare()

    async def _new_spare(self, delay: float = 0.0) -> None:
        await asyncio.sleep(delay)
        async with self._spare_lock:
            if self._spare is None:
                self._spare = await self._insist(self._new_child)

    async def _new_child(self) -> Child:
        return self._spawn()

    async def _insist(self, call: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do what needs file descriptors, again and again while none is free: a slot must not stay empty for that."""
        while True:
            try:
                return await call(*args, **kwargs)
            except OSError as error:
                self._log.error("worker not replaced, trying again", error=repr(error))
                await asyncio.sleep(RETRY)

    def _spare_delay(self, child: Child) -> float:
        """Seconds until the next spare, doubling as long as none of them lives for the window."""
        lived = self._loop.time() - child.born
        self._spare_deaths = 1 if lived >= self.restart_window else self._spare_deaths + 1
        return restart_delay(self._spare_deaths)


def _refused(slot: Slot, error: WorkerRefused) -> LimitReached:
    return LimitReached(
        f"worker {slot.number}: {error}", hint="raise LimitNOFILE (ulimit -n) of the daemon, which its workers have too"
    )
