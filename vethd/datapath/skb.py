# cython: language_level=3, annotation_typing=False
"""`Skb`: one frame on its way, with the state that the kernel's sk_buff keeps for it - and the pool it comes from.

A frame arrives from a TAP with a virtio header in front of it. The header is passed on unchanged, so a checksum that is
still to be computed stays so, and a GSO frame crosses whole::

    data  | virtio header (10 or 24) | destination 6 | source 6 | ethertype 2 | payload ...          | unused |
          0                          head                                                   head + len      BUFFER_SIZE

What kernel veth resets, keeps or cannot keep is the table `SCRUB`; `skb_scrub_packet` (veth.py) does the resets.
"""

from __future__ import annotations

import ctypes
import mmap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from vethd.datapath.netdev import NetDevice

ETH_HLEN: Final = 14
VLAN_HLEN: Final = 4
#: Largest frame (mtu 65521 + 14 + 4, or a 64 KiB GSO frame) plus the largest virtio header, rounded up. A shorter read
#: buffer would make the kernel truncate silently.
BUFFER_SIZE: Final = 65600
#: Buffers are mapped this many at a time; pages that are never touched cost nothing.
SLAB_BUFFERS: Final = 64

# pkt_type, include/uapi/linux/if_packet.h
PACKET_HOST: Final = 0
PACKET_BROADCAST: Final = 1
PACKET_MULTICAST: Final = 2
PACKET_OTHERHOST: Final = 3

# ip_summed, include/linux/skbuff.h
CHECKSUM_NONE: Final = 0
CHECKSUM_PARTIAL: Final = 3

# struct virtio_net_hdr, include/uapi/linux/virtio_net.h: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset
VIRTIO_NET_HDR_F_NEEDS_CSUM: Final = 1
VIRTIO_NET_HDR_GSO_NONE: Final = 0
VIRTIO_NET_HDR_GSO_ECN: Final = 0x80


class Skb:
    """One frame and its state.

    data: the buffer, virtio header first.
    iov: the buffer as the one-element vector that readv takes.
    octets: the buffer for code that works byte by byte; compiled, its elements are C's.
    pointer: the buffer's address in memory, for frame I/O in C; `data` keeps the memory alive.
    head: bytes of virtio header in front of the frame.
    len: bytes of the frame, Ethernet header included, virtio header not.
    dev: the device that the frame is on: the sender's until dev_forward_skb, the receiver's after it.
    skb_iif: number of the end the frame came in on as seen by the receiver's stack; 0 until eth_type_trans.
    pkt_type: PACKET_HOST, _BROADCAST, _MULTICAST or _OTHERHOST, from the receiver's address.
    protocol: ethertype, host byte order.
    ip_summed: CHECKSUM_PARTIAL when the checksum is still to be computed, else CHECKSUM_NONE.
    gso_type: virtio gso_type without the ECN bit; 0 for an ordinary frame.
    gso_segs: frames that GRO made this one of; 1 for any that was read so (kernel: NAPI_GRO_CB count).
    gso_size, network_header, transport_header, payload_header, ip_fixedid: GRO's notes, see gro.py; the bytes of
    payload in each segment, where the headers and the payload begin in `data`, and whether the IP ID stays the same.
    tstamp: arrival time, nanoseconds of the worker's monotonic clock; 0 when scrubbed.
    """

    __slots__ = (
        "data",
        "dev",
        "gso_segs",
        "gso_size",
        "gso_type",
        "head",
        "iov",
        "ip_fixedid",
        "ip_summed",
        "len",
        "network_header",
        "octets",
        "payload_header",
        "pkt_type",
        "pointer",
        "protocol",
        "skb_iif",
        "transport_header",
        "tstamp",
    )

    data: memoryview
    octets: memoryview
    iov: tuple[memoryview]
    pointer: int
    head: int
    len: int
    dev: NetDevice | None
    skb_iif: int
    pkt_type: int
    protocol: int
    ip_summed: int
    gso_type: int
    gso_segs: int
    gso_size: int
    network_header: int
    transport_header: int
    payload_header: int
    ip_fixedid: bool
    tstamp: int

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.octets = data
        self.iov = (data,)
        self.pointer = ctypes.addressof(ctypes.c_char.from_buffer(data))
        self.head = 0
        self.len = 0
        self.dev = None
        self.skb_iif = 0
        self.pkt_type = PACKET_HOST
        self.protocol = 0
        self.ip_summed = CHECKSUM_NONE
        self.gso_type = VIRTIO_NET_HDR_GSO_NONE
        self.gso_segs = 1
        self.gso_size = 0
        self.network_header = 0
        self.transport_header = 0
        self.payload_header = 0
        self.ip_fixedid = False
        self.tstamp = 0

    def frame(self) -> bytes:
        """A copy of the frame without its virtio header."""
        return bytes(self.data[self.head : self.head + self.len])


