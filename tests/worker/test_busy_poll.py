"""busy_poll: for so long after a frame a worker looks for the next one instead of sleeping."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.kit.frames import frame
from tests.kit.waiting import eventually
from tests.worker.ends import StandIn
from tests.worker.subject import Worker

MakeStandIn = Callable[..., StandIn]
SECOND = 1_000_000  # microseconds
TICKS = 10  # of 10 ms CPU time: far more than a frame costs, far less than a second of looking


def ticks(worker: Worker) -> int:
    """CPU time so far; 10 ms each."""
    utime, stime = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return int(utime) + int(stime)


def until_it_sleeps(worker: Worker) -> None:
    eventually(lambda: worker.status("State"), lambda state: state.startswith("S"), "the worker sleeps", within=20)


def cross(a: StandIn, b: StandIn) -> None:
    a.send(frame(60))
    b.receive()


def test_without_it_a_worker_sleeps_after_a_frame(worker: Worker, stand_in: MakeStandIn) -> None:
    a, b = stand_in(), stand_in()
    worker.add(a, b)
    before = ticks(worker)
    cross(a, b)
    until_it_sleeps(worker)
    assert ticks(worker) - before < TICKS


def test_with_it_a_worker_looks_for_more(worker: Worker, stand_in: MakeStandIn) -> None:
    a, b = stand_in(), stand_in()
    worker.add(a, b)
    worker.sysctl(busy_poll=SECOND)
    before = ticks(worker)
    cross(a, b)
    cross(b, a)
    worker.talk.ask("ping")  # the loop turns meanwhile
    until_it_sleeps(worker)
    assert ticks(worker) - before > TICKS


def test_it_ends_at_once_when_it_is_switched_off(worker: Worker, stand_in: MakeStandIn) -> None:
    a, b = stand_in(), stand_in()
    worker.add(a, b)
    worker.sysctl(busy_poll=100 * SECOND)
    cross(a, b)
    worker.sysctl(busy_poll=0)
    until_it_sleeps(worker)
    cross(b, a)
