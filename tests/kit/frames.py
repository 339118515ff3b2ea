"""Building Ethernet frames byte by byte, of exactly the length a test needs."""

import struct

BROADCAST = bytes.fromhex("ffffffffffff")
TEST_ETHERTYPE = 0x88B5  # IEEE 802 local experimental ethertype 1: no stack answers it
ETH_P_8021Q, ETH_P_8021AD, ETH_P_IP, ETH_P_IPV6, ETH_P_ARP = 0x8100, 0x88A8, 0x0800, 0x86DD, 0x0806
ETH_HLEN, VLAN_HLEN = 14, 4
PATTERN = bytes(range(256))


def mac(text: str | bytes) -> bytes:
    """Turn `02:00:00:00:00:01` into six bytes; six bytes stay as they are."""
    return text if isinstance(text, bytes) else bytes.fromhex(text.replace(":", ""))


def frame(
    size: int,
    dst: str | bytes = BROADCAST,
    src: str | bytes = "02:76:74:00:00:01",
    *,
    ethertype: int = TEST_ETHERTYPE,
    payload: bytes = b"",
    tags: tuple[tuple[int, int], ...] = (),
) -> bytes:
    """Return a frame of exactly `size` bytes (header and tags included), its payload filled up with a pattern.

    `tags` are (TPID, VLAN id) pairs, outermost first. A size below the header's cuts the header short.
    """
    head = mac(dst) + mac(src)
    head += b"".join(struct.pack("!HH", tpid, tci) for tpid, tci in tags) + struct.pack("!H", ethertype)
    body = head + payload
    filler = (PATTERN * (size // len(PATTERN) + 1))[: max(0, size - len(body))]
    return (body + filler)[:size]


def numbered(
    number: int, size: int = 60, dst: str | bytes = BROADCAST, src: str | bytes = "02:76:74:00:00:01"
) -> bytes:
    """Return a frame that carries its number in the first four payload bytes."""
    return frame(size, dst, src, payload=struct.pack("!I", number))


def number_of(data: bytes) -> int:
    """Return the number that `numbered` put into a frame."""
    return int(struct.unpack_from("!I", data, ETH_HLEN)[0])


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071) of data."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
