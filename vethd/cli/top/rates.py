"""Rates of links and workers, from one sample of their counters to the next."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from vethd.cli.output import Row, netns_name, plain
from vethd.cli.rates import ends_since, grown

HISTORY: Final = 120  # samples that a sparkline can reach back


class Sample(NamedTuple):
    """What the daemon said. time: seconds of the monotonic clock. ends: pairs as of link.list with stats, and letters.

    workers: rows of softnet.get.
    """

    time: float
    ends: list[tuple[Row, str]]
    workers: list[Row]


class LinkRate(NamedTuple):
    """One end: per second, what it received, sent and dropped; frames from it that are in a backlog; recent bit/s."""

    name: str
    netns: str
    rx_packets: float
    tx_packets: float
    rx_bits: float
    tx_bits: float
    drops: dict[str, float]
    queued: int
    history: tuple[float, ...]

    @property
    def bits(self) -> float:
        """Both directions."""
        return self.rx_bits + self.tx_bits

    @property
    def packets(self) -> float:
        """Both directions."""
        return self.rx_packets + self.tx_packets

    @property
    def dropped(self) -> float:
        """At all points."""
        return sum(self.drops.values())

    def label(self) -> str:
        """Namespace and name."""
        return f"{self.netns}/{self.name}"

    def lost(self) -> str:
        """What is dropped, the largest first."""
        return " ".join(f"{si(rate)} {point}" for point, rate in sorted(self.drops.items(), key=lambda item: -item[1]))


class WorkerRate(NamedTuple):
    """One worker: frames in its backlog, and per second what it processed, dropped and left for the next pass."""

    worker: int
    pid: int | None
    backlog: int
    processed: float
    dropped: float
    time_squeeze: float

    def line(self) -> str:
        """All of it."""
        if self.pid is None:
            return f"worker {self.worker} is being replaced"
        rates = f"{si(self.processed)} frames/s  dropped {si(self.dropped)}/s  squeezed {si(self.time_squeeze)}/s"
        return f"worker {self.worker}  pid {self.pid}  backlog {self.backlog}  {rates}"


#: What `s` goes through: by which the rows are sorted, largest first; at equal ones, and last of all, by name.
SORTS: Final[dict[str, Callable[[LinkRate], float]]] = {
    "bit/s": lambda link: -link.bits,
    "packets/s": lambda link: -link.packets,
    "drops/s": lambda link: -link.dropped,
    "name": lambda link: 0.0,
}


class Rates:
    """The last sample compared with the one before."""

    def __init__(self) -> None:
        self.links: list[LinkRate] = []
        self.workers: list[WorkerRate] = []
        self.seconds: float | None = None
        self._last: Sample | None = None
        self._histories: dict[tuple[str, str], deque[float]] = {}

    def add(self, sample: Sample) -> None:
        """Take the next sample. After the first one there are no rates yet, and `seconds` is None."""
        last = self._last or sample
        seconds = sample.time - last.time
        self.seconds = seconds or None
        before = {pair["pair"]: pair["stats"] for pair, _letter in last.ends}
        per_second = 1 / seconds if seconds else 0.0
        histories = {}
        self.links = []
        for pair, letter in sample.ends:
            key = pair["pair"], letter
            histories[key] = self._histories.get(key) or deque(maxlen=HISTORY)
            link = _link(pair, letter, before.get(pair["pair"], {}), per_second, histories[key])
            self.links.append(link)
        self._histories = histories
        rows = {row["worker"]: row for row in last.workers}
        self.workers = [_worker(row, rows.get(row["worker"], {}), per_second) for row in sample.workers]
        self._last = sample

    def restart(self) -> None:
        """Compare nothing with what was before: another daemon counts from zero."""
        self._last = None
        self._histories = {}

    def sorted(self, by: str) -> list[LinkRate]:
        """The links by one of SORTS."""
        return sorted(self.links, key=lambda link: (SORTS[by](link), link.label()))


def _link(pair: Row, letter: str, before: dict[str, Any], per_second: float, history: deque[float]) -> LinkRate:
    counted, end = ends_since(before, pair["stats"])[letter], pair[letter]
    rx_bits, tx_bits = counted["rx_bytes"] * 8 * per_second, counted["tx_bytes"] * 8 * per_second
    if per_second:
        history.append(rx_bits + tx_bits)
    return LinkRate(
        plain(end["ifname"]),
        netns_name(end),
        counted["rx_packets"] * per_second,
        counted["tx_packets"] * per_second,
        rx_bits,
        tx_bits,
        {point: frames * per_second for point, frames in counted["drops"].items() if frames and per_second},
        counted["queued"],
        tuple(history),
    )


def _worker(row: Row, before: Row, per_second: float) -> WorkerRate:
    def rate(name: str) -> float:
        return grown(before.get(name, 0), row[name]) * per_second

    backlog = row["input_queue_len"] + row["process_queue_len"]
    rates = rate("processed"), rate("dropped"), rate("time_squeeze")
    return WorkerRate(row["worker"], row["pid"], backlog, *rates)


def si(value: float) -> str:
    """A rate in at most five characters, below 10^18: 0, 0.5, 12, 999, 1.23k, 12.3M."""
    if value < 9.95:
        return f"{value:.1f}".removesuffix(".0")
    units = iter("kMGTP")
    unit = ""
    while value >= 999.5:
        value /= 1000
        unit = next(units)
    digits = 0 if not unit or value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f}{unit}"


_BARS: Final = "▁▂▃▄▅▆▇█"


def sparkline(history: tuple[float, ...], width: int) -> str:
    """The last `width` values as bars, the highest of them full."""
    shown = history[-width:]
    highest = max(shown, default=0.0)
    if not highest:
        return _BARS[0] * len(shown)
    return "".join(_BARS[round(value / highest * (len(_BARS) - 1))] for value in shown)
