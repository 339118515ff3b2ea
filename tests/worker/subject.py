"""The worker under test: a real process, the supervisor's part of its life, and the books that must balance."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.kit.processes import status_field
from tests.kit.waiting import eventually
from tests.worker.conversation import Conversation, Where, one_of
from tests.worker.ends import End, ends_of
from vethd.drops import READ_DROPS, DropPoint
from vethd.worker.channel import PROTOCOL_VERSION
from vethd.worker.counters import Counters, EndCounters, SoftnetCounters

NOBODY: Final = 65534
#: What the last step of the journey, the write, drops.
WRITE_DROPS: Final = (DropPoint.DEV_READY, DropPoint.HDR_INVALID, DropPoint.WRITE_FAILED)
#: Groups that the worker is started with, to see that it leaves them.
GROUPS: Final = (1, 2)
ENDS: Final = 256
ADDRESSES: Final = ("027674000001", "027674000002")


@dataclass
class WirePair:
    """Two ends that a worker was given; `numbers` are theirs in the counters."""

    worker: Worker
    ends: tuple[End, End]
    numbers: tuple[int, int]
    removed: bool = False

    @property
    def a(self) -> EndCounters:
        """What counts at the first end: the direction from there."""
        return self.worker.counters.load_end(self.numbers[0])

    @property
    def b(self) -> EndCounters:
        return self.worker.counters.load_end(self.numbers[1])

    def drops(self, end: int = 0) -> dict[DropPoint, int]:
        """The drop points of the direction from the first end (or the second) that counted anything."""
        row = (self.a, self.b)[end]
        return {point: row.drops[point] for point in DropPoint if row.drops[point]}

    def wait(self, wanted: Callable[[WirePair], bool], what: str, within: float = 10.0) -> None:
        """Wait until the counters are as wanted."""

        def seen() -> tuple[bool, EndCounters, EndCounters]:
            return wanted(self), self.a, self.b

        eventually(seen, lambda found: found[0], what, within)

    def wait_read(self, frames: int, within: float = 10.0) -> None:
        """Wait until this many frames of the first end are read, nothing of the worker is queued, and all is published.

        A worker writes its rows one after the other; as long as they do not fit together it is not done.
        """

        def done(pair: WirePair) -> bool:
            return pair.a.read >= frames and not pair.imbalance() and not pair.worker.imbalance()

        self.wait(done, f"{frames} frames read from end {self.numbers[0]} and nothing queued", within)

    def imbalance(self) -> list[str]:
        """One sentence per direction that does not balance; nothing may be queued."""
        faults: list[str] = []
        for start, source, target in ((0, self.a, self.b), (1, self.b, self.a)):
            dropped = sum(source.drops[point] for point in READ_DROPS)
            if source.read != target.rx_packets + source.merged + dropped:
                faults.append(
                    f"end {self.numbers[start]}: read {source.read} != delivered {target.rx_packets}"
                    f" + merged {source.merged} + dropped {dropped}"
                )
        return faults


class Worker:
    """One worker process and the supervisor's side of it.

    counters: may be those of a predecessor, whose rows this worker then goes on with. frameio: what it is to use.
    """

    def __init__(self, log: Path, counters: Counters, slot: int = 0, frameio: str = "auto") -> None:
        self.counters = counters
        self.slot = slot
        self.pairs: list[WirePair] = []
        self._log = log
        self._may_end = False
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with there, log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "vethd.worker.process"),
                    *("--channel", str(there.fileno())),
                    *("--uid", str(NOBODY), "--gid", str(NOBODY)),
                    *("--frameio", frameio),
                ],
                stdin=subprocess.DEVNULL,
                stderr=stderr,
                pass_fds=[there.fileno()],
                extra_groups=GROUPS,
            )
        self.talk = Conversation(here)
        self.pid = self._process.pid

    def log(self) -> str:
        """What the worker wrote to its standard error."""
        return self._log.read_text()

    # -- the supervisor's part ----------------------------------------------------------------------------------------

    def hear_ready(self) -> dict[str, Any]:
        """The worker's first word."""
        return self.talk.hear(
            "ready",
            version=PROTOCOL_VERSION,
            pid=self.pid,
            frameio=one_of("syscalls", "uring"),
            datapath=one_of("compiled", "interpreted"),
            why=Where(lambda text: isinstance(text, str), "a reason"),
        )

    def greet(self) -> None:
        """Hear `ready` and answer with `hello`."""
        self.hear_ready()
        fds = [self.counters.fd]
        self.talk.ask("hello", fds, version=PROTOCOL_VERSION, ends=self.counters.ends, slot=self.slot)

    def add(
        self,
        a: End,
        b: End,
        *,
        mtu: tuple[int, int] = (1500, 1500),
        carrier: bool = True,
        gro: tuple[bool, bool] = (False, False),
        backpressure: bool = False,
    ) -> WirePair:
        """Hand a pair over; its numbers are the next two that no pair of this worker had."""
        first = 2 * len(self.pairs)
        pair = WirePair(self, (a, b), (first, first + 1))
        self.pairs.append(pair)
        self.talk.ask("add", ends_of(a, b), ends=self.describe(pair, mtu, carrier, gro, backpressure))
        return pair

    def describe(
        self,
        pair: WirePair,
        mtu: tuple[int, int],
        carrier: bool,
        gro: tuple[bool, bool] = (False, False),
        backpressure: bool = False,
    ) -> list[dict[str, Any]]:
        """The `ends` of an `add`."""
        return [
            {
                "number": pair.numbers[which],
                "mtu": mtu[which],
                "address": ADDRESSES[which],
                "netns": which + 1,
                "carrier": carrier,
                "hdr_len": pair.ends[which].hdr_len,
                "gro": gro[which],
                "uso": True,
                "backpressure": backpressure,
            }
            for which in (0, 1)
        ]

    def sysctl(self, **values: int) -> None:
        self.talk.ask("sysctl", values=values)

    def set_overload(self, pair: WirePair, *, backpressure: bool) -> None:
        for number in pair.numbers:
            self.talk.ask("set", end=number, backpressure=backpressure)

    def remove(self, pair: WirePair) -> None:
        """Take a pair from the worker; what it had accepted is delivered by then, so its books balance exactly."""
        self.talk.ask("del", ends=list(pair.numbers))
        pair.removed = True
        faults = pair.imbalance() + (self.imbalance() if all(each.removed for each in self.pairs) else [])
        assert not faults, f"the books of a pair do not balance: {faults}"

    # -- looking at it ------------------------------------------------------------------------------------------------

    @property
    def softnet(self) -> SoftnetCounters:
        return self.counters.load_softnet(self.slot)

    def status(self, field: str) -> str:
        """A line of /proc/PID/status."""
        return status_field(self.pid, field)

    def open_fds(self) -> list[str]:
        """What each open descriptor of the worker points at, sorted."""
        base = Path(f"/proc/{self.pid}/fd")
        return sorted(os.readlink(base / entry) for entry in os.listdir(base))

    def imbalance(self) -> list[str]:
        """One sentence per sum over all its pairs that the softnet row does not show; nothing may be queued."""
        rows = [row for pair in self.pairs for row in (pair.a, pair.b)]
        processed = sum(row.rx_packets + row.merged + sum(row.drops[point] for point in WRITE_DROPS) for row in rows)
        dropped = sum(row.drops[DropPoint.CPU_BACKLOG] for row in rows)
        softnet = self.softnet
        found = (softnet.processed, softnet.dropped, softnet.input_queue_len, softnet.process_queue_len)
        expected = (processed, dropped, 0, 0)
        return [] if found == expected else [f"softnet row {found}, its pairs say {expected}"]

    # -- the end ------------------------------------------------------------------------------------------------------

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def wait_exit(self, within: float = 10.0) -> int:
        """The exit code, once it has ended by itself."""
        self._may_end = True
        return self._process.wait(within)

    def kill(self) -> None:
        """End it with SIGKILL, at once."""
        self._may_end = True
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self.talk.close()

    def close(self) -> None:
        """Take all pairs back, check their books, hang up, and insist that the worker ends without complaint.

        After a worker that the test has ended, by `kill` or `wait_exit`, there is nothing left to do.
        """
        with ExitStack() as stack:
            stack.callback(self._end)
            stack.callback(self.talk.close)
            if not self._may_end:
                assert self.exit_code is None, f"the worker ended by itself with {self.exit_code}: {self.log()}"
                for pair in self.pairs:
                    if not pair.removed:
                        self.remove(pair)
                self.talk.close()
                assert (self.wait_exit(), self.log()) == (0, "")

    def _end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
