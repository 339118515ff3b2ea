"""`Slot`: a place for a worker, and what is asked of the worker that is in it.

A slot keeps its number, its queues and its row in the counters while processes come and go. Whatever is asked of it
while there is no process, or of one that dies, raises WorkerDied: the next process is told everything as it is then.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from vethd.host.tap import takes_uso
from vethd.pairs.pair import End, Pair, QueuePair
from vethd.worker.child import Child, WorkerDied

#: Deaths of one slot within this many seconds that are answered at once; the next waits.
FREE_RESTARTS = 2
RESTART_WINDOW = 10.0
RESTART_DELAY_FIRST = 0.1
RESTART_DELAY_MAX = 5.0


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

    async def until_serving(self) -> None:
        """Return when it serves."""
        while not self.serving.is_set():
            await self.serving.wait()

    def ask(self, op: str, fds: list[int] | None = None, **fields: Any) -> asyncio.Future[None]:
        """Ask for something, see Child.request. Raises WorkerDied, also later."""
        if self.child is None:
            raise WorkerDied(f"worker {self.number} is dead")
        return self.child.request(op, fds, **fields)

    def add(self, queues: QueuePair) -> asyncio.Future[None]:
        """Let it read and forward queues. Raises WorkerDied, also later."""
        pair = queues.pair
        ends = [
            {
                "number": end.queues[queues.index].number,
                "carrier": pair.wants_carrier,  # it must know before the TAPs do
                "hdr_len": end.hdr_len,
                "uso": takes_uso(end.offload),
                **facts(end),
            }
            for end in pair.ends
        ]
        return self.ask("add", [queue.fd for queue in queues.queues], ends=ends)

    def take_away(self, queues: QueuePair) -> asyncio.Future[None]:
        """Let it deliver what it has read of queues, and close them. Raises WorkerDied, also later."""
        return self.ask("del", ends=[queue.number for queue in queues.queues])

    async def hand_in(self, queues: list[QueuePair]) -> None:
        """Take queues away for the time of a count."""
        with suppress(WorkerDied):  # then they are at rest, too
            await asyncio.gather(*map(self.take_away, queues))

    async def give_back(self, queues: list[QueuePair]) -> None:
        """Let it forward queues again; whoever released one meanwhile waits to take it from it."""
        with suppress(WorkerDied):  # then its successor gets them
            if self.child is not None:
                await asyncio.gather(*map(self.add, queues))
            if self.child is not None:
                self.serving.set()
        self.counting = False

    def restart_delay(self, window: float) -> float:
        """Seconds to wait after a death: none for the first FREE_RESTARTS in the window (seconds), then doubling."""
        now = time.monotonic()
        self.deaths.append(now)
        while self.deaths[0] < now - window:
            self.deaths.popleft()
        extra = len(self.deaths) - FREE_RESTARTS
        return 0.0 if extra <= 0 else min(RESTART_DELAY_FIRST * 2 ** (extra - 1), RESTART_DELAY_MAX)


def facts(end: End) -> dict[str, Any]:
    """What a worker knows of an end and may change, but its carrier."""
    return {
        "mtu": end.mtu,
        "address": end.address.replace(":", ""),
        "netns": end.netns[1],
        "gro": end.gro,
        "backpressure": end.pair.overload == "backpressure",
    }
