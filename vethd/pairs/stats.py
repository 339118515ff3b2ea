"""Counters of a pair, complete: what the worker counted, what the supervisor corrected, what the kernel says.

For the direction that starts at an end::

    read = delivered + merged + dropped + queued          exact whenever the worker is quiet
    read = the kernel's tx_packets of this end            a TAP counts a frame as transmitted when it is read
    delivered = the kernel's rx_packets of its peer       a TAP counts a frame as received when it is written

An end of several queues has a row per queue and is their sum. The kernel counts by device, so what only its counters
tell - what a dead worker took along, what a ring refused - stands in the correction row of queue 0, and is known of the
end alone.

The last two let the supervisor compute what a dead worker had in hand. Frames that were never read stand outside of the
first line, under NO_CARRIER and TAP_RING: the TAP's tx_dropped, told apart by whether it had a carrier meanwhile.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Protocol

from vethd.drops import DROP_TABLE, READ_DROPS, DropPoint
from vethd.host.locate import locate
from vethd.host.rtnl import LinkStats, Rtnl, RtnlError
from vethd.host.threads import HostThreads
from vethd.pairs.pair import End, Pair
from vethd.worker.counters import Counters, EndCounters

_POINTS = tuple(DropPoint)
_WORKER_DROPS = tuple(point for point in DropPoint if point < DropPoint.WORKER_LOST)
#: Drop points as plain numbers, which are looked up ten times as fast: this is most of what an answer costs.
_XMIT = tuple(int(point) for point in DropPoint if point <= DropPoint.CPU_BACKLOG)
_READ = tuple(map(int, READ_DROPS))
_RX_DROPPED = tuple(int(row.point) for row in DROP_TABLE if row.rx_dropped)
_TX_DROPPED = tuple(int(row.point) for row in DROP_TABLE if row.tx_dropped)
_WORKER_LOST = int(DropPoint.WORKER_LOST)


class Rows(Protocol):
    """Where the rows of ends come from: the counters as they are now, or what they grew by."""

    def load_end(self, number: int) -> EndCounters:
        """What the worker counted."""

    def load_correction(self, number: int) -> EndCounters:
        """What the supervisor corrected."""


@dataclass(frozen=True, slots=True)
class QueueStats:
    """What workers counted at one queue of an end; see EndStats. drops: from PEER_GONE to WRITE_FAILED."""

    rx_packets: int
    rx_bytes: int
    tx_packets: int
    tx_bytes: int
    read: int
    delivered: int
    merged: int
    drops: dict[DropPoint, int]


@dataclass(frozen=True, slots=True)
class EndStats:
    """All counters of one end. rx_* and tx_* are charged as kernel veth charges them.

    read, delivered, merged, dropped, queued: the direction that starts here; frames.
    drops: frames dropped in the direction that starts here, by point, the never-read ones included.
    kernel: the TAP's own counters, None when the device is gone.
    """

    rx_packets: int
    rx_bytes: int
    rx_dropped: int
    tx_packets: int
    tx_bytes: int
    tx_dropped: int
    read: int
    delivered: int
    merged: int
    dropped: int
    queued: int
    drops: dict[DropPoint, int]
    kernel: LinkStats | None


def end_stats(end: End, counters: Rows, kernel: LinkStats | None) -> EndStats:
    """Put the counters of one end together."""
    peer = end.peer
    mine, correction = _rows(end, counters), counters.load_correction(end.number)
    both = mine + correction
    its = _rows(peer, counters) + counters.load_correction(peer.number)
    dropped = _sum(mine, _READ) + correction.drops[_WORKER_LOST]
    return EndStats(
        rx_packets=both.rx_packets,
        rx_bytes=both.rx_bytes,
        rx_dropped=_sum(its, _RX_DROPPED),
        tx_packets=both.tx_packets,
        tx_bytes=both.tx_bytes,
        tx_dropped=_sum(both, _TX_DROPPED),
        read=both.read,
        delivered=its.rx_packets,
        merged=both.merged,
        dropped=dropped,
        queued=both.read - its.rx_packets - both.merged - dropped,
        drops=dict(zip(_POINTS, both.drops[1:], strict=True)),
        kernel=kernel,
    )


def queue_stats(end: End, counters: Rows) -> list[QueueStats]:
    """The counters of each queue of an end."""
    result = []
    for queue, other in zip(end.queues, end.peer.queues, strict=True):
        mine = counters.load_end(queue.number)
        result.append(
            QueueStats(
                rx_packets=mine.rx_packets,
                rx_bytes=mine.rx_bytes,
                tx_packets=mine.tx_packets,
                tx_bytes=mine.tx_bytes,
                read=mine.read,
                delivered=counters.load_end(other.number).rx_packets,
                merged=mine.merged,
                drops=dict(zip(_WORKER_DROPS, mine.drops[1:], strict=False)),
            )
        )
    return result


def _rows(end: End, counters: Rows) -> EndCounters:
    """What workers counted at an end, all queues together."""
    return reduce(add, (counters.load_end(queue.number) for queue in end.queues))


def _sum(row: EndCounters, points: tuple[int, ...]) -> int:
    drops = row.drops
    return sum([drops[point] for point in points])


def charge_unread(end: End, tx_dropped: int, carrier: bool, counters: Counters) -> None:
    """Charge the growth of the kernel's tx_dropped since the last look: those frames were never read.

    carrier: whether the end had a carrier all the while; with one it was the ring (TAP_RING), without one the noop
    qdisc (NO_CARRIER).
    """
    correction = counters.load_correction(end.number)
    charged = correction.drops[DropPoint.TAP_RING] + correction.drops[DropPoint.NO_CARRIER]
    grown = tx_dropped - end.unread_before - charged
    if grown <= 0:
        return
    correction.drops[DropPoint.TAP_RING if carrier else DropPoint.NO_CARRIER] += grown
    counters.store_correction(end.number, correction)


def charge_lost(pair: Pair, kernel: dict[int, LinkStats], counters: Counters) -> int:
    """Count what a dead worker had in hand as WORKER_LOST; how many frames that was, both directions together.

    kernel: the TAPs' own counters by end number, read after the worker's death and before its successor starts, while
    no other worker has a queue of the pair. The rows may lag behind the kernel by what the worker had not published;
    they are brought up to date first. Bytes of lost frames are not known and not counted, nor are the headers that GRO
    took off unpublished ones.

    `merged` is published before the write. If the worker dies between the two, the frames of a large one that was not
    written stay merged, and that one alone is lost.
    """
    lost_in_all = 0
    for end in pair.ends:
        peer = end.peer
        source, sink = kernel[end.number], kernel[peer.number]
        row = _rows(end, counters)
        mine, its = counters.load_correction(end.number), counters.load_correction(peer.number)
        before, peer_before = row + mine, _rows(peer, counters) + its
        mine.read += max(0, source.tx_packets - before.read)
        its.rx_packets += max(0, sink.rx_packets - peer_before.rx_packets)
        unpublished_bytes = max(0, sink.rx_bytes - peer_before.rx_bytes)
        its.rx_bytes += unpublished_bytes
        mine.tx_bytes += unpublished_bytes
        counters.store_correction(peer.number, its)
        counters.store_correction(end.number, mine)
        lost = max(0, end_stats(end, counters, None).queued)
        mine.drops[DropPoint.WORKER_LOST] += lost
        both = row + mine
        mine.tx_packets += both.read - _sum(row, _XMIT) - both.tx_packets
        counters.store_correction(end.number, mine)
        lost_in_all += lost
    return lost_in_all


async def look(
    pairs: Iterable[Pair], threads: HostThreads, counters: Counters, settled: Callable[[Pair], bool]
) -> dict[int, LinkStats]:
    """The kernel's counters of pairs, as `kernel_stats` has them, with frames that were never read charged.

    settled: whether the TAPs of a pair have been told the carrier that its picture shows; of others nobody knows yet
    why frames were not read, and whoever tells them charges these.

    Afterwards all counters of a pair are of one moment, the worker's own aside. Raises OSError.
    """
    ends = [end for pair in pairs for end in pair.ends]
    kernel = await kernel_stats(ends, threads)
    for end in ends:
        if end.number in kernel and end.pair.is_live() and settled(end.pair):
            charge_unread(end, kernel[end.number].tx_dropped, end.pair.carrier, counters)
    return kernel


async def kernel_stats(ends: list[End], threads: HostThreads) -> dict[int, LinkStats]:
    """The TAPs' own counters by end number; an end whose device is gone is not in it. Raises OSError."""
    places = [(end.number, end.nsid, end.ifindex, end.address) for end in ends]
    stats = await threads.follow(_read_kernel_stats, places)
    for end in ends:
        if end.number not in stats and end.pair.is_live():  # not where the picture has it: the fd knows better
            found = await threads.follow_device(end.fd, locate)
            if found is not None and found.info.stats is not None:
                stats[end.number] = found.info.stats
    return stats


def _read_kernel_stats(places: list[tuple[int, int, int, str]]) -> dict[int, LinkStats]:
    stats: dict[int, LinkStats] = {}
    with Rtnl() as rtnl:
        for number, nsid, ifindex, address in places:
            try:
                there, found = rtnl.get_stats(nsid=nsid, index=ifindex)
            except RtnlError as error:
                if error.errno != errno.ENODEV:
                    raise
            else:
                if there == address and found is not None:
                    stats[number] = found
    return stats
