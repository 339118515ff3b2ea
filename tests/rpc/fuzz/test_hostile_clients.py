"""Hostile clients against a live daemon: it answers as JSON-RPC says, and afterwards it is as it was before."""

from __future__ import annotations

import json
import os
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.kit.commands import run
from tests.kit.daemon import Daemon
from tests.kit.links import all_links
from tests.kit.netns import RUN_NETNS, Namespaces, inside
from tests.kit.processes import open_files, status_field
from tests.kit.rpc import RpcError
from tests.kit.waiting import settled
from tests.rpc.fuzz import oracle
from tests.rpc.fuzz.examples import hostile
from tests.rpc.fuzz.requests import METHODS, NOT_CALLED, calls, confused, lines
from tests.rpc.talk import Talk, request
from vethd.host.threads import REAPERS

#: Clients that stay connected at once, hearing nothing.
STAY: Final = 50
_FORGET_NAMES: Final = "cd /run/netns && find . -type f -exec umount {} \\; -delete"
CONFIG: Final = "[limits]\nmax_pairs = 20\nwrite_timeout = 2\n"
#: A namespace to be in and names of namespaces that nobody else sees: config.apply makes some.
OWN_NAMES: Final = ("unshare", "--mount", "--net", "sh", "-c", 'mount -t tmpfs none /run/netns && exec "$@"', "sh")


@dataclass(frozen=True)
class Visit:
    """One connection: what is sent in which pieces, how many descriptors go along with each, and how it ends.

    listen: say no more and hear everything; leave: hang up at once; stay: hear nothing, and hang up much later.
    """

    stream: bytes
    cuts: list[int]
    fds: int
    end: Literal["listen", "listen", "leave", "stay"]


@st.composite
def visits(draw: st.DrawFn) -> Visit:
    parts = draw(st.lists(lines, min_size=1, max_size=6))
    fds = draw(st.sampled_from([0, 0, 1, 2, 16]))
    if fds:  # beside a blank line they are a request
        parts = [part.replace(b"\n", b"x") for part in parts if part.strip()] or [b"x"]
    stream = b"\n".join(parts) + draw(st.sampled_from([b"", b"\n"]))
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=3)))
    return Visit(stream, cuts, fds, draw(st.sampled_from(["listen", "listen", "leave", "stay"])))


class Victim:
    """A daemon, and clients of it that live in a namespace of their own."""

    def __init__(self, daemon: Daemon, netns: str) -> None:
        self.daemon = daemon
        self.netns = netns
        self._stayed: deque[socket.socket] = deque()

    def __repr__(self) -> str:
        return "Victim"

    def visit(self, visit: Visit) -> None:
        """Make the visit and check what is heard."""
        talk = inside(self.netns, Talk, self.daemon.socket)  # else a pair without a netns would be made here
        fd = os.open(RUN_NETNS / self.netns, os.O_RDONLY)
        try:
            fds = [fd] * visit.fds
            for begin, end in zip([0, *visit.cuts], [*visit.cuts, len(visit.stream)], strict=True):
                if begin < end:
                    talk.send(visit.stream[begin:end], fds)
                    fds = []
            if visit.end == "stay":
                self._stayed.append(talk.socket)
                if len(self._stayed) > STAY:
                    self._stayed.popleft().close()
            elif visit.end == "listen":
                talk.say_no_more()
                self._listen(talk, visit.stream)
        finally:
            os.close(fd)
            if visit.end != "stay":
                talk.close()

    def _listen(self, talk: Talk, stream: bytes) -> None:
        heard = b""
        while data := talk.socket.recv(1 << 16):
            heard += data
        answers = [line for line in heard.split(b"\n") if line and not oracle.is_event(line)]
        expected = oracle.answers(stream)
        assert len(answers) == len(expected), (answers, expected)
        for line, number in zip(answers, expected, strict=True):
            oracle.check(line, number)

    def ask(self, requests: Sequence[dict[str, Any]]) -> list[Any]:
        """Send requests on one connection, all with an id, and return the answers once each is what it must be."""
        stream = b"".join(json.dumps(request).encode() + b"\n" for request in requests)
        talk = inside(self.netns, Talk, self.daemon.socket)
        try:
            talk.send(stream)
            with talk.socket.makefile("rb") as heard:
                lines = (line for line in heard if not oracle.is_event(line))
                answers = list(islice(lines, len(requests)))
            for answer, number in zip(answers, oracle.answers(stream), strict=True):
                oracle.check(answer, number)
            return [json.loads(answer) for answer in answers]
        finally:
            talk.close()

    def make_room(self, pairs: int) -> None:
        """Delete all pairs when there are more than so many: what comes then is not refused for their number."""
        if len(self.daemon.pairs()) > pairs:
            self.daemon.clear()

    def links(self) -> tuple[Any, Any, Any]:
        """What requests can change: the pairs as the daemon tells them, the devices as the kernel does, the sysctls."""
        devices = [
            (link.name, link.ifindex, link.flags, link.mtu, link.txqlen, link.address, link.attributes["IFLA_IFALIAS"])
            for link in all_links(self.netns).values()
            if link.kind == "tun"
        ]
        return self.daemon.pairs(), devices, self.daemon.call("sysctl.get")

    def forget(self) -> None:
        """Hang up on behalf of those that stayed, and delete what the others made, namespaces included."""
        for sock in self._stayed:
            sock.close()
        self._stayed.clear()
        self.daemon.clear()
        run("nsenter", "--mount", "--target", str(self.daemon.pid), "sh", "-c", _FORGET_NAMES)

    def state(self) -> dict[str, int]:
        """What must not grow: file descriptors, threads; MiB of memory."""
        pid = self.daemon.pid
        return {
            "descriptors": len(open_files(pid)),
            "threads": int(status_field(pid, "Threads")),
            "memory": int(status_field(pid, "VmRSS").split()[0]) >> 10,
        }


