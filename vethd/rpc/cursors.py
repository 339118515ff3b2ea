"""Cursors: what all counters were at a moment, so that stats.get can say how much they grew since.

A snapshot holds every pair's rows packed as they stand in the counters, and the kernel's: 608 bytes for a pair of one
queue. One that did not change since the snapshot before shares its record with it. Everything that stats.get tells is a
sum of rows, so what it tells of differences of rows is the difference - except for `queued`, which is how many frames
are in the backlog now. In differences: read = delivered + merged + dropped + growth of queued.
"""

from __future__ import annotations

import secrets
import struct
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from typing import Final
from uuid import UUID

from vethd.errors import CursorExpired
from vethd.host.rtnl import LinkStats
from vethd.pairs.pair import Pair
from vethd.pairs.stats import end_stats
from vethd.rpc.results import stats_result
from vethd.rpc.schema.stats import EndsStats
from vethd.worker.counters import Counters, EndCounters, rows_of_copies

#: Snapshots that are kept.
KEPT: Final = 64
_LINK_STATS: Final = struct.Struct("=6Q")


@dataclass(frozen=True, slots=True)
class PairCopy:
    """The counters of a pair. rows: of a's queues, then b's. kernel: a's and b's; empty where the kernel told none."""

    rows: bytes
    kernel: tuple[bytes, bytes]


class Snapshot:
    """The counters of many pairs at one moment. time: seconds of the monotonic clock."""

    def __init__(self, time: float, pairs: dict[UUID, PairCopy]) -> None:
        self.time = time
        self._pairs = pairs

    @classmethod
    def take(
        cls,
        time: float,
        pairs: Iterable[Pair],
        counters: Counters,
        kernel: Mapping[int, LinkStats],
        last: Snapshot | None,
    ) -> Snapshot:
        """Copy the counters of pairs. last: shares its records of pairs that did not change."""
        known = {} if last is None else last._pairs
        copies: dict[UUID, PairCopy] = {}
        for pair in pairs:
            rows = b"".join(counters.copy(queue.number) for end in pair.ends for queue in end.queues)
            a, b = (_pack(kernel.get(end.number)) for end in pair.ends)
            copy, before = PairCopy(rows, (a, b)), known.get(pair.uuid)
            copies[pair.uuid] = before if before is not None and before == copy else copy
        return cls(time, copies)

    def __contains__(self, pair: Pair) -> bool:
        return pair.uuid in self._pairs

    def stats(self, pair: Pair, since: Snapshot | None) -> EndsStats:
        """What stats.get tells of a pair in it; with `since`, the growth from there, or from its creation if later."""
        now = self._pairs[pair.uuid]
        then = None if since is None else since._pairs.get(pair.uuid)
        kernel = {}
        for at, end in enumerate(pair.ends):
            grown = _grown(now.kernel[at], None if then is None else then.kernel[at])
            if grown is not None:
                kernel[end.number] = grown
        result = stats_result(pair, _Growth(pair, now, then), kernel)
        if then is not None:
            in_all = _Growth(pair, now, None)
            for end in pair.ends:
                result[end.letter]["queued"] = end_stats(end, in_all, None).queued
        return result


class _Growth:
    """The rows of a pair, less what they were then; read as Counters are."""

    def __init__(self, pair: Pair, now: PairCopy, then: PairCopy | None) -> None:
        numbers = [queue.number for end in pair.ends for queue in end.queues]
        self._rows: dict[int, tuple[EndCounters, EndCounters]] = {}
        for at, number in enumerate(numbers):
            row, correction = rows_of_copies(now.rows, at)
            if then is not None:
                row_then, correction_then = rows_of_copies(then.rows, at)
                row, correction = row - row_then, correction - correction_then
            self._rows[number] = row, correction

    def load_end(self, number: int) -> EndCounters:
        return self._rows[number][0]

    def load_correction(self, number: int) -> EndCounters:
        return self._rows[number][1]


class Cursors:
    """The last snapshots, by the cursors that were given for them."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._snapshots: OrderedDict[str, Snapshot] = OrderedDict()

    @property
    def last(self) -> Snapshot | None:
        """The latest."""
        return next(reversed(self._snapshots.values()), None)

    def add(self, snapshot: Snapshot) -> str:
        """Keep a snapshot; its cursor."""
        cursor = secrets.token_urlsafe(12)  # nobody mistakes it for one of another daemon
        self._snapshots[cursor] = snapshot
        if len(self._snapshots) > self._kept:
            self._snapshots.popitem(last=False)
        return cursor

    def find(self, cursor: str) -> Snapshot:
        """The snapshot of a cursor. Raises CursorExpired."""
        try:
            return self._snapshots[cursor]
        except KeyError:
            raise CursorExpired(
                f"since: cursor {cursor[:40]!r} is not known, or not any more",
                hint=f"begin again with a new one: cursor true; the last {self._kept} are kept until the daemon ends",
            ) from None


def _pack(stats: LinkStats | None) -> bytes:
    return b"" if stats is None else _LINK_STATS.pack(*astuple(stats))


def _grown(now: bytes, then: bytes | None) -> LinkStats | None:
    """The growth of the kernel's counters; None where it did not tell them both times."""
    if not now or then == b"":
        return None
    values = _LINK_STATS.unpack(now)
    before = (0,) * len(values) if then is None else _LINK_STATS.unpack(then)
    return LinkStats(*(value - old for value, old in zip(values, before, strict=True)))
