"""channel.py: packets in order with their descriptors, whatever the other side does; reports nobody has to trust."""

import array
import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from vethd.worker.channel import MAX_FDS, PROTOCOL_VERSION, Channel, ChannelError, Message, parse_report, receive

READY = {
    "op": "ready",
    "version": PROTOCOL_VERSION,
    "pid": 7,
    "frameio": "syscalls",
    "datapath": "interpreted",
    "why": "",
}


class Side:
    """A Channel that keeps what it hears."""

    def __init__(self, sock: socket.socket) -> None:
        self.heard: list[tuple[Message, list[int]]] = []
        self.closed: list[str] = []
        self.news = asyncio.Event()
        self.channel = Channel(asyncio.get_running_loop(), sock, self._on_message, self._on_close)

    def _on_message(self, message: Message, fds: list[int]) -> None:
        self.heard.append((message, fds))
        self.news.set()

    def _on_close(self, reason: str) -> None:
        self.closed.append(reason)
        self.news.set()

    async def until(self, reached: Callable[[], bool]) -> None:
        """Wait until something is reached that a message or the close brings about."""
        async with asyncio.timeout(10):
            while not reached():
                await self.news.wait()
                self.news.clear()

    def close(self) -> None:
        self.channel.close()
        for _message, fds in self.heard:
            for fd in fds:
                os.close(fd)


@pytest.fixture
async def sides() -> AsyncIterator[tuple[Side, socket.socket]]:
    """A channel and the bare socket at its other end, which blocks."""
    mine, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    other.settimeout(10.0)
    side = Side(mine)
    yield side, other
    side.close()
    other.close()


async def test_messages_arrive_in_order_as_objects(sides: tuple[Side, socket.socket]) -> None:
    side, other = sides
    for number in range(50):
        other.send(json.dumps({"op": "x", "seq": number}).encode())
    await side.until(lambda: len(side.heard) == 50)
    assert [message["seq"] for message, _fds in side.heard] == list(range(50))


async def test_descriptors_arrive_with_their_message_and_close_on_exec(sides: tuple[Side, socket.socket]) -> None:
    side, other = sides
    sent = [os.open("/dev/null", os.O_RDONLY) for _ in range(MAX_FDS)]
    other.send(b'{"op": "before"}')
    socket.send_fds(other, [b'{"op": "add"}'], sent)
    other.send(b'{"op": "after"}')
    await side.until(lambda: len(side.heard) == 3)
    assert [len(fds) for _message, fds in side.heard] == [0, MAX_FDS, 0]
    got = side.heard[1][1]
    assert all(os.fstat(fd) == os.fstat(copy) for fd, copy in zip(sent, got, strict=True))
    assert not any(os.get_inheritable(fd) for fd in got)
    for fd in sent:
        os.close(fd)


async def test_descriptors_leave_with_their_message_and_stay_the_callers(sides: tuple[Side, socket.socket]) -> None:
    side, other = sides
    fd = os.open("/dev/null", os.O_RDONLY)
    side.channel.send({"op": "add"}, [fd])
    data, got = receive(other)
    assert (json.loads(data), len(got)) == ({"op": "add"}, 1)
    os.fstat(fd)
    for each in (fd, *got):
        os.close(each)


async def test_sending_does_not_block_and_keeps_order_when_the_other_side_is_slow(
    sides: tuple[Side, socket.socket],
) -> None:
    side, other = sides
    text = "x" * 4000
    for number in range(500):
        side.channel.send({"op": "x", "seq": number, "text": text})
    got: list[int] = []
    while len(got) < 500:
        got.append(json.loads(await asyncio.to_thread(other.recv, 1 << 16))["seq"])
    assert got == list(range(500))


async def test_the_end_of_the_other_side_is_told_once(sides: tuple[Side, socket.socket]) -> None:
    side, other = sides
    other.close()
    await side.until(lambda: bool(side.closed))
    side.channel.send({"op": "x"})
    await asyncio.sleep(0)
    assert side.closed == ["closed"]


async def test_a_channel_that_is_closed_here_tells_nobody(sides: tuple[Side, socket.socket]) -> None:
    side, other = sides
    side.channel.close()
    side.channel.close()
    assert other.recv(100) == b""
    await asyncio.sleep(0)
    assert (side.closed, side.heard) == ([], [])


