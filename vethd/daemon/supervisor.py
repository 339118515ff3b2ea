"""The supervisor: every part of the control process, started and stopped in order, or handed to the next program.

It never touches a frame; it makes pairs, follows them, steers workers and answers clients.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from vethd import __version__
from vethd.config import Config
from vethd.configfiles import Source
from vethd.daemon.doctor import features
from vethd.daemon.handover import Inheritance, hold_signals, release_signals
from vethd.daemon.health import ANSWER_PART, Health, watchdog_interval
from vethd.daemon.keep import Keeper, room_for_ends
from vethd.daemon.names import CONTROL, COUNTERS, STAGING
from vethd.daemon.reexec import Reexec
from vethd.daemon.reload import Reloader, open_ends
from vethd.daemon.service import Service
from vethd.daemon.state import Parts, restore
from vethd.daemon.waiting import Waiting
from vethd.errors import WorkerFailed
from vethd.host.threads import HostThreads
from vethd.pairs.bridges import Bridges
from vethd.pairs.change import Changer
from vethd.pairs.create import Creator
from vethd.pairs.delete import Deleter
from vethd.pairs.follow import Follower
from vethd.pairs.journal import Event, Journal
from vethd.pairs.registry import Registry
from vethd.pairs.static import StaticPairs
from vethd.pairs.static_bridges import StaticBridges
from vethd.pairs.workers import Workers
from vethd.rpc.bridges import BridgeMethods
from vethd.rpc.configs import ConfigMethods
from vethd.rpc.daemon import DaemonMethods
from vethd.rpc.events import EventMethods
from vethd.rpc.links import LinkMethods
from vethd.rpc.methods import Methods
from vethd.rpc.results import pair_result
from vethd.rpc.server import Server
from vethd.rpc.stats import StatsMethods
from vethd.rpc.sysctls import SysctlMethods
from vethd.worker.counters import Counters


class Supervisor:
    """All parts of one daemon; to be made on the running event loop.

    configured: what `source` says, but for what has the last word there. files: those that it was read from.
    inheritance: what the program before this one left, or systemd gave.
    """

    def __init__(
        self,
        configured: Config,
        log: FilteringBoundLogger,
        source: Source = Source(),  # noqa: B008 - it is frozen
        files: tuple[Path, ...] = (),
        inheritance: Inheritance | None = None,
    ) -> None:
        self._config = config = source.overrule(configured)
        self._log = log
        self._stop = asyncio.Event()
        self._left = inheritance or Inheritance(None, {})
        self.service = Service(log)
        self._links_stay = self.service.present
        self.threads = HostThreads(self._left.fds.get(STAGING))
        self.counters = self._counters(2 * config.limits.max_pairs)
        self.registry = self._registry()
        self.journal = Journal(pair_result)
        interval = watchdog_interval(config.worker.watchdog)
        self.workers = Workers(
            config.worker.processes(),
            config.sysctl.model_dump(),
            self.threads,
            self.registry,
            self.counters,
            self.journal,
            log,
            config.worker.restart_window,
            config.worker.frameio,
            config.worker.cpus,
            ANSWER_PART * interval,
        )
        self.health = Health(self.workers, interval, self.journal, log)
        self.service.well = lambda: self.health.well
        self.deleter = Deleter(self.threads, self.registry, self.workers, self.journal, log)
        self.follower = Follower(
            self.threads, self.registry, self.workers, self.deleter, self.counters, self.journal, log
        )
        self.workers.reports = self.follower
        self.creator = Creator(
            self.threads,
            self.registry,
            self.workers,
            self.follower,
            self.deleter,
            self.counters,
            self.journal,
            log,
            config.worker.overload,
        )
        self.changer = Changer(self.threads, self.workers, self.follower, self.journal, log)
        self.bridges = Bridges(self.threads, self.registry, log)
        self.static_bridges = StaticBridges(self.threads, self.bridges, log)
        self.static = StaticPairs(
            self.threads,
            self.registry,
            self.creator,
            self.changer,
            self.deleter,
            self.static_bridges,
            self.journal,
            log,
        )
        self.methods = Methods(
            (
                *LinkMethods(
                    self.threads,
                    self.registry,
                    self.creator,
                    self.changer,
                    self.deleter,
                    self.counters,
                    self.follower.settled,
                ).table,
                *BridgeMethods(self.bridges).table,
                *StatsMethods(self.threads, self.registry, self.workers, self.counters, self.follower.settled).table,
                *SysctlMethods(self.workers, self.journal, log).table,
                *EventMethods(
                    self.threads,
                    self.registry,
                    self.counters,
                    self.workers,
                    self.deleter,
                    self.follower,
                    self.journal,
                    log,
                ).table,
                *ConfigMethods(self.threads, self.registry, self.static, self._in_force).table,
                *DaemonMethods(
                    self.registry,
                    self.workers,
                    self.journal,
                    lambda: (self.server.connected, self.server.limits.clients),
                    lambda: self.reloader.files,
                    features,
                    self._request_reexec,
                ).table,
            ),
            log,
            self._saved,
        )
        self.server = Server(Path(config.socket), config.limits, self.methods.handle, log)
        self.reloader = Reloader(
            source,
            configured,
            files,
            self.workers,
            self.creator,
            self.server,
            self.static,
            self.journal,
            self.service,
            log,
        )
        self.reloader.waiting = Waiting(self.threads, self.bridges, self.follower, open_ends, self.reloader.make, log)
        self._parts = Parts(
            self.registry,
            self.workers,
            self.counters,
            self.journal,
            self.reloader,
            self.static_bridges,
            self.methods.tokens,
            self.server,
        )
        self.keeper = Keeper(self.service, self._parts, self.deleter, self.threads.staging, log)
        self.reexec = Reexec(
            self._parts, self.creator, self.deleter, self.follower, self.keeper, self.threads, self._stop.is_set, log
        )

    def _counters(self, ends: int) -> Counters:
        """Those of the program before this one, else new ones for so many ends."""
        state, fd = self._left.state, self._left.fds.get(COUNTERS)
        if fd is None:
            return Counters.create(ends)
        try:
            if state is None:
                raise ValueError("the state is not known")
            counters = Counters.adopt(fd, state.ends)
            if counters.ends == ends:
                return counters
            if self._left.in_place or max(state.numbers(), default=0) >= ends:
                self._log.warning("max_pairs changes with the next start", max_pairs=counters.ends // 2)
                return counters
            return counters.resized(ends)
        except ValueError as error:
            self._log.error("counters begin again", why=str(error))
            created = Counters.create(ends)
            os.close(fd)  # not sooner: the new ones are to have another descriptor
            return created

    def _registry(self) -> Registry:
        """Room for as many ends as there are counters for, and as systemd would keep."""
        room, remedy = room_for_ends()
        if self.service.present and room < self.counters.ends:
            self._log.warning("systemd keeps fewer pairs than max_pairs", pairs=room // 2, remedy=remedy)
            return Registry(room, remedy)
        return Registry(self.counters.ends)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then stop; SIGUSR2 replaces the program.

        Every pair is deleted then, but systemd keeps them after SIGTERM: it starts the daemon again.
        Raises VethdError or OSError when a part does not start; nothing is left running then.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ask_to_stop, number)
        loop.add_signal_handler(signal.SIGHUP, self.reloader.request)
        loop.add_signal_handler(signal.SIGUSR2, self.reexec.on_signal)
        release_signals()
        try:
            await self._start_until_stopped()
            await self._stop.wait()
        finally:
            await self.stop()
        self._log.info("stopped")
        hold_signals()  # the loop's handlers end with it, and the process would die of what comes before it has ended

    async def _start_until_stopped(self) -> None:
        """Start every part; that workers did not start is no error when the daemon is to end by then."""
        try:
            await self.start()
        except WorkerFailed:
            if not self._stop.is_set():
                raise

    def _in_force(self) -> Config:
        return self.reloader.in_force()

    async def _saved(self) -> None:
        await self.keeper.saved()

    async def _request_reexec(self, reason: str) -> None:
        await self.reexec.request(reason)

    def _ask_to_stop(self, number: signal.Signals) -> None:
        if number is signal.SIGINT:  # SIGTERM follows; systemd may be quicker than we are
            self._links_stay = False
        if not self._stop.is_set():
            self._log.info("stopping", pairs=len(self.registry), signal=number.name)
        self.static.interrupt()
        self.creator.interrupt()
        self.workers.hurry()
        self._stop.set()

    async def start(self) -> None:
        """Start every part. The control socket is taken first, so that a second daemon starts nothing; served last."""
        left = self._left
        self._listen()
        await self.follower.start()
        await restore(left.state, left.fds, self._parts, self.threads, self._log)
        await self.keeper.start(left.fds)
        await self.workers.start()
        await self.follower.ask_all()
        static = left.state.static if left.state is not None else None
        await self.reloader.start(static, in_place=left.in_place, kept=len(self.registry) > 0)
        self.server.serve()
        self.health.watch()
        self.reexec.allow()
        self.journal.listen(self._tell_status)
        self._tell_status()
        self.service.ready()
        self._log.info("vethd serves", version=__version__, socket=str(self.server.path), pairs=len(self.registry))

    def _listen(self) -> None:
        """Take the control socket: the predecessor's, systemd's, or one of our own."""
        if CONTROL in self._left.fds:
            state = self._left.state
            inode = None if state is None else state.inode
            self.server.adopt(self._left.fds[CONTROL], inode if self._left.in_place else 0)
        else:
            self.server.bind()
        if self.server.path != Path(self._config.socket):
            self._log.warning("socket of the configuration not used", socket=str(self.server.path))

    async def stop(self) -> None:
        """Stop every part in reverse order; no process or thread is left, nor a device unless systemd keeps it."""
        self.methods.shutting_down = True
        self.service.stopping()
        await self.reexec.stop()
        self.journal.record("daemon", "stopping")
        await self.reloader.stop()
        await self.server.stop()
        links_stay = self._links_stay
        if links_stay:
            await self.creator.settle()
            await self.deleter.settle()
        else:
            await self.keeper.stop(keep=False)
            await self.deleter.all("the daemon stops")
        await self.follower.stop()
        self.health.close()
        await self.workers.stop(drain=links_stay)
        if links_stay:
            await self.keeper.stop(keep=True)
        await asyncio.to_thread(self.threads.close)
        self.counters.close()
        self.service.close()

    def _tell_status(self, _event: Event | None = None) -> None:
        """Say in `systemctl status` how many pairs and workers there are."""
        serving = sum(bool(ready) for _slot, ready in self.workers.serving())
        self.service.set_status(f"{len(self.registry)} pairs, {serving} workers")
