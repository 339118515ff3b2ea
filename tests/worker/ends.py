"""Ends that a worker may be given: a stand-in that takes any header and any frame, or a real TAP.

A stand-in is one side of a SEQPACKET socket pair. The worker reads and writes it as it would a TAP: virtio header and
frame in one packet; but there is no kernel in between that would refuse to make such a frame. It must not be closed
while a worker has it: the worker would read empty packets for ever.
"""

from __future__ import annotations

import select
import socket
import threading
from typing import Protocol

HDR_LEN = 10
PLAIN_HEADER = bytes(HDR_LEN)
_SO_SNDBUFFORCE = 32


class End(Protocol):
    """What a test hands to a worker: the fd stays the test's own, the worker gets a copy."""

    fd: int
    hdr_len: int

    def close(self) -> None: ...


class StandIn:
    """A socket pair: `fd` is what the worker gets, the other side is the test's.

    room: bytes that either side may have on its way; a small frame takes about 800 of them.
    """

    def __init__(self, hdr_len: int = HDR_LEN, *, room: int = 4 << 20) -> None:
        self.hdr_len = hdr_len
        self._here, self._there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for side in (self._here, self._there):
            side.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, room)
        self._here.settimeout(10.0)
        self._there.setblocking(False)  # as a TAP's fd is; a worker may not make it so
        self.fd = self._there.fileno()

    def send(self, data: bytes, header: bytes | None = None) -> None:
        """One frame behind its header (all zero when not given) to the worker; waits while there is no room."""
        self._here.send((bytes(self.hdr_len) if header is None else header) + data)

    def send_packet(self, packet: bytes) -> None:
        """One packet that need not even hold a header."""
        self._here.send(packet)

    def try_send(self, packet: bytes) -> bool:
        """Like send_packet, but False when there is no room."""
        try:
            self._here.send(packet, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        return True

    def receive(self, within: float = 5.0) -> tuple[bytes, bytes] | None:
        """(header, frame) of the next delivery, None when there is none in time."""
        self._here.settimeout(within)
        try:
            packet = self._here.recv(1 << 17)
        except (TimeoutError, BlockingIOError):
            return None
        finally:
            self._here.settimeout(10.0)
        return packet[: self.hdr_len], packet[self.hdr_len :]

    def waiting(self) -> list[bytes]:
        """The frames that have been delivered so far and were not received yet."""
        frames: list[bytes] = []
        while (arrived := self.receive(0)) is not None:
            frames.append(arrived[1])
        return frames

    def left(self) -> int:
        """How many packets lie here that no worker has read; they are gone then. Only while no worker has the end."""
        count = 0
        while unread(self):
            self._there.recv(1)
            count += 1
        return count

    def close(self) -> None:
        self._here.close()
        self._there.close()


def unread(end: End) -> bool:
    """True when frames wait at the end that no worker has read yet."""
    poller = select.poll()
    poller.register(end.fd, select.POLLIN)
    return any(event & select.POLLIN for _fd, event in poller.poll(0))


class Flood:
    """A thread that sends one packet over and over into a stand-in, as fast as the worker takes it, until stopped."""

    def __init__(self, end: StandIn, packet: bytes) -> None:
        self._end = end
        self._packet = packet
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="flood")
        self.sent = 0

    def __enter__(self) -> Flood:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        poller = select.poll()
        poller.register(self._end._here.fileno(), select.POLLOUT)
        while not self._stop.is_set():
            if self._end.try_send(self._packet):
                self.sent += 1
            else:
                poller.poll(10)


def ends_of(*ends: End) -> list[int]:
    """The fds to hand to a worker, in order."""
    return [end.fd for end in ends]
