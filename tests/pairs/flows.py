"""64 numbered flows over a pair, both ways at the same time: who sends them, who takes them in, what came of each."""

from __future__ import annotations

import struct
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise

from tests.kit.frames import ETH_HLEN, ETH_P_8021Q, ETH_P_IPV6, VLAN_HLEN, mac
from tests.kit.ippackets import IPPROTO_UDP, packet
from tests.kit.packets import PacketSocket
from tests.kit.pairs import End, Pair
from tests.kit.waiting import eventually

FLOWS = 64
SENDERS = 2  # threads per direction; each has flows of its own
_MACS = "ff:ff:ff:ff:ff:ff", "02:76:74:00:00:01"
_NUMBER = struct.Struct("!II")  # flow, number of the frame in it
_TAG = struct.pack("!HH", ETH_P_8021Q, 5)


def flow_frame(flow: int, number: int, direction: int = 0) -> bytes:
    """Frame `number` of a flow: every second one IPv6, half of either tagged, lengths changing from frame to frame.

    direction: 1 for the answers, with addresses and ports the other way round.
    """
    addresses = ("2001:db8::1", "2001:db8::2") if flow % 2 else ("192.0.2.1", "192.0.2.2")
    ports = 40000 + flow, 9000
    if direction:
        addresses, ports = (addresses[1], addresses[0]), (ports[1], ports[0])
    data = _NUMBER.pack(flow, number) + bytes(number * 7 % 400)
    built = packet(*_MACS, *addresses, protocol=IPPROTO_UDP, payload=data, ports=ports)
    return built[: 2 * len(mac(_MACS[0]))] + _TAG + built[2 * len(mac(_MACS[0])) :] if flow % 4 > 1 else built


def number_in(data: bytes) -> tuple[int, int]:
    """Flow and number of a frame made by `flow_frame`, whether the kernel took its tag out or not."""
    at = VLAN_HLEN if data[12:14] == _TAG[:2] else 0
    headers = ETH_HLEN + (40 if data[12 + at : 14 + at] == struct.pack("!H", ETH_P_IPV6) else 20) + 8
    flow, number = _NUMBER.unpack_from(data, at + headers)
    return int(flow), int(number)


class Direction:
    """One end sends all flows, in turn; the other takes them in.

    sent: frames per flow that the kernel took. arrived: per flow the numbers of the frames, in the order of arrival.
    """

    def __init__(self, source: End, target: End, direction: int) -> None:
        self.sent = [0] * FLOWS
        self.arrived: dict[int, list[int]] = defaultdict(list)
        self._direction = direction
        self._stop = threading.Event()
        self._over = threading.Event()
        self._sockets = [PacketSocket(source.netns, source.name) for _ in range(SENDERS)]
        self._sink = PacketSocket(target.netns, target.name)
        self._senders = [
            threading.Thread(target=self._send, args=(sock, range(at, FLOWS, SENDERS)))
            for at, sock in enumerate(self._sockets)
        ]
        self._receiver = threading.Thread(target=self._receive)
        for thread in (*self._senders, self._receiver):
            thread.start()

    def _send(self, sock: PacketSocket, flows: range) -> None:
        while not self._stop.is_set():
            for flow in flows:
                data = flow_frame(flow, self.sent[flow], self._direction)
                # A full ring refuses the frame (ENOBUFS): the same one again, so that nothing is missing.
                while sock.try_send(data) != "ok":
                    if self._stop.is_set():
                        return
                self.sent[flow] += 1

    def _receive(self) -> None:
        while not self._over.is_set():
            arrival = self._sink.receive(0.05)
            while arrival is not None:
                with suppress(struct.error):
                    flow, number = number_in(arrival.data)
                    self.arrived[flow].append(number)
                arrival = self._sink.receive(0)

    def stop_sending(self) -> None:
        self._stop.set()
        for thread in self._senders:
            thread.join(10)
            assert not thread.is_alive()

    def close(self) -> None:
        """Take in what is there, and end."""
        self._over.set()
        self._receiver.join(10)
        assert not self._receiver.is_alive()
        assert self._sink.overruns() == 0, "the test's own socket lost frames"
        for sock in (*self._sockets, self._sink):
            sock.close()

    def missing(self) -> int:
        """Frames that were sent and did not arrive."""
        return sum(self.sent) - sum(map(len, self.arrived.values()))

    def disorder(self) -> list[str]:
        """One sentence per flow whose frames did not come in the order they were sent."""
        return [
            f"flow {flow}: {after} after {before}"
            for flow, numbers in sorted(self.arrived.items())
            for before, after in pairwise(numbers)
            if after <= before
        ]


@contextmanager
def flows_both_ways(*pairs: Pair) -> Iterator[list[Direction]]:
    """All flows of these pairs in both directions, until the end of the body; then what crossed has been taken in."""
    directions = [Direction(*ends) for pair in pairs for ends in ((pair.a, pair.b, 0), (pair.b, pair.a, 1))]
    try:
        yield directions
    finally:
        for direction in directions:
            direction.stop_sending()
        for pair in pairs:
            pair.wait_quiet(30.0)
        for direction in directions:
            direction.close()


def wait_sent(directions: list[Direction], frames: int) -> None:
    """Wait until each flow has sent that many frames in both directions."""
    eventually(
        lambda: min(min(way.sent) for way in directions), lambda least: least >= frames, "the flows go on", within=60.0
    )
