"""Traffic generators: C programs compiled when a run starts, and processes that never outlive their `with` block."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias

SOURCES: Final = Path(__file__).parent

#: What a generator prints: one flat JSON object of numbers.
Figures: TypeAlias = dict[str, int]


class BenchmarkError(Exception):
    """Raised when a run cannot go on; the text names the command and what it said."""


def call(*command: str, timeout: float = 30) -> str:
    """Run `command` and return its standard output; BenchmarkError when it fails or takes longer than `timeout` s."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except FileNotFoundError:
        raise BenchmarkError(f"{command[0]}: not installed; `make setup` installs what the benchmarks need") from None
    except subprocess.TimeoutExpired:
        raise BenchmarkError(f"{' '.join(command)}: no end after {timeout:.0f} s") from None
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip()
        raise BenchmarkError(f"{' '.join(command)}: status {done.returncode}: {said}")
    return done.stdout


def compile_source(source: str, into: Path) -> Path:
    """Compile `source` (a file name beside this module) into the directory `into`, once; return the program's path."""
    program = into / Path(source).stem
    if not program.exists():
        call("gcc", "-O2", "-Wall", "-Wextra", "-o", str(program), str(SOURCES / source))
    return program


@contextmanager
def running(netns: str, *command: str) -> Iterator[subprocess.Popen[str]]:
    """A process inside network namespace `netns`; when the block ends it is killed if it still runs, and reaped."""
    process = subprocess.Popen(
        ("ip", "netns", "exec", netns, *command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()  # `ip netns exec` became the command, so this is its pid
        process.communicate()


def wait_for_line(process: subprocess.Popen[str], word: str) -> None:
    """Read the output of `process` up to a line that holds `word`, its sign that it is ready."""
    assert process.stdout is not None
    for line in process.stdout:
        if word in line:
            return
    raise BenchmarkError(f"{command_of(process)}: ended before it was ready: {errors_of(process)}")


def output(process: subprocess.Popen[str], timeout: float) -> str:
    """Wait for the end of `process` (at most `timeout` seconds) and return what it printed."""
    try:
        printed, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        raise BenchmarkError(f"{command_of(process)}: no end after {timeout:.0f} s") from None
    if process.returncode:
        raise BenchmarkError(f"{command_of(process)}: status {process.returncode}: {errors.strip() or printed.strip()}")
    return printed


def figures(process: subprocess.Popen[str], timeout: float) -> Figures:
    """Like `output`, for a generator: the JSON object it printed."""
    parsed: Figures = json.loads(output(process, timeout))
    return parsed


def window(lead: float, seconds: float) -> tuple[str, str]:
    """Start and end of a measured window, in nanoseconds of CLOCK_MONOTONIC, that begins `lead` seconds from now."""
    start = time.monotonic_ns() + int(lead * 1e9)
    return str(start), str(start + int(seconds * 1e9))


def command_of(process: subprocess.Popen[str]) -> str:
    """The command line of `process`, for messages."""
    return " ".join(process.args) if isinstance(process.args, tuple) else str(process.args)


def errors_of(process: subprocess.Popen[str]) -> str:
    """What an ended `process` wrote to its standard error."""
    assert process.stderr is not None
    return process.stderr.read().strip()
