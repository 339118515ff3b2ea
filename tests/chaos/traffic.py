"""Checked traffic: numbered frames of four flows each way over every pair, while things happen to the pairs.

Frames may be missing (an end is down, a worker was killed); the daemon's books say where they went. What does arrive
must be what was sent, byte for byte, on the right pair and at the right end, and in the order in which it was sent.
"""

from __future__ import annotations

import struct
import threading
from dataclasses import dataclass, field
from typing import Final

from tests.kit.frames import ETH_HLEN, ETH_P_IP
from tests.kit.ippackets import IPPROTO_UDP, packet
from tests.kit.packets import PacketSocket
from tests.kit.pairs import End

#: Bytes of the payload of each flow; the first fits the smallest MTU there is.
PAYLOADS: Final = (20, 150, 550, 1350)
#: Seconds between two rounds: a load that leaves the daemon a processor.
PAUSE: Final = 0.01
#: What the kernel may answer to a frame for an end that is down, gone, full, or smaller than the frame.
REFUSALS: Final = frozenset({"ENETDOWN", "ENXIO", "ENODEV", "ENOBUFS", "EMSGSIZE", "EIO"})
_AT: Final = ETH_HLEN + 20 + 8  # IPv4, UDP
_IDENTITY = struct.Struct("!III")  # pair, direction and flow, number
_PORT: Final = 9000
_MACS: Final = "ff:ff:ff:ff:ff:ff", "02:76:74:00:00:01"


def build(wire: int, way: int, flow: int) -> bytearray:
    """A frame of a flow, its number still 0."""
    addresses = (f"192.0.2.{1 + way}", f"192.0.2.{2 - way}")
    payload = _IDENTITY.pack(wire, way << 8 | flow, 0).ljust(PAYLOADS[flow], bytes([65 + flow]))
    ports = (40000 + wire * len(PAYLOADS) % 20000 + flow, _PORT)
    built = bytearray(packet(*_MACS, *addresses, protocol=IPPROTO_UDP, payload=payload, ports=ports))
    built[_AT - 2 : _AT] = bytes(2)  # no checksum: the number changes
    return built


@dataclass
class Way:
    """One direction of a pair: what was sent, and the number after the last that arrived, by flow."""

    wire: int
    way: int
    sent: list[int] = field(default_factory=lambda: [0] * len(PAYLOADS))
    arrived: list[int] = field(default_factory=lambda: [0] * len(PAYLOADS))

    def __post_init__(self) -> None:
        self.frames = [build(self.wire, self.way, flow) for flow in range(len(PAYLOADS))]

    def send(self, sock: PacketSocket) -> list[str]:
        """Send one frame of each flow; one sentence per answer that is none of REFUSALS."""
        faults = []
        for flow, data in enumerate(self.frames):
            struct.pack_into("!I", data, _AT + 8, self.sent[flow])
            answer = sock.try_send(bytes(data))
            if answer == "ok":
                self.sent[flow] += 1
            elif answer not in REFUSALS:
                faults.append(f"{self} flow {flow}: sending failed with {answer}")
        return faults

    def take(self, data: bytes) -> str | None:
        """Take in a frame that arrived in this direction; what is wrong with it."""
        if len(data) < _AT + _IDENTITY.size:
            return f"{self}: a frame of {len(data)} bytes that nobody sent: {data.hex()}"
        wire, what, number = _IDENTITY.unpack_from(data, _AT)
        flow = what & 0xFF
        if (wire, what >> 8) != (self.wire, self.way) or flow >= len(PAYLOADS):
            return f"{self}: a frame of pair {wire}, direction {what >> 8} arrived"
        mine = self.frames[flow]
        at = _AT + 8
        if data[:at] != mine[:at] or data[at + 4 :] != mine[at + 4 :]:
            return f"{self} flow {flow}: frame {number} is not as it was sent: {data.hex()}"
        if number >= self.sent[flow]:
            return f"{self} flow {flow}: frame {number} arrived of {self.sent[flow]} that were sent"
        if number < self.arrived[flow]:
            return f"{self} flow {flow}: frame {number} after frame {self.arrived[flow] - 1}"
        self.arrived[flow] = number + 1
        return None

    def __str__(self) -> str:
        return f"pair {self.wire} {'b->a' if self.way else 'a->b'}"


class Line:
    """The traffic over one pair. lock: held by whoever uses or replaces the sockets."""

    def __init__(self, wire: int) -> None:
        self.ways = (Way(wire, 0), Way(wire, 1))
        self.lock = threading.Lock()
        self._sockets: tuple[PacketSocket, PacketSocket] | None = None

    def open(self, a: End, b: End) -> None:
        """Send and receive at these two ends from now on; they exist."""
        first = PacketSocket(a.netns, a.name)
        try:
            second = PacketSocket(b.netns, b.name)
        except OSError:
            first.close()
            raise
        with self.lock:
            self._close()
            self._sockets = first, second

    def close(self) -> None:
        """Have nothing to do with the ends any more; what arrived and was not taken in yet is not looked at."""
        with self.lock:
            self._close()

    def _close(self) -> None:
        for sock in self._sockets or ():
            sock.close()
        self._sockets = None

    def turn(self, sending: bool) -> list[str]:
        """Send a frame of each flow both ways, and take in what has arrived; what is wrong."""
        with self.lock:
            if self._sockets is None:
                return []
            faults = []
            for way, source, target in zip(self.ways, self._sockets, self._sockets[::-1], strict=True):
                if sending:
                    faults += way.send(source)
                while (data := _next(target)) is not None:
                    if data[12:14] == ETH_P_IP.to_bytes(2) and (fault := way.take(data)):
                        faults.append(fault)
            return faults


class Traffic:
    """A thread that sends and receives on all lines, in turn. faults: what was wrong so far."""

    def __init__(self) -> None:
        self.lines: dict[int, Line] = {}
        self.faults: list[str] = []
        self._sending = threading.Event()
        self._over = threading.Event()
        self._rounds = threading.Condition()
        self._round = 0
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self._thread.start()

    def open(self, wire: int, a: End, b: End) -> None:
        """Begin with a pair, or go on where its ends are now."""
        self.lines.setdefault(wire, Line(wire)).open(a, b)

    def drop(self, wire: int) -> None:
        """A pair is no more."""
        line = self.lines.pop(wire, None)
        if line is not None:
            line.close()

    def go(self) -> None:
        """Send."""
        self._sending.set()

    def rest(self) -> None:
        """Send no more; returns when what was sent before has left the sockets."""
        self._sending.clear()
        self.turns(2)

    def turns(self, count: int) -> None:
        """Return after that many rounds."""
        with self._rounds:
            wanted = self._round + count
            assert self._rounds.wait_for(lambda: self._round >= wanted, 30), f"the traffic stands still: {self.faults}"

    def close(self) -> None:
        self._over.set()
        self._thread.join(30)
        for wire in list(self.lines):
            self.drop(wire)

    def _run(self) -> None:
        while not self._over.wait(PAUSE):
            for line in list(self.lines.values()):
                try:
                    self.faults += line.turn(self._sending.is_set())
                except Exception as error:  # noqa: BLE001 - told by the thread that checks
                    self.faults.append(f"{line.ways[0]}: the traffic itself failed: {error!r}")
            with self._rounds:
                self._round += 1
                self._rounds.notify_all()


def _next(sock: PacketSocket) -> bytes | None:
    try:
        arrival = sock.receive(0)
    except OSError as error:  # the end went down or away since the last frame
        if error.errno is None:
            raise
        return None
    return None if arrival is None else arrival.data
