"""The methods events.*: who listens on which connection, and what is sent to whom.

An event goes to each listener in the moment in which it is recorded, as one line. A new subscription holds what comes
from the moment of its answer until that answer is on its way; so nothing comes before it, nothing is lost and nothing
comes twice.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Final, cast

from structlog.typing import FilteringBoundLogger

from vethd.errors import InvalidParams, InvalidRequest, LimitReached, ListenerTooSlow
from vethd.events import TOPICS, Topic
from vethd.host import netns
from vethd.host.threads import HostThreads
from vethd.pairs import journal
from vethd.pairs.delete import Deleter
from vethd.pairs.follow import Follower
from vethd.pairs.journal import HISTORY, Journal
from vethd.pairs.registry import Registry
from vethd.pairs.sampler import Sampler
from vethd.pairs.workers import Workers
from vethd.rpc.access import Role
from vethd.rpc.call import Call, Method
from vethd.rpc.connection import Connection
from vethd.rpc.daemon import worker_rows
from vethd.rpc.results import pair_result
from vethd.rpc.schema.events import (
    Event,
    Snapshot,
    SubscribeParams,
    SubscribeResult,
    UnsubscribeParams,
    UnsubscribeResult,
)
from vethd.worker.counters import Counters

#: Of one connection; enough for one per topic, and each costs a line per event.
MAX_SUBSCRIPTIONS: Final = 16
#: Bytes of events that wait for a client that does not read. The events of 1000 pairs made or deleted at once are half
#: of that, so that it takes a client that stands still for long, and not just a storm.
MAX_BEHIND: Final = 4 << 20


class Subscription:
    """What one client hears of.

    number: on its connection. topics: of what.
    """

    def __init__(self, listener: Listener, number: int, topics: frozenset[Topic]) -> None:
        self.listener = listener
        self.number = number
        self.topics = topics
        self._head = f'{{"jsonrpc": "2.0", "method": "event", "params": {{"subscription": {number}, '
        self._held: list[str] | None = []

    def tell(self, bodies: Sequence[str]) -> None:
        """Send events, each as `body` has it, or hold them."""
        if self._held is None:
            self.listener.send("\n".join([f"{self._head}{body}}}" for body in bodies]))
        elif len(self._held) < HISTORY:
            self._held += bodies
        else:
            self.listener.too_slow(f"more than {HISTORY} events came before the answer")

    def begin(self) -> None:
        """The answer is on its way: send what is held, and from now on at once."""
        held, self._held = self._held, None
        if held:
            self.tell(held)


class Listener:
    """A connection with its subscriptions, by number."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.subscriptions: dict[int, Subscription] = {}
        self._last = 0
        self._sent = 0  # bytes of events since everything was read by the client; they may be behind a long answer

    def open(self, topics: frozenset[Topic]) -> Subscription:
        """One more subscription. Raises LimitReached."""
        if len(self.subscriptions) >= MAX_SUBSCRIPTIONS:
            raise LimitReached(
                f"{MAX_SUBSCRIPTIONS} subscriptions on this connection",
                hint="end some, or hear of several topics in one",
            )
        self._last += 1
        subscription = Subscription(self, self._last, topics)
        self.subscriptions[self._last] = subscription
        self.connection.listening = True
        return subscription

    def close(self, number: int) -> Subscription:
        """One less. Raises InvalidParams."""
        subscription = self.subscriptions.pop(number, None)
        if subscription is None:
            there = ", ".join(map(str, self.subscriptions)) or "none"
            raise InvalidParams(f"subscription: there is no {number}", hint=f"of this connection: {there}")
        self.connection.listening = bool(self.subscriptions)
        return subscription

    def send(self, text: str) -> None:
        """Send lines of events; disconnect a client that does not read them."""
        if not self.connection.unsent:
            self._sent = 0
        self._sent += len(text) + 1
        self.connection.notify(text)
        if min(self._sent, self.connection.unsent) > MAX_BEHIND:
            self.too_slow(f"{MAX_BEHIND} bytes of events were not read")

    def too_slow(self, why: str) -> None:
        """Disconnect it."""
        self.connection.disconnect(
            ListenerTooSlow(why, hint="read faster, hear of fewer topics, or begin again with `since`")
        )


