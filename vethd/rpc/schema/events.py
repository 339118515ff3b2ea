"""events.*: what happens, told to whoever subscribed."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from pydantic import Field, with_config
from typing_extensions import TypedDict

from vethd.events import Topic
from vethd.rpc.schema.base import DESCRIBED, Letter, Params
from vethd.rpc.schema.daemon import WorkerRow
from vethd.rpc.schema.link import PairResult


class Since(Params):
    """The last event that the subscriber knows of."""

    server_id: str
    """Of the daemon that it was heard from: numbers start again with each daemon."""
    seq: Annotated[int, Field(ge=0)]
    """Its number."""


class SubscribeParams(Params):
    """Hear of events on this connection from now on, as notifications `event`.

    A listener that can't keep up is disconnected with the error `listener_too_slow`; no event is ever left out.
    A connection has at most 16 subscriptions.
    """

    topics: Annotated[list[Topic], Field(min_length=1)] | None = None
    """Which; omitted, all."""
    since: Since | None = None
    """Continue after this event, if the daemon still knows what came after it."""
    interval: Annotated[float, Field(ge=0.1, le=3600)] = 1.0
    """Topic drop: seconds between two events for the same end and drop point, at least; in steps of 0.1."""


class UnsubscribeParams(Params):
    """Hear of no more events."""

    subscription: int
    """Which subscription of this connection."""


@with_config(DESCRIBED)
class Event(TypedDict):
    """One event, also in the `params` of a notification, which has the method `event`."""

    seq: int
    """Number; events of all topics but drop are numbered together. A drop event has the number of the one before it:
    it is counted for this subscription alone and not kept for `since`."""
    time: float
    """Seconds since the epoch."""
    topic: Topic
    """What it is about."""
    event: str
    """What happened: added, changed, moved, deleted ...; see docs/rpc.md."""
    pair: NotRequired[str]
    """Uuid of the pair that it is about."""
    end: NotRequired[Letter]
    """End of the pair that it is about."""
    fields: dict[str, Any]
    """What belongs to this kind of event."""


@with_config(DESCRIBED)
class Snapshot(TypedDict):
    """Everything as it was when the subscription began."""

    pairs: list[PairResult]
    """All pairs."""
    workers: list[WorkerRow]
    """All workers."""


@with_config(DESCRIBED)
class SubscribeResult(TypedDict):
    """events.subscribe: either the missed events or a snapshot; events that follow are newer than `seq`."""

    subscription: int
    """Its number on this connection, also in each notification."""
    server_id: str
    """Tells this run of the daemon from others."""
    seq: int
    """Number of the last event that is part of this answer."""
    found: bool
    """`since` is still known, and `events` are all that was missed; else `snapshot` holds the present state."""
    events: list[Event]
    """What was missed, oldest first."""
    snapshot: Snapshot | None
    """The present state, unless `found`."""


@with_config(DESCRIBED)
class UnsubscribeResult(TypedDict):
    """events.unsubscribe."""

    subscription: int
    """The subscription that is no more."""
