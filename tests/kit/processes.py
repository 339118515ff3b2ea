"""Looking at processes through /proc: children, open files, memory, state; and waiting for their end."""

import contextlib
import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.kit.waiting import settled


@dataclass(frozen=True)
class Process:
    """A process identified for good: the start time tells it from a later one with the same pid."""

    pid: int
    started: int

    @property
    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        now = _stat(self.pid)
        return now is not None and now[1] == self.started and now[2] != "Z"

    def send(self, number: signal.Signals) -> None:
        """Send a signal; ProcessLookupError when it is gone."""
        pidfd = os.pidfd_open(self.pid)
        try:
            if not self.alive:
                raise ProcessLookupError(self.pid)
            signal.pidfd_send_signal(pidfd, number)
        finally:
            os.close(pidfd)


def _stat(pid: int) -> tuple[int, int, str] | None:
    """Return (parent, start time in ticks, state) of a process, or None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the command name may hold blanks and brackets
    return int(fields[1]), int(fields[19]), fields[0]


def identify(pid: int) -> Process:
    """Return the process that has this pid now; ProcessLookupError when there is none."""
    found = _stat(pid)
    if found is None:
        raise ProcessLookupError(pid)
    return Process(pid, found[1])


def sleeping(pid: int) -> bool:
    """Whether the main thread of a process waits for something; one that was just woken up counts as awake."""
    found = _stat(pid)
    return found is not None and found[2] == "S"


def descendants(pid: int) -> list[Process]:
    """Return all children of a process, their children included."""
    parents: dict[int, list[Process]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (found := _stat(int(entry))) is not None:
            parents.setdefault(found[0], []).append(Process(int(entry), found[1]))
    result: list[Process] = []
    queue = [pid]
    while queue:
        children = parents.get(queue.pop(), [])
        result += children
        queue += [child.pid for child in children]
    return result


def survivors(processes: Iterable[Process], within: float = 5.0) -> list[int]:
    """Return the pids of those that still run after `within` seconds."""
    listed = list(processes)
    return settled(lambda: [process.pid for process in listed if process.alive], lambda pids: not pids, within)


def open_files(pid: int) -> list[str]:
    """Return what each open file descriptor of a process points at, such as `/dev/net/tun` or `socket:[123]`."""
    targets: list[str] = []
    for entry in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            targets.append(os.readlink(f"/proc/{pid}/fd/{entry}"))
    return targets


def tap_fds(pid: int) -> int:
    """Return how many TAP file descriptors a process holds."""
    return open_files(pid).count("/dev/net/tun")


def status_field(pid: int, field: str) -> str:
    """Return a line of /proc/PID/status, such as `CapEff` or `NoNewPrivs`."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return value.strip()
    raise KeyError(field)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time a process has used so far, user and system together."""
    text = Path(f"/proc/{pid}/stat").read_text()
    fields = text[text.rindex(")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
