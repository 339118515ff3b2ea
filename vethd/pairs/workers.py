"""`Workers`: which worker forwards which queues of a pair, and what happens when one dies.

Queue i of one end and queue i of the other are a pair of their own to a worker; those of one pair are spread over the
workers. A slot is a place for a worker and keeps its number, its queues and its counters while processes come and go.
One more process, the spare, stands by ready and confined, because a cold start costs a tenth of a second::

    process ends -> what it held is counted (WORKER_LOST) -> the spare takes slot and queues -> a new spare starts

The supervisor's own fds keep the links meanwhile: no device, address or carrier changes, and the TAPs' rings hold up to
txqueuelen frames.

The count compares with the kernel's counters, which are those of a whole device. So if other workers have queues of the
same pairs, they hand these in for the time of the count: they deliver what they read, and get them back after it. There
is one count at a time, and it waits for nothing but answers of workers, which come, or the worker is killed. A worker
that dies meanwhile is at rest, too: its frames are counted with the others.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, ParamSpec, Protocol, TypeVar

from structlog.typing import FilteringBoundLogger

from vethd.errors import InvalidParams, WorkerFailed
from vethd.frameio.choice import Wanted
from vethd.host.tap import takes_uso
from vethd.host.threads import HostThreads
from vethd.pairs.journal import Journal
from vethd.pairs.pair import End, Pair, PairState, QueuePair
from vethd.pairs.registry import Registry
from vethd.pairs.stats import charge_lost, kernel_stats
from vethd.worker.channel import Message
from vethd.worker.child import Child, WorkerDied
from vethd.worker.counters import Counters

#: Deaths of one slot within this many seconds that are answered at once; the next waits.
FREE_RESTARTS = 2
RESTART_WINDOW = 10.0
RESTART_DELAY_FIRST = 0.1
RESTART_DELAY_MAX = 5.0
#: Seconds until a replacement that failed is tried again.
RETRY = 0.5

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Slot:
    """A place for a worker.

    number: of the slot. child: the process in it. queues: what it forwards.
    serving: set while it does, and may be told of its queues. counting: it serves, but for a moment hands queues in.
    """

    number: int
    child: Child | None = None
    queues: dict[QueuePair, None] = field(default_factory=dict)
    serving: asyncio.Event = field(default_factory=asyncio.Event)
    counting: bool = False
    deaths: deque[float] = field(default_factory=deque)

    @property
    def pairs(self) -> set[Pair]:
        """The pairs of which it forwards queues."""
        return {queues.pair for queues in self.queues}


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
        self._slots = [Slot(number) for number in range(count)]
        self._spare: Child | None = None
        self._spare_lock = asyncio.Lock()
        self._count_lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self.reports: Reports | None = None

    async def start(self) -> None:
        """Start a worker for every slot, and the spare. Raises WorkerFailed."""
        for slot in self._slots:
            slot.child = await self._spawn()
        self._spare = await self._spawn()
        for slot in self._slots:
            try:
                await self._serve(slot)
            except WorkerDied as error:
                raise WorkerFailed(f"worker {slot.number} does not start: {error}", hint=error.remedy) from error

    def serving(self) -> list[tuple[Slot, Message]]:
        """Every slot, with what the worker in it said in `ready`; nothing while it is being replaced."""
        return [
            (slot, slot.child.ready.result() if slot.child and (slot.serving.is_set() or slot.counting) else {})
            for slot in self._slots
        ]

    async def take(self, pair: Pair) -> None:
        """Give each queue of a pair to the worker with the fewest; returns when all are read at both ends."""
        for queues in pair.queues:
            while not (slot := min(self._slots, key=lambda slot: (len(slot.queues), slot.number))).serving.is_set():
                await slot.serving.wait()
            if pair.state is PairState.DYING:  # while we waited
                return
            slot.queues[queues] = None
            queues.worker = slot.number
            try:
                await self._add(slot, queues)
            except WorkerDied:
                await self._until_serving(slot)  # the successor took it with the others

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
        await self._until_serving(slot)
        with suppress(WorkerDied):  # the same
            await self._del(slot, queues)

    async def tell(self, end: End) -> None:
        """Tell the workers how an end is now; done when they know. Its carrier is told apart, see set_carrier."""
        await asyncio.gather(*(self._set(end, queues, _facts(end)) for queues in end.pair.queues))

    async def set_carrier(self, end: End, carrier: bool) -> None:
        """Tell the workers whether an end is to have a carrier; done when they know."""
        await asyncio.gather(*(self._set(end, queues, {"carrier": carrier}) for queues in end.pair.queues))

    async def _set(self, end: End, queues: QueuePair, values: dict[str, Any]) -> None:
        slot = self._slots[queues.worker]
        await self._until_serving(slot)
        try:
            await self._ask(slot, "set", end=end.queues[queues.index].number, **values)
        except WorkerDied:
            await self._until_serving(slot)  # the successor was told with everything else

    async def set_sysctls(self, values: dict[str, int]) -> None:
        """Change backlog settings; done when all workers that serve know. The others are told before they serve."""
        self.sysctls = {**self.sysctls, **values}
        await asyncio.gather(*(self._set_sysctls(slot, values) for slot, ready in self.serving() if ready))

    async def _set_sysctls(self, slot: Slot, values: dict[str, int]) -> None:
        with suppress(WorkerDied):  # its successor is told before it serves
            await self._ask(slot, "sysctl", values=values)

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
        delivered what it read, and its rows are final, before the new one takes it. Raises WorkerFailed.
        """
        target = self._slots[number]
        for queues in pair.queues:
            while queues.worker != number and pair.is_live():
                source = self._slots[queues.worker]
                await self._until_serving(source)
                await self._until_serving(target)
                async with self._count_lock:  # a count needs the queues of a pair where they are
                    if source.serving.is_set() and target.serving.is_set():
                        await self._pass_on(queues, source, target)

    async def _pass_on(self, queues: QueuePair, source: Slot, target: Slot) -> None:
        if queues not in source.queues and queues.pair.is_live():
            raise WorkerFailed(f"pair {queues.pair.uuid} can't be read at present", hint="try again; the log says more")
        try:
            await self._del(source, queues)
        except WorkerDied:  # what it had in hand is to be counted, and so it keeps them
            return
        if queues not in source.queues:  # released meanwhile
            return
        del source.queues[queues]
        target.queues[queues] = None
        queues.worker = target.number
        with suppress(WorkerDied):  # its successor takes them with the others
            await self._add(target, queues)

    async def stop(self) -> None:
        """Let all workers end, and wait until they have."""
        self._stopping = True
        for task in list(self._tasks):
            task.cancel()
        children = [child for child in (self._spare, *(slot.child for slot in self._slots)) if child is not None]
        for child in children:
            child.stop()
        await asyncio.gather(*(child.ended.wait() for child in children))

    async def _spawn(self) -> Child:
        return Child(self._loop, self._on_report, self._on_death, self._frameio)

    async def _serve(self, slot: Slot) -> None:
        """Make the child of a slot forward the slot's queues. Raises WorkerDied."""
        child = slot.child
        assert child is not None
        ready = await child.ready
        cpu = self._cpus[slot.number % len(self._cpus)] if self._cpus else None
        await child.hello(slot.number, self._counters.fd, self._counters.ends, cpu)
        await child.request("sysctl", values=(told := self.sysctls))
        async with self._count_lock:  # a count of another worker's frames needs these queues at rest
            if slot.child is child:
                await asyncio.gather(*(self._add(slot, queues) for queues in slot.queues))
            while told is not self.sysctls:  # changed meanwhile
                await child.request("sysctl", values=(told := self.sysctls))
            if slot.child is not child:
                raise WorkerDied(child.why_dead)
            slot.serving.set()
        self._log.info(
            "worker serves",
            worker=slot.number,
            pid=child.pid,
            pairs=len(slot.pairs),
            queues=len(slot.queues),
            frameio=ready["frameio"],
            why=ready["why"],
        )
        self._journal.record(
            "worker",
            "serving",
            id=slot.number,
            pid=child.pid,
            pairs=len(slot.pairs),
            queues=len(slot.queues),
            datapath=ready["datapath"],
            frameio=ready["frameio"],
            why=ready["why"],
        )

    async def _until_serving(self, slot: Slot) -> None:
        while not slot.serving.is_set():
            await slot.serving.wait()

    def _ask(self, slot: Slot, op: str, fds: list[int] | None = None, **fields: Any) -> asyncio.Future[None]:
        if slot.child is None:
            raise WorkerDied(f"worker {slot.number} is dead")
        return slot.child.request(op, fds, **fields)

    def _add(self, slot: Slot, queues: QueuePair) -> asyncio.Future[None]:
        pair = queues.pair
        ends = [
            {
                "number": end.queues[queues.index].number,
                "carrier": pair.wants_carrier,  # it must know before the TAPs do
                "hdr_len": end.hdr_len,
                "uso": takes_uso(end.offload),
                **_facts(end),
            }
            for end in pair.ends
        ]
        return self._ask(slot, "add", [queue.fd for queue in queues.queues], ends=ends)

    def _del(self, slot: Slot, queues: QueuePair) -> asyncio.Future[None]:
        return self._ask(slot, "del", ends=[queue.number for queue in queues.queues])

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
            self._log.error("spare worker died", pid=child.pid, why=child.why_dead)
            self._journal.record("worker", "spare_died", died_pid=child.pid, reason=child.why_dead)
            self._start(self._new_spare(RESTART_DELAY_FIRST))
            return
        for slot in self._slots:
            if slot.child is child:
                slot.serving.clear()
                slot.child = None
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
        delay = self._restart_delay(slot)
        if delay:
            self._log.warning("worker restart delayed", worker=slot.number, seconds=delay)
            self._journal.record("worker", "delayed", id=slot.number, seconds=delay)
            await asyncio.sleep(delay)
        async with self._count_lock:
            lost = await self._insist(self._count_lost, slot)
        if self._spare is not None:
            slot.child, self._spare = self._spare, None
        else:
            slot.child = await self._insist(self._spawn)
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
                self._spare = await self._insist(self._spawn)

    async def _insist(self, call: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do what needs file descriptors, again and again while none is free: a slot must not stay empty for that."""
        while True:
            try:
                return await call(*args, **kwargs)
            except OSError as error:
                self._log.error("worker not replaced, trying again", error=repr(error))
                await asyncio.sleep(RETRY)

    def _restart_delay(self, slot: Slot) -> float:
        """Seconds to wait: none for the first FREE_RESTARTS deaths in the window, then doubling."""
        now = time.monotonic()
        slot.deaths.append(now)
        while slot.deaths[0] < now - self.restart_window:
            slot.deaths.popleft()
        extra = len(slot.deaths) - FREE_RESTARTS
        return 0.0 if extra <= 0 else min(RESTART_DELAY_FIRST * 2 ** (extra - 1), RESTART_DELAY_MAX)

    async def _count_lost(self, slot: Slot) -> int:
        """Count what the dead worker of a slot had in hand; how many frames that was. Raises OSError."""
        async with self._at_rest(slot.pairs):
            kernel = await kernel_stats([end for pair in slot.pairs for end in pair.ends], self._threads)
            return sum(
                charge_lost(pair, kernel, self._counters)
                for pair in slot.pairs
                if all(end.number in kernel for end in pair.ends)
            )

    @asynccontextmanager
    async def _at_rest(self, pairs: Collection[Pair]) -> AsyncIterator[None]:
        """During the body no worker has a queue of these pairs; what was read of them before is delivered.

        Workers that serve only: the others are dead, or wait for the lock that the caller holds.
        """
        held = [(slot, [queues for queues in slot.queues if queues.pair in pairs]) for slot in self._slots]
        held = [(slot, mine) for slot, mine in held if mine and slot.serving.is_set()]
        for slot, _mine in held:
            slot.serving.clear()
            slot.counting = True
        try:
            await asyncio.gather(*(self._hand_in(slot, mine) for slot, mine in held))
            yield
        finally:
            await asyncio.gather(*(self._give_back(slot, mine) for slot, mine in held))

    async def _hand_in(self, slot: Slot, queues: list[QueuePair]) -> None:
        with suppress(WorkerDied):  # then they are at rest, too
            await asyncio.gather(*(self._del(slot, each) for each in queues))

    async def _give_back(self, slot: Slot, queues: list[QueuePair]) -> None:
        """Let a worker forward queues again; whoever released one meanwhile waits to take it from it."""
        with suppress(WorkerDied):  # then its successor gets them
            if slot.child is not None:
                await asyncio.gather(*(self._add(slot, each) for each in queues))
            if slot.child is not None:
                slot.serving.set()
        slot.counting = False


def _facts(end: End) -> dict[str, Any]:
    """What a worker knows of an end and may change, but its carrier."""
    return {
        "mtu": end.mtu,
        "address": end.address.replace(":", ""),
        "netns": end.netns[1],
        "gro": end.gro,
        "backpressure": end.pair.overload == "backpressure",
    }
