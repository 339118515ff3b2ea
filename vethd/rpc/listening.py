"""Events as the clients give them to their callers: in order, none left out, across restarts of the daemon."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from vethd.rpc.conversation import NotRunning

if TYPE_CHECKING:
    from vethd.rpc.client import Client
    from vethd.rpc.shapes import Event, PairResult, Since, SubscribeParams, SubscribeResult, WorkerRow

#: Seconds between attempts to reach a daemon that went away: at first, and at most.
FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 1.0


class State(NamedTuple):
    """Everything as it was at one moment; the events that follow are newer.

    missed: events before it were lost, so that what was known must be replaced; False when it is where all begins.
    pairs, workers: all of them. since: the last event that is part of it.
    """

    missed: bool
    pairs: list[PairResult]
    workers: list[WorkerRow]
    since: Since


class Following:
    """Where a listener is. params: of events.subscribe. ready: what is to be given next.

    heard_of, given: the last event that came from the daemon, and that went to the caller; None at first.
    """

    def __init__(self, params: SubscribeParams) -> None:
        self._params = params
        self.given = self.heard_of = params.get("since")
        self.ready: deque[Event | State] = deque()
        self._subscription = 0

    def params(self) -> SubscribeParams:
        """What to subscribe with, so that it goes on where it was."""
        return self._params if self.heard_of is None else {**self._params, "since": self.heard_of}

    def begun(self, answer: SubscribeResult) -> None:
        """Take the answer to a subscription."""
        self._subscription = answer["subscription"]
        snapshot = answer["snapshot"]
        here: Since = {"server_id": answer["server_id"], "seq": answer["seq"]}
        if snapshot is not None:
            self.ready.append(State(self.heard_of is not None, snapshot["pairs"], snapshot["workers"], here))
        self.ready.extend(answer["events"])
        self.heard_of = here

    def heard(self, message: dict[str, Any]) -> None:
        """Take a line that is no answer. Raises ConnectionResetError when it says that the connection ends."""
        if "error" in message:
            raise ConnectionResetError(message["error"]["message"])
        event = message.get("params", {})
        if message.get("method") == "event" and event.pop("subscription", None) == self._subscription:
            assert self.heard_of is not None
            self.heard_of = {**self.heard_of, "seq": event["seq"]}
            self.ready.append(event)

    def give(self) -> Event | State:
        """What is to be given next."""
        assert self.heard_of is not None
        item = self.ready.popleft()
        seq = item.since["seq"] if isinstance(item, State) else item["seq"]
        self.given = {"server_id": self.heard_of["server_id"], "seq": seq}
        return item


class Events:
    """Iterates over events, without end; a State comes where it begins, and where events were missed.

    Connects by itself: the client can be used meanwhile. When the daemon goes away it waits for `patience` seconds for
    it to be back and goes on after the last event. Raises NotRunning, RpcError.
    """

    def __init__(self, client: Client, params: SubscribeParams, patience: float) -> None:
        self._client = client
        self._patience = patience
        self._following = Following(params)
        self._subscribe()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Event | State]:
        return self

    def __next__(self) -> Event | State:
        following = self._following
        while not following.ready:
            try:
                following.heard(self._client.listen())
            except (OSError, ValueError):
                self._subscribe_again()
        return following.give()

    @property
    def since(self) -> Since | None:
        """The last event that was given: with it as `since`, another listener goes on from here."""
        return self._following.given

    def close(self) -> None:
        """Hear no more."""
        self._client.close()

    def _subscribe(self) -> None:
        try:
            self._following.begun(self._client.call("events.subscribe", self._following.params()))
        except BaseException:
            self._client.close()
            raise

    def _subscribe_again(self) -> None:
        self._client.close()
        deadline, pause = time.monotonic() + self._patience, FIRST_PAUSE
        while True:
            try:
                return self._subscribe()
            except NotRunning:
                if time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)  # nothing tells when somebody listens again
            pause = min(2 * pause, LONGEST_PAUSE)
