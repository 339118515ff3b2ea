"""The command `vethctl top`."""

from __future__ import annotations

import sys
import time
from signal import SIGWINCH
from typing import Final

from rich.console import Console
from rich.live import Live

from vethd.cli.grammar import Words
from vethd.cli.options import Options
from vethd.cli.output import columns
from vethd.cli.request import Request
from vethd.cli.session import Session
from vethd.cli.stats import Selection, read_interval
from vethd.cli.top.rates import Rates, Sample, si
from vethd.cli.top.screen import Screen
from vethd.cli.top.source import Source, take
from vethd.cli.top.terminal import Hangup, Terminal
from vethd.rpc.client import NotRunning

_INTERVAL: Final = 1.0  # seconds
_SORT: Final = "bit/s"
_PATIENCE: Final = 2.0  # seconds without an answer, beyond the interval, until that is said


def top(words: Words, session: Session) -> int | None:
    """`vethctl top`: the exit status is 128 and the signal that ended it. Raises RpcError, NotRunning, UsageError."""
    given = words.rest()
    with Request() as request:
        interval = read_interval(words, request) or _INTERVAL
        selection = Selection(request, session)
        rates = Rates()
        rates.add(take(selection, session))  # now, so that what is wrong is said before the screen changes
        console = Console(highlight=False, no_color=True if session.options.color == "never" else None)
        if console.is_dumb_terminal or not (sys.stdin.isatty() and console.is_terminal) or session.output.json:
            time.sleep(interval)
            rates.add(take(selection, session))
            _print(rates, session)
            return None
    session.close()
    return _live(session.options, given, console, Screen(rates, interval))


def _print(rates: Rates, session: Session) -> None:
    """For files and programs: every worker and every link, once."""
    if session.output.json:
        links = [link._asdict() for link in rates.sorted(_SORT)]
        workers = [worker._asdict() for worker in rates.workers]
        session.output.value({"interval": rates.seconds, "workers": workers, "links": links})
        return
    for worker in rates.workers:
        session.output.line(worker.line())
    rows = [
        (
            link.netns,
            link.name,
            *map(si, (link.rx_packets, link.tx_packets, link.rx_bits, link.tx_bits)),
            str(link.queued),
            link.lost() or "-",
        )
        for link in rates.sorted(_SORT)
    ]
    names = ("netns", "link", "rx p/s", "tx p/s", "rx b/s", "tx b/s", "queued", "drops/s")
    for line in columns(names, rows, left=2):
        session.output.line(line)


def _live(options: Options, given: list[str], console: Console, screen: Screen) -> int:
    """Show and obey until `q` or a signal; returns the exit status."""
    with Terminal() as terminal, Live(console=console, screen=True, auto_refresh=False) as live:
        source = Source(options, lambda request: read_interval(Words(given), request), screen.interval, terminal.wake)
        source.start()
        heard = time.monotonic()
        while True:
            live.update(screen.render(console.width, console.height), refresh=True)
            try:
                keys, signals = terminal.events(screen.interval)
            except Hangup:
                return 1
            ends = [number for number in signals if number != SIGWINCH]
            if "quit" in keys or ends:
                return 128 + ends[0] if ends else 0
            for key in keys:
                screen.press(key)
            for found in source.drain():
                heard = time.monotonic()
                _take_in(screen, found)
            silent = time.monotonic() - heard
            if silent > screen.interval + _PATIENCE:
                screen.trouble = f"no answer for {silent:.0f} s"


def _take_in(screen: Screen, found: Sample | Exception) -> None:
    """What the source found, shown unless the screen is paused."""
    if isinstance(found, Sample):
        screen.trouble = ""
        if not screen.paused:
            screen.rates.add(found)
    else:
        screen.rates.restart()
        screen.trouble = "the daemon is gone, reconnecting" if isinstance(found, NotRunning) else str(found)
