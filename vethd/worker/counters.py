# cython: language_level=3, annotation_typing=False
"""The counters that workers and supervisor share: one sealed memfd of u64 rows, one writer per row.

::

    row 0 .. ends-1           end N (to the supervisor: one queue of an end), written by the worker that forwards it
    row ends .. 2*ends-1      corrections of end N, written by the supervisor: what the kernel's counters tell about
                              frames that a dead worker held, or that a TAP dropped before anybody read them
    row 2*ends ..             softnet row of worker slot K, written by that worker

A reader adds the first two. Seals forbid to shrink or grow the file, so that a worker can't make the supervisor fault.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from vethd.datapath.netdev import NetDevice
from vethd.datapath.softnet import SoftnetData
from vethd.drops import N_POINTS

#: read, merged, tx_packets, tx_bytes, rx_packets, rx_bytes, drops 1 to 10: 16 values, and as many reserved.
_END_ROW: Final = struct.Struct(f"={6 + N_POINTS - 1}Q")
_DROPS: Final = struct.Struct(f"={N_POINTS - 1}Q")
_DROPS_AT: Final = _END_ROW.size - _DROPS.size
#: processed, dropped, time_squeeze, input_queue_len, process_queue_len
_SOFTNET_ROW: Final = struct.Struct("=5Q")
ROW_SIZE: Final = 256
ROW_VALUES: Final = ROW_SIZE // 8
WORKER_SLOTS: Final = 256
#: Of what `Counters.copy` gives; bytes.
COPY_SIZE: Final = 2 * _END_ROW.size
_U64_MAX: Final = 0xFFFF_FFFF_FFFF_FFFF
_RESTORED: Final = _U64_MAX >> 1
_F_ADD_SEALS: Final = 1033
_SEALS: Final = 0x0001 | 0x0002 | 0x0004  # F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW (not in fcntl before 3.12)


@dataclass(slots=True)
class EndCounters:
    """One row of an end; see NetDevice for the meaning of the fields."""

    read: int = 0
    merged: int = 0
    tx_packets: int = 0
    tx_bytes: int = 0
    rx_packets: int = 0
    rx_bytes: int = 0
    drops: list[int] = field(default_factory=lambda: [0] * N_POINTS)

    def __add__(self, other: EndCounters) -> EndCounters:
        return EndCounters(
            self.read + other.read,
            self.merged + other.merged,
            self.tx_packets + other.tx_packets,
            self.tx_bytes + other.tx_bytes,
            self.rx_packets + other.rx_packets,
            self.rx_bytes + other.rx_bytes,
            [mine + its for mine, its in zip(self.drops, other.drops, strict=True)],
        )

    def __sub__(self, other: EndCounters) -> EndCounters:
        return EndCounters(
            self.read - other.read,
            self.merged - other.merged,
            self.tx_packets - other.tx_packets,
            self.tx_bytes - other.tx_bytes,
            self.rx_packets - other.rx_packets,
            self.rx_bytes - other.rx_bytes,
            [mine - its for mine, its in zip(self.drops, other.drops, strict=True)],
        )


@dataclass(frozen=True, slots=True)
class SoftnetCounters:
    """One softnet row; frames."""

    processed: int
    dropped: int
    time_squeeze: int
    input_queue_len: int
    process_queue_len: int


class Counters:
    """A mapping of the counters' memfd.

    fd: the memfd; the mapping does not own it. ends: how many ends it has rows for.
    """

    def __init__(self, fd: int, ends: int) -> None:
        self.fd = fd
        self.ends = ends
        self._map = mmap.mmap(fd, _size(ends))
        self._values = memoryview(self._map).cast("Q")

    @classmethod
    def create(cls, ends: int) -> Counters:
        """A new sealed memfd, all zero. Pages are only taken when they are written."""
        fd = os.memfd_create("vethd-counters", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, _size(ends))
        fcntl.fcntl(fd, _F_ADD_SEALS, _SEALS)
        return cls(fd, ends)

    @classmethod
    def adopt(cls, fd: int, ends: int) -> Counters:
        """The memfd of a predecessor. Raises ValueError when it is not one for so many ends."""
        if os.fstat(fd).st_size != _size(ends):
            raise ValueError(f"the counters are not those of {ends} ends")
        return cls(fd, ends)

    def resized(self, ends: int) -> Counters:
        """The same counters in a new memfd for more or fewer ends, in place of this; only while there is no worker."""
        new = Counters.create(ends)
        size, kept = self.ends * ROW_SIZE, min(ends, self.ends) * ROW_SIZE
        new.fill(self._map[:kept], self._map[size : size + kept], self._map[2 * size :])
        self.close()
        return new

    def fill(self, rows: bytes, corrections: bytes, softnet: bytes) -> None:
        """Take the first rows of each kind from elsewhere."""
        size = self.ends * ROW_SIZE
        for at, data in ((0, rows), (size, corrections), (2 * size, softnet)):
            self._map[at : at + len(data)] = data

    def load_end(self, number: int) -> EndCounters:
        """The row that the worker writes."""
        return self._load(number)

    def load_correction(self, number: int) -> EndCounters:
        """The row that the supervisor writes."""
        return self._load(self.ends + number)

    def packed_drops(self, numbers: Iterable[int]) -> bytes:
        """The drops of some ends, both rows of each, as they stand in memory: quick to compare; see `add_drops`."""
        at = [row * ROW_SIZE + _DROPS_AT for number in numbers for row in (number, self.ends + number)]
        return b"".join([self._map[begin : begin + _DROPS.size] for begin in at])

    def store_correction(self, number: int, row: EndCounters) -> None:
        """Write the supervisor's row of an end."""
        self._store(self.ends + number, row)

    def copy(self, number: int) -> bytes:
        """Both rows of an end as they are now, the worker's and the supervisor's, for `rows_of_copies`."""
        mine, its = number * ROW_SIZE, (self.ends + number) * ROW_SIZE
        return self._map[mine : mine + _END_ROW.size] + self._map[its : its + _END_ROW.size]

    def clear(self, number: int) -> None:
        """Make both rows of an end zero; only while no worker has the end."""
        for row in (number, self.ends + number):
            self._map[row * ROW_SIZE : (row + 1) * ROW_SIZE] = bytes(ROW_SIZE)

    def publish(self, dev: NetDevice) -> None:
        """Write the worker's row of an end."""
        values = self._values
        at = dev.number * ROW_VALUES
        values[at] = dev.read
        values[at + 1] = dev.merged
        values[at + 2] = dev.tx_packets
        values[at + 3] = dev.tx_bytes
        values[at + 4] = dev.rx_packets
        values[at + 5] = dev.rx_bytes
        drops = dev.drops
        for point in range(1, N_POINTS):
            values[at + 5 + point] = drops[point]

    def restore(self, dev: NetDevice) -> None:
        """Let `dev` go on counting from its row: the work of a predecessor.

        Whatever that may have written, counting must not overflow: the highest bit is left out.
        """
        row = self.load_end(dev.number)
        dev.read = row.read & _RESTORED
        dev.merged = row.merged & _RESTORED
        dev.tx_packets = row.tx_packets & _RESTORED
        dev.tx_bytes = row.tx_bytes & _RESTORED
        dev.rx_packets = row.rx_packets & _RESTORED
        dev.rx_bytes = row.rx_bytes & _RESTORED
        dev.drops = [frames & _RESTORED for frames in row.drops]

    def publish_softnet(self, slot: int, softnet: SoftnetData) -> None:
        """Write the softnet row of a worker."""
        values = self._values
        at = (2 * self.ends + slot) * ROW_VALUES
        values[at] = softnet.processed
        values[at + 1] = softnet.dropped
        values[at + 2] = softnet.time_squeeze
        values[at + 3] = len(softnet.input_pkt_queue)
        values[at + 4] = len(softnet.process_queue)

    def load_softnet(self, slot: int) -> SoftnetCounters:
        """The softnet row of a worker."""
        return SoftnetCounters(*_SOFTNET_ROW.unpack_from(self._map, (2 * self.ends + slot) * ROW_SIZE))

    def restore_softnet(self, slot: int, softnet: SoftnetData) -> None:
        """Let a worker go on counting where its predecessor in the slot stopped. The queues start empty."""
        row = self.load_softnet(slot)
        softnet.processed = row.processed & _RESTORED
        softnet.dropped = row.dropped & _RESTORED
        softnet.time_squeeze = row.time_squeeze & _RESTORED
        self.publish_softnet(slot, softnet)

    def close(self) -> None:
        """Take the mapping away and close the memfd."""
        self._values = memoryview(bytearray()).cast("Q")  # lets go of the mapping
        self._map.close()
        os.close(self.fd)

    def _load(self, row: int) -> EndCounters:
        return _unpack(self._map, row * ROW_SIZE)

    def _store(self, row: int, counters: EndCounters) -> None:
        values = (
            counters.read,
            counters.merged,
            counters.tx_packets,
            counters.tx_bytes,
            counters.rx_packets,
            counters.rx_bytes,
            *counters.drops[1:],
        )
        # Modulo 2^64: what a worker that was taken over wrote there must not make the supervisor fail.
        _END_ROW.pack_into(self._map, row * ROW_SIZE, *(value & _U64_MAX for value in values))


def add_drops(packed: bytes) -> list[int]:
    """What `packed_drops` returned: frames by point, all its rows together. Point 0 is unused."""
    return [0, *map(sum, zip(*_DROPS.iter_unpack(packed), strict=True))] if packed else [0] * N_POINTS


def rows_of_copies(copies: bytes, number: int) -> tuple[EndCounters, EndCounters]:
    """The rows in the copy of that number among several, one after the other: the worker's and the supervisor's."""
    return _unpack(copies, number * COPY_SIZE), _unpack(copies, number * COPY_SIZE + _END_ROW.size)


def _unpack(data: bytes | mmap.mmap, at: int) -> EndCounters:
    read, merged, tx_packets, tx_bytes, rx_packets, rx_bytes, *drops = _END_ROW.unpack_from(data, at)
    return EndCounters(read, merged, tx_packets, tx_bytes, rx_packets, rx_bytes, [0, *drops])


def _size(ends: int) -> int:
    return (2 * ends + WORKER_SLOTS) * ROW_SIZE
