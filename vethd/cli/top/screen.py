"""What vethctl top shows."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, NamedTuple

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vethd.cli.top.rates import SORTS, LinkRate, Rates, si, sparkline

_KEYS: Final = "q quit  s sort  p pause  ↑↓ scroll"
_WORKERS_SHARE: Final = 4  # at most one line in so many is a worker's


class _Column(NamedTuple):
    """Between names and drops. narrowest: columns of a terminal that has room for it."""

    name: str
    narrowest: int
    cell: Callable[[LinkRate], float | str]
    width: int = 6
    style: str = ""


_COLUMNS: Final = (
    _Column("rx p/s", 44, lambda link: link.rx_packets),
    _Column("tx p/s", 44, lambda link: link.tx_packets),
    _Column("rx b/s", 0, lambda link: link.rx_bits),
    _Column("tx b/s", 0, lambda link: link.tx_bits),
    _Column("queued", 52, lambda link: str(link.queued)),
    _Column("history", 64, lambda link: sparkline(link.history, 8), 8, "green"),
)
_FOR_DROPS: Final = 76  # columns of a terminal that has room for them too
_DROPS: Final = len("1.23k PKT_TOO_BIG")


class Screen:
    """What the user has chosen, and what is known of the daemon.

    trouble: why there is no answer, or "". scroll: number of the first row that is shown.
    """

    def __init__(self, rates: Rates, interval: float) -> None:
        self.rates = rates
        self.interval = interval
        self.sort = next(iter(SORTS))
        self.paused = False
        self.trouble = ""
        self.scroll = 0
        self._page = 1

    def press(self, key: str) -> None:
        """Do what a key means here."""
        if key == "sort":
            names = list(SORTS)
            self.sort = names[(names.index(self.sort) + 1) % len(names)]
        elif key == "pause":
            self.paused = not self.paused
        else:
            self.scroll += {"up": -1, "down": 1, "page up": -self._page, "page down": self._page}.get(key, 0)

    def render(self, width: int, height: int) -> RenderableType:
        """All of it, in so many columns and lines."""
        workers = self._workers(max(1, height // _WORKERS_SHARE))
        self._page = page = max(1, height - len(workers) - 3)  # without title, head and foot
        links = self.rates.sorted(self.sort)
        self.scroll = max(0, min(self.scroll, len(links) - page))
        shown = links[self.scroll : self.scroll + page]
        body: list[RenderableType] = [self._title(), *workers, self._table(shown, width)]
        body += [Text()] * (page - len(shown))
        return Group(*body, self._foot(len(links), len(shown)))

    def _title(self) -> Text:
        state = " PAUSED" if self.paused else ""
        links = len(self.rates.links)
        text = f"vethctl top  {time.strftime('%H:%M:%S')}  links {links}  every {self.interval:g} s  by {self.sort}"
        return _line((text, "bold"), (state, "bold yellow"))

    def _workers(self, lines: int) -> list[Text]:
        workers = self.rates.workers
        shown = workers if len(workers) <= lines else workers[: lines - 1]
        texts = [_line((worker.line(), "yellow" if worker.backlog or worker.pid is None else "")) for worker in shown]
        if rest := workers[len(shown) :]:
            backlog = sum(worker.backlog for worker in rest)
            texts.append(_line((f"{len(rest)} more workers hidden, backlog {backlog}", "dim")))
        return texts

    def _table(self, links: list[LinkRate], width: int) -> Table:
        shown = [column for column in _COLUMNS if width >= column.narrowest]
        names = room = width - sum(column.width + 1 for column in shown)
        if width >= _FOR_DROPS:
            longest = max(map(cell_len, ["netns/link", *(link.label() for link in self.rates.links)]))
            drops = max(map(len, ["drops/s", *(link.lost() for link in self.rates.links)]))
            names = min(longest, room - 1 - min(drops, _DROPS))
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="reverse")
        table.add_column("netns/link", width=names, no_wrap=True, overflow="ellipsis", style="cyan")
        for column in shown:
            table.add_column(column.name, width=column.width, justify="right", no_wrap=True, style=column.style)
        if width >= _FOR_DROPS:
            table.add_column("drops/s", width=room - names - 1, no_wrap=True, overflow="ellipsis", style="red")
        for link in links:
            cells = [self._cell(column.cell(link)) for column in shown]
            table.add_row(_label(link, names), *cells, *([link.lost()] if width >= _FOR_DROPS else []))
        return table

    def _cell(self, value: float | str) -> str:
        """A text, or a rate, which the first sample does not have yet."""
        if isinstance(value, str):
            return value
        return si(value) if self.rates.seconds is not None else "-"

    def _foot(self, links: int, shown: int) -> Text:
        if self.trouble:
            return _line((self.trouble, "bold red"), ("  q quit", ""))
        where = f"{self.scroll + 1}-{self.scroll + shown} of {links} links" if shown else "no links"
        hidden = f", {links - shown} hidden" if links > shown else ""
        return _line((f"{where}{hidden}", "bold" if hidden else ""), (f"  {_KEYS}", "dim"))


def _label(link: LinkRate, width: int) -> Text:
    """Namespace and name in so many columns; when they are too long, the namespace is cut."""
    name = f"/{link.name}"
    netns = Text(link.netns)
    netns.truncate(max(1, width - cell_len(name)), overflow="ellipsis")
    return netns + name


def _line(*parts: tuple[str, str]) -> Text:
    """One line, cut where the terminal ends."""
    text = Text(no_wrap=True, overflow="ellipsis")
    for part, style in parts:
        text.append(part, style)
    return text
