"""A worker that merges: who asks for it, when it is published, and what is left when it dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.datapath.flows import Packet, cut, finish
from tests.kit.ippackets import IPPROTO_TCP, IPPROTO_UDP
from tests.worker.ends import StandIn
from tests.worker.subject import WirePair, Worker
from vethd.drops import DropPoint

MakeStandIn = Callable[..., StandIn]
COUNT = 32


def stream(protocol: int = IPPROTO_TCP) -> list[Packet]:
    """COUNT packets in sequence."""
    return [
        Packet(bytes([number]) * 100, protocol=protocol, seq=1 + 100 * number, ident=number) for number in range(COUNT)
    ]


def send_at_once(worker: Worker, end: StandIn, packets: list[Packet]) -> None:
    """Let all packets wait before the worker reads the first."""
    os.kill(worker.pid, signal.SIGSTOP)
    for packet in packets:
        end.send(packet.frame(), packet.header().pack())
    os.kill(worker.pid, signal.SIGCONT)


def received(end: StandIn) -> list[bytes]:
    """Everything delivered to a stand-in, cut and completed."""
    segments: list[bytes] = []
    while (arrived := end.receive(0)) is not None:
        segments += cut(*arrived)
    return segments


def finished(packets: list[Packet]) -> list[bytes]:
    return [finish(packet.header(), packet.frame()) for packet in packets]


@pytest.mark.parametrize("protocol", [IPPROTO_TCP, IPPROTO_UDP], ids=["TCP", "UDP"])
def test_the_receiving_end_asks_for_it(worker: Worker, stand_in: MakeStandIn, protocol: int) -> None:
    a, b = stand_in(), stand_in()
    pair = worker.add(a, b, gro=(False, True))
    packets = stream(protocol)
    send_at_once(worker, a, packets)
    pair.wait_read(COUNT)
    assert (pair.b.rx_packets, pair.a.merged) == (1, COUNT - 1)
    assert (pair.a.tx_packets, pair.a.tx_bytes) == (COUNT, sum(len(packet.frame()) for packet in packets))
    assert received(b) == finished(packets)
    send_at_once(worker, b, packets)
    pair.wait(lambda now: now.b.read == COUNT and not now.imbalance(), "all of B's frames delivered")
    assert (pair.a.rx_packets, pair.b.merged) == (COUNT, 0)


def merged_now(worker: Worker, pair: WirePair, end: StandIn) -> int:
    before = pair.a
    send_at_once(worker, end, stream())
    pair.wait_read(before.read + COUNT)
    return pair.a.merged - before.merged


def test_it_is_switched_on_and_off_while_frames_pass(worker: Worker, stand_in: MakeStandIn) -> None:
    a, b, c, d = (stand_in() for _ in range(4))
    pair, other = worker.add(a, b), worker.add(c, d)
    assert merged_now(worker, pair, a) == 0
    worker.talk.ask("set", end=pair.numbers[1], gro=True)
    assert merged_now(worker, pair, a) == COUNT - 1
    assert merged_now(worker, other, c) == 0
    worker.talk.ask("set", end=other.numbers[1], gro=True)
    worker.talk.ask("set", end=pair.numbers[1], gro=False)
    assert merged_now(worker, pair, a) == 0
    assert merged_now(worker, other, c) == COUNT - 1
    worker.remove(other)
    assert merged_now(worker, pair, a) == 0
    assert received(b) == finished(stream()) * 4


def test_udp_is_left_alone_where_the_kernel_does_not_take_it(
    worker: Worker, stand_in: MakeStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe = worker.describe

    def without_uso(*arguments: Any) -> list[dict[str, Any]]:
        return [end | {"uso": False} for end in describe(*arguments)]

    monkeypatch.setattr(worker, "describe", without_uso)
    a, b = stand_in(), stand_in()
    pair = worker.add(a, b, gro=(True, True))
    send_at_once(worker, a, stream(IPPROTO_UDP))
    pair.wait_read(COUNT)
    assert (pair.b.rx_packets, pair.a.merged) == (COUNT, 0)
    assert merged_now(worker, pair, a) == COUNT - 1


def test_merged_frames_that_are_refused_are_dropped_one_by_one(
    worker: Worker, stand_in: MakeStandIn, taps: Any
) -> None:
    a, b = stand_in(), taps.make(up=False)
    pair = worker.add(a, b, gro=(False, True))
    send_at_once(worker, a, stream())
    pair.wait_read(COUNT)
    assert pair.drops() == {DropPoint.DEV_READY: COUNT}
    assert (pair.a.merged, pair.b.rx_packets) == (0, 0)
