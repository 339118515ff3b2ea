"""`Journal`: what happened, numbered, for whoever listens - and for whoever asks later what was missed.

Events of all topics are numbered together. The number of the last event about a pair is that pair's generation: who
changes it only if its generation is still the one that was seen changes nothing that was not seen.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from uuid import uuid4

from vethd.pairs.pair import Letter, Pair

Topic = Literal["link", "carrier", "worker", "drop", "config", "daemon"]
#: Events that are kept for subscribers who come back.
HISTORY: Final = 8192


@dataclass(frozen=True, slots=True)
class Event:
    """One event.

    seq: its number. time: seconds since the epoch. topic: what it is about. event: what happened. pair: uuid, and end:
    letter, of what it happened to. fields: what belongs to this kind of event; JSON.
    """

    seq: int
    time: float
    topic: Topic
    event: str
    pair: str | None = None
    end: Letter | None = None
    fields: dict[str, Any] = field(default_factory=dict)


class Journal:
    """The events of one run of the daemon; only the event loop touches it.

    server_id: tells this run from others. seq: number of the last event.
    """

    def __init__(self, history: int = HISTORY, clock: Callable[[], float] = time.time) -> None:
        self.server_id = str(uuid4())
        self.seq = 0
        self._clock = clock
        self._events: deque[Event] = deque(maxlen=history)
        self._listeners: list[Callable[[Event], None]] = []

    def record(
        self, topic: Topic, event: str, pair: Pair | None = None, end: Letter | None = None, **fields: Any
    ) -> None:
        """Number an event, keep it, and tell the listeners. A pair that it is about has a new generation."""
        self.seq += 1
        uuid = None
        if pair is not None:
            uuid = str(pair.uuid)
            pair.generation = self.seq
        entry = Event(self.seq, self._clock(), topic, event, uuid, end, fields)
        self._events.append(entry)
        for listener in list(self._listeners):
            listener(entry)

    def after(self, seq: int) -> list[Event] | None:
        """The events with higher numbers, oldest first; None when not all of them are known any more, or not yet."""
        oldest = self._events[0].seq if self._events else self.seq + 1
        if not oldest - 1 <= seq <= self.seq:
            return None
        return [event for event in self._events if event.seq > seq]

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Call it for each event from now on; it must not block or raise."""
        self._listeners.append(listener)

    def unlisten(self, listener: Callable[[Event], None]) -> None:
        """Call it no more."""
        self._listeners.remove(listener)
