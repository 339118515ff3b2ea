"""`python -m benchmarks`: every measurement on every link in turn, round by round, and a table at the end.

The links stand beside each other for the whole run and the rounds are interleaved (kernel veth, vethd, kernel veth,
vethd ...), so that a machine that slows down for a while slows both. No threshold is asserted: figures are printed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NoReturn

from benchmarks.generators import BenchmarkError
from benchmarks.measure import Measure, Plan, Reading
from benchmarks.measure_round_trip import RoundTrip
from benchmarks.measure_tcp import TcpStream
from benchmarks.measure_udp import UdpFlood
from benchmarks.report import Row, as_json, losses, rows, table
from benchmarks.topology import LINKS, Link

MEASURES: Final[tuple[Measure, ...]] = (UdpFlood(), TcpStream(), RoundTrip())
QUICK: Final = Plan(rounds=3, udp_seconds=1.0, tcp_seconds=1, round_trips=5_000)
FULL: Final = Plan(rounds=7, udp_seconds=5.0, tcp_seconds=5, round_trips=50_000)
QUIET: Final = 0.95  # share of the CPUs that must be idle beforehand for figures that mean something
PAUSE: Final = 0.2  # seconds between two runs, for queues to empty and timers to fire


def main() -> int:
    """Parse the arguments, measure, print; the exit status is 0 unless a run could not be done."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Figures of vethd beside kernel veth.")
    parser.add_argument("--quick", action="store_true", help="shorter and fewer runs, under a minute: a smoke test")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run of every row to FILE")
    parser.add_argument(
        "--links",
        nargs="+",
        choices=LINKS,
        default=list(LINKS),
        metavar="LINK",
        help=f"only these of: {', '.join(LINKS)}",
    )
    arguments = parser.parse_args()
    if os.geteuid():
        print("benchmarks: network namespaces and TAP devices need root", file=sys.stderr)
        return 1
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)  # as an exception, so that every device and process is taken away
    chosen = [word for word in LINKS if word in arguments.links]  # kernel veth first, the others are compared with it
    try:
        _measure_and_print(QUICK if arguments.quick else FULL, chosen, arguments.json)
    except BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def leave(number: int, frame: object) -> NoReturn:
    """End as the signal would have ended us, by way of every `finally`."""
    del frame
    raise SystemExit(128 + number)


def _measure_and_print(plan: Plan, chosen: list[str], json_file: Path | None) -> None:
    """Build the links of the words `chosen`, run every measurement on them, print as results come in."""
    began = time.monotonic()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vethd-bench.")))
        links = [_build(stack, word, index, directory) for index, word in enumerate(chosen)]
        about = {link.name: link.about() for link in links}
        idle = _idle_share()
        print(f"{os.cpu_count()} CPUs, {idle:.0%} idle beforehand, nothing pinned; {plan.rounds} rounds, links in turn")
        if idle < QUIET:
            print("  other work is running: not figures to quote")
        for name, line in about.items():
            print(f"  {name}: {line}")
        made: list[Row] = []
        explained: dict[str, dict[str, list[dict[str, int]]]] = {}
        for measure in MEASURES:
            readings = _rounds(measure, links, plan, directory)
            made += rows(measure.metrics, readings)
            explained[measure.title] = {name: [run.losses for run in runs] for name, runs in readings.items()}
            if lines := list(filter(None, (losses(name, runs) for name, runs in readings.items()))):
                print(f"{measure.title}, packets over all runs:", *lines, sep="\n")
    print(f"\n{table(made)}\n\n{time.monotonic() - began:.0f} s in all")
    if json_file:
        result = {
            "kernel": os.uname().release,
            "cpus": os.cpu_count(),
            "idle_beforehand": idle,
            "plan": vars(plan),
            "links": about,
            "rows": [as_json(row) for row in made],
            "packets": explained,
        }
        json_file.write_text(json.dumps(result, indent=1) + "\n")


def _build(stack: ExitStack, word: str, index: int, directory: Path) -> Link:
    """The link of `word`, with a directory of its own, taken down when `stack` ends."""
    own = directory / word
    own.mkdir()
    return stack.enter_context(LINKS[word](index, own))


def _idle_share() -> float:
    """Share of a second in which the CPUs had nothing to do, all links being up: other work here spoils the figures."""

    def ticks() -> list[int]:
        return [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]

    before = ticks()
    time.sleep(1)
    spent = [now - then for now, then in zip(ticks(), before, strict=True)]
    return (spent[3] + spent[4]) / sum(spent)  # idle and iowait, see proc_stat(5)


def _rounds(measure: Measure, links: list[Link], plan: Plan, directory: Path) -> dict[str, list[Reading]]:
    """Run `measure` on each of `links` in turn, `plan.rounds` times; readings by the name of the link."""
    readings: dict[str, list[Reading]] = {link.name: [] for link in links}
    for number in range(1, plan.rounds + 1):
        for link in links:
            if sys.stderr.isatty():
                print(f"\r\x1b[K{measure.title}: round {number} of {plan.rounds}, {link.name}", end="", file=sys.stderr)
            time.sleep(PAUSE)
            readings[link.name].append(measure.run(link, plan, directory))
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    return readings


if __name__ == "__main__":
    sys.exit(main())
