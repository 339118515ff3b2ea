"""vethctl monitor: what happens, as it happens, in the manner of `ip monitor`."""

from __future__ import annotations

import sys
import time
from datetime import datetime
from typing import Any, Final

from vethd.cli.grammar import Words, garbage
from vethd.cli.options import Options
from vethd.cli.output import Output, Row, netns_name, plain
from vethd.cli.records import link_record, link_rows
from vethd.cli.session import Session

TOPICS: Final = ("link", "carrier", "worker", "drop", "config", "daemon")
_FOR_THE_PICTURE: Final = ("link", "carrier")


def monitor(words: Words, session: Session) -> int:
    """`vethctl monitor`: ends when the daemon goes away, with status 2. Raises RpcError, NotRunning, UsageError."""
    wanted = _topics(words)
    output = session.output
    heard = wanted if output.json else sorted({*wanted, *_FOR_THE_PICTURE})
    begin = session.call("events.subscribe", topics=heard)
    picture = Picture(begin["snapshot"]["pairs"])
    labelled = len(wanted) > 1
    while True:
        try:
            message = session.client().listen()
        except (OSError, ValueError):
            return _ended("the daemon is gone")
        if "error" in message:
            return _ended(message["error"]["message"])
        event = {name: value for name, value in message["params"].items() if name != "subscription"}
        records = [] if output.json else picture.records(event, output, session.options)
        if event["topic"] in wanted:
            if output.json:
                output.value(event)
            for record in records:
                output.record(stamped(record, event, session.options, labelled))
            output.flush()


def _topics(words: Words) -> list[str]:
    wanted: list[str] = []
    while words:
        topic = words.keyword("all", *TOPICS)
        if topic is None:
            raise garbage(words.take())
        wanted += TOPICS if topic == "all" else (topic,)
    return sorted(set(wanted or TOPICS))


def _ended(why: str) -> int:
    print(f"vethctl: {why}", file=sys.stderr)
    return 2


def stamped(record: list[str], event: Row, options: Options, labelled: bool) -> list[str]:
    """A record with its topic in front when several are told, and its time as `ip -t` and `ip -ts` write it."""
    first, *others = record
    if labelled:
        first = f"[{event['topic']}] {first}"
    when = datetime.fromtimestamp(event["time"])
    if options.tshort:
        return [f"[{when.isoformat(timespec='microseconds')}] {first}", *others]
    if options.timestamp:
        return [f"Timestamp: {time.asctime(when.timetuple())} {when.microsecond:06d} usec", first, *others]
    return [first, *others]


class Picture:
    """The links as the events so far have made them, so that what happens can be told by their names."""

    def __init__(self, pairs: list[Row]) -> None:
        self._pairs = {pair["pair"]: pair for pair in pairs}

    def records(self, event: Row, output: Output, options: Options) -> list[list[str]]:
        """Apply an event, and tell it: the records of the ends that it is about, or else one line."""
        kind, fields = (event["topic"], event["event"]), event["fields"]
        if kind == ("link", "added"):
            self._pairs[event["pair"]] = fields
        pair = self._pairs.get(event.get("pair", ""))
        if pair is None:
            return [[f"{event['topic']} {event['event']}{_told(fields)}"]]
        end = event.get("end")
        if kind == ("link", "deleted"):
            del self._pairs[event["pair"]]
        elif event["topic"] == "link" and kind[1] != "added":
            (pair if end is None else pair[end]).update(fields)
            pair["generation"] = event["seq"]
        elif kind == ("carrier", "changed"):
            for letter in ("a", "b"):
                pair[letter].update(fields)
        elif kind == ("carrier", "operstate") and end is not None:
            pair[end].update(fields)
        if event["topic"] != "link":
            return [[f"{_named(pair, end)} {_what(event)}"]]
        only = {} if end is None else {"end": end}
        records = [link_record(row, output, options.details) for row in link_rows([pair | only], {}, 0)]
        if kind[1] == "deleted":
            for record in records:
                record[0] = f"Deleted {record[0]}"
                record.append(f"    reason {plain(fields['reason'])}")
        return records


def _named(pair: Row, end: str | None) -> str:
    """The end, or both ends of the pair."""
    return " peer ".join(
        f"{plain(pair[letter]['ifname'])} netns {netns_name(pair[letter])}"
        for letter in ("a", "b")
        if end in (letter, None)
    )


def _what(event: Row) -> str:
    """What happened to an end or a pair, but for topic link."""
    fields = event["fields"]
    if event["topic"] == "carrier" and event["event"] == "changed":
        return f"carrier {'on' if fields['carrier'] else 'off'}"
    if event["topic"] == "carrier":
        return f"state {plain(fields['operstate'])}"
    return f"{event['topic']} {event['event']}{_told(fields)}"


def _told(fields: dict[str, Any]) -> str:
    """Fields as words, without those that say nothing."""
    return "".join(f" {name} {plain(str(value))}" for name, value in fields.items() if value not in (None, [], ""))
