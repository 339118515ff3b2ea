"""Reload: the files are read again, and what they say differently is done, as far as a running daemon can.

After it everything is as if the daemon had just been started with these files, but for the keys of `FIXED`, which it
would have to be started for, and are named in the log. So what was changed at run time (`sysctl.set`, `config.apply`,
`ip link set`) is changed back. Files with anything wrong in them change nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from structlog.typing import FilteringBoundLogger

from vethd.config import Config, SysctlConfig
from vethd.configfiles import ConfigError, Source
from vethd.daemon.log import set_level
from vethd.daemon.service import Service
from vethd.daemon.waiting import Waiting
from vethd.host import netns
from vethd.host.opening import Paths
from vethd.pairs.create import Creator
from vethd.pairs.journal import Journal
from vethd.pairs.static import StaticPairs
from vethd.pairs.workers import Workers
from vethd.rpc.call import open_ref, paths_in
from vethd.rpc.schema.base import NetnsRef
from vethd.rpc.schema.config import StaticBridge, StaticPair
from vethd.rpc.server import Server

#: Keys that a running daemon keeps: processes, shared memory and the socket are made for them.
FIXED: Final = frozenset(
    {
        *("socket", "log.format", "limits.max_pairs"),
        *("worker.count", "worker.cpus", "worker.frameio", "worker.watchdog"),
    }
)


class Reloader:
    """Puts the configuration into force, and does so again when asked; one per daemon.

    files: those that were read last. static_digest: stands for the static pairs that were applied last, None if that is
    not known.
    """

    def __init__(
        self,
        source: Source,
        config: Config,
        files: tuple[Path, ...],
        workers: Workers,
        creator: Creator,
        server: Server,
        static: StaticPairs,
        journal: Journal,
        service: Service,
        log: FilteringBoundLogger,
    ) -> None:
        self._source = source
        self._config = config
        self._workers = workers
        self._creator = creator
        self._server = server
        self._static = static
        self._journal = journal
        self._service = service
        self._log = log
        self._wanted = False
        self._task: asyncio.Task[None] | None = None
        self._started = False
        self.files = files
        self.static_digest: str | None = None
        self.waiting: Waiting | None = None

    def in_force(self) -> Config:
        """The settings in force, as files would say them."""
        sysctl = SysctlConfig(**{name: self._workers.sysctls[name] for name in SysctlConfig.model_fields})
        return self._config.model_copy(update={"sysctl": sysctl})

    def changed_sysctls(self) -> dict[str, int | bool]:
        """Backlog settings in force that the files say otherwise."""
        configured = self._config.sysctl.model_dump()
        return {name: value for name, value in self._workers.sysctls.items() if value != configured[name]}

    @property
    def busy(self) -> bool:
        """True while a reload is under way."""
        return self._task is not None

    async def settle(self) -> None:
        """Return when the reload that is under way is done."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def start(self, left: str | None = None, *, in_place: bool = False, kept: bool = False) -> None:
        """Make the static pairs, and take requests to reload from now on, also those that came before.

        kept: there are pairs of a predecessor; left: its `static_digest`. If the files still say what they said to it,
        those stay as they are, with what was changed since. in_place: so they do anyway.
        """
        if not in_place:
            await self._start_static(left, kept)
            left = _digest(self._config)
        elif self.waiting is not None and left == _digest(self._config):
            missing = self._static.missing(self._config.pair)
            await self.waiting.wait(pair for pair in missing if pair.a.bridge or pair.b.bridge)
        self.static_digest = left
        self._started = True
        if self._wanted:
            self.request()

    async def _start_static(self, left: str | None, kept: bool) -> None:
        pairs, bridges, prune = self._config.pair, self._config.bridge, kept
        if kept and left in (None, _digest(self._config)):
            pairs, prune = self._static.missing(pairs), False
        if pairs or bridges or prune:
            await self._apply(pairs, bridges, "start", prune=prune)

    async def stop(self) -> None:
        """Reload no more; returns when nothing is under way."""
        self._started = False
        if self.waiting is not None:
            await self.waiting.stop()
        if self._task is not None:
            await self._task

    def request(self) -> None:
        """Reload, once more after a reload that is under way."""
        self._wanted = True
        if self._started and self._task is None:
            self._service.reloading()
            self._task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        try:
            while self._wanted and self._started:
                self._wanted = False
                await self._reload()
        except Exception:  # noqa: BLE001 - nobody waits for it
            self._log.exception("reload failed")
        finally:
            self._task = None
            self._service.ready()

    async def _reload(self) -> None:
        try:
            loaded = await asyncio.to_thread(self._source.load)
        except ConfigError as error:
            for finding in error.findings:
                self._log.error("configuration not valid, nothing was changed", why=str(finding))
            self._journal.record("config", "failed", errors=[str(finding) for finding in error.findings])
            return
        before, after = _flat(self.in_force()), _flat(loaded.config)
        changed = {key for key, value in after.items() if before[key] != value}
        kept = sorted(changed & FIXED - self._source.overruled)
        applied = sorted(changed - FIXED)
        self._config = _with(loaded.config, {key: before[key] for key in FIXED})
        self.files = loaded.files
        await self._put_into_force(self._config)
        if kept:
            self._log.warning("settings need a restart of vethd", keys=kept)
        self._log.info("configuration reloaded", files=list(map(str, loaded.files)), changed=applied)
        self._journal.record(
            "config", "reloaded", files=list(map(str, loaded.files)), changed=applied, needs_restart=kept
        )
        self.static_digest = _digest(loaded.config)
        await self._apply(loaded.config.pair, loaded.config.bridge, "reload", prune=True)

    async def _apply(self, pairs: list[StaticPair], bridges: list[StaticBridge], reason: str, *, prune: bool) -> None:
        with Paths() as paths:
            await paths.open(paths_in([*pairs, *bridges]))
            rows = await self._static.apply(pairs, bridges, partial(_opened, paths), reason, prune=prune)
        if self.waiting is not None:
            await self.waiting.note(pairs, rows, all_of_them=prune)

    async def make(self, pairs: list[StaticPair]) -> None:
        """Make static pairs that the files speak of, now that it can be done."""
        await self._apply(pairs, [], "its bridge is there", prune=False)

    async def _put_into_force(self, config: Config) -> None:
        set_level(config.log.level)
        self._creator.overload = config.worker.overload
        self._workers.restart_window = config.worker.restart_window
        self._server.limits = config.limits
        await self._workers.set_sysctls(config.sysctl.model_dump())


