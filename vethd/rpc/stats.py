"""The methods stats.get and softnet.get."""

from __future__ import annotations

import time
from collections.abc import Callable

from vethd.errors import CursorExpired, NoSuchLink, NoSuchNetns
from vethd.host.threads import HostThreads
from vethd.pairs.pair import Pair
from vethd.pairs.registry import Registry
from vethd.pairs.stats import look
from vethd.pairs.workers import Workers
from vethd.rpc.access import Role
from vethd.rpc.call import Call, Method
from vethd.rpc.cursors import Cursors, Snapshot
from vethd.rpc.results import in_turns, stats_result
from vethd.rpc.schema.base import NoParams
from vethd.rpc.schema.link import StatsGetParams
from vethd.rpc.schema.stats import EndsStats, PairStats, SoftnetResult, SoftnetRow, StatsResult
from vethd.rpc.select import matching
from vethd.worker.counters import Counters


class StatsMethods:
    """stats.get, softnet.get. settled: see `look`."""

    def __init__(
        self,
        threads: HostThreads,
        registry: Registry,
        workers: Workers,
        counters: Counters,
        settled: Callable[[Pair], bool],
    ) -> None:
        self._threads = threads
        self._registry = registry
        self._workers = workers
        self._counters = counters
        self._settled = settled
        self._cursors = Cursors()
        self.table = (
            Method(
                "stats.get",
                StatsGetParams,
                StatsResult,
                Role.LOOK,
                self.stats_get,
                (NoSuchLink, NoSuchNetns, CursorExpired),
                {"ifname": "veth0", "cursor": True},
            ),
            Method("softnet.get", NoParams, SoftnetResult, Role.LOOK, self.softnet_get),
        )

    async def stats_get(self, params: StatsGetParams, call: Call) -> StatsResult:
        """Counters, the kernel's own included."""
        since = None if params.since is None else self._cursors.find(params.since)
        pairs = matching(self._registry, params, call)
        if since is None and not params.cursor:
            kernel = await look(pairs, self._threads, self._counters, self._settled)
            rows = [
                _row(pair, stats_result(pair, self._counters, kernel))
                async for pair in in_turns(pairs)
                if pair.is_live()
            ]
            return {"pairs": rows, "cursor": None, "interval": None}
        everyone = list(self._registry)  # a cursor is good for every filter
        kernel = await look(everyone, self._threads, self._counters, self._settled)
        live = (pair for pair in everyone if pair.is_live())
        now = Snapshot.take(time.monotonic(), live, self._counters, kernel, self._cursors.last)
        return {
            "pairs": [_row(pair, now.stats(pair, since)) async for pair in in_turns(pairs) if pair in now],
            "cursor": self._cursors.add(now),
            "interval": None if since is None else now.time - since.time,
        }

    async def softnet_get(self, _params: NoParams, _call: Call) -> SoftnetResult:
        """Every worker's backlog."""
        rows: list[SoftnetRow] = []
        for slot, ready in self._workers.serving():
            row = self._counters.load_softnet(slot.number)
            rows.append(
                {
                    "worker": slot.number,
                    "pid": ready.get("pid"),
                    "processed": row.processed,
                    "dropped": row.dropped,
                    "time_squeeze": row.time_squeeze,
                    "input_queue_len": row.input_queue_len,
                    "process_queue_len": row.process_queue_len,
                }
            )
        return {"workers": rows}


def _row(pair: Pair, ends: EndsStats) -> PairStats:
    return {"uuid": str(pair.uuid), "ends": ends}
