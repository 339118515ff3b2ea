"""IP packets with everything a stack checks, and the virtio header that says which part is still to be computed."""

import socket
import struct

from tests.kit.frames import ETH_HLEN, ETH_P_IP, ETH_P_IPV6, checksum, mac
from tests.kit.packets import VnetHeader

IPPROTO_TCP, IPPROTO_UDP = 6, 17
TCP_HLEN, UDP_HLEN = 20, 8
CSUM_OFFSET = {IPPROTO_TCP: 16, IPPROTO_UDP: 6}
NEEDS_CSUM = 1
GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4 = 0, 1, 4, 5


def _pseudo(source: bytes, destination: bytes, length: int, protocol: int) -> bytes:
    if len(source) == 4:
        return source + destination + struct.pack("!BBH", 0, protocol, length)
    return source + destination + struct.pack("!IHBB", length, 0, 0, protocol)


def _ip(source: bytes, destination: bytes, length: int, protocol: int) -> bytes:
    if len(source) == 16:
        return struct.pack("!IHBB", 6 << 28, length, protocol, 64) + source + destination
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0x4000, 64, protocol, 0) + source + destination
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:]


def packet(
    destination_mac: str | bytes,
    source_mac: str | bytes,
    source: str,
    destination: str,
    *,
    protocol: int,
    payload: bytes,
    ports: tuple[int, int] = (40000, 9000),
    partial: bool = False,
) -> bytes:
    """Return an Ethernet frame with a UDP or TCP packet, addresses of one IP version.

    With `partial` the checksum field holds the sum over the pseudo header only, as a sender leaves it for its device.
    """
    family, ethertype = (socket.AF_INET6, ETH_P_IPV6) if ":" in source else (socket.AF_INET, ETH_P_IP)
    src, dst = socket.inet_pton(family, source), socket.inet_pton(family, destination)
    if protocol == IPPROTO_UDP:
        head = struct.pack("!HHHH", *ports, UDP_HLEN + len(payload), 0)
    else:
        head = struct.pack("!HHIIBBHHH", *ports, 1, 1, 5 << 4, 0x10, 1024, 0, 0)
    segment = head + payload
    pseudo = _pseudo(src, dst, len(segment), protocol)
    at = CSUM_OFFSET[protocol]
    value = ~checksum(pseudo) & 0xFFFF if partial else checksum(pseudo + segment)
    segment = segment[:at] + struct.pack("!H", value) + segment[at + 2 :]
    frame_head = mac(destination_mac) + mac(source_mac) + struct.pack("!H", ethertype)
    return frame_head + _ip(src, dst, len(segment), protocol) + segment


def transport_start(data: bytes) -> int:
    """Return where the TCP or UDP header of such a frame starts."""
    return ETH_HLEN + (40 if data[12:14] == struct.pack("!H", ETH_P_IPV6) else 20)


def offloaded(data: bytes, protocol: int, gso_size: int = 0) -> VnetHeader:
    """Return the virtio header for a frame made with `partial`; with `gso_size`, for one that is still to be cut."""
    start = transport_start(data)
    gso = GSO_NONE
    if gso_size:
        tcp = GSO_TCPV6 if start == ETH_HLEN + 40 else GSO_TCPV4
        gso = tcp if protocol == IPPROTO_TCP else GSO_UDP_L4
    hdr_len = start + (TCP_HLEN if protocol == IPPROTO_TCP else UDP_HLEN)
    return VnetHeader(NEEDS_CSUM, gso, hdr_len if gso_size else 0, gso_size, start, CSUM_OFFSET[protocol])
