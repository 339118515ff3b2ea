"""A client that listens: it subscribes, hears events, and keeps the state that they lead to."""

from __future__ import annotations

import json
from typing import Any

from tests.kit.commands import run
from tests.kit.pairs import End
from tests.rpc.talk import HANG_UP, SILENCE, Talk, request, result
from vethd.events import EVENTS

#: What a pair's row says beside its ends, and what an event must say as well.
_ROW_FIELDS = ("pid", "datapath", "frameio", "why")


def check(event: dict[str, Any]) -> None:
    """Insist that an event is as the table of events has it."""
    row = EVENTS[event["topic"], event["event"]]
    fields = event["fields"].keys()
    assert fields <= row.fields.keys() if row.some else fields == row.fields.keys(), (event, sorted(row.fields))
    assert ("pair" in event, "end" in event) in {
        "end": [(True, True)],
        "pair": [(True, False)],
        "end or pair": [(True, True), (True, False)],
        "daemon": [(False, False)],
    }[row.about], event


class State:
    """What a listener knows: the snapshot, and every event applied to it. pairs by uuid, workers by number."""

    def __init__(self, snapshot: dict[str, Any]) -> None:
        self.pairs: dict[str, dict[str, Any]] = {pair["pair"]: pair for pair in snapshot["pairs"]}
        self.workers: dict[int, dict[str, Any]] = {row["id"]: row for row in snapshot["workers"]}

    def apply(self, event: dict[str, Any]) -> None:
        """Do what vethd/events.py says."""
        fields, pair, end = event["fields"], self.pairs.get(event.get("pair", "")), event.get("end")
        if event["topic"] == "link":
            if event["event"] == "added":
                assert pair is None, f"added twice: {event}"
                self.pairs[event["pair"]] = fields
                return
            assert pair is not None, f"no such pair: {event}"
            if event["event"] == "deleted":
                del self.pairs[event["pair"]]
                return
            assert event["seq"] > pair["generation"], f"known already: {event}"
            target = pair if end is None else pair[end]
            target.update({name: value for name, value in fields.items() if name in target})
            pair["generation"] = event["seq"]
        elif event["topic"] == "carrier":
            assert pair is not None, f"no such pair: {event}"
            for letter in "ab" if end is None else end:
                pair[letter].update(fields)
        elif event["topic"] == "worker" and "id" in fields:
            self.workers[fields["id"]].update({name: fields[name] for name in _ROW_FIELDS if name in fields})


def flood(end: End, changes: int) -> None:
    """Change the MTU of an end so often; it is 1500 again in the end."""
    lines = [f"link set dev {end.name} mtu {1000 + number % 400}\n" for number in range(changes - 1)]
    run("ip", "-n", end.netns, "-batch", "-", given="".join([*lines, f"link set dev {end.name} mtu 1500\n"]))


class Listening(Talk):
    """A conversation in which the daemon speaks by itself."""

    def subscribe(self, **params: Any) -> dict[str, Any]:
        """Begin to listen; what the daemon answered. Events of other subscriptions must not be on their way."""
        self.say(request("subscribe", "events.subscribe", **params))
        answer: dict[str, Any] = self.hear(result("subscribe"))["result"]
        for event in answer["events"]:
            check(event)
        self.seq = answer["seq"]
        return answer

    def unsubscribe(self, subscription: int = 1) -> list[dict[str, Any]]:
        """Listen no more; the events that came before that was answered."""
        self.say(request("unsubscribe", "events.unsubscribe", subscription=subscription))
        events = []
        while (line := json.loads(self._line())).get("method") == "event":
            events.append(_told(line, subscription))
        assert line == result("unsubscribe", {"subscription": subscription})
        return events

    def event(self, subscription: int = 1) -> dict[str, Any]:
        """The next line, which must be an event."""
        line = self._line()
        assert line not in (HANG_UP, SILENCE), line
        return _told(json.loads(line), subscription)

    def until(self, topic: str, name: str, subscription: int = 1, **fields: Any) -> list[dict[str, Any]]:
        """All events up to the first of this name that says this."""
        events = []
        while True:
            events.append(event := self.event(subscription))
            if (event["topic"], event["event"]) == (topic, name) and fields.items() <= event["fields"].items():
                return events

    def until_deleted(self, uuid: str, subscription: int = 1) -> list[dict[str, Any]]:
        """All events up to the deletion of a pair."""
        events = []
        while True:
            events.append(event := self.event(subscription))
            if (event["event"], event.get("pair")) == ("deleted", uuid):
                return events


def _told(told: dict[str, Any], subscription: int) -> dict[str, Any]:
    """The event in a line that must be one."""
    assert told.keys() == {"jsonrpc", "method", "params"}, told
    assert (told["jsonrpc"], told["method"]) == ("2.0", "event"), told
    event: dict[str, Any] = told["params"]
    assert event.pop("subscription") == subscription, event
    check(event)
    return event
