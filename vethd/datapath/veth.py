# cython: language_level=3, annotation_typing=False, boundscheck=False, wraparound=False, initializedcheck=False
"""From the sending end to the receiver's backlog: veth_xmit and what it calls, in the kernel's words.

::

    frame read from A
       v  veth_xmit(A, skb)      peer looked up             (1) PEER_GONE     (2) NO_CARRIER
       v                         length >= 14               (3) PKT_TOO_SMALL
       v  dev_forward_skb        len <= B.mtu + 18 or GSO   (4) PKT_TOO_BIG
       v    skb_scrub_packet     state of A's namespace is reset
       v    eth_type_trans       pkt_type and protocol, seen from B
       v  enqueue_to_backlog     (softnet.py)               (5) CPU_BACKLOG

The numbers are those of `drops.DropPoint`. A frame is dropped in exactly one place, counted there, and its Skb goes
back to the pool in veth_xmit alone. Nothing here reads a clock or a device.
"""

from __future__ import annotations

from typing import Final

from vethd.datapath.netdev import NetDevice
from vethd.datapath.skb import (
    CHECKSUM_NONE,
    CHECKSUM_PARTIAL,
    ETH_HLEN,
    PACKET_BROADCAST,
    PACKET_HOST,
    PACKET_MULTICAST,
    PACKET_OTHERHOST,
    VIRTIO_NET_HDR_F_NEEDS_CSUM,
    VIRTIO_NET_HDR_GSO_ECN,
    VLAN_HLEN,
    Skb,
)
from vethd.datapath.softnet import SoftnetData
from vethd.drops import DropPoint

PEER_GONE: Final = int(DropPoint.PEER_GONE)
NO_CARRIER: Final = int(DropPoint.NO_CARRIER)
PKT_TOO_SMALL: Final = int(DropPoint.PKT_TOO_SMALL)
PKT_TOO_BIG: Final = int(DropPoint.PKT_TOO_BIG)
CPU_BACKLOG: Final = int(DropPoint.CPU_BACKLOG)

ETH_BROADCAST: Final = b"\xff\xff\xff\xff\xff\xff"
ETH_P_802_3_MIN: Final = 0x0600
ETH_P_802_3: Final = 0x0001
ETH_P_802_2: Final = 0x0004
GSO_TYPE_MASK: Final = 0xFF & ~VIRTIO_NET_HDR_GSO_ECN


def veth_xmit(dev: NetDevice, skb: Skb, softnet: SoftnetData, now: int) -> bool:
    """Send one frame that was read from `dev`.

    dev: the sending end. skb: the frame, with data and len set by the reader. now: nanoseconds.
    Returns True when the receiver's backlog took it; else the drop is counted and the Skb is free again.
    Source: veth_xmit in drivers/net/veth.c.
    """
    dev.read += 1
    length = skb.len
    peer = dev.peer
    if peer is None:
        point = PEER_GONE
    elif not dev.carrier:
        point = NO_CARRIER
    elif length < ETH_HLEN:
        point = PKT_TOO_SMALL
    else:
        skb.dev = dev
        skb.head = dev.hdr_len
        skb.ip_summed = CHECKSUM_PARTIAL if skb.octets[0] & VIRTIO_NET_HDR_F_NEEDS_CSUM else CHECKSUM_NONE
        skb.gso_type = skb.octets[1] & GSO_TYPE_MASK
        skb.gso_segs = 1
        skb.tstamp = now
        point = dev_forward_skb(peer, skb, softnet)
        if not point:
            dev.tx_packets += 1
            dev.tx_bytes += length
            return True
    dev.drops[point] += 1
    softnet.pool.free(skb)
    return False


def dev_forward_skb(dev: NetDevice, skb: Skb, softnet: SoftnetData) -> int:
    """Hand a frame to the receiving end `dev`: test, scrub, look at it from there, queue it.

    Returns 0, or the number of the drop point. Source: ____dev_forward_skb in net/core/dev.c.
    """
    if not is_skb_forwardable(dev, skb):
        return PKT_TOO_BIG
    sender = skb.dev
    skb_scrub_packet(skb, sender is None or sender.netns != dev.netns)
    eth_type_trans(skb, dev)
    return 0 if softnet.enqueue_to_backlog(skb) else CPU_BACKLOG


def is_skb_forwardable(dev: NetDevice, skb: Skb) -> bool:
    """True when the frame is no longer than dev.mtu + 14 (Ethernet) + 4 (one VLAN tag), or is a GSO frame.

    Source: __is_skb_forwardable in include/linux/netdevice.h.
    """
    return skb.len <= dev.mtu + ETH_HLEN + VLAN_HLEN or skb.gso_type != 0


def skb_scrub_packet(skb: Skb, xnet: bool) -> None:
    """Reset what must not cross the wire; with `xnet` also what must not leave its namespace. See skb.SCRUB.

    Source: skb_scrub_packet in net/core/skbuff.c.
    """
    skb.pkt_type = PACKET_HOST
    skb.skb_iif = 0
    if xnet:
        skb.tstamp = 0


def eth_type_trans(skb: Skb, dev: NetDevice) -> None:
    """See the frame from `dev`: pkt_type by its destination, protocol from its ethertype.

    Source: eth_type_trans in net/ethernet/eth.c.
    """
    at = skb.head
    skb.dev = dev
    skb.skb_iif = dev.number
    if skb.octets[at] & 1:
        skb.pkt_type = PACKET_BROADCAST if ether_addr_equal(skb, ETH_BROADCAST) else PACKET_MULTICAST
    elif not ether_addr_equal(skb, dev.address):
        skb.pkt_type = PACKET_OTHERHOST
    protocol = skb.octets[at + 12] << 8 | skb.octets[at + 13]
    if protocol < ETH_P_802_3_MIN:
        # A length, not a type. 0xFFFF after it is Novell's raw 802.3, anything else 802.2 LLC.
        raw = skb.len >= ETH_HLEN + 2 and skb.octets[at + 14] == 0xFF and skb.octets[at + 15] == 0xFF
        protocol = ETH_P_802_3 if raw else ETH_P_802_2
    skb.protocol = protocol


def ether_addr_equal(skb: Skb, address: bytes) -> bool:
    """True when the frame's destination is this address. Source: ether_addr_equal in include/linux/etherdevice.h."""
    octets = skb.octets
    at = skb.head
    return (  # a slice costs more when compiled, a loop when interpreted; the last byte differs most often
        octets[at + 5] == address[5]
        and octets[at + 4] == address[4]
        and octets[at + 3] == address[3]
        and octets[at + 2] == address[2]
        and octets[at + 1] == address[1]
        and octets[at] == address[0]
    )


def ingest(dev: NetDevice, batch: list[Skb], softnet: SoftnetData, now: int) -> None:
    """Send every frame of `batch`, read from `dev` at `now` (nanoseconds), in order."""
    softnet.touch(dev)
    for skb in batch:
        veth_xmit(dev, skb, softnet, now)
