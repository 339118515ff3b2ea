"""`python -m benchmarks.soak`: full load for a long time, and what the daemon's processes need meanwhile.

A private daemon has pairs that are all saturated at once: UDP one way over some, TCP both ways over the others. Every
few seconds memory, descriptors and counters are read. Printed is how each figure began, ended and moved between, and
what came of the frames; `--png` draws the figures over time. What a leak looks like is a line that rises; no threshold
is asserted. Everything is removed at the end, also after Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from benchmarks.__main__ import leave
from benchmarks.daemon import Daemon, private_daemon
from benchmarks.generators import BenchmarkError, compile_source, running, wait_for_line, window
from benchmarks.topology import End, address, namespaces

#: Pairs and what crosses them. Addresses are the same on each: no two pairs share a namespace.
LOADS: Final = (
    ("UDP a to b", "udp", ()),
    ("UDP b to a, 2 queues", "udp-back", ("numqueues", "2")),
    ("TCP both ways", "tcp", ()),
    ("TCP both ways, gro", "tcp", ("gro", "on")),
)
WORKERS: Final = 2
INTERVAL: Final = 5.0  # seconds between two samples
LEAD: Final = 1.0  # seconds until the load begins
#: Share of the samples at the beginning that is left out of the slope: buffers are touched for the first time.
WARM_UP: Final = 0.2
PAYLOAD: Final = "18"  # bytes; with its headers the smallest Ethernet frame, 60 bytes
PORT: Final = "7000"


@dataclass(frozen=True)
class Sample:
    """What was read at one moment.

    at: seconds since the load began. memory: MiB that a process wrote and shares with none. descriptors: by process.
    delivered: frames so far, by load. drops: frames so far, by drop point.
    """

    at: float
    memory: Mapping[str, float]
    descriptors: Mapping[str, int]
    delivered: Mapping[str, int]
    drops: Mapping[str, int]


@dataclass
class Soak:
    """A run: the samples, and what was wrong with the books at its end."""

    about: str
    samples: list[Sample] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    frames: Counter[str] = field(default_factory=Counter)


def main() -> int:
    """Parse the arguments, run, print; the exit status is 1 when something could not be done or a frame is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description="Full load, for a long time.")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (default 10)")
    parser.add_argument("--interval", type=float, default=INTERVAL, help="seconds between two samples (default 5)")
    parser.add_argument("--png", type=Path, help="draw the figures over time into this file")
    arguments = parser.parse_args()
    if os.geteuid():
        print("benchmarks: network namespaces and TAP devices need root", file=sys.stderr)
        return 1
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
    try:
        soak = run(arguments.minutes * 60, arguments.interval)
    except BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    tell(soak)
    if arguments.png:
        from benchmarks.soak_chart import draw  # only here: matplotlib is not there otherwise

        draw(soak, arguments.png)
    return 1 if soak.faults else 0


