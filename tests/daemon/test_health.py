"""health.py: what a watchdog is fed by. A supervisor in the test's own process, whose workers can't be started."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.kit.netns import Namespaces
from tests.pairs.house import House, soon
from tests.pairs.killing import DIED
from vethd.daemon.health import Health, watchdog_interval

INTERVAL = 1.0


@pytest.fixture
async def house(tmp_path: Path, netns: Namespaces) -> AsyncIterator[House]:
    """A supervisor of this test alone."""
    built = House(tmp_path)
    try:
        await built.supervisor.start()
        yield built
    finally:
        await built.supervisor.stop()
    assert built.troubles() == []


@contextmanager
def no_worker_starts() -> Iterator[None]:
    """Each new worker ends before its first word."""
    with patch.object(sys, "executable", "/bin/false"):
        yield


def kill_all(house: House) -> None:
    for _slot, each in house.supervisor.workers.children():
        os.kill(each.pid, signal.SIGKILL)


async def test_the_daemon_is_not_well_while_no_worker_can_be_started(house: House) -> None:
    supervisor = house.supervisor
    house.expect(*DIED, "workers not replaced in time, the watchdog is not fed")
    events: list[str] = []
    supervisor.journal.listen(lambda event: events.append(event.event))
    health = Health(supervisor.workers, INTERVAL, supervisor.journal, supervisor.health._log)
    health.watch()
    try:
        assert health.well
        with no_worker_starts():
            kill_all(house)
            await soon(lambda: health.well, lambda well: not well, "the daemon is not well")
            await soon(lambda: events, lambda told: "overdue" in told, "it is told")
        await soon(lambda: health.well, bool, "it is well again")
        await soon(lambda: house.lines("all workers serve again"), bool, "that is told, too")
    finally:
        health.close()
    assert events.count("overdue") == len(house.lines("workers not replaced in time, the watchdog is not fed")) == 1


async def test_a_death_that_is_made_good_is_no_reason_to_worry(house: House) -> None:
    supervisor = house.supervisor
    house.expect(*DIED)
    for _ in range(3):
        kill_all(house)
        ((slot, _ready),) = await soon(supervisor.workers.serving, lambda rows: not rows[0][1], "it is dead")
        assert supervisor.workers.failing() < INTERVAL
        await soon(lambda: slot.up, bool, "it is replaced")  # noqa: B023
        assert supervisor.workers.failing() == 0.0
    assert supervisor.health.well


async def test_a_spare_that_dies_at_every_start_waits_longer_each_time(house: House) -> None:
    workers = house.supervisor.workers
    house.expect(*DIED)
    workers.restart_window = 10.0
    with no_worker_starts():
        await soon(workers.children()[-1][1].ready.done, bool, "the spare is ready")
        os.kill(workers.children()[-1][1].pid, signal.SIGKILL)
        lines = await soon(lambda: house.lines("spare worker died"), lambda seen: len(seen) >= 5, "it died five times")
    assert [line["next_in"] for line in lines[:5]] == [0.1, 0.2, 0.4, 0.8, 1.6]


@pytest.mark.parametrize(
    ("environment", "interval"),
    [
        ({}, 7.0),
        ({"WATCHDOG_USEC": "2500000"}, 2.5),
        ({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": str(os.getpid())}, 2.5),
        ({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": "0"}, 7.0),
        ({"WATCHDOG_USEC": "0"}, 7.0),
        ({"WATCHDOG_USEC": "soon"}, 7.0),
    ],
    ids=str,
)
def test_the_service_manager_has_the_last_word(environment: dict[str, str], interval: float) -> None:
    with patch.dict(os.environ, environment):
        assert watchdog_interval(7.0) == interval