@pytest.fixture(scope="module")
def prey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """A daemon of this module's own."""
    daemon, namespaces = Daemon(tmp_path_factory.mktemp("prey"), config=CONFIG, prefix=OWN_NAMES), Namespaces()
    red = namespaces.make()
    daemon.start()
    yield Victim(daemon, red)
    daemon.stop()
    namespaces.close()


@pytest.fixture
def victim(prey: Victim) -> Iterator[Victim]:
    """The daemon, which must be after the test as it was before."""
    prey.ask([request(1, "link.add", placement="inside")])  # the first takes memory and descriptors for good
    prey.forget()
    prey.daemon.check_fds()
    before = prey.state()
    yield prey

    def grown() -> dict[str, tuple[int, int]]:
        prey.forget()  # each time: what the last ones asked for may come after they have left
        allowed = before | {"memory": before["memory"] + 24, "threads": before["threads"] + REAPERS}
        return {what: (before[what], now) for what, now in prey.state().items() if now > allowed[what]}

    left = settled(grown, lambda found: not found, within=20.0)
    assert not left, f"before and after: {left}"
    assert prey.daemon.pairs() == []
    prey.daemon.check_fds()
    prey.daemon.check_log()


@hostile(150)
@given(visit=visits())
def test_one_visit_after_the_other(victim: Victim, visit: Visit) -> None:
    victim.make_room(10)
    victim.visit(visit)


def test_a_client_that_asks_for_pairs_and_leaves(victim: Victim) -> None:
    """It gets them, after everybody who looks at once has found none."""
    asked = [json.dumps(request(number, "link.add", placement="inside")).encode() for number in range(10)]
    victim.visit(Visit(b"\n".join(asked), [], 0, "leave"))


@hostile(150)
@given(asked=calls)
@example(asked=request(1, "link.del", ifname="vtf0", generation=0))
@example(asked=request(1, "link.set", ifname="vtf0", set={"mtu": 1400, "ifname": "x" * 16}))
def test_what_is_refused_changes_nothing(victim: Victim, asked: dict[str, Any]) -> None:
    victim.make_room(4)
    if not victim.daemon.pairs():
        ends = {"a": {"ifname": "vtf0"}, "b": {"ifname": "vtf1"}}
        (made,) = victim.ask([request(1, "link.add", **ends, placement="inside")])
        assert "result" in made
    before = victim.links()
    (answer,) = victim.ask([asked])
    if "error" in answer:
        after = settled(victim.links, lambda now: now == before, within=2)
        assert after == before, answer


def test_every_field_of_every_method_may_hold_anything(victim: Victim) -> None:
    for method in METHODS:
        for each in confused(method):
            victim.ask([request(1, method, **params) for params in each])
            victim.make_room(4)


def test_every_method_is_among_those_that_are_called(prey: Victim) -> None:
    with pytest.raises(RpcError) as raised:
        prey.daemon.call("")
    assert set(raised.value.data["hint"].removeprefix("there are ").split(", ")) <= METHODS.keys() | NOT_CALLED
