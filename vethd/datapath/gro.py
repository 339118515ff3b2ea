# cython: language_level=3, annotation_typing=False, boundscheck=False, wraparound=False, initializedcheck=False
"""GRO: frames that wait in the backlog for one end, and follow each other in one flow, become one large frame.

Off unless the receiving end asks for it (`NetDevice.gro`, as `ethtool -K DEV gro on` would). One write then delivers up
to 64 KiB, and the receiver's kernel cuts it again where somebody must have the single frames: the large frame says how,
in its virtio header::

    batch of the backlog    B1 B2 C1 B3 B4 ...            per receiving device at most one frame is open: the last one
       v  napi_gro_receive
       v    gro_pull_headers  may it be merged at all?    no: the open frame of its device is closed, it goes by itself
       v    dev_gro_receive   does it continue that one?  no: that one is closed, and it is the open one now
       v    skb_gro_receive   payload appended            PSH, FIN, a shorter payload or the last place close the frame
       v  napi_gro_complete   lengths, checksums and virtio header of what grew
    frames to deliver       B1+B2+B3 C1 B4 ...            a frame never passes another of its device

Rules are those of kernel GRO (net/core/gro.c; af_inet.c, tcp_offload.c and udp_offload.c in net/ipv4; ip6_offload.c in
net/ipv6); where they are tighter, it is so that cutting gives back what was sent, byte for byte:

* Only a frame whose checksum is still to be computed is taken, and only with the right sum over the pseudo header: a
  wrong checksum must stay one.
* CWR is never merged: GSO_ECN means "on the first segment only", while in AccECN the bit is part of a counter.
* TCP needs IP IDs that count up: a virtio header can't say "fixed". UDP takes the fixed ones of DF as the kernel does,
  which counts up, too, when it cuts such a frame.
* A frame that is GSO already goes by itself, and so does one to a group of receivers, for which kernel GRO looks for a
  socket in vain.

Nothing stays open when a batch has been handed over. Batches hold what one end gave in one turn, so a frame open for
longer would gain nothing and wait for a turn that may not come.
"""

from __future__ import annotations

import sys
from typing import Final

from vethd.datapath.netdev import NetDevice
from vethd.datapath.skb import ETH_HLEN, VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_NONE, VLAN_HLEN, Skb
from vethd.datapath.softnet import SoftnetData

# Where the two bytes of a number in the virtio header are: it is in the host's byte order (no TUNSETVNETLE).
LOW: Final = 0 if sys.byteorder == "little" else 1
HIGH: Final = 1 - LOW
# struct virtio_net_hdr
HDR_LEN: Final = 2
GSO_SIZE: Final = 4
CSUM_START: Final = 6
CSUM_OFFSET: Final = 8
GSO_TCPV4: Final = 1
GSO_TCPV6: Final = 4
GSO_UDP_L4: Final = 5

ETH_P_IP: Final = 0x0800
ETH_P_8021Q: Final = 0x8100
ETH_P_IPV6: Final = 0x86DD
IPV4_HLEN: Final = 20
IPV6_HLEN: Final = 40
IP_DF: Final = 0x4000
IPPROTO_TCP: Final = 6
IPPROTO_UDP: Final = 17
TCP_HLEN: Final = 20
UDP_HLEN: Final = 8
TCP_CHECK: Final = 16
UDP_CHECK: Final = 6
TCP_FIN: Final = 0x01
TCP_PSH: Final = 0x08
#: SYN, RST, URG, CWR: such a frame goes by itself.
TCP_ALONE: Final = 0x02 | 0x04 | 0x20 | 0x80

#: Bytes of the largest IP packet that a length field can name, and thus gro_max_size (65536) allows.
GRO_MAX_PACKET: Final = 65535
#: Frames in one; the kernel refuses UDP GSO frames of more (UDP_MAX_SEGMENTS) and itself merges at most 64.
GRO_MAX_SEGS: Final = 128
UDP_GRO_CNT_MAX: Final = 64


def napi_gro_receive(batch: list[Skb], softnet: SoftnetData) -> list[Skb]:
    """Merge what can be merged in a batch off the backlog; returns the frames to deliver, in order.

    A frame that went into another counts in `merged` of the end it came from, and its Skb goes back to the pool.
    """
    frames: list[Skb] = []
    for skb in batch:
        dev = skb.dev
        if dev is None:
            raise AssertionError("a frame in the backlog has no device")
        if dev.gro:
            held = dev.gro_held
            dev.gro_held = None
            if dev.peer is not None and gro_pull_headers(dev, skb):
                if held is not None and dev_gro_receive(held, skb):
                    dev.peer.merged += 1
                    softnet.touch(dev.peer)
                    if skb.gso_size == held.gso_size and not gro_is_final(held):
                        dev.gro_held = held
                    softnet.pool.free(skb)
                    continue
                if not gro_is_final(skb):
                    dev.gro_held = skb
        frames.append(skb)
    for skb in frames:
        if skb.gso_segs > 1:
            napi_gro_complete(skb)
        if skb.dev is not None:
            skb.dev.gro_held = None
    return frames


