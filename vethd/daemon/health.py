"""`Health`: does the daemon do what it is there for? Whoever feeds a watchdog asks, from a callback of the event loop.

Everything is derived from one interval, that of the watchdog::

    a worker is asked at least every          1/12   (worker/child.py)
    it is killed when it has not answered for 1/4    so at most 1/3 after it began to hang
    and is replaced at once                          so before 1/2 has gone by
    the daemon is not well after another      1/2    without a worker in its place

A loop that does not turn asks nothing and feeds nothing. One that turns while workers can't be replaced is no better to
those whose frames wait: the service manager then ends the process, keeps the links, and starts it anew.
"""

from __future__ import annotations

import asyncio
import os
from typing import Final

from structlog.typing import FilteringBoundLogger

from vethd.pairs.journal import Journal
from vethd.pairs.workers import Workers

#: Parts of the interval, see above.
ANSWER_PART: Final = 1 / 4
REPLACE_PART: Final = 1 / 2
_LOOK_PART: Final = 1 / 8


def watchdog_interval(configured: float) -> float:
    """Seconds after which a watchdog that is not fed acts: the service manager's, if it has one for us.

    configured: what holds without one. Source: WATCHDOG_USEC in sd_watchdog_enabled(3).
    """
    usec = os.environ.get("WATCHDOG_USEC", "")
    if not usec.isdigit() or int(usec) == 0 or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return configured
    return int(usec) / 1e6


class Health:
    """Whether every worker that died or hung has been replaced in time; one per daemon, made on its loop.

    interval: of the watchdog, seconds. well: whether it is to be fed.
    """

    def __init__(self, workers: Workers, interval: float, journal: Journal, log: FilteringBoundLogger) -> None:
        self._loop = asyncio.get_running_loop()
        self._workers = workers
        self._interval = interval
        self._journal = journal
        self._log = log
        self._told = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def well(self) -> bool:
        """True unless there is no worker in some place for too long, although one is wanted."""
        return self._workers.failing() < REPLACE_PART * self._interval

    def watch(self) -> None:
        """Tell log and listeners from now on when that changes."""
        if self.well == self._told:
            self._told = not self._told
            seconds = round(self._workers.failing(), 1)
            if self._told:
                self._log.error("workers not replaced in time, the watchdog is not fed", seconds=seconds)
                self._journal.record("worker", "overdue", seconds=seconds)
            else:
                self._log.info("all workers serve again")
        self._timer = self._loop.call_later(_LOOK_PART * self._interval, self.watch)

    def close(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()
