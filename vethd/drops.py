"""Every place where a frame can be lost, numbered along its journey.

The one table that the datapath, the control socket, vethctl and the documentation read. `charge` says which interface
counters a drop moves, as kernel veth charges it (reference: kernel `drivers/net/veth.c`, `net/core/dev.c`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final


class DropPoint(IntEnum):
    """Number of a drop point; the order is the order in which a frame meets them."""

    PEER_GONE = 1
    NO_CARRIER = 2
    PKT_TOO_SMALL = 3
    PKT_TOO_BIG = 4
    CPU_BACKLOG = 5
    DEV_READY = 6
    HDR_INVALID = 7
    WRITE_FAILED = 8
    WORKER_LOST = 9
    TAP_RING = 10


@dataclass(frozen=True, slots=True)
class DropRow:
    """What one drop point means.

    point: its number and name.
    where: the function of the journey that drops.
    condition: when it drops, in one sentence.
    tx_dropped: 1 when the sending end's tx_dropped is charged.
    rx_dropped: 1 when the receiving end's rx_dropped is charged.
    """

    point: DropPoint
    where: str
    condition: str
    tx_dropped: int
    rx_dropped: int


DROP_TABLE: Final[tuple[DropRow, ...]] = (
    DropRow(DropPoint.PEER_GONE, "veth_xmit", "the sending end has no peer any more", 1, 0),
    DropRow(DropPoint.NO_CARRIER, "veth_xmit, noop qdisc", "one of the two ends is not up", 1, 0),
    DropRow(DropPoint.PKT_TOO_SMALL, "veth_xmit", "shorter than an Ethernet header (14 bytes)", 1, 0),
    DropRow(DropPoint.PKT_TOO_BIG, "dev_forward_skb", "longer than the receiver's MTU + 18 bytes and not GSO", 1, 1),
    DropRow(DropPoint.CPU_BACKLOG, "enqueue_to_backlog", "input_pkt_queue holds netdev_max_backlog frames", 1, 1),
    DropRow(DropPoint.DEV_READY, "deliver", "the receiving device is not up (EIO)", 0, 1),
    DropRow(DropPoint.HDR_INVALID, "deliver", "the kernel refused the virtio header or the frame (EINVAL)", 0, 1),
    DropRow(DropPoint.WRITE_FAILED, "deliver", "the write failed for any other reason", 0, 1),
    DropRow(DropPoint.WORKER_LOST, "worker", "a worker died with the frame in hand", 0, 1),
    DropRow(DropPoint.TAP_RING, "tun_net_xmit", "the sending TAP's ring was full; the frame was never read", 1, 0),
)

#: Drop points after the frame was read: they stand in `read = delivered + merged + dropped + queued`.
READ_DROPS: Final[tuple[DropPoint, ...]] = tuple(p for p in DropPoint if p is not DropPoint.TAP_RING)

N_POINTS: Final = len(DropPoint) + 1  # index 0 is unused, so that a point is its own index
