"""What vethctl top shows."""

from __future__ import annotations

import time
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vethd.cli.top.rates import SORTS, LinkRate, Rates, si, sparkline

_KEYS: Final = "q quit  s sort  p pause  ↑↓ scroll"
_SPARK: Final = 10  # columns
_WORKERS_SHARE: Final = 4  # at most one line in so many is a worker's


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

    def render(self, height: int) -> RenderableType:
        """All of it, in so many lines."""
        workers = self._workers(max(1, height // _WORKERS_SHARE))
        self._page = page = max(1, height - len(workers) - 3)  # without title, head and foot
        links = self.rates.sorted(self.sort)
        self.scroll = max(0, min(self.scroll, len(links) - page))
        shown = links[self.scroll : self.scroll + page]
        body: list[RenderableType] = [self._title(), *workers, self._table(shown)]
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

    def _table(self, links: list[LinkRate]) -> Table:
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, expand=True, header_style="reverse")
        table.add_column("netns/link", ratio=5, no_wrap=True, overflow="ellipsis", style="cyan")
        for name, width in (("rx p/s", 6), ("tx p/s", 6), ("rx bit/s", 8), ("tx bit/s", 8)):
            table.add_column(name, justify="right", width=width, no_wrap=True)
        table.add_column("history", width=_SPARK, justify="right", no_wrap=True, style="green")
        table.add_column("drops/s", ratio=4, no_wrap=True, overflow="ellipsis", style="red")
        known = self.rates.seconds is not None
        for link in links:
            rates = (link.rx_packets, link.tx_packets, link.rx_bits, link.tx_bits)
            numbers = [si(rate) if known else "-" for rate in rates]
            table.add_row(Text(link.label()), *numbers, sparkline(link.history, _SPARK), link.lost())
        return table

    def _foot(self, links: int, shown: int) -> Text:
        if self.trouble:
            return _line((self.trouble, "bold red"), ("  q quit", ""))
        where = f"{self.scroll + 1}-{self.scroll + shown} of {links} links" if shown else "no links"
        hidden = f", {links - shown} hidden" if links > shown else ""
        return _line((f"{where}{hidden}", "bold" if hidden else ""), (f"  {_KEYS}", "dim"))


def _line(*parts: tuple[str, str]) -> Text:
    """One line, cut where the terminal ends."""
    text = Text(no_wrap=True, overflow="ellipsis")
    for part, style in parts:
        text.append(part, style)
    return text
