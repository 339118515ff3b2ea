"""The methods daemon.*."""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from vethd import __version__
from vethd.pairs.journal import Journal
from vethd.pairs.registry import Registry
from vethd.pairs.workers import Workers
from vethd.rpc.access import Role
from vethd.rpc.call import Call, Method
from vethd.rpc.schema.base import NoParams
from vethd.rpc.schema.daemon import DaemonInfo, WorkerRow


class DaemonMethods:
    """daemon.info. clients: connected, and at most. files: those of the configuration."""

    def __init__(
        self,
        registry: Registry,
        workers: Workers,
        journal: Journal,
        clients: Callable[[], tuple[int, int]],
        files: Callable[[], Iterable[Path]],
    ) -> None:
        self._registry = registry
        self._workers = workers
        self._journal = journal
        self._clients = clients
        self._files = files
        self._started = time.monotonic()
        self.table = (Method("daemon.info", NoParams, DaemonInfo, Role.LOOK, self.daemon_info),)

    async def daemon_info(self, _params: NoParams, call: Call) -> DaemonInfo:
        """What runs."""
        pairs, max_pairs = len(self._registry), self._registry.max_ends // 2
        clients, max_clients = self._clients()
        return {
            "version": __version__,
            "pid": os.getpid(),
            "server_id": self._journal.server_id,
            "seq": self._journal.seq,
            "uptime": time.monotonic() - self._started,
            "config": list(map(str, self._files())),
            "capabilities": [],
            "kernel": {"release": platform.release(), "features": {}},
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