def _digest(config: Config) -> str:
    """Tells what files say of static pairs from anything else that they might."""
    return hashlib.sha256(repr((config.bridge, config.pair)).encode(errors="surrogateescape")).hexdigest()


def _flat(config: Config) -> dict[str, Any]:
    """Every setting by its key, such as `log.level`."""
    flat: dict[str, Any] = {}
    for section, value in config.model_dump(exclude={"pair", "bridge"}).items():
        if isinstance(value, dict):
            flat |= {f"{section}.{name}": setting for name, setting in value.items()}
        else:
            flat[section] = value
    return flat


def _with(config: Config, values: dict[str, Any]) -> Config:
    """The configuration with other values for some keys."""
    content = config.model_dump(exclude={"pair", "bridge"})
    for key, value in values.items():
        section, _dot, name = key.rpartition(".")
        (content[section] if section else content)[name] = value
    return Config.model_validate(content)


@asynccontextmanager
async def open_ends(pair: StaticPair) -> AsyncIterator[tuple[int, int]]:
    """The namespaces of the ends of a pair that a file speaks of, a's first. Raises a VethdError."""
    with Paths() as paths, ExitStack() as fds:
        await paths.open(paths_in(pair))
        a, b = (fds.enter_context(_opened(paths, end.netns, "netns")) for end in (pair.a, pair.b))
        yield a, b


@contextmanager
def _opened(paths: Paths, ref: str | NetnsRef | None, what: str) -> Iterator[int]:
    """An fd of a namespace that a file names, or of the daemon's own; closed after the body. paths: see open_ref."""
    fd = netns.current() if ref is None else open_ref(ref, what, paths)
    try:
        yield fd
    finally:
        os.close(fd)
