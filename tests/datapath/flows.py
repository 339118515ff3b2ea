"""Packets of flows, field by field, as a sender leaves them for its device; and what a device makes of GSO frames.

`cut` is the reference for GRO: it cuts a large frame as tcp_gso_segment, __udp_gso_segment, inet_gso_segment and
ipv6_gso_segment do, and completes every checksum.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tests.kit.frames import ETH_P_8021Q, ETH_P_IP, ETH_P_IPV6, checksum
from tests.kit.ippackets import CSUM_OFFSET, GSO_NONE, IPPROTO_TCP, IPPROTO_UDP, NEEDS_CSUM
from tests.kit.packets import VNET_HDR, VnetHeader

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))
A_MAC, B_MAC = bytes.fromhex("027674000001"), bytes.fromhex("027674000002")
A4, B4 = bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))
A6, B6 = bytes.fromhex("20010db8" + "00" * 11 + "01"), bytes.fromhex("20010db8" + "00" * 11 + "02")
TIMESTAMPS = bytes((1, 1, 8, 10)) + struct.pack("!II", 1000, 2000)


@dataclass(frozen=True)
class Packet:
    """A TCP or UDP packet in an Ethernet frame, its checksum still to be computed.

    tci: of one VLAN tag, or None. frag: the field of DF, MF and fragment offset. tos: or the IPv6 traffic class.
    ttl: or the hop limit. label: the IPv6 flow label. reserved: the four bits beside the TCP header length.
    """

    payload: bytes
    protocol: int = IPPROTO_TCP
    ipv6: bool = False
    destination_mac: bytes = B_MAC
    source_mac: bytes = A_MAC
    tci: int | None = None
    source: bytes = b""
    destination: bytes = b""
    ident: int = 0
    frag: int = 0x4000
    tos: int = 0
    ttl: int = 64
    label: int = 0
    ports: tuple[int, int] = (40000, 9000)
    seq: int = 1
    ack: int = 1
    flags: int = ACK
    reserved: int = 0
    window: int = 1024
    urgent: int = 0
    options: bytes = TIMESTAMPS

    def segment(self) -> bytes:
        """Transport header and payload, the checksum 0."""
        if self.protocol == IPPROTO_UDP:
            return struct.pack("!HHHH", *self.ports, 8 + len(self.payload), 0) + self.payload
        length = (20 + len(self.options)) // 4
        rest = (length << 4 | self.reserved, self.flags, self.window, 0, self.urgent)
        return struct.pack("!HHIIBBHHH", *self.ports, self.seq, self.ack, *rest) + self.options + self.payload

    def network(self) -> bytes:
        """The IP header."""
        size = len(self.segment())
        if self.ipv6:
            first = 6 << 28 | self.tos << 20 | self.label
            addresses = (self.source or A6) + (self.destination or B6)
            return struct.pack("!IHBB", first, size, self.protocol, self.ttl) + addresses
        fields = (0x45, self.tos, 20 + size, self.ident, self.frag, self.ttl, self.protocol, 0)
        head = struct.pack("!BBHHHBBH", *fields) + (self.source or A4) + (self.destination or B4)
        return head[:10] + struct.pack("!H", checksum(head)) + head[12:]

    def frame(self) -> bytes:
        """The whole frame; the checksum field holds the sum over the pseudo header."""
        head, segment = self.network(), self.segment()
        at = CSUM_OFFSET[self.protocol]
        pseudo = ~checksum(pseudo_header(head, len(segment))) & 0xFFFF
        segment = segment[:at] + struct.pack("!H", pseudo) + segment[at + 2 :]
        tag = b"" if self.tci is None else struct.pack("!HH", ETH_P_8021Q, self.tci)
        ethertype = ETH_P_IPV6 if self.ipv6 else ETH_P_IP
        return self.destination_mac + self.source_mac + tag + struct.pack("!H", ethertype) + head + segment

    def header(self) -> VnetHeader:
        """The virtio header that goes with the frame."""
        start = 14 + (0 if self.tci is None else 4) + (40 if self.ipv6 else 20)
        return VnetHeader(NEEDS_CSUM, GSO_NONE, 0, 0, start, CSUM_OFFSET[self.protocol])


def pseudo_header(head: bytes, length: int) -> bytes:
    """What is summed beside a transport segment of `length` bytes that this IP header carries."""
    if head[0] >> 4 == 6:
        return head[8:40] + struct.pack("!IHBB", length, 0, 0, head[6])
    return head[12:20] + struct.pack("!BBH", 0, head[9], length)


def finish(header: VnetHeader, frame: bytes) -> bytes:
    """The frame with its checksum completed, where the header asks for that."""
    if not header.flags & NEEDS_CSUM:
        return frame
    at = header.csum_start + header.csum_offset
    if len(frame) < at + 2:
        return frame
    return frame[:at] + struct.pack("!H", checksum(frame[header.csum_start :])) + frame[at + 2 :]


def cut(raw: bytes, frame: bytes) -> list[bytes]:
    """What a device sends for a frame with this virtio header (10 bytes): its segments, checksums completed."""
    header = VnetHeader(*VNET_HDR.unpack(raw[:10]))
    if header.gso_type == GSO_NONE:
        return [finish(header, frame)]
    start = header.csum_start
    udp = header.csum_offset == CSUM_OFFSET[IPPROTO_UDP]
    hdr_len = start + (8 if udp else (frame[start + 12] >> 4) * 4)  # the virtio header's own is only a hint
    body = frame[hdr_len:]
    at = 12
    while struct.unpack_from("!H", frame, at)[0] == ETH_P_8021Q:
        at += 4
    network = at + 2
    segments: list[bytes] = []
    pieces = [body[at : at + header.gso_size] for at in range(0, len(body), header.gso_size)]
    for number, piece in enumerate(pieces):
        head = bytearray(frame[:hdr_len])
        size = len(head) - start + len(piece)
        if frame[network] >> 4 == 6:
            struct.pack_into("!H", head, network + 4, size)
        else:
            ident = struct.unpack_from("!H", head, network + 4)[0] + number & 0xFFFF
            struct.pack_into("!HH", head, network + 2, start - network + size, ident)
            head[network + 10 : network + 12] = bytes(2)
            struct.pack_into("!H", head, network + 10, checksum(bytes(head[network:start])))
        if udp:
            struct.pack_into("!H", head, start + 4, size)
        else:
            sequence = struct.unpack_from("!I", head, start + 4)[0] + number * header.gso_size
            struct.pack_into("!I", head, start + 4, sequence & 0xFFFFFFFF)
            if number < len(pieces) - 1:
                head[start + 13] &= ~(FIN | PSH)
        pseudo = ~checksum(pseudo_header(bytes(head[network:start]), size)) & 0xFFFF
        struct.pack_into("!H", head, start + header.csum_offset, pseudo)
        segments.append(finish(header, bytes(head) + piece))
    return segments
