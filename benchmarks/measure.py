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
    is_time: a time is also shown as the difference to the first link, where a ratio says little.
    """

    key: str
    title: str
    unit: str
    is_time: bool = False


@dataclass(frozen=True)
class Reading:
    """The outcome of one run.

    values: one number per metric key, in the metric's unit.
    losses: packets that were sent and not received, by the place where they were lost; empty when nobody counts.
    """

    values: dict[str, float]
    losses: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    rounds: runs of each measurement on each link.
    udp_seconds, tcp_seconds: length of one measured window; TCP has two per run, one each way.
    round_trips: counted round trips per run and protocol.
    """

    rounds: int
    udp_seconds: float
    tcp_seconds: int
    round_trips: int


class Measure(Protocol):
    """A kind of traffic. `title` is its name for people, `metrics` are the rows it yields."""

    @property
    def title(self) -> str: ...

    @property
    def metrics(self) -> tuple[Metric, ...]: ...

    def run(self, link: Link, plan: Plan, programs: Path) -> Reading:
        """Send the traffic over `link` once; `programs` is where compiled generators are kept."""
        ...