async def test_the_other_side_can_go_while_messages_wait_to_be_sent(sides: tuple[Side, socket.socket]) -> None:
    side, other = sides
    for _ in range(500):
        side.channel.send({"op": "x", "text": "x" * 4000})
    other.close()
    await side.until(lambda: bool(side.closed))
    assert side.closed == ["closed"]


async def test_the_other_side_can_go_without_having_read_everything(sides: tuple[Side, socket.socket]) -> None:
    """The kernel then says ECONNRESET or EPIPE instead of the end of the stream; it is an end like any other."""
    side, other = sides
    side.channel.send({"op": "x"})
    other.close()
    side.channel.send({"op": "x"})
    await side.until(lambda: bool(side.closed))
    assert side.closed == ["closed"]


@pytest.mark.parametrize(
    "packet",
    [b"{", b"[]", b"1", b"null", b'"text"', b"\xff\xfe", b"{}{}", b"[" * 60000, b"1" * 5000, b'{"a":' * 10000],
    ids=lambda packet: packet[:8].decode(errors="replace"),
)
async def test_a_packet_that_is_no_message_closes_the_channel_and_its_descriptors(
    sides: tuple[Side, socket.socket], packet: bytes
) -> None:
    side, other = sides
    reader, writer = os.pipe2(os.O_NONBLOCK)
    other.sendmsg([packet], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [writer]))])
    os.close(writer)
    await side.until(lambda: bool(side.closed))
    assert side.closed[0].startswith("not a message: ")
    assert os.read(reader, 1) == b"", "a copy of the descriptor is still open"
    os.close(reader)
    assert side.heard == []


@pytest.mark.parametrize(
    "report",
    [
        READY,
        {**READY, "why": "x" * 500},
        {"op": "unable", "why": "no ring", "remedy": "make one"},
        {"op": "ack", "seq": 0},
        {"op": "ack", "seq": (1 << 63) - 1},
        {"op": "gone", "end": 5},
        {"op": "hdr_invalid", "end": 5, "frames": 16},
    ],
    ids=lambda report: json.dumps(report)[:60],
)
def test_a_report_of_the_protocol_is_taken_as_it_is(report: dict[str, Any]) -> None:
    assert parse_report(dict(report)) == report


@pytest.mark.parametrize(
    ("report", "complaint"),
    [
        ({}, "unknown op"),
        ({"op": None}, "unknown op"),
        ({"op": "fly"}, "unknown op"),
        ({"op": ["ack"], "seq": 1}, "unknown op"),
        ({"op": {"ack": 1}}, "unknown op"),
        ({"op": "add", "seq": 1}, "unknown op"),
        ({"op": "x" * 60000}, "unknown op"),
        ({"op": "ack"}, "are not those of the protocol"),
        ({"op": "ack", "seq": 1, "end": 1}, "are not those of the protocol"),
        ({"op": "gone", "number": 1}, "are not those of the protocol"),
        ({"op": "ack", **{f"k{number}": 0 for number in range(5000)}}, "are not those of the protocol"),
        ({"op": "ack", "k" * 60000: 0}, "are not those of the protocol"),
        ({key: value for key, value in READY.items() if key != "why"}, "are not those of the protocol"),
        ({"op": "unable", "why": "no ring"}, "are not those of the protocol"),
        ({"op": "ack", "seq": "1"}, "is not of type int"),
        ({"op": "ack", "seq": 1.0}, "is not of type int"),
        ({"op": "ack", "seq": True}, "is not of type int"),
        ({"op": "ack", "seq": None}, "is not of type int"),
        ({"op": "ack", "seq": [1]}, "is not of type int"),
        ({**READY, "why": 1}, "is not of type str"),
        ({**READY, "frameio": None}, "is not of type str"),
        ({"op": "ack", "seq": -1}, "is out of range"),
        ({"op": "ack", "seq": 1 << 63}, "is out of range"),
        ({"op": "gone", "end": 10**30}, "is out of range"),
        ({**READY, "why": "x" * 501}, "is too long"),
        ({**READY, "why": "a\nb"}, "is not printable"),
        ({**READY, "datapath": "\x1b[2J"}, "is not printable"),
        ({**READY, "frameio": "\ud800"}, "is not printable"),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else "",
)
def test_any_other_report_is_refused_with_a_short_reason(report: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ChannelError) as caught:
        parse_report(report)
    assert complaint in str(caught.value)
    assert len(str(caught.value)) < 500
    str(caught.value).encode()
