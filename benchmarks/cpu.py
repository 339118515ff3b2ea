"""CPU time spent during a window: by the whole machine, and by the processes that carry a link."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.generators import BenchmarkError

TICK: Final = os.sysconf("SC_CLK_TCK")  # per second, the unit of /proc/stat and /proc/PID/stat


@dataclass(frozen=True)
class Spent:
    """CPU seconds.

    machine: user, system and interrupt time of all CPUs, generators and other work included.
    forwarder: user and system time of the forwarder's processes. A write to a TAP runs the receiving stack, so that
        is in it; with kernel veth, where nobody forwards, the sender's own system call does that work.
    """

    machine: float
    forwarder: float


def spent_between(start: int, end: int, pids: Sequence[int]) -> Spent:
    """What is spent from `start` to `end` (nanoseconds of CLOCK_MONOTONIC, both still to come); `pids` carry the link.

    BenchmarkError when one of them is gone.
    """
    _sleep_until(start)
    machine, forwarder = _machine(), _processes(pids)
    _sleep_until(end)
    return Spent(_machine() - machine, _processes(pids) - forwarder)


def idle_share(seconds: float) -> float:
    """Share of the next `seconds` in which the CPUs have nothing to do."""
    before = _cpu_line()
    time.sleep(seconds)
    spent = [now - then for now, then in zip(_cpu_line(), before, strict=True)]
    return (spent[3] + spent[4]) / sum(spent)  # idle and iowait, see proc_stat(5)


def _sleep_until(ns: int) -> None:
    time.sleep(max(0, ns - time.monotonic_ns()) / 1e9)


def _cpu_line() -> list[int]:
    """User, nice, system, idle, iowait, irq, softirq, steal; the guest times that follow are in user and nice."""
    return [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]


def _machine() -> float:
    user, nice, system, _idle, _iowait, irq, softirq, _steal = _cpu_line()
    return (user + nice + system + irq + softirq) / TICK


def _processes(pids: Sequence[int]) -> float:
    """User and system time, all threads; the kernel scales them by the scheduler's nanoseconds (cputime_adjust)."""
    ticks = 0
    for pid in pids:
        try:
            # The name, in parentheses, may hold blanks; utime and stime are fields 14 and 15, see proc_pid_stat(5).
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError as error:
            raise BenchmarkError(f"process {pid}, which carries the link, is gone ({error.strerror})") from error
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICK
