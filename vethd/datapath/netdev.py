# cython: language_level=3, annotation_typing=False
"""`NetDevice`: one end as the datapath sees it - the kernel's net_device and veth_priv in one.

The datapath knows an end by its number; names, namespaces and life cycle are the supervisor's. Counters follow kernel
veth: a frame counts as transmitted when the backlog took it, a drop is charged where `drops.DROP_TABLE` says, and what
starts at this end is counted at this end: `read`, `merged` and `drops` belong to the direction from here to the peer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vethd.drops import N_POINTS

if TYPE_CHECKING:
    from vethd.datapath.skb import Skb


class NetDevice:
    """One end of a pair.

    number: the end's number, also its row in the counters.
    fd: the TAP's file descriptor; the datapath only hands it to the frame I/O.
    peer: the other end, None when it is gone (kernel: rcu_dereference(priv->peer)).
    mtu: bytes of the IP packet; the Ethernet header is not in it.
    address: the device's MAC address, 6 bytes.
    netns: the number of the namespace the end is in; only equality means something.
    carrier: both ends are up.
    hdr_len: bytes of virtio header in front of each frame, the same at both ends.
    gro: frames that wait for this end are merged (kernel: NETIF_F_GRO); see gro.py.
    uso: its kernel takes UDP GSO frames, so that UDP may be merged, too.
    backpressure: while the backlog is full it is not read, so that its TAP's ring drops instead.
    gro_held: while a batch is merged, the frame for this end that the next one may be appended to.
    read: frames read from this end.
    merged: of those, frames that went into a larger one before delivery.
    drops: of those, frames dropped, by DropPoint.
    tx_packets, tx_bytes: frames of this end that the backlog took.
    rx_packets, rx_bytes: frames delivered to this end.
    touched: the counters changed since they were last published.
    """

    __slots__ = (
        "address",
        "backpressure",
        "carrier",
        "drops",
        "fd",
        "gro",
        "gro_held",
        "hdr_len",
        "merged",
        "mtu",
        "netns",
        "number",
        "peer",
        "read",
        "rx_bytes",
        "rx_packets",
        "touched",
        "tx_bytes",
        "tx_packets",
        "uso",
    )

    def __init__(
        self,
        number: int,
        fd: int = -1,
        *,
        mtu: int = 1500,
        address: bytes = bytes(6),
        netns: int = 0,
        carrier: bool = False,
        hdr_len: int = 10,
        gro: bool = False,
        uso: bool = True,
        backpressure: bool = False,
    ) -> None:
        self.number = number
        self.fd = fd
        self.peer: NetDevice | None = None
        self.mtu = mtu
        self.address = address
        self.netns = netns
        self.carrier = carrier
        self.hdr_len = hdr_len
        self.gro = gro
        self.uso = uso
        self.backpressure = backpressure
        self.gro_held: Skb | None = None
        self.read = 0
        self.merged = 0
        self.drops = [0] * N_POINTS
        self.tx_packets = 0
        self.tx_bytes = 0
        self.rx_packets = 0
        self.rx_bytes = 0
        self.touched = False


def join(a: NetDevice, b: NetDevice) -> None:
    """Make a and b each other's peer (kernel: the end of veth_newlink)."""
    a.peer = b
    b.peer = a


def part(a: NetDevice, b: NetDevice) -> None:
    """Take the wire away (kernel: veth_dellink)."""
    a.peer = None
    b.peer = None