def run(seconds: float, interval: float) -> Soak:
    """Load every pair for so many seconds, and look every `interval` seconds."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vethd-bench.")))
        program = str(compile_source("udp_flood.c", directory))
        couples = [stack.enter_context(namespaces(number)) for number in range(len(LOADS))]
        daemon = stack.enter_context(private_daemon(directory, {}, f"worker.count = {WORKERS}\n"))
        pairs: dict[str, str] = {}
        for (title, _kind, words), (a, b) in zip(LOADS, couples, strict=True):
            daemon.vethctl(
                *("link", "add", a.netns, "netns", a.netns, "up", *words, "type", "veth"),
                *("peer", "name", b.netns, "netns", b.netns, "up"),
            )
            address(a, b)
            pairs[_uuid(daemon, a.netns)] = title
        soak = Soak(f"{daemon.engine()}, kernel {os.uname().release}, {os.cpu_count()} CPUs")
        with ExitStack() as loads:
            start, end = window(LEAD, seconds)
            for (_title, kind, _words), (a, b) in zip(LOADS, couples, strict=True):
                if kind == "tcp":
                    _tcp(loads, a, b, seconds)
                else:
                    _udp(loads, program, *((a, b) if kind == "udp" else (b, a)), start, end)
            began = int(start) / 1e9
            count = int(seconds / interval)
            for number in range(1, count):  # the first interval: every process has begun
                time.sleep(max(0.0, began + number * interval - time.monotonic()))
                soak.samples.append(look(daemon, pairs, began))
        _rest(daemon, soak)
        return soak


def look(daemon: Daemon, pairs: Mapping[str, str], began: float) -> Sample:
    """Read everything once."""
    info, stats = daemon.request("daemon.info"), daemon.request("stats.get")
    processes = {"supervisor": info["pid"]} | {
        f"worker {number}": row["pid"] for number, row in enumerate(info["workers"])
    }
    drops: Counter[str] = Counter()
    for pair in stats["pairs"]:
        for end in pair["ends"].values():
            drops.update(end["drops"])
    return Sample(
        time.monotonic() - began,
        {who: _private_dirty(pid) for who, pid in processes.items()},
        {who: len(os.listdir(f"/proc/{pid}/fd")) for who, pid in processes.items()},
        {pairs[pair["uuid"]]: sum(end["delivered"] for end in pair["ends"].values()) for pair in stats["pairs"]},
        drops,
    )


def rates(samples: Sequence[Sample], what: str, key: str) -> list[float]:
    """Frames per second between each two samples; `what` is `delivered` or `drops`."""
    return [
        (getattr(after, what).get(key, 0) - getattr(before, what).get(key, 0)) / (after.at - before.at)
        for before, after in pairwise(samples)
    ]


def slope(at: Sequence[float], values: Sequence[float]) -> float:
    """Growth per hour, by least squares, of values at these seconds; the warm-up aside."""
    first = int(len(at) * WARM_UP)
    if len(at) - first < 2:
        return 0.0
    return statistics.linear_regression(at[first:], values[first:]).slope * 3600


def tell(soak: Soak) -> None:
    """Print a row per figure, and the books."""
    samples = soak.samples
    at = [sample.at for sample in samples]
    print(f"{soak.about}\n{len(samples)} samples in {at[-1]:.0f} s\n")
    print(f"{'':<36}{'first':>10}{'least':>10}{'most':>10}{'last':>10}{'per hour':>11}")
    rows: dict[str, Sequence[float]] = {
        f"{who}, private, MiB": [sample.memory.get(who, 0.0) for sample in samples] for who in samples[0].memory
    }
    rows |= {
        f"{who}, descriptors": [float(sample.descriptors.get(who, 0)) for sample in samples]
        for who in samples[0].descriptors
    }
    rows |= {
        f"{title}, k frames/s": [rate / 1e3 for rate in rates(samples, "delivered", title)]
        for title in samples[0].delivered
    }
    for title, values in rows.items():
        grown = slope(at[-len(values) :], values)
        print(f"{title:<36}{values[0]:10.1f}{min(values):10.1f}{max(values):10.1f}{values[-1]:10.1f}{grown:+11.2f}")
    print("\nframes: " + ", ".join(f"{count} {what}" for what, count in soak.frames.items()))
    print("\n".join(soak.faults) or "every frame that was read is accounted for")


def _udp(loads: ExitStack, program: str, source: End, target: End, start: str, end: str) -> None:
    at = (target.address, PORT)
    receiver = loads.enter_context(running(target.netns, program, "recv", *at, str(4 << 20), start, end))
    wait_for_line(receiver, "ready")
    loads.enter_context(running(source.netns, program, "send", *at, PAYLOAD, start, end))


def _tcp(loads: ExitStack, a: End, b: End, seconds: float) -> None:
    server = loads.enter_context(running(b.netns, "iperf3", "-s", "-1", "-i", "0", "-p", PORT, "--forceflush"))
    wait_for_line(server, "Server listening")
    command = (
        "iperf3",
        "-J",
        "-c",
        b.address,
        "-p",
        PORT,
        "-t",
        str(int(seconds) + 60),
        "--bidir",
    )  # ended with the block
    loads.enter_context(running(a.netns, *command))


def _rest(daemon: Daemon, soak: Soak) -> None:
    """Wait until nothing moves any more, and write down the books."""
    before: Any = None
    while before != (now := daemon.request("stats.get")["pairs"]):
        before = now
        time.sleep(0.5)
    names = ("read", "delivered", "merged", "dropped", "queued")
    for pair in now:
        for letter, end in pair["ends"].items():
            counts = {name: end[name] for name in names}
            soak.frames.update(counts)
            if counts["read"] != sum(counts.values()) - counts["read"]:
                soak.faults.append(f"pair {pair['uuid']} end {letter}: {counts}")
            soak.frames.update({f"dropped at {point}": count for point, count in end["drops"].items() if count})


def _uuid(daemon: Daemon, ifname: str) -> str:
    (uuid,) = [pair["pair"] for pair in daemon.request("link.list") if pair["a"]["ifname"] == ifname]
    return str(uuid)


def _private_dirty(pid: int) -> float:
    """Memory in MiB that a process has written and shares with no other; PSS would move with the others."""
    for text in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if text.startswith("Private_Dirty:"):
            return int(text.split()[1]) / 1024
    raise BenchmarkError(f"/proc/{pid}/smaps_rollup says no Private_Dirty")


if __name__ == "__main__":
    sys.exit(main())
