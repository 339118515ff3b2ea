"""`CarrierDriver`: both TAPs of a pair are told the carrier that is wanted, whatever happens meanwhile.

One task per pair runs until what the TAPs were told is what is wanted, so no order of events leaves it wrong. When it
fails (no file descriptor or memory was free) it is tried again.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Collection

from structlog.typing import FilteringBoundLogger

from vethd.host import tap
from vethd.host.rtnl import LinkInfo, Rtnl
from vethd.host.threads import HostThreads
from vethd.pairs.journal import Journal
from vethd.pairs.pair import End, Pair, describe
from vethd.pairs.stats import charge_unread
from vethd.pairs.workers import Workers
from vethd.worker.counters import Counters

#: Seconds until what failed is tried again.
RETRY = 1.0


class CarrierDriver:
    """Sets the carriers of all pairs; the follower's."""

    def __init__(
        self,
        threads: HostThreads,
        workers: Workers,
        counters: Counters,
        journal: Journal,
        log: FilteringBoundLogger,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._threads = threads
        self._workers = workers
        self._counters = counters
        self._journal = journal
        self._log = log
        self._tasks: dict[Pair, asyncio.Task[None]] = {}
        self._reassert: set[Pair] = set()
        self._unsettled: set[Pair] = set()

    @property
    def tasks(self) -> Collection[asyncio.Task[None]]:
        """One for each pair whose carrier is being set."""
        return self._tasks.values()

    def driven(self, pair: Pair) -> bool:
        """Whether the carrier of a pair is being set."""
        return pair in self._tasks

    def settled(self, pair: Pair) -> bool:
        """Whether both TAPs have been told the carrier that the picture of the pair shows."""
        return pair not in self._tasks and pair not in self._unsettled

    async def settle(self, pair: Pair) -> None:
        """Return when the carrier of the pair is what it should be. Raises OSError when it can't be set."""
        while (task := self._tasks.get(pair)) is not None:
            await asyncio.shield(task)

    def drive(self, pair: Pair) -> None:
        """See to it that both TAPs are told what is wanted."""
        if pair in self._tasks:
            return
        task = self._loop.create_task(self._run(pair))
        self._tasks[pair] = task
        task.add_done_callback(lambda task: self._done(pair, task))

    def set_again(self, pair: Pair) -> None:
        """Tell the TAPs even if they have been told that already: somebody else may have told them something."""
        self._reassert.add(pair)
        self.drive(pair)

    def retry(self, pair: Pair) -> None:
        """Try again what failed the last time, if it did."""
        if pair in self._unsettled:
            self._unsettled.discard(pair)
            self.set_again(pair)

    def changed(self, pair: Pair) -> None:
        """Say that a pair has another carrier now."""
        self._log.info("carrier", **describe(pair), carrier=pair.carrier)
        self._journal.record("carrier", "changed", pair, carrier=pair.carrier)

    def note_operstate(self, end: End, info: LinkInfo) -> None:
        """Let the operational state of an end be what the kernel says."""
        if end.operstate != info.operstate:
            end.operstate = info.operstate
            self._journal.record("carrier", "operstate", end.pair, end.letter, operstate=end.operstate)

    def _done(self, pair: Pair, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("carrier not set, trying again", **describe(pair), error=repr(error))
            self._loop.call_later(RETRY, self.retry, pair)

    async def _run(self, pair: Pair) -> None:
        try:
            await self._set(pair)
        except BaseException:
            self._unsettled.add(pair)
            raise
        finally:
            del self._tasks[pair]  # here and not in a callback: a change wanted from now on starts a new task

    async def _set(self, pair: Pair) -> None:
        while pair.is_live() and (pair.wants_carrier != pair.carrier or pair in self._reassert):
            self._reassert.discard(pair)
            before, pair.carrier = pair.carrier, pair.wants_carrier
            # The worker first: going up, no frame may meet a worker that does not know; going down, none need travel.
            await asyncio.gather(*(self._workers.set_carrier(end, pair.carrier) for end in pair.ends))
            for end in pair.ends:
                if not pair.is_live():
                    return
                heard = end.heard
                info = await self._threads.follow_device(end.fd, _set_carrier, end.nsid, end.ifindex, pair.carrier)
                if info is not None:
                    if end.heard == heard:
                        self.note_operstate(end, info)
                    if info.stats is not None:
                        charge_unread(end, info.stats.tx_dropped, before, self._counters)
            if before != pair.carrier:
                self.changed(pair)


def _set_carrier(fd: int, nsid: int, ifindex: int, on: bool) -> LinkInfo | None:
    """Set a carrier and read the device back, which makes the kernel report a lost carrier now and not within a second.

    None when the device is gone.
    """
    try:
        tap.set_carrier(fd, on)
        with Rtnl() as requests:
            return requests.get_link(nsid=nsid, index=ifindex)
    except OSError as error:
        if error.errno in (errno.EBADFD, errno.ENODEV):
            return None
        raise
