"""vethctl monitor: what happens, as it happens, in the manner of `ip monitor`."""

from __future__ import annotations

import sys
import time
from datetime import datetime
from typing import Any, Final

from vethd.cli.grammar import Words, garbage, once, wrong
from vethd.cli.options import Options
from vethd.cli.output import Output, Row, netns_name, plain
from vethd.cli.records import link_record, link_rows
from vethd.cli.request import Request
from vethd.cli.session import Session
from vethd.rpc.wire import TOPICS

_FOR_THE_PICTURE: Final = ("link", "carrier")


def monitor(words: Words, session: Session) -> int:
    """`vethctl monitor`: ends when the daemon goes away, with status 2. Raises RpcError, NotRunning, UsageError."""
    wanted, since = read_monitor(words)
    with Request() as request:
        inode = session.here(request).inode()
    pairs = session.call("link.list") if since else None  # before what was missed is told, which may be part of it
    params: dict[str, Any] = {"since": since} if since else {}
    begin = session.call("events.subscribe", topics=sorted({*wanted, *_FOR_THE_PICTURE}), **params)
    if since and not begin["found"]:
        print(f"Error: what came after {since['server_id']}:{since['seq']} is not known.", file=sys.stderr)
        print("hint: leave `since` out, and look at the present state: vethctl link show", file=sys.stderr)
        return 2
    teller = Teller(Picture(begin["snapshot"]["pairs"] if pairs is None else pairs), wanted, inode, session)
    for event in begin["events"]:
        teller.tell(begin["server_id"], event)
    while True:
        try:
            message = session.client().listen()
        except (OSError, ValueError):
            return _ended("the daemon is gone")
        if "error" in message:
            return _ended(message["error"]["message"])
        event = {name: value for name, value in message["params"].items() if name != "subscription"}
        teller.tell(begin["server_id"], event)


def read_monitor(words: Words) -> tuple[list[str], dict[str, Any]]:
    """The topics, and `since` of events.subscribe or nothing. Raises UsageError."""
    wanted: list[str] = []
    given: dict[str, Any] = {}
    while words:
        topic = words.keyword("all", *TOPICS, "since")
        if topic is None:
            raise garbage(words.take())
        if topic == "since":
            word = words.take()
            server_id, _colon, seq = word.rpartition(":")
            if not server_id or not (seq.isascii() and seq.isdecimal()):
                raise wrong(word, "since", hint="write SERVER_ID:SEQ, as of an event that -j printed")
            once(given, "since", {"server_id": server_id, "seq": int(seq)})
        else:
            wanted += TOPICS if topic == "all" else (topic,)
    return sorted(set(wanted or TOPICS)), given.get("since", {})


def _ended(why: str) -> int:
    print(f"vethctl: {why}", file=sys.stderr)
    return 2


class Teller:
    """Prints events as they come. inode: of the namespace whose ends are meant, or None."""

    def __init__(self, picture: Picture, wanted: list[str], inode: int | None, session: Session) -> None:
        self._picture = picture
        self._wanted = wanted
        self._inode = inode
        self._output = session.output
        self._options = session.options

    def tell(self, server_id: str, event: Row) -> None:
        """Take an event into the picture, and print it if it is wanted."""
        pair = self._picture.take(event)
        letters = ends_meant(pair, event, self._inode)
        if event["topic"] not in self._wanted or ("pair" in event and not letters):
            return
        if self._output.json:
            self._output.value({"server_id": server_id, **event})
        else:
            labelled = self._wanted != ["link"]
            for record in records(pair, letters, event, self._output, self._options):
                self._output.record(stamped(record, event, self._options, labelled))
        self._output.flush()


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

    def take(self, event: Row) -> Row | None:
        """Apply an event; returns the pair that it is about, if that is known."""
        kind, fields = (event["topic"], event["event"]), event["fields"]
        if kind == ("link", "added"):
            self._pairs[event["pair"]] = fields
        pair = self._pairs.get(event.get("pair", ""))
        if pair is None:
            return None
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
        return pair


def ends_meant(pair: Row | None, event: Row, inode: int | None) -> list[str]:
    """Which ends an event is about, of those that are in a namespace, or were before this event moved them."""
    letters = [letter for letter in ("a", "b") if event.get("end") in (letter, None)]
    if inode is None:
        return letters
    if pair is None:
        return []
    places = {letter: (pair[letter]["netns_inode"], event["fields"].get("from_inode")) for letter in letters}
    return [letter for letter in letters if inode in places[letter]]


def records(pair: Row | None, letters: list[str], event: Row, output: Output, options: Options) -> list[list[str]]:
    """An event for people: the records of the ends if it is about a link, or else one line."""
    fields = event["fields"]
    if pair is None:
        of_pair = f" pair {event['pair']}" if "pair" in event else ""
        return [[f"{event['event']}{of_pair}{told(fields)}"]]
    if event["topic"] != "link":
        named = " peer ".join(f"{plain(pair[letter]['ifname'])} netns {netns_name(pair[letter])}" for letter in letters)
        return [[f"{named} {_what(event)}"]]
    rows = [row for letter in letters for row in link_rows([pair | {"end": letter}], {}, 0)]
    lines = [link_record(row, output, options.details) for row in rows]
    if event["event"] == "deleted":
        for record in lines:
            record[0] = f"Deleted {record[0]}"
            record.append(f"    reason {plain(fields['reason'])}")
    return lines


def _what(event: Row) -> str:
    """What happened to an end or a pair, but for topic link."""
    fields = event["fields"]
    if event["topic"] == "carrier" and event["event"] == "changed":
        return f"carrier {'on' if fields['carrier'] else 'off'}"
    if event["topic"] == "carrier":
        return f"state {plain(fields['operstate'])}"
    return f"{event['event']}{told(fields)}"


def told(fields: dict[str, Any]) -> str:
    """Fields as words, without those that say nothing."""
    words = ""
    for name, value in fields.items():
        if isinstance(value, dict):
            words += told(value)
        elif isinstance(value, list):
            words += f" {name} {','.join(plain(str(item)) for item in value)}" if value else ""
        elif value not in (None, ""):
            words += f" {name} {plain(str(value))}"
    return words
