"""Pairs and counters as the methods return them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Final, TypeVar

from vethd.drops import DropPoint
from vethd.host import netns, tap
from vethd.host.rtnl import LinkStats
from vethd.pairs.pair import End, Pair
from vethd.pairs.stats import Rows, end_stats, queue_stats
from vethd.rpc.schema.link import EndResult, PairResult
from vethd.rpc.schema.stats import EndsStats, EndStatsResult

#: By drop point; to ask an enumeration's member for its name takes longer.
_NAMES: Final = ["", *(point.name for point in DropPoint)]
#: Pairs whose counters are put together before it is somebody else's turn; about a millisecond.
PORTION: Final = 32
T = TypeVar("T")
#: The name of a namespace by its identity, None when it has none.
NameOf = Callable[[tuple[int, int]], str | None]


def pair_result(pair: Pair, name_of: NameOf = netns.name_of) -> PairResult:
    """A pair as it is now."""
    return {
        "pair": str(pair.uuid),
        "name": pair.name,
        "origin": pair.origin,
        "generation": pair.generation,
        "labels": dict(pair.labels),
        "placement": pair.placement,
        "numqueues": pair.numqueues,
        "overload": pair.overload,
        "workers": [queues.worker for queues in pair.queues],
        "a": end_result(pair.a, name_of),
        "b": end_result(pair.b, name_of),
    }


def end_result(end: End, name_of: NameOf) -> EndResult:
    return {
        "ifname": end.ifname,
        "ifindex": end.ifindex,
        "netns": name_of(end.netns),
        "netns_inode": end.netns[1],
        "address": end.address,
        "mtu": end.mtu,
        "txqueuelen": end.txqlen,
        "alias": end.alias,
        "up": end.up,
        "carrier": end.pair.carrier,
        "operstate": end.operstate,
        "offload": tap.offload_names(end.offload),
        "offload_why": end.offload_why,
        "gro": end.gro,
        "master": end.master or None,
    }


def _drops(drops: dict[DropPoint, int]) -> dict[str, int]:
    return {_NAMES[point]: frames for point, frames in drops.items()}


async def in_turns(items: Iterable[T]) -> AsyncIterator[T]:
    """The items; now and then others get a turn of the loop. What was true of an item before may not be then."""
    for index, item in enumerate(items):
        if index % PORTION == PORTION - 1:
            await asyncio.sleep(0)
        yield item


def stats_result(pair: Pair, counters: Rows, kernel: Mapping[int, LinkStats]) -> EndsStats:
    """Counters of both ends. kernel: those of their TAPs by end number; missing when the device is going."""
    a, b = (_end_stats_result(end, counters, kernel.get(end.number)) for end in pair.ends)
    return {"a": a, "b": b}


def _end_stats_result(end: End, counters: Rows, kernel: LinkStats | None) -> EndStatsResult:
    stats = end_stats(end, counters, kernel)
    return {
        "rx_packets": stats.rx_packets,
        "rx_bytes": stats.rx_bytes,
        "rx_dropped": stats.rx_dropped,
        "tx_packets": stats.tx_packets,
        "tx_bytes": stats.tx_bytes,
        "tx_dropped": stats.tx_dropped,
        "read": stats.read,
        "delivered": stats.delivered,
        "merged": stats.merged,
        "dropped": stats.dropped,
        "queued": stats.queued,
        "drops": _drops(stats.drops),
        "queues": [
            {
                "queue": queues.index,
                "worker": queues.worker,
                "rx_packets": row.rx_packets,
                "rx_bytes": row.rx_bytes,
                "tx_packets": row.tx_packets,
                "tx_bytes": row.tx_bytes,
                "read": row.read,
                "delivered": row.delivered,
                "merged": row.merged,
                "drops": _drops(row.drops),
            }
            for queues, row in zip(end.pair.queues, queue_stats(end, counters), strict=True)
        ],
        "kernel": None
        if kernel is None
        else {
            "rx_packets": kernel.rx_packets,
            "tx_packets": kernel.tx_packets,
            "rx_bytes": kernel.rx_bytes,
            "tx_bytes": kernel.tx_bytes,
            "rx_dropped": kernel.rx_dropped,
            "tx_dropped": kernel.tx_dropped,
        },
    }
