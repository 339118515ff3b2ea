"""What a measurement is: rows of the table that come out of one run of traffic over one link."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.topology import Link


@dataclass(frozen=True)
class Metric:
    """One row of the table.

    key: its name in the JSON, stable.
    title: its name for people.
    unit: what the values are in.
    less_is_better: times and costs.
    is_time: a time is also shown as the difference to the first link, where a ratio says little.
    is_charted: false for what explains another row rather than being a figure of merit.
    """

    key: str
    title: str
    unit: str
    less_is_better: bool = False
    is_time: bool = False
    is_charted: bool = True


@dataclass(frozen=True)
class Reading:
    """The outcome of one run.

    values: one number per metric key, in the metric's unit; a metric that does not apply to the link is left out.
    losses: packets that were sent and not received, by the place where they were lost; empty when nobody counts.
    """

    values: dict[str, float]
    losses: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    rounds: runs of each measurement on each link.
    udp_seconds, tcp_seconds: length of one measured window; TCP has one each way.
    round_trips: counted round trips per run and protocol.
    probe_seconds, confirm_seconds: windows of a search for a rate, while it searches and to confirm what it found.
    resolution: such a search ends when it knows the rate to within this share.
    """

    rounds: int
    udp_seconds: float
    tcp_seconds: int
    round_trips: int
    probe_seconds: float
    confirm_seconds: float
    resolution: float


class Measure(Protocol):
    """A kind of traffic. `word` chooses it, `title` is its name for people, `metrics` are the rows it yields."""

    @property
    def word(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def metrics(self) -> tuple[Metric, ...]: ...

    def run(self, link: Link, plan: Plan, programs: Path) -> Reading:
        """Send the traffic over `link` once; `programs` is where compiled generators are kept."""
        ...
