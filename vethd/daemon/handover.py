"""From one program to the next in the same process: exec, with everything that matters left open.

What the next program gets is a memfd, whose number stands in its environment::

    {"end.UUID.a.0": 17, "counters": 9, ...}     the names and numbers of the descriptors that stay open
    {"version": 1, ...}                          the state (state.py)

The first line never changes its form, so that a program which can't read the state still knows what it was given.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final, NoReturn

from structlog.typing import FilteringBoundLogger

from vethd.daemon.state import VERSION, State, read_state
from vethd.errors import ReexecFailed

#: Of the environment: number of the memfd.
VARIABLE: Final = "_VETHD_HANDOVER"
#: Signals that a program which has no handlers yet would die of; those that come meanwhile wait.
HELD: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)
_CHECK_WITHIN: Final = 30.0


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What the program before this one left. state: None when it can't be read. fds: by name.

    in_place: it was a program of this process, and its workers are there.
    """

    state: State | None
    fds: dict[str, int]
    in_place: bool = False


def inherit(log: FilteringBoundLogger) -> Inheritance | None:
    """What was left for this program, None if it was started the usual way; to be asked once, before any other start.

    Its descriptors are close-on-exec from now on, and its children don't see that it was handed anything.
    """
    number = os.environ.pop(VARIABLE, None)
    if number is None:
        return None
    fds: dict[str, int] = {}
    try:
        with os.fdopen(int(number), "rb") as memfd:
            memfd.seek(0)
            names, text = memfd.readline(), memfd.read()
        for name, fd in json.loads(names).items():
            os.set_inheritable(fd, False)
            fds[name] = fd
        return Inheritance(understood(text, log), fds, in_place=True)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        log.error("nothing taken over", error=repr(error))
        return Inheritance(None, fds, in_place=True)


def understood(text: bytes, log: FilteringBoundLogger) -> State | None:
    """The state that was left, None when it can't be read; the log says why."""
    try:
        return read_state(text)
    except ValueError as error:
        log.error("state not understood", error=str(error))
        return None


async def check_program() -> None:
    """See whether the program as it is now would start, with the configuration as it is now, and understand our state.

    Raises ReexecFailed.
    """
    command = [*_command(), "--check-takeover", str(VERSION)]
    try:
        done = await asyncio.to_thread(
            subprocess.run, command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_CHECK_WITHIN
        )
    except OSError as error:
        raise ReexecFailed(
            f"{command[0]}: {error.strerror}", hint="install the program again; the daemon goes on", errno=error.errno
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ReexecFailed(
            f"{command[0]} did not start within {_CHECK_WITHIN:g} s", hint="the daemon goes on as before"
        ) from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise ReexecFailed(
            f"the next program can't take over: {said[-1]}",
            hint=f"{' '.join(command)} says more; the daemon goes on as before",
        )


@contextmanager
def signals_held() -> Iterator[None]:
    """During the body, and in a program that is executed in it until it calls `release_signals`, HELD signals wait."""
    hold_signals()
    try:
        yield
    finally:
        release_signals()


def hold_signals() -> None:
    """Let HELD signals wait."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD)


def release_signals() -> None:
    """Take HELD signals from now on, and those that have waited."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)


def execute(state: State, fds: Mapping[str, int]) -> NoReturn:
    """Replace the program by what its command line now means. Raises OSError; all is as it was then."""
    with ExitStack() as undo:
        memfd = os.memfd_create("vethd-handover", 0)
        undo.callback(os.close, memfd)
        with os.fdopen(memfd, "wb", closefd=False) as file:
            file.write(json.dumps(dict(fds)).encode() + b"\n" + state.model_dump_json().encode())
        for fd in fds.values():
            os.set_inheritable(fd, True)
            undo.callback(os.set_inheritable, fd, False)
        command = _command()
        os.execve(command[0], command, {**os.environ, VARIABLE: str(memfd)})
    raise AssertionError("unreachable: execve does not return")


def _command() -> list[str]:
    """The command line of this process, its interpreter by the full path."""
    return [sys.executable, *sys.orig_argv[1:]]
