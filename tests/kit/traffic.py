"""What goes on at a pair while the daemon's program is replaced, and what must not be noticed there.

A namespace may be one of another machine: then it is the path of its file, not its name.
"""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Protocol, Self

import pytest

from tests.kit.commands import run
from tests.kit.frames import TEST_ETHERTYPE, frame, number_of, numbered
from tests.kit.netns import inside, socket_in
from tests.kit.packets import PacketSocket
from tests.kit.pairs import End
from tests.kit.waiting import eventually

PORT = 5001
#: Frames sent at once, and seconds between: a load that leaves the next program a processor to start on.
BURST, PAUSE = 20, 0.005
RTMGRP_ALL_ABOUT_LINKS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400  # link; addresses and routes of IPv4 and IPv6


class Wire(Protocol):
    """Two ends and what is between them."""

    a: End
    b: End

    def wait_quiet(self, within: float) -> dict[str, Any]:
        """Wait until nothing is on its way; the counters then."""


class Silence:
    """Hears whatever rtnetlink says of links, addresses and routes in a namespace."""

    def __init__(self, netns: str) -> None:
        self._socket = inside(netns, self._subscribe)

    @staticmethod
    def _subscribe() -> socket.socket:
        events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        events.bind((0, RTMGRP_ALL_ABOUT_LINKS))
        events.setblocking(False)
        return events

    def check(self) -> None:
        """Nothing was said so far."""
        with pytest.raises(BlockingIOError):
            self._socket.recv(1 << 16)

    def close(self) -> None:
        self._socket.close()


@contextmanager
def silent(pair: Wire) -> Iterator[None]:
    """Whatever happens in the body, rtnetlink says nothing about it in the namespaces of a pair."""
    listening = [Silence(end.netns) for end in (pair.a, pair.b)]
    try:
        yield
        for one in listening:
            one.check()
    finally:
        for one in listening:
            one.close()


class Transfer:
    """Bytes over TCP through a pair until `finish`, which compares what was sent with what came."""

    def __init__(self, pair: Wire) -> None:
        for end, address in ((pair.a, "10.77.0.1/24"), (pair.b, "10.77.0.2/24")):
            inside(end.netns, run, "ip", "address", "add", address, "dev", end.name)
        self.received = 0
        self._stop = threading.Event()
        self._digests: dict[str, str] = {}
        self._listener = socket_in(pair.b.netns, socket.AF_INET, socket.SOCK_STREAM)
        self._listener.bind(("10.77.0.2", PORT))
        self._listener.listen(1)
        self._sender = socket_in(pair.a.netns, socket.AF_INET, socket.SOCK_STREAM)
        self._sender.settimeout(20)
        self._sender.connect(("10.77.0.2", PORT))
        self._threads = [
            threading.Thread(target=self._send, daemon=True),
            threading.Thread(target=self._receive, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        block, digest = os.urandom(1 << 18), hashlib.sha256()
        with self._sender:
            while not self._stop.wait(PAUSE):
                self._sender.sendall(block)
                digest.update(block)
        self._digests["sent"] = digest.hexdigest()

    def _receive(self) -> None:
        digest = hashlib.sha256()
        with self._listener, self._listener.accept()[0] as connection:
            connection.settimeout(20)
            while data := connection.recv(1 << 18):
                self.received += len(data)
                digest.update(data)
        self._digests["received"] = digest.hexdigest()

    def goes_on(self) -> None:
        """Wait until more has come than now."""
        before = self.received
        eventually(lambda: self.received, lambda now: now > before + (1 << 20), "the transfer goes on", within=20)

    def finish(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)
        assert self._digests["sent"] == self._digests["received"]


class Numbered:
    """Numbered frames from one end of a pair to the other in the body; at its end each has arrived once, in order.

    Those that did not are counted. burst: how many are sent at once. pause: seconds between.
    """

    def __init__(self, pair: Wire, burst: int = BURST, pause: float = PAUSE) -> None:
        self._burst, self._pause = burst, pause
        self._pair = pair
        self._stop, self._over = threading.Event(), threading.Event()
        self._source = PacketSocket(pair.a.netns, pair.a.name)
        self._sink = PacketSocket(pair.b.netns, pair.b.name, ethertype=TEST_ETHERTYPE)
        self.sent = 0
        self._arrived: list[int] = []
        self._threads = [
            threading.Thread(target=self._send, daemon=True),
            threading.Thread(target=self._receive, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        while not self._stop.wait(self._pause):
            for _ in range(self._burst):
                # A full ring refuses the frame (ENOBUFS): the same one again, so that nothing is missing.
                self.sent += self._source.try_send(numbered(self.sent)) == "ok"

    def _receive(self) -> None:
        while not self._over.is_set():
            arrival = self._sink.receive(0.05)
            while arrival is not None:
                self._arrived.append(number_of(arrival.data))
                arrival = self._sink.receive(0)

    def goes_on(self) -> None:
        """Wait until more has arrived than now."""
        before = len(self._arrived)
        eventually(lambda: len(self._arrived), lambda now: now > before + 400, "frames cross", within=20)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        self._threads[0].join(20)
        try:
            if error is None:
                self._check(self._pair.wait_quiet(10.0)["a"]["dropped"])
        finally:
            self._over.set()
            self._threads[1].join(20)
            self._source.close()
            self._sink.close()

    def _check(self, dropped: int) -> None:
        eventually(lambda: len(self._arrived) + dropped, lambda seen: seen >= self.sent, "every frame is accounted for")
        assert self._sink.overruns() == 0, "the test's own socket lost frames"
        assert self._arrived == sorted(set(self._arrived)), "out of order, or twice"
        assert len(self._arrived) + dropped == self.sent


def looks(pair: Wire) -> list[Any]:
    """Everything about the ends of a pair that a user could see, counters aside."""
    seen = []
    for end in (pair.a, pair.b):
        state = end.state()
        aside = ("IFLA_STATS", "IFLA_STATS64", "IFLA_AF_SPEC")
        seen.append((state.ifindex, state.flags, {k: v for k, v in state.attributes.items() if k not in aside}))
    return seen


def frame_crosses(pair: Wire) -> None:
    with PacketSocket(pair.a.netns, pair.a.name) as a, PacketSocket(pair.b.netns, pair.b.name) as b:
        a.send(frame(60))
        assert b.collect(1, wanted=lambda arrival: arrival.ethertype == TEST_ETHERTYPE)
