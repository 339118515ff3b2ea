"""stats.get, softnet.get, sysctl.*: counters of ends and workers, and the backlog's limits."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, with_config
from typing_extensions import TypedDict

from vethd.rpc.schema.base import DESCRIBED, Params


@with_config(DESCRIBED)
class KernelStats(TypedDict):
    """The TAP's own counters, as `ip -s link` shows them."""

    rx_packets: int
    """Frames."""
    tx_packets: int
    """Frames."""
    rx_bytes: int
    """Bytes."""
    tx_bytes: int
    """Bytes."""
    rx_dropped: int
    """Frames."""
    tx_dropped: int
    """Frames."""


@with_config(DESCRIBED)
class QueueStatsResult(TypedDict):
    """What the worker of one queue of an end counted there; the names are those of EndStatsResult.

    What only the kernel's counters of the whole device tell is in the end's totals alone: WORKER_LOST, TAP_RING, and
    what a worker had not published when it died.
    """

    queue: int
    """Number of the queue, from 0."""
    worker: int
    """Which worker forwards it."""
    rx_packets: int
    """Frames."""
    rx_bytes: int
    """Bytes."""
    tx_packets: int
    """Frames."""
    tx_bytes: int
    """Bytes."""
    read: int
    """Frames."""
    delivered: int
    """Frames."""
    merged: int
    """Frames."""
    drops: dict[str, int]
    """Frames by drop point."""


@with_config(DESCRIBED)
class EndStatsResult(TypedDict):
    """Counters of an end, rx_* and tx_* as kernel veth charges them; read = delivered + merged + dropped + queued.

    Since a cursor, all of them are differences, but `queued` is not: read = delivered + merged + dropped + growth of
    queued.
    """

    rx_packets: int
    """Frames delivered to this end."""
    rx_bytes: int
    """Bytes of them."""
    rx_dropped: int
    """Frames for this end that were dropped where kernel veth charges the receiver."""
    tx_packets: int
    """Frames taken from this end."""
    tx_bytes: int
    """Bytes of them."""
    tx_dropped: int
    """Frames of this end that were dropped where kernel veth charges the sender."""
    read: int
    """Frames read from this end."""
    delivered: int
    """Of these, those written to the peer."""
    merged: int
    """Of these, those that became part of another one (gro)."""
    dropped: int
    """Of these, those dropped at any point."""
    queued: int
    """Of these, those that are still in the backlog."""
    drops: dict[str, int]
    """Frames that started here, by drop point; NO_CARRIER and TAP_RING count also what was never read."""
    queues: list[QueueStatsResult]
    """The same by queue."""
    kernel: KernelStats | None
    """The TAP's own counters; null when the device is going, or was not there at the cursor."""


@with_config(DESCRIBED)
class EndsStats(TypedDict):
    """Counters of both ends."""

    a: EndStatsResult
    """The first end."""
    b: EndStatsResult
    """Its peer."""


@with_config(DESCRIBED)
class PairStats(TypedDict):
    """Counters of a pair."""

    uuid: str
    """The pair."""
    ends: EndsStats
    """Its ends."""


@with_config(DESCRIBED)
class StatsResult(TypedDict):
    """stats.get."""

    pairs: list[PairStats]
    """Pairs that the filter let through."""
    cursor: str | None
    """To ask from here on next time, when that was asked for."""
    interval: float | None
    """Seconds since the cursor that was given; null without one: the counters then are since creation."""


@with_config(DESCRIBED)
class SoftnetRow(TypedDict):
    """One worker's backlog, in the words of /proc/net/softnet_stat."""

    worker: int
    """Number of the worker."""
    pid: int | None
    """Its process; null while it is being replaced."""
    processed: int
    """Frames taken from the backlog."""
    dropped: int
    """Frames that the full backlog refused."""
    time_squeeze: int
    """Times that a pass ended with work left."""
    input_queue_len: int
    """Frames in input_pkt_queue."""
    process_queue_len: int
    """Frames in process_queue."""


@with_config(DESCRIBED)
class SoftnetResult(TypedDict):
    """softnet.get."""

    workers: list[SoftnetRow]
    """One row per worker."""


class SysctlGetParams(Params):
    """The backlog's limits that are in force."""

    names: list[str] | None = None
    """Which, with or without `net.core.` before; omitted, all."""


class SysctlSetParams(Params):
    """Change the backlog's limits of every worker, all or none of them; until the daemon ends."""

    values: Annotated[dict[str, int], Field(min_length=1)]
    """New values by name, with or without `net.core.` before: netdev_max_backlog, netdev_budget, dev_weight in frames,
    netdev_budget_usecs, busy_poll in microseconds."""


@with_config(DESCRIBED)
class SysctlResult(TypedDict):
    """sysctl.get, sysctl.set."""

    values: dict[str, int]
    """Values in force, by name with `net.core.` before."""
