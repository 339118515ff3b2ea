"""The run: links are built and stand beside each other, every measurement goes over each in turn, round by round.

The rounds are interleaved (kernel veth, vethd, kernel veth, vethd ...), so that a machine that slows down for a while
slows all. What fails on one link is noted and costs the rest nothing.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from benchmarks.cpu import idle_share
from benchmarks.generators import BenchmarkError
from benchmarks.links import LINKS
from benchmarks.measure import Measure, Plan, Reading
from benchmarks.report import Row, as_json, losses, rows
from benchmarks.topology import Link

QUIET: Final = 0.95  # share of the CPUs that must be idle beforehand for figures that mean something
PAUSE: Final = 0.1  # seconds between two runs, for queues to empty and timers to fire
PATIENCE: Final = 2  # failures of one measurement on one link, after which its further rounds there are left out

#: The runs of one measurement, by the name of the link; None for one that failed.
Readings: TypeAlias = dict[str, list[Reading | None]]


@dataclass
class Result:
    """What a run yielded. `packets`: by title of the measurement and name of the link, the losses of each run."""

    plan: Plan
    idle: float = 0.0
    about: dict[str, str] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    packets: dict[str, dict[str, list[dict[str, int]]]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        """All of it, for the JSON file."""
        return {
            "kernel": os.uname().release,
            "cpus": os.cpu_count(),
            "idle_beforehand": self.idle,
            "plan": vars(self.plan),
            "links": self.about,
            "rows": [as_json(row) for row in self.rows],
            "packets": self.packets,
            "failures": self.failures,
        }


@contextmanager
def standing(words: Sequence[str], directory: Path, failures: list[str]) -> Iterator[list[Link]]:
    """The links of `words`, each with a directory of its own; one that cannot be built, or taken down, is a failure."""
    with ExitStack() as stack:
        links: list[Link] = []
        for index, word in enumerate(words):
            own = directory / word
            own.mkdir()
            link_stack = ExitStack()
            stack.callback(_take_down, link_stack, word, failures)
            try:
                links.append(link_stack.enter_context(LINKS[word].build(index, own)))
            except BenchmarkError as error:
                failures.append(f"{word}: {error}")
        yield links


def measure_all(links: Sequence[Link], measures: Sequence[Measure], result: Result, programs: Path) -> None:
    """Fill `result`; prints as results come in. `programs` is where compiled generators are kept."""
    result.about = {link.name: link.about for link in links}
    result.idle = idle_share(1)
    print(
        f"{os.cpu_count()} CPUs, {result.idle:.0%} idle beforehand, nothing pinned; "
        f"{result.plan.rounds} rounds, links in turn"
    )
    if result.idle < QUIET:
        print("  other work is running: not figures to quote")
    for name, line in result.about.items():
        print(f"  {name}: {line}")
    for measure in measures:
        readings = _rounds(measure, links, result, programs)
        result.rows += rows(measure.metrics, readings)
        result.packets[measure.title] = {
            name: [run.losses for run in runs if run is not None] for name, runs in readings.items()
        }
        if lines := list(filter(None, (losses(name, runs) for name, runs in readings.items()))):
            print(f"{measure.title}, packets over all runs:", *lines, sep="\n")


def _take_down(link_stack: ExitStack, word: str, failures: list[str]) -> None:
    try:
        link_stack.close()
    except BenchmarkError as error:
        failures.append(f"{word}, taking it down: {error}")


def _rounds(measure: Measure, links: Sequence[Link], result: Result, programs: Path) -> Readings:
    """Run `measure` on each of `links` in turn, as many rounds as planned."""
    readings: Readings = {link.name: [] for link in links}
    failed = dict.fromkeys(readings, 0)
    for number in range(1, result.plan.rounds + 1):
        for link in links:
            if failed[link.name] >= PATIENCE:
                readings[link.name].append(None)
                continue
            _progress(f"{measure.title}: round {number} of {result.plan.rounds}, {link.name}")
            time.sleep(PAUSE)
            try:
                readings[link.name].append(measure.run(link, result.plan, programs))
            except BenchmarkError as error:
                readings[link.name].append(None)
                failed[link.name] += 1
                result.failures.append(f"{link.name}, {measure.title}, round {number}: {error}")
    _progress("")
    return readings


def _progress(line: str) -> None:
    """Show `line` in place of the last one; on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
