"""`Slot`: a place for a worker, and what is asked of the worker that is in it.

A slot keeps its number, its queues and its row in the counters while processes come and go. Whatever is asked of it
while there is no process, or of one that dies, raises WorkerDied: the next process is told everything as it is then.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

from vethd.host.tap import takes_uso
from vethd.pairs.pair import End, Pair, QueuePair
from vethd.worker.child import Child, WorkerDied

#: Deaths of one slot within this many seconds that are answered at once; the next waits.
FREE_RESTARTS: Final = 2
RESTART_WINDOW: Final = 10.0
RESTART_DELAY_FIRST: Final = 0.1
RESTART_DELAY_MAX: Final = 5.0


@dataclass(slots=True, eq=False)
class Slot:
    """A place for a worker.

    number: of the slot. child: the process in it. queues: what it forwards.
    holding: it was given its queues, and so has to hand them in for a count. up: it has all of them, and the settings.
    resting: those that it was asked to hand in, and has not got back. serving: set while it is up and none rests: then
    it may be told of its queues.
    failing: since when there should be a worker that is up, in the loop's time; None while there is one.
    """

    number: int
    child: Child | None = None
    queues: dict[QueuePair, None] = field(default_factory=dict)
    holding: bool = False
    up: bool = False
    resting: set[QueuePair] = field(default_factory=set)
    serving: asyncio.Event = field(default_factory=asyncio.Event)
    failing: float | None = None
    deaths: deque[float] = field(default_factory=deque)

    @property
    def pairs(self) -> set[Pair]:
        """The pairs of which it forwards queues."""
        return {queues.pair for queues in self.queues}

    def vacate(self) -> None:
        """Its process is dead."""
        self.serving.clear()
        self.child = None
        self.holding = self.up = False
        self.resting.clear()

    async def until_serving(self) -> None:
        """Return when it serves."""
        while not self.serving.is_set():
            await self.serving.wait()

    def settle(self) -> None:
        """Let others tell it of its queues if it is up and has all of them."""
        if self.up and not self.resting:
            self.serving.set()

    def restart_delay(self, window: float) -> float:
        """Seconds until its dead process is replaced: none for the first FREE_RESTARTS deaths in the window, then more.

        window: seconds.
        """
        now = time.monotonic()
        self.deaths.append(now)
        while self.deaths[0] < now - window:
            self.deaths.popleft()
        return restart_delay(len(self.deaths) - FREE_RESTARTS)

    def ask(self, op: str, fds: list[int] | None = None, **fields: Any) -> asyncio.Future[None]:
        """Send a message to its process, see Child.request. Raises WorkerDied when there is none."""
        if self.child is None:
            raise WorkerDied(f"worker {self.number} is dead")
        return self.child.request(op, fds, **fields)

    def add(self, queues: QueuePair) -> asyncio.Future[None]:
        """Let it forward queues. Raises WorkerDied; the future raises WorkerRefused, too."""
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
        """Let it deliver what it has read of queues and forward them no more. Raises WorkerDied."""
        return self.ask("del", ends=[queue.number for queue in queues.queues])


def restart_delay(deaths: int) -> float:
    """Seconds to wait after so many deaths in a row: none, then doubling."""
    return 0.0 if deaths <= 0 else min(RESTART_DELAY_FIRST * 2 ** min(deaths - 1, 16), RESTART_DELAY_MAX)


def facts(end: End) -> dict[str, Any]:
    """What a worker knows of an end and may change, but its carrier."""
    return {
        "mtu": end.mtu,
        "address": end.address.replace(":", ""),
        "netns": end.netns[1],
        "gro": end.gro,
        "backpressure": end.pair.overload == "backpressure",
    }
