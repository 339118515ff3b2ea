"""`Workers`: which worker forwards a pair, and what happens when one dies.

A slot is a place for a worker and keeps its number, its pairs and its counters while processes come and go. One more
process, the spare, stands by ready and confined, because a cold start costs a tenth of a second::

    process ends -> what it held is counted (WORKER_LOST) -> the spare takes slot and pairs -> a new spare starts

The supervisor's own fds keep the links meanwhile: no device, address or carrier changes, and the TAPs' rings hold up to
txqueuelen frames.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, ParamSpec, Protocol, TypeVar

from structlog.typing import FilteringBoundLogger

from vethd.errors import WorkerFailed
from vethd.frameio.choice import Wanted
from vethd.host.tap import takes_uso
from vethd.host.threads import HostThreads
from vethd.pairs.pair import End, Pair, PairState
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
    """number: of the slot. child: the process in it. pairs: what it forwards. serving: set while the child does."""

    number: int
    child: Child | None = None
    pairs: dict[Pair, None] = field(default_factory=dict)
    serving: asyncio.Event = field(default_factory=asyncio.Event)
    deaths: deque[float] = field(default_factory=deque)


class Reports(Protocol):
    """Who is told what workers report; the follower."""

    def gone(self, end: End) -> None:
        """The worker can't read or write the end any more."""

    def hdr_invalid(self, end: End, frames: int) -> None:
        """The kernel refused the headers of this many frames that came from the end."""


class Workers:
    """All worker processes of the daemon.

    count: how many slots. sysctls: backlog settings that each worker gets. restart_window: see RESTART_WINDOW; seconds.
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
        log: FilteringBoundLogger,
        restart_window: float = RESTART_WINDOW,
        frameio: Wanted = "auto",
        cpus: Sequence[int] = (),
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sysctls = sysctls
        self._threads = threads
        self._registry = registry
        self._counters = counters
        self._log = log
        self._restart_window = restart_window
        self._frameio: Wanted = frameio
        self._cpus = cpus
        self._slots = [Slot(number) for number in range(count)]
        self._spare: Child | None = None
        self._spare_lock = asyncio.Lock()
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
            (slot, slot.child.ready.result() if slot.child is not None and slot.serving.is_set() else {})
            for slot in self._slots
        ]

    async def take(self, pair: Pair) -> None:
        """Give a pair to the worker with the fewest pairs; returns when it reads both ends."""
        while not (slot := min(self._slots, key=lambda slot: (len(slot.pairs), slot.number))).serving.is_set():
            await slot.serving.wait()
        if pair.state is PairState.DYING:  # while we waited
            return
        slot.pairs[pair] = None
        pair.worker = slot.number
        try:
            await self._add(slot, pair)
        except WorkerDied:
            await self._until_serving(slot)  # the successor took it with the others

    async def release(self, pair: Pair) -> None:
        """Take a pair from its worker; returns when it has delivered what it had and closed its fds."""
        slot = self._slots[pair.worker]
        if slot.pairs.pop(pair, self) is self:  # never taken
            return
        if slot.child is None:  # its fds died with the worker, and the successor does not get this pair
            return
        await self._until_serving(slot)
        try:
            await self._ask(slot, "del", ends=[end.number for end in pair.ends])
        except WorkerDied:
            return  # its fds died with it, and the successor does not get this pair

    async def set(self, end: End, **values: Any) -> None:
        """Tell the worker what changed about an end: mtu, address (hex), netns, carrier, gro; returns when it knows."""
        slot = self._slots[end.pair.worker]
        await self._until_serving(slot)
        try:
            await self._ask(slot, "set", end=end.number, **values)
        except WorkerDied:
            await self._until_serving(slot)  # the successor was told with everything else

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
        """Make the child of a slot forward the slot's pairs. Raises WorkerDied."""
        child = slot.child
        assert child is not None
        ready = await child.ready
        cpu = self._cpus[slot.number % len(self._cpus)] if self._cpus else None
        await child.hello(slot.number, self._counters.fd, self._counters.ends, cpu)
        await child.request("sysctl", values=self._sysctls)
        await asyncio.gather(*(self._add(slot, pair) for pair in slot.pairs))
        slot.serving.set()
        self._log.info(
            "worker serves",
            worker=slot.number,
            pid=child.pid,
            pairs=len(slot.pairs),
            frameio=ready["frameio"],
            why=ready["why"],
        )

    async def _until_serving(self, slot: Slot) -> None:
        while not slot.serving.is_set():
            await slot.serving.wait()

    def _ask(self, slot: Slot, op: str, fds: list[int] | None = None, **fields: Any) -> asyncio.Future[None]:
        assert slot.child is not None
        return slot.child.request(op, fds, **fields)

    def _add(self, slot: Slot, pair: Pair) -> asyncio.Future[None]:
        ends = [
            {
                "number": end.number,
                "mtu": end.mtu,
                "address": end.address.replace(":", ""),
                "netns": end.netns[1],
                "carrier": pair.wants_carrier,  # it must know before the TAPs do
                "hdr_len": end.hdr_len,
                "gro": end.gro,
                "uso": takes_uso(end.offload),
            }
            for end in pair.ends
        ]
        return self._ask(slot, "add", [end.fd for end in pair.ends], ends=ends)

    def _on_report(self, child: Child, message: Message) -> None:
        slot = next((slot for slot in self._slots if slot.child is child), None)
        end = self._registry.numbered(message["end"])
        if self.reports is None or slot is None or end is None or end.pair not in slot.pairs:
            return  # of an end that went meanwhile
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
            self._start(self._new_spare(RESTART_DELAY_FIRST))
            return
        for slot in self._slots:
            if slot.child is child:
                slot.serving.clear()
                slot.child = None
                self._log.error("worker died", worker=slot.number, pid=child.pid, why=child.why_dead)
                self._start(self._replace(slot))

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _replace(self, slot: Slot) -> None:
        delay = self._restart_delay(slot)
        if delay:
            self._log.warning("worker restart delayed", worker=slot.number, seconds=delay)
            await asyncio.sleep(delay)
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
        while slot.deaths[0] < now - self._restart_window:
            slot.deaths.popleft()
        extra = len(slot.deaths) - FREE_RESTARTS
        return 0.0 if extra <= 0 else min(RESTART_DELAY_FIRST * 2 ** (extra - 1), RESTART_DELAY_MAX)

    async def _count_lost(self, slot: Slot) -> int:
        kernel = await kernel_stats([end for pair in slot.pairs for end in pair.ends], self._threads)
        return sum(
            charge_lost(pair, kernel, self._counters)
            for pair in slot.pairs
            if all(end.number in kernel for end in pair.ends)
        )
