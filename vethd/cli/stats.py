"""vethctl stats and vethctl softnet: counters of links, and of the workers' backlogs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from vethd.cli.grammar import Words, once, wrong
from vethd.cli.output import Row, columns, netns_name, plain
from vethd.cli.rates import ends_since
from vethd.cli.request import Request, filter_links
from vethd.cli.session import Session

_COUNTERS = ("rx_packets", "rx_bytes", "rx_dropped", "tx_packets", "tx_bytes", "tx_dropped", "queued")


def stats(words: Words, session: Session) -> None:
    """`vethctl stats`."""
    options, output = session.options, session.output
    with Request() as request:
        interval = read_interval(words, request)
        select = Selection(request, session)
        pairs = select.pairs()
        if interval is not None:
            before, began = {pair["pair"]: pair["stats"] for pair in pairs}, time.monotonic()
            time.sleep(interval)
            pairs = select.pairs()
            interval = time.monotonic() - began
            for pair in pairs:
                pair["stats"] = ends_since(before.get(pair["pair"], {}), pair["stats"])
        rows = [stats_row(pair, letter, interval) for pair, letter in select.ends(pairs)]
    if output.json:
        output.value(rows)
        return
    names = ("link", "netns", *_COUNTERS, *(["drops"] if options.statistics else []))
    for line in columns(names, [_cells(row, bool(options.statistics)) for row in rows], left=2):
        output.line(line)


class Selection:
    """The ends that a command's words select, read with their counters."""

    def __init__(self, request: Request, session: Session) -> None:
        self._session = session
        self._request = session.here(request)
        self._end: tuple[str, str] | None = None
        if "ifname" in request.params:  # as `link show` finds it; from then on it is that end, whatever it is called
            found = session.call("link.get", request)
            self._end = found["pair"], found["end"]

    def pairs(self) -> list[Row]:
        """link.list with stats."""
        if self._end is not None:
            pairs: list[Row] = self._session.call("link.list", pair=self._end[0], stats=True)
        else:
            pairs = self._session.call("link.list", self._request, stats=True)
        return pairs

    def ends(self, pairs: list[Row]) -> Iterator[tuple[Row, str]]:
        """Each selected end: its pair and its letter."""
        inode = self._request.inode()
        for pair in pairs:
            for letter in ("a", "b"):
                if self._end is not None:
                    wanted = letter == self._end[1]
                else:
                    wanted = inode is None or pair[letter]["netns_inode"] == inode
                if wanted:
                    yield pair, letter


def read_interval(words: Words, request: Request) -> float | None:
    """Words of filter_links, and `interval SECONDS`; returns the seconds. Raises UsageError."""
    given: dict[str, Any] = {}
    while filter_links(words, request, "interval") is not None:
        word = words.take()
        try:
            seconds = float(word)
        except ValueError:
            seconds = -1.0
        if not 0.1 <= seconds <= 86400:
            raise wrong(word, "interval", hint="seconds, from 0.1 to 86400")
        once(given, "interval", seconds)
    return given.get("interval")


def stats_row(pair: Row, letter: str, interval: float | None) -> Row:
    """Counters of one end, as -j prints them."""
    end, counters = pair[letter], pair["stats"][letter]
    return {
        "ifname": end["ifname"],
        "netns": end["netns"],
        "netns_inode": end["netns_inode"],
        "pair": pair["pair"],
        "end": letter,
        "interval": interval,
        **{name: counters[name] for name in (*_COUNTERS, "read", "delivered", "merged", "dropped", "drops")},
    }


def _cells(row: Row, drops: bool) -> tuple[str, ...]:
    lost = ", ".join(f"{point} {frames}" for point, frames in row["drops"].items() if frames) or "-"
    counters = [str(row[name]) for name in _COUNTERS]
    return (plain(row["ifname"]), netns_name(row), *counters, *([lost] if drops else []))


_SOFTNET = ("worker", "pid", "processed", "dropped", "time_squeeze", "input_queue_len", "process_queue_len")


def softnet(words: Words, session: Session) -> None:
    """`vethctl softnet`: a dash where a worker is being replaced."""
    words.end()
    rows = session.call("softnet.get")["workers"]
    if session.output.json:
        session.output.value(rows)
        return
    cells = [tuple("-" if row[name] is None else str(row[name]) for name in _SOFTNET) for row in rows]
    for line in columns(_SOFTNET, cells):
        session.output.line(line)
