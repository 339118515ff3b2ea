"""`Reexec`: replace the program of the running daemon by what its command line means now, with all pairs kept.

::

    the new program is tried -> the client is answered -> clients are disconnected, who connects waits
      -> what is under way is finished: creations, deletions, carriers, reloads, replacements of workers
      -> signals wait -> state and descriptors are handed over -> exec -> the same parts are made anew around them

Whatever fails before the exec, the daemon goes on as before. Workers forward all the while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from structlog.typing import FilteringBoundLogger

from vethd.daemon import handover
from vethd.daemon.keep import Keeper
from vethd.daemon.state import Parts, descriptors, snapshot
from vethd.errors import ReexecFailed
from vethd.host.threads import HostThreads
from vethd.pairs.create import Creator
from vethd.pairs.delete import Deleter
from vethd.pairs.follow import Follower

#: Seconds for what is under way; a worker's replacement may wait five of them.
SETTLE_WITHIN: Final = 20.0
#: Turns of the loop until a signal that came before signals were held has reached its handler: it is read from a pipe,
#: and the handler is called in the turn after that.
_SIGNAL_TURNS: Final = 3


class Part(Protocol):
    """What may have something under way."""

    @property
    def busy(self) -> bool:
        """True while it has."""

    async def settle(self) -> None:
        """Return when what is under way now is done."""


class Reexec:
    """Replaces the program; one per daemon.

    kept: the parts whose state is handed over. stopping: whether the daemon is to end.
    """

    def __init__(
        self,
        kept: Parts,
        creator: Creator,
        deleter: Deleter,
        follower: Follower,
        keeper: Keeper,
        threads: HostThreads,
        stopping: Callable[[], bool],
        log: FilteringBoundLogger,
    ) -> None:
        self._kept = kept
        self._follower = follower
        self._parts: tuple[Part, ...] = (kept.server, kept.reloader, creator, deleter, follower, kept.workers, keeper)
        self._threads = threads
        self._stopping = stopping
        self._log = log
        self._allowed = asyncio.Event()
        self._replacing = False
        self._task: asyncio.Task[None] | None = None
        self._signalled: asyncio.Task[None] | None = None

    def allow(self) -> None:
        """The daemon serves: it may be replaced from now on."""
        self._allowed.set()

    def on_signal(self) -> None:
        """SIGUSR2: do it, as soon as the daemon serves."""
        self._signalled = asyncio.create_task(self._by_signal())

    async def request(self, reason: str) -> None:
        """Replace the program; returns when it is known to start, and clients are about to be disconnected.

        reason: for the log; who or what wanted it. Raises ReexecFailed; nothing has happened then.
        """
        if self._replacing:
            raise ReexecFailed("it is being replaced already", hint="connect again when it is back")
        self._replacing = True
        try:
            await handover.check_program()
            if self._stopping():
                raise ReexecFailed("the daemon is shutting down", hint="start it again")
        except BaseException:
            self._replacing = False
            raise
        self._log.info("replacing the program", reason=reason, pairs=len(self._kept.registry))
        self._kept.journal.record("daemon", "reexec")
        self._kept.server.pause()
        self._task = asyncio.create_task(self._replace())

    async def stop(self) -> None:
        """Give up: the daemon is to end. Returns when nothing is under way any more."""
        for task in (self._signalled, self._task):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])

    async def _by_signal(self) -> None:
        await self._allowed.wait()
        try:
            await self.request("SIGUSR2")
        except ReexecFailed as error:
            self._log.error("program not replaced", error=error.message, hint=error.hint)

    async def _replace(self) -> None:
        """Finish what is under way, then execute the next program; go on as before if that fails."""
        try:
            async with asyncio.timeout(SETTLE_WITHIN):
                await self._settle()
                self._follower.pause()
                while not self._stopping():
                    await self._settle()
                    with handover.signals_held():
                        for _ in range(_SIGNAL_TURNS):
                            await asyncio.sleep(0)
                        if not self._stopping() and not self._busy():
                            handover.execute(snapshot(self._kept), descriptors(self._kept, self._threads.staging))
        except Exception as error:  # noqa: BLE001 - whatever it is, the links are worth more than the new program
            self._log.error("program not replaced, going on as before", error=repr(error))
        finally:
            self._replacing = False
            self._follower.resume()
            self._kept.server.serve()

    def _busy(self) -> list[Part]:
        return [part for part in self._parts if part.busy]

    async def _settle(self) -> None:
        """Return when nothing is under way."""
        while busy := self._busy():
            await asyncio.gather(*(part.settle() for part in busy))
