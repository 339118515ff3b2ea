"""`Journal`: what happened, numbered, for whoever listens - and for whoever asks later what was missed.

Events of all topics are numbered together. The number of the last event of topic link about a pair is that pair's
generation: who changes it only if its generation is still the one that was seen changes nothing that was not seen.
Carrier and operstate follow from those changes, sooner or later, and are no generation of their own.

Drop events are not here: each listener has them at its own interval (sampler.py).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final
from uuid import UUID, uuid4

from vethd.events import Topic
from vethd.pairs.pair import Letter, Pair

#: Events that are kept for listeners who come back: those of some 1600 pairs made with both ends up.
HISTORY: Final = 8192


@dataclass(frozen=True, slots=True)
class Event:
    """One event; see vethd/events.py for those there are.

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

    picture: a pair as the control socket shows it. history: how many events are kept.
    server_id: tells this run from others. seq: number of the last event.
    """

    def __init__(
        self,
        picture: Callable[[Pair], Mapping[str, Any]],
        history: int = HISTORY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.server_id = str(uuid4())
        self.seq = 0
        self.clock = clock
        self._picture = picture
        self._events: deque[Event] = deque(maxlen=history)
        self._listeners: list[Callable[[Event], None]] = []

    def record(
        self, topic: Topic, event: str, pair: Pair | None = None, end: Letter | None = None, /, **fields: Any
    ) -> None:
        """Number an event, keep it, and tell the listeners. An event of topic link gives its pair a new generation.

        Of a pair that is going nothing is told any more but its end.
        """
        if pair is not None and not pair.is_live() and event != "deleted":
            return
        if pair is not None and topic == "link":
            pair.generation = self.seq + 1
        self._record(topic, event, None if pair is None else pair.uuid, end, fields)

    def added(self, pair: Pair) -> None:
        """Record that there is a new pair, with all there is to know of it."""
        pair.generation = self.seq + 1
        self.record("link", "added", pair, **self._picture(pair))

    def vanished(self, uuid: UUID, reason: str) -> None:
        """Record that a pair is deleted of which nothing but its uuid is there any more."""
        self._record("link", "deleted", uuid, None, {"reason": reason})

    def _record(self, topic: Topic, event: str, uuid: UUID | None, end: Letter | None, fields: dict[str, Any]) -> None:
        self.seq += 1
        entry = Event(self.seq, self.clock(), topic, event, None if uuid is None else str(uuid), end, fields)
        self._events.append(entry)
        for listener in list(self._listeners):
            listener(entry)

    def after(self, seq: int) -> list[Event] | None:
        """The events with higher numbers, oldest first; None when not all of them are known any more, or not yet."""
        oldest = self.seq + 1 - len(self._events)
        if not oldest - 1 <= seq <= self.seq:
            return None
        return list(islice(self._events, seq + 1 - oldest, None))

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Call it for each event from now on; it must not block or raise."""
        self._listeners.append(listener)

    def unlisten(self, listener: Callable[[Event], None]) -> None:
        """Call it no more."""
        self._listeners.remove(listener)