def gro_pull_headers(dev: NetDevice, skb: Skb) -> bool:
    """True when GRO may touch a frame at all; then its *_header and gso_size (bytes of payload) are set.

    Source: inet_gro_receive, ipv6_gro_receive, tcp_gro_pull_header, udp_gro_receive_segment.
    """
    head = skb.head
    if skb.octets[0] != VIRTIO_NET_HDR_F_NEEDS_CSUM or skb.octets[1] != VIRTIO_NET_HDR_GSO_NONE:
        return False
    if skb.octets[head] & 1:
        return False
    end = head + skb.len
    network = head + ETH_HLEN
    ethertype = skb.protocol
    if ethertype == ETH_P_8021Q:
        ethertype = load16(skb, network + 2)
        network += VLAN_HLEN
    if ethertype == ETH_P_IP:
        transport = network + IPV4_HLEN
        # 0x45: no options. The length must say the truth (no padding), and of the fragment bits only DF may be set.
        if skb.octets[network] != 0x45 or load16(skb, network + 2) != end - network:
            return False
        if load16(skb, network + 6) & ~IP_DF or fold(sum16(skb, network, IPV4_HLEN)) != 0xFFFF:
            return False
        protocol = skb.octets[network + 9]
    elif ethertype == ETH_P_IPV6:
        transport = network + IPV6_HLEN
        if skb.octets[network] >> 4 != 6 or load16(skb, network + 4) != end - transport:
            return False
        protocol = skb.octets[network + 6]
    else:
        return False
    if protocol == IPPROTO_TCP:
        payload = transport + (skb.octets[transport + 12] >> 4) * 4
        if payload < transport + TCP_HLEN or skb.octets[transport + 13] & TCP_ALONE:
            return False
        check = TCP_CHECK
    elif protocol == IPPROTO_UDP and dev.uso:
        payload = transport + UDP_HLEN
        if load16(skb, transport + 4) != end - transport:
            return False
        check = UDP_CHECK
    else:
        return False
    if payload >= end:  # nothing to append, or the headers above are not all there; the buffer is longer than any
        return False
    if load_host16(skb, CSUM_START) != transport - head or load_host16(skb, CSUM_OFFSET) != check:
        return False
    skb.network_header = network
    skb.transport_header = transport
    skb.payload_header = payload
    skb.gso_size = end - payload
    return load16(skb, transport + check) == pseudo_header_sum(skb, end - transport)


def dev_gro_receive(held: Skb, skb: Skb) -> bool:
    """Append `skb` to `held`, which came before it, if it continues it; False leaves both as they are.

    Source: gro_list_prepare, inet_gro_receive, gro_receive_network_flush, tcp_gro_receive, udp_gro_receive_segment.
    """
    head = skb.head
    network = skb.network_header
    transport = skb.transport_header
    if (
        held.network_header != network
        or held.transport_header != transport
        or held.payload_header != skb.payload_header
        or skb.gso_size > held.gso_size
        or held.gso_segs >= GRO_MAX_SEGS
        or held.len - (network - head) + skb.gso_size > GRO_MAX_PACKET
        or not equal(held, skb, head, network)
    ):
        return False
    if transport - network == IPV4_HLEN:
        # version, ihl and tos; fragment bits, ttl and protocol; addresses
        if not (
            equal(held, skb, network, network + 2)
            and equal(held, skb, network + 6, network + 10)
            and equal(held, skb, network + 12, transport)
        ):
            return False
        protocol = skb.octets[network + 9]
        step = (load16(skb, network + 4) - load16(held, network + 4)) & 0xFFFF
        if held.gso_segs == 1:
            held.ip_fixedid = step == 0 and protocol == IPPROTO_UDP and load16(skb, network + 6) == IP_DF
        if step != (0 if held.ip_fixedid else held.gso_segs):
            return False
    else:
        # version, traffic class and flow label; next header, hop limit and addresses
        if not (equal(held, skb, network, network + 4) and equal(held, skb, network + 6, transport)):
            return False
        protocol = skb.octets[network + 6]
    if protocol == IPPROTO_TCP:
        # ports; acknowledgement, header length and reserved bits; window; urgent pointer and options
        if not (
            equal(held, skb, transport, transport + 4)
            and equal(held, skb, transport + 8, transport + 13)
            and equal(held, skb, transport + 14, transport + TCP_CHECK)
            and equal(held, skb, transport + 18, skb.payload_header)
        ):
            return False
        flags = skb.octets[transport + 13]
        if (held.octets[transport + 13] ^ flags) & ~(TCP_FIN | TCP_PSH):
            return False
        follows = load32(held, transport + 4) + head + held.len - held.payload_header
        if (follows ^ load32(skb, transport + 4)) & 0xFFFFFFFF:
            return False
        skb_gro_receive(held, skb)
        held.octets[transport + 13] |= flags & (TCP_FIN | TCP_PSH)
        return True
    if held.gso_segs >= UDP_GRO_CNT_MAX or not equal(held, skb, transport, transport + 4):
        return False
    skb_gro_receive(held, skb)
    return True