class EventMethods:
    """events.subscribe, events.unsubscribe."""

    def __init__(
        self,
        threads: HostThreads,
        registry: Registry,
        counters: Counters,
        workers: Workers,
        deleter: Deleter,
        follower: Follower,
        journal: Journal,
        log: FilteringBoundLogger,
    ) -> None:
        self._registry = registry
        self._deleter = deleter
        self._workers = workers
        self._journal = journal
        self._sampler = Sampler[Subscription](
            threads, registry, counters, journal, follower.settled, self._tell_drops, log
        )
        self._listeners: dict[Connection, Listener] = {}
        self.table = (
            Method(
                "events.subscribe",
                SubscribeParams,
                SubscribeResult,
                Role.LOOK,
                self.events_subscribe,
                (LimitReached,),
                {"topics": ["link", "carrier"]},
            ),
            Method(
                "events.unsubscribe",
                UnsubscribeParams,
                UnsubscribeResult,
                Role.LOOK,
                self.events_unsubscribe,
                (),
                {"subscription": 1},
            ),
        )

    async def events_subscribe(self, params: SubscribeParams, call: Call) -> SubscribeResult:
        """Begin to listen."""
        journal = self._journal
        topics = frozenset(params.topics or TOPICS)
        if "drop" in topics:  # what grew before is not told
            await self._sampler.ask_kernel()
        subscription = self._listener(call.connection).open(topics)
        if "drop" in topics:
            self._sampler.join(subscription, params.interval)
        call.afterwards.append(partial(self._begin, subscription))
        missed = None
        if params.since is not None and params.since.server_id == journal.server_id:
            missed = journal.after(params.since.seq)
        return {
            "subscription": subscription.number,
            "server_id": journal.server_id,
            "seq": journal.seq,
            "found": missed is not None,
            "events": [event_result(event) for event in missed or () if event.topic in topics],
            "snapshot": self._snapshot() if missed is None else None,
        }

    async def events_unsubscribe(self, params: UnsubscribeParams, call: Call) -> UnsubscribeResult:
        """Listen no more; drop events come until this is answered."""
        subscription = self._listener(call.connection).close(params.subscription)
        if "drop" in subscription.topics:
            await self._sampler.ask_kernel()
            self._tell_drops([subscription], self._sampler.leave(subscription))
        return {"subscription": params.subscription}

    def _listener(self, connection: Connection) -> Listener:
        """Who listens there. Raises InvalidRequest when nobody can any more."""
        if connection.sock.fileno() < 0:
            raise InvalidRequest("the connection is closed")
        listener = self._listeners.get(connection)
        if listener is None:
            listener = self._listeners[connection] = Listener(connection)
            connection.on_close.append(partial(self._gone, connection))
            if len(self._listeners) == 1:
                self._journal.listen(self._tell)
        return listener

    def _gone(self, connection: Connection) -> None:
        for subscription in self._listeners.pop(connection).subscriptions.values():
            self._sampler.leave(subscription)
        if not self._listeners:
            self._journal.unlisten(self._tell)

    def _snapshot(self) -> Snapshot:
        """Everything as the events up to now have it: pairs from `added` to `deleted`."""
        name_of = netns.names().get
        pairs = [pair for pair in self._registry if pair.is_live()] + self._deleter.leaving()
        return {"pairs": [pair_result(pair, name_of) for pair in pairs], "workers": worker_rows(self._workers)}

    def _begin(self, subscription: Subscription) -> None:
        if subscription.number in subscription.listener.subscriptions:  # else it ended in the same batch
            subscription.begin()

    def _tell(self, event: journal.Event) -> None:
        self._sampler.heard(event)
        bodies: list[str] = []
        for listener in list(self._listeners.values()):
            for subscription in listener.subscriptions.values():
                if event.topic in subscription.topics:
                    bodies = bodies or [body(event)]
                    subscription.tell(bodies)

    def _tell_drops(self, subscriptions: list[Subscription], events: list[journal.Event]) -> None:
        bodies = list(map(body, events))
        for subscription in list(subscriptions) if bodies else ():
            subscription.tell(bodies)


def event_result(event: journal.Event) -> Event:
    """An event as it is sent."""
    members = {
        "seq": event.seq,
        "time": event.time,
        "topic": event.topic,
        "event": event.event,
        "pair": event.pair,
        "end": event.end,
        "fields": event.fields,
    }
    return cast(Event, {name: value for name, value in members.items() if value is not None})


def body(event: journal.Event) -> str:
    """The members of a notification's `params` beside `subscription`, and the brace that closes them."""
    return json.dumps(event_result(event))[1:]
