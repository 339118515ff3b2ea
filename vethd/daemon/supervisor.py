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
from vethd.daemon.handover import Inheritance, release_signals
from vethd.daemon.reexec import Reexec
from vethd.daemon.reload import Reloader
from vethd.daemon.service import Service
from vethd.daemon.state import CONTROL, COUNTERS, STAGING, Parts, restore
from vethd.host.threads import HostThreads
from vethd.pairs.change import Changer
from vethd.pairs.create import Creator
from vethd.pairs.delete import Deleter
from vethd.pairs.follow import Follower
from vethd.pairs.journal import Event, Journal
from vethd.pairs.registry import Registry
from vethd.pairs.static import StaticPairs
from vethd.pairs.workers import Workers
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
    inheritance: what the program before this one left. listener: fd of a control socket that systemd opened.
    """

    def __init__(
        self,
        configured: Config,
        log: FilteringBoundLogger,
        source: Source = Source(),  # noqa: B008 - it is frozen
        files: tuple[Path, ...] = (),
        inheritance: Inheritance | None = None,
        listener: int | None = None,
    ) -> None:
        self._config = config = source.overrule(configured)
        self._log = log
        self._stop = asyncio.Event()
        self._inheritance = inheritance
        self._listener = listener
        self.service = Service(log)
        self.threads = HostThreads(inheritance.fds.get(STAGING) if inheritance is not None else None)
        self.counters = self._counters(2 * config.limits.max_pairs)
        self.registry = Registry(self.counters.ends)
        self.journal = Journal(pair_result)
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
        )
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
        self.static = StaticPairs(self.registry, self.creator, self.changer, self.deleter, self.journal, log)
        self.methods = Methods(
            (
                *LinkMethods(
                    self.threads, self.registry, self.creator, self.changer, self.deleter, self.counters
                ).table,
                *StatsMethods(self.threads, self.registry, self.workers, self.counters).table,
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
                *ConfigMethods(self.registry, self.static, self._in_force).table,
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
        self._parts = Parts(
            self.registry,
            self.workers,
            self.counters,
            self.journal,
            self.reloader,
            self.methods.tokens,
            self.server,
        )
        self.reexec = Reexec(
            self._parts, self.creator, self.deleter, self.follower, self.threads, self._stop.is_set, log
        )

    def _counters(self, ends: int) -> Counters:
        """Those of the program before this one, else new ones for so many ends."""
        if self._inheritance is not None and COUNTERS in self._inheritance.fds:
            state, fd = self._inheritance.state, self._inheritance.fds[COUNTERS]
            try:
                if state is None:
                    raise ValueError("the state is not known")
                counters = Counters.adopt(fd, state.ends)
            except ValueError as error:
                self._log.error("counters begin again", why=str(error))
                os.close(fd)
            else:
                if counters.ends != ends:
                    self._log.warning("max_pairs changes with the next start", max_pairs=counters.ends // 2)
                return counters
        return Counters.create(ends)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then delete every pair and stop; SIGUSR2 replaces the program.

        Raises VethdError or OSError when a part does not start; nothing is left running then.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ask_to_stop, number)
        loop.add_signal_handler(signal.SIGHUP, self.reloader.request)
        loop.add_signal_handler(signal.SIGUSR2, self.reexec.on_signal)
        release_signals()
        try:
            await self.start()
            await self._stop.wait()
        finally:
            await self.stop()
        self._log.info("stopped")

    def _in_force(self) -> Config:
        return self.reloader.in_force()

    async def _request_reexec(self, reason: str) -> None:
        await self.reexec.request(reason)

    def _ask_to_stop(self, number: signal.Signals) -> None:
        if not self._stop.is_set():
            self._log.info("stopping", pairs=len(self.registry), signal=number.name)
        self.static.interrupt()
        self._stop.set()

    async def start(self) -> None:
        """Start every part. The control socket is taken first, so that a second daemon starts nothing; served last."""
        left, self._inheritance = self._inheritance, None
        self._listen(left)
        await self.follower.start()
        if left is not None:
            await restore(left.state, left.fds, self._parts, self.threads, self._log)
        await self.workers.start()
        await self.follower.ask_all()
        await self.reloader.start(static_pairs=left is None)
        self.server.serve()
        self.reexec.allow()
        self.journal.listen(self._tell_status)
        self._tell_status()
        self.service.ready()
        self._log.info("vethd serves", version=__version__, socket=str(self.server.path), pairs=len(self.registry))

    def _listen(self, left: Inheritance | None) -> None:
        """Take the control socket: the predecessor's, systemd's, or one of our own."""
        if left is not None and CONTROL in left.fds:
            self.server.adopt(left.fds[CONTROL], left.state.inode if left.state is not None else None)
        elif self._listener is not None:
            self.server.adopt(self._listener, inode=0)
        else:
            self.server.bind()
        if self.server.path != Path(self._config.socket):
            self._log.warning("socket of the configuration not used", socket=str(self.server.path))

    async def stop(self) -> None:
        """Stop every part in reverse order; no device, process or thread is left."""
        self.methods.shutting_down = True
        self.service.stopping()
        await self.reexec.stop()
        self.journal.record("daemon", "stopping")
        await self.reloader.stop()
        await self.server.stop()
        await self.deleter.all("the daemon stops")
        await self.follower.stop()
        await self.workers.stop()
        await asyncio.to_thread(self.threads.close)
        self.counters.close()
        self.service.close()

    def _tell_status(self, _event: Event | None = None) -> None:
        """Say in `systemctl status` how many pairs and workers there are."""
        serving = sum(bool(ready) for _slot, ready in self.workers.serving())
        self.service.set_status(f"{len(self.registry)} pairs, {serving} workers")