class SkbPool:
    """Skbs for reuse, last in first out, so that the buffers in use stay in the CPU's cache.

    It grows by SLAB_BUFFERS when it is empty and never shrinks; the backlog's cap bounds it.
    """

    __slots__ = ("_free", "size")

    _free: list[Skb]
    size: int

    def __init__(self) -> None:
        self._free = []
        self.size = 0

    def alloc(self) -> Skb:
        """An Skb whose fields are those of its last use: the reader sets len, veth_xmit the rest."""
        if not self._free:
            self.grow()
        return self._free.pop()

    def free(self, skb: Skb) -> None:
        """Give one Skb back."""
        skb.dev = None
        self._free.append(skb)

    def free_batch(self, batch: list[Skb]) -> None:
        """Give a whole batch back."""
        self._free.extend(batch)

    @property
    def in_use(self) -> int:
        """Skbs that are out at the moment."""
        return self.size - len(self._free)

    def grow(self) -> None:
        """Add SLAB_BUFFERS Skbs, to be taken first."""
        slab = memoryview(mmap.mmap(-1, SLAB_BUFFERS * BUFFER_SIZE))
        self._free.extend(Skb(slab[i * BUFFER_SIZE : (i + 1) * BUFFER_SIZE]) for i in range(SLAB_BUFFERS))
        self.size += SLAB_BUFFERS


@dataclass(frozen=True, slots=True)
class ScrubRow:
    """What happens to one field of an sk_buff between the two ends.

    field: its name in the kernel.
    veth: what kernel veth does with it.
    vethd: what happens to it here.
    carried: True when the field crosses a TAP at all (in the frame, in the virtio header, or in Skb).
    """

    field: str
    veth: str
    vethd: str
    carried: bool


#: Field by field, kernel 6.18 (`____dev_forward_skb`, `skb_scrub_packet`, `eth_type_trans`).
SCRUB: Final[tuple[ScrubRow, ...]] = (
    ScrubRow("pkt_type", "HOST, then from the destination MAC", "the same", True),
    ScrubRow("skb_iif", "0, then the receiver's ifindex", "0, then the receiving end's number", True),
    ScrubRow("dev", "the receiver", "the same", True),
    ScrubRow("protocol", "from the Ethernet header", "the same", True),
    ScrubRow("tstamp", "cleared across namespaces, kept within one", "the same for the arrival time", True),
    ScrubRow("ip_summed, csum_start, csum_offset", "kept", "kept in the virtio header", True),
    ScrubRow("gso_size, gso_type", "kept", "kept in the virtio header", True),
    ScrubRow("gso_segs", "kept", "recomputed by the receiving kernel (SKB_GSO_DODGY)", True),
    ScrubRow("vlan tag", "kept as metadata", "written into the frame by the TAP, taken out again on delivery", True),
    ScrubRow("priority", "0", "0: a TAP does not carry it", False),
    ScrubRow("mark", "0 across namespaces, kept within one", "0: a TAP does not carry it", False),
    ScrubRow("hash, l4_hash", "kept", "recomputed by the receiving kernel", False),
    ScrubRow("tc_index, cb[]", "kept", "0: a TAP does not carry it", False),
    ScrubRow("delivery time (tstamp_type)", "kept", "dropped: a TAP does not carry it", False),
    ScrubRow("sk, destructor", "kept until delivery", "released when the frame enters the TAP's ring", False),
    ScrubRow("queue_mapping", "kept", "the TAP's queue", False),
    ScrubRow("dst", "dropped", "dropped", False),
    ScrubRow("extensions (sec_path, bridge, tc, mptcp)", "dropped", "dropped", False),
    ScrubRow("conntrack, nf_trace, ipvs_property", "dropped", "dropped", False),
    ScrubRow("ignore_df, offload_fwd_mark", "0", "0", False),
)