def skb_gro_receive(held: Skb, skb: Skb) -> None:
    """Copy the payload of `skb` behind that of `held`. Source: skb_gro_receive, which chains pages instead."""
    at = held.head + held.len
    size = skb.gso_size
    held.octets[at : at + size] = skb.octets[skb.payload_header : skb.payload_header + size]
    held.len += size
    held.gso_segs += 1


def gro_is_final(skb: Skb) -> bool:
    """True when nothing may follow a frame with pulled headers: it is TCP with PSH or FIN."""
    transport = skb.transport_header
    tcp = load_host16(skb, CSUM_OFFSET) == TCP_CHECK
    return tcp and skb.octets[transport + 13] & (TCP_PSH | TCP_FIN) != 0


def napi_gro_complete(skb: Skb) -> None:
    """Make one frame of a frame that others were appended to. Source: {inet,ipv6,tcp4,tcp6,udp4,udp6}_gro_complete."""
    head = skb.head
    end = head + skb.len
    network = skb.network_header
    transport = skb.transport_header
    ipv4 = transport - network == IPV4_HLEN
    if ipv4:
        store16(skb, network + 2, end - network)
        store16(skb, network + 10, 0)
        store16(skb, network + 10, fold(sum16(skb, network, IPV4_HLEN)) ^ 0xFFFF)
    else:
        store16(skb, network + 4, end - transport)
    check = load_host16(skb, CSUM_OFFSET)
    if check == UDP_CHECK:
        store16(skb, transport + 4, end - transport)
        skb.gso_type = GSO_UDP_L4
    else:
        skb.gso_type = GSO_TCPV4 if ipv4 else GSO_TCPV6
    store16(skb, transport + check, pseudo_header_sum(skb, end - transport))
    skb.octets[1] = skb.gso_type
    store_host16(skb, HDR_LEN, skb.payload_header - head)
    store_host16(skb, GSO_SIZE, skb.gso_size)


def pseudo_header_sum(skb: Skb, length: int) -> int:
    """The sum over addresses, protocol and `length` (bytes of transport header and payload), not inverted.

    That is what the checksum field of an unfinished checksum holds. Source: csum_tcpudp_magic, csum_ipv6_magic.
    """
    network = skb.network_header
    transport = skb.transport_header
    if transport - network == IPV4_HLEN:
        return fold(sum16(skb, network + 12, 8) + skb.octets[network + 9] + length)
    return fold(sum16(skb, network + 8, 32) + skb.octets[network + 6] + length)


def equal(held: Skb, skb: Skb, start: int, stop: int) -> bool:
    """True when the two buffers hold the same bytes from start to stop."""
    for at in range(start, stop):  # noqa: SIM110 - a generator would cost more than the bytes
        if held.octets[at] != skb.octets[at]:
            return False
    return True


def sum16(skb: Skb, start: int, size: int) -> int:
    """The sum of `size` (even) bytes as 16-bit numbers, carries not yet added."""
    total = 0
    for at in range(start, start + size, 2):
        total += load16(skb, at)
    return total


def fold(total: int) -> int:
    """A sum below 2^32 in 16 bits, carries added (RFC 1071)."""
    total = (total & 0xFFFF) + (total >> 16)
    return (total & 0xFFFF) + (total >> 16)


def load16(skb: Skb, at: int) -> int:
    """A number of two bytes of the frame."""
    return skb.octets[at] << 8 | skb.octets[at + 1]


def load32(skb: Skb, at: int) -> int:
    """A number of four bytes of the frame."""
    return load16(skb, at) << 16 | load16(skb, at + 2)


def store16(skb: Skb, at: int, value: int) -> None:
    """Write a number of two bytes into the frame."""
    skb.octets[at] = value >> 8
    skb.octets[at + 1] = value & 0xFF


def load_host16(skb: Skb, at: int) -> int:
    """A number of two bytes of the virtio header."""
    return skb.octets[at + HIGH] << 8 | skb.octets[at + LOW]


def store_host16(skb: Skb, at: int, value: int) -> None:
    """Write a number of two bytes into the virtio header."""
    skb.octets[at + HIGH] = value >> 8
    skb.octets[at + LOW] = value & 0xFF
