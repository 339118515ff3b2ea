"""The methods stats.get and softnet.get."""

from __future__ import annotations

from vethd.errors import NoSuchLink, NoSuchNetns
from vethd.host.threads import HostThreads
from vethd.pairs.pair import PairState
from vethd.pairs.registry import Registry
from vethd.pairs.stats import charge_unread, kernel_stats
from vethd.pairs.workers import Workers
from vethd.rpc.access import Role
from vethd.rpc.call import Call, Method
from vethd.rpc.results import stats_result
from vethd.rpc.schema.base import NoParams
from vethd.rpc.schema.link import StatsGetParams
from vethd.rpc.schema.stats import PairStats, SoftnetResult, SoftnetRow, StatsResult
from vethd.rpc.select import matching
from vethd.worker.counters import Counters


class StatsMethods:
    """stats.get, softnet.get."""

    def __init__(self, threads: HostThreads, registry: Registry, workers: Workers, counters: Counters) -> None:
        self._threads = threads
        self._registry = registry
        self._workers = workers
        self._counters = counters
        self.table = (
            Method("stats.get", StatsGetParams, StatsResult, Role.LOOK, self.stats_get, (NoSuchLink, NoSuchNetns)),
            Method("softnet.get", NoParams, SoftnetResult, Role.LOOK, self.softnet_get),
        )

    async def stats_get(self, params: StatsGetParams, call: Call) -> StatsResult:
        """Counters, the kernel's own included."""
        pairs = matching(self._registry, params, call)
        ends = [end for pair in pairs for end in pair.ends]
        kernel = await kernel_stats(ends, self._threads)
        for end in ends:
            if end.number in kernel and end.pair.state is PairState.LIVE:
                charge_unread(end, kernel[end.number].tx_dropped, end.pair.carrier, self._counters)
        rows: list[PairStats] = []
        for pair in pairs:
            if pair.state is PairState.LIVE:
                a, b = (stats_result(end, self._counters, kernel.get(end.number)) for end in pair.ends)
                rows.append({"uuid": str(pair.uuid), "ends": {"a": a, "b": b}})
        return {"pairs": rows, "cursor": None, "interval": None}

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
