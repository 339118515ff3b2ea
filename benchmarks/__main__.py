"""`python -m benchmarks`: what is measured, on which links, and where the figures go."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, NoReturn

from benchmarks.links import LINKS
from benchmarks.measure import Measure, Plan
from benchmarks.measure_loss import LossFreeRate
from benchmarks.measure_round_trip import RoundTrip
from benchmarks.measure_tcp import TcpStreams, TcpWithoutTso
from benchmarks.measure_udp import UdpFlood
from benchmarks.report import table
from benchmarks.suite import Result, measure_all, standing

MEASURES: Final[dict[str, Measure]] = {
    measure.word: measure
    for measure in (
        UdpFlood(),
        LossFreeRate(),
        TcpStreams("tcp", 1),
        TcpStreams("tcp4", 4),
        TcpWithoutTso(),
        RoundTrip(),
    )
}
QUICK: Final = Plan(
    rounds=1,
    udp_seconds=0.5,
    tcp_seconds=1,
    round_trips=2_000,
    probe_seconds=0.1,
    confirm_seconds=0.3,
    resolution=0.25,
)
FULL: Final = Plan(
    rounds=5,
    udp_seconds=2.0,
    tcp_seconds=2,
    round_trips=10_000,
    probe_seconds=0.5,
    confirm_seconds=5.0,
    resolution=0.05,
)


def main() -> int:
    """Parse the arguments, measure, print; the exit status is 0 unless something could not be measured."""
    arguments = _parser().parse_args()
    if os.geteuid():
        print("benchmarks: network namespaces and TAP devices need root", file=sys.stderr)
        return 1
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)  # as an exception, so that every device and process is taken away
    words = [word for word in LINKS if word in arguments.links] if arguments.links else _available(arguments.quick)
    try:
        return _check(words) if arguments.check else _measure(words, arguments)
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Figures of vethd beside kernel veth.")
    parser.add_argument("--quick", action="store_true", help="kernel veth and vethd, short runs: a smoke test")
    parser.add_argument("--check", action="store_true", help="build every link, ping across it, and measure nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run of every row to FILE")
    parser.add_argument("--png", type=Path, metavar="FILE", help="draw the ratios to the first link into FILE")
    for option, words in (("--links", LINKS), ("--measures", MEASURES)):
        parser.add_argument(
            option, nargs="+", choices=words, metavar=option[2:-1].upper(), help=f"only these of: {', '.join(words)}"
        )
    return parser


def _available(quick: bool) -> list[str]:
    """The links to take when none was named: with `quick` ours alone, else those whose program is installed."""
    words: list[str] = []
    for word, kind in LINKS.items():
        if kind.program is None:
            words.append(word)
        elif quick:
            continue
        elif missing := kind.program.missing():
            print(f"left out: {word}: {missing}")
        else:
            words.append(word)
    return words


def leave(number: int, frame: object) -> NoReturn:
    """End as the signal would have ended us, by way of every `finally`."""
    del frame
    raise SystemExit(128 + number)


def _check(words: list[str]) -> int:
    """Build the links of `words` and say which of them pass a ping."""
    failures: list[str] = []
    with (
        tempfile.TemporaryDirectory(prefix="vethd-bench.") as directory,
        standing(words, Path(directory), failures) as links,
    ):
        for link in links:
            print(f"{link.name}: passes a ping; {link.about}")
    return _report(failures)


def _measure(words: list[str], arguments: argparse.Namespace) -> int:
    """Measure on the links of `words`, print, and write the files that were asked for."""
    if arguments.png:
        from benchmarks.chart import draw  # before the minutes of measuring: matplotlib may not be there
    began = time.monotonic()
    result = Result(QUICK if arguments.quick else FULL)
    measures = [measure for word, measure in MEASURES.items() if word in (arguments.measures or MEASURES)]
    with (
        tempfile.TemporaryDirectory(prefix="vethd-bench.") as directory,
        standing(words, Path(directory), result.failures) as links,
    ):
        measure_all(links, measures, result, Path(directory))
    print(f"\n{table(result.rows)}\n\n{time.monotonic() - began:.0f} s in all")
    if arguments.json:
        arguments.json.write_text(json.dumps(result.as_json(), indent=1) + "\n")
    if arguments.png:
        note = f"Linux {os.uname().release}, {os.cpu_count()} CPUs, {result.plan.rounds} rounds"
        try:
            draw(result.rows, next(iter(result.about), "nothing"), note, arguments.png)
        except ValueError as error:
            result.failures.append(f"{arguments.png}: {error}")
    return _report(result.failures)


def _report(failures: list[str]) -> int:
    """Say what failed; returns the exit status."""
    for failure in failures:
        print(f"benchmarks: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
