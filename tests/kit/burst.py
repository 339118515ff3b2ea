"""Many equal frames onto a device at the cost of one system call: a packet socket with a transmit ring.

Source: Documentation/networking/packet_mmap.rst; TPACKET_V1.
"""

from __future__ import annotations

import mmap
import socket
import struct
from typing import Self

from tests.kit.netns import inside
from tests.kit.packets import SOL_PACKET

_PACKET_TX_RING = 13
_SLOT = 2048
_HEADER = struct.Struct("@LII")  # status, length, length of the part here
_DATA = 32  # where a frame begins in its slot
_SEND_REQUEST = struct.pack("@L", 1)


class Burst:
    """`frames`, to be sent all at once as often as wanted; a frame is at most 2016 bytes."""

    def __init__(self, netns: str, ifname: str, frames: list[bytes]) -> None:
        self._socket = inside(netns, socket.socket, socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        blocks = -(-len(frames) * _SLOT // mmap.PAGESIZE)
        ring = struct.pack("=IIII", mmap.PAGESIZE, blocks, _SLOT, blocks * mmap.PAGESIZE // _SLOT)
        assert len(frames) * _SLOT == blocks * mmap.PAGESIZE, "the ring must be full of frames"
        try:
            self._socket.setsockopt(SOL_PACKET, _PACKET_TX_RING, ring)
            inside(netns, self._socket.bind, (ifname, 0))
        except OSError:
            self._socket.close()
            raise
        self._ring = mmap.mmap(self._socket.fileno(), blocks * mmap.PAGESIZE)
        for number, frame in enumerate(frames):
            at = number * _SLOT
            _HEADER.pack_into(self._ring, at, 0, len(frame), len(frame))
            self._ring[at + _DATA : at + _DATA + len(frame)] = frame
        self._slots = [slice(at, at + len(_SEND_REQUEST)) for at in range(0, len(frames) * _SLOT, _SLOT)]

    def send(self) -> None:
        """Send every frame once, in order; returns when the device has taken all of them."""
        ring = self._ring
        for slot in self._slots:
            ring[slot] = _SEND_REQUEST
        self._socket.send(b"")

    def close(self) -> None:
        self._ring.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
