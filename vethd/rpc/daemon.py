"""The methods daemon.*."""

from __future__ import annotations

import asyncio
import os
import platform
import resource
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from vethd import __version__
from vethd.errors import ReexecFailed
from vethd.host import capabilities
from vethd.pairs.journal import Journal
from vethd.pairs.registry import Registry
from vethd.pairs.workers import Workers
from vethd.rpc.access import Role
from vethd.rpc.call import Call, Method
from vethd.rpc.schema.base import NoParams
from vethd.rpc.schema.daemon import DaemonInfo, ReexecResult, WorkerRow


class DaemonMethods:
    """daemon.info, daemon.reexec.

    clients: connected, and at most. files: those of the configuration. features: of the kernel; they take some
    milliseconds to be found out. reexec: replaces the program, for the reason given; raises ReexecFailed.
    """

    def __init__(
        self,
        registry: Registry,
        workers: Workers,
        journal: Journal,
        clients: Callable[[], tuple[int, int]],
        files: Callable[[], Iterable[Path]],
        features: Callable[[], dict[str, str]],
        reexec: Callable[[str], Awaitable[None]],
    ) -> None:
        self._registry = registry
        self._workers = workers
        self._journal = journal
        self._clients = clients
        self._files = files
        self._features = features
        self._found: dict[str, str] | None = None
        self._started = time.monotonic()
        self._reexec = reexec
        self.table = (
            Method("daemon.info", NoParams, DaemonInfo, Role.LOOK, self.daemon_info),
            Method("daemon.reexec", NoParams, ReexecResult, Role.CHANGE, self.daemon_reexec, (ReexecFailed,)),
        )

    async def daemon_info(self, _params: NoParams, call: Call) -> DaemonInfo:
        """What runs."""
        if self._found is None:  # they stay as they are for as long as the daemon runs
            self._found = await asyncio.to_thread(self._features)
        pairs, max_pairs = len(self._registry), self._registry.max_ends // 2
        clients, max_clients = self._clients()
        return {
            "version": __version__,
            "pid": os.getpid(),
            "server_id": self._journal.server_id,
            "seq": self._journal.seq,
            "uptime": time.monotonic() - self._started,
            "config": list(map(str, self._files())),
            "capabilities": capabilities.effective(),
            "kernel": {
                "release": platform.release(),
                "features": {**self._found, "io_uring": _io_uring(self._workers)},
            },
            "limits": {
                "pairs": pairs,
                "max_pairs": max_pairs,
                "clients": clients,
                "max_clients": max_clients,
                "open_files": len(os.listdir("/proc/self/fd")),
                "max_open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            },
            "pairs": pairs,
            "max_pairs": max_pairs,
            "workers": worker_rows(self._workers),
        }

    async def daemon_reexec(self, _params: NoParams, call: Call) -> ReexecResult:
        """Replace the daemon's program by what is installed now; pairs stay, and frames keep flowing.

        The answer comes before it happens. Then every client is disconnected; who connects again is answered by the
        next program, or by this one if it could not be replaced after all.
        """
        await self._reexec(f"daemon.reexec by {call.peer}")
        return {"server_id": self._journal.server_id}


def _io_uring(workers: Workers) -> str:
    """`yes` when the workers use it, else why not, as they say themselves."""
    said = [ready for _slot, ready in workers.serving() if ready]
    if any(ready["frameio"] == "uring" for ready in said):
        return "yes"
    return str(said[0]["why"]) if said else "no worker serves"


def worker_rows(workers: Workers) -> list[WorkerRow]:
    """One row per worker."""
    return [
        {
            "id": slot.number,
            "pid": ready.get("pid"),
            "pairs": len(slot.pairs),
            "queues": len(slot.queues),
            "datapath": ready.get("datapath"),
            "frameio": ready.get("frameio"),
            "why": ready.get("why"),
        }
        for slot, ready in workers.serving()
    ]
