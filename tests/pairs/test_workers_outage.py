"""The wire while workers die: how long it is silent, what the devices notice (nothing), what TCP notices (nothing)."""

from __future__ import annotations

import hashlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.kit.books import imbalance
from tests.kit.commands import ip, ip_json
from tests.kit.daemon import Daemon
from tests.kit.frames import number_of, numbered
from tests.kit.links import LinkMonitor
from tests.kit.netns import Namespaces, socket_in
from tests.kit.packets import PacketSocket
from tests.kit.pairs import Pair, make_pair_between_fresh
from tests.pairs.killing import kill_worker, wait_spare, wait_workers

KILLS = 50
LONGEST_OUTAGE_P95 = 0.1  # seconds
ADDRESSES = "192.0.2.1", "192.0.2.2"


def outage(pair: Pair, number: int) -> float:
    """Kill the worker of a pair; seconds until a frame that was sent after that has come out of each end."""
    with PacketSocket(pair.a.netns, pair.a.name) as a, PacketSocket(pair.b.netns, pair.b.name) as b:
        victim = kill_worker(pair.daemon)
        began = time.monotonic()
        a.send(numbered(number))
        b.send(numbered(number))
        for end in (a, b):
            arrived = end.collect(1, 5.0, lambda arrival: number_of(arrival.data) == number)
            assert arrived, f"kill {number}: no frame within 5 s"
        took = time.monotonic() - began
    wait_workers(pair.daemon, 1, {victim})
    return took


def looks(pair: Pair) -> list[Any]:
    """Everything about both links and their addresses that must not change; counters aside."""
    shown = [ip_json(end.netns, "address", "show", "dev", end.name)[0] for end in (pair.a, pair.b)]
    return [{name: value for name, value in link.items() if name != "stats64"} for link in shown]


def test_frames_flow_again_at_once_and_the_books_balance(
    killable: Callable[[int], Daemon], netns: Namespaces, figures: Callable[[str], None]
) -> None:
    pair = make_pair_between_fresh(killable(1), netns)
    outages: list[float] = []
    for number in range(KILLS):
        wait_spare(pair.daemon)
        outages.append(outage(pair, number))
        pair.wait_quiet()
        assert imbalance(pair.daemon.call("stats.get")) == [], f"after kill {number}"
    outages.sort()
    p50, p95 = outages[KILLS // 2], outages[KILLS * 95 // 100]
    figures(f"{KILLS} kills: silent {p50 * 1e3:.0f} ms p50, {p95 * 1e3:.0f} ms p95, {outages[-1] * 1e3:.0f} ms max")
    assert p95 <= LONGEST_OUTAGE_P95
    assert pair.stats()["a"]["delivered"] == pair.stats()["b"]["delivered"] == KILLS


def test_the_devices_notice_nothing(killable: Callable[[int], Daemon], netns: Namespaces) -> None:
    """No link event, no change of index, carrier, flags, address: a marker is the first event that anybody hears."""
    pair = make_pair_between_fresh(killable(1), netns)
    for end, address in zip((pair.a, pair.b), ADDRESSES, strict=True):
        ip(end.netns, "address", "add", f"{address}/24", "dev", end.name)
    before = looks(pair)
    with LinkMonitor(pair.a.netns) as a_events, LinkMonitor(pair.b.netns) as b_events:
        for number in range(5):
            wait_spare(pair.daemon)
            outage(pair, number)
        assert looks(pair) == before
        for end, events in ((pair.a, a_events), (pair.b, b_events)):
            ip(end.netns, "link", "set", "dev", end.name, "alias", "the marker")
            first = events.wait(lambda _kind, _state: True, "any event")
            assert first.attributes["IFLA_IFALIAS"] == "the marker", f"an event before the marker: {first}"


def test_a_tcp_transfer_survives(killable: Callable[[int], Daemon], netns: Namespaces) -> None:
    pair = make_pair_between_fresh(killable(1), netns)
    for end, address in zip((pair.a, pair.b), ADDRESSES, strict=True):
        ip(end.netns, "address", "add", f"{address}/24", "dev", end.name)
    with socket_in(pair.b.netns, socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind((ADDRESSES[1], 9))
        listener.listen(1)
        listener.settimeout(10)
        with socket_in(pair.a.netns, socket.AF_INET, socket.SOCK_STREAM) as client:
            client.settimeout(20)
            client.connect((ADDRESSES[1], 9))
            server, _address = listener.accept()
            with server:
                transfer = Transfer(client, server)
                for _ in range(5):
                    wait_spare(pair.daemon)
                    transfer.wait_more()
                    victim = kill_worker(pair.daemon)
                    wait_workers(pair.daemon, 1, {victim})
                transfer.wait_more()
                sent, received = transfer.finish()
    assert received == sent, "what arrived is not what was sent"


class Transfer:
    """Bytes from one socket to another, for as long as the test likes, with a digest at either side."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self._source, self._sink = source, sink
        self._sink.settimeout(20)
        for end in (source, sink):  # closed at once when all is done: a connection in its last throes pins a namespace
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._stop = threading.Event()
        self._received = 0
        self._moved = threading.Condition()
        self._digests = [hashlib.sha256(), hashlib.sha256()]
        self._threads = [threading.Thread(target=self._send), threading.Thread(target=self._receive)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        while not self._stop.is_set():
            data = os.urandom(1 << 16)
            self._digests[0].update(data)
            self._source.sendall(data)
        self._source.shutdown(socket.SHUT_WR)

    def _receive(self) -> None:
        while data := self._sink.recv(1 << 16):
            self._digests[1].update(data)
            with self._moved:
                self._received += len(data)
                self._moved.notify_all()

    def wait_more(self, size: int = 4 << 20) -> None:
        """Wait until that many more bytes have arrived."""
        with self._moved:
            goal = self._received + size
            assert self._moved.wait_for(lambda: self._received >= goal, 10), "the transfer stands still"

    def finish(self) -> tuple[tuple[int, str], tuple[int, str]]:
        """End the transfer; the digests of what was sent and of what arrived."""
        self._stop.set()
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()
        sent, received = (digest.hexdigest() for digest in self._digests)
        return (self._received, sent), (self._received, received)
