"""Merged frames meet a kernel: it takes every kind, as one; of one that it refuses, all that went in are dropped."""

from __future__ import annotations

from contextlib import closing

import pytest

from tests.datapath.flows import Packet, cut, finish
from tests.frameio.taps import Tap, Taps
from tests.frameio.ways import MakeFrameIO
from tests.kit.ippackets import IPPROTO_TCP, IPPROTO_UDP
from tests.kit.packets import PacketSocket
from vethd.datapath.gro import napi_gro_receive
from vethd.datapath.netdev import NetDevice, join
from vethd.datapath.softnet import SoftnetData
from vethd.datapath.veth import ingest
from vethd.drops import DropPoint

COUNT = 20


class Wire:
    """From an end that nobody reads to a TAP for which frames are merged."""

    def __init__(self, make: MakeFrameIO, tap: Tap) -> None:
        self.softnet = SoftnetData()
        self.io = make(self.softnet)
        self.a = NetDevice(1, carrier=True, hdr_len=tap.hdr_len)
        self.b = NetDevice(2, tap.fd, carrier=True, hdr_len=tap.hdr_len, gro=True)
        join(self.a, self.b)

    def carry(self, packets: list[Packet]) -> None:
        """Forward these packets as one batch, and see that the books balance."""
        for packet in packets:
            whole = packet.header().pack().ljust(self.a.hdr_len, b"\0") + packet.frame()
            skb = self.softnet.pool.alloc()
            skb.data[: len(whole)] = whole
            skb.len = len(whole) - self.a.hdr_len
            ingest(self.a, [skb], self.softnet, 0)
        self.io.deliver(napi_gro_receive(self.softnet.process_backlog(1000), self.softnet))
        assert self.a.read == self.b.rx_packets + self.a.merged + sum(self.a.drops)
        self.io.close()
        assert self.softnet.pool.in_use == 0


def stream(first: Packet) -> list[Packet]:
    """COUNT packets in sequence, each with its number as payload."""
    size = 100
    return [
        Packet(
            bytes([number]) * size,
            protocol=first.protocol,
            ipv6=first.ipv6,
            tci=first.tci,
            seq=1 + size * number,
            ident=number,
        )
        for number in range(COUNT)
    ]


@pytest.mark.parametrize("best", [False, True], ids=["header of 10", "longest header"])
@pytest.mark.parametrize("tci", [None, 5], ids=["untagged", "tagged"])
@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("protocol", [IPPROTO_TCP, IPPROTO_UDP], ids=["TCP", "UDP"])
def test_the_kernel_takes_a_merged_frame_as_one(
    taps: Taps, make_frameio: MakeFrameIO, protocol: int, ipv6: bool, tci: int | None, best: bool
) -> None:
    tap = taps.make(best=best)
    wire = Wire(make_frameio, tap)
    packets = stream(Packet(b"", protocol=protocol, ipv6=ipv6, tci=tci))
    before = tap.kernel("rx_packets")
    with closing(PacketSocket(tap.netns, tap.name, vnet_hdr=True)) as receiver:
        wire.carry(packets)
        (arrival,) = receiver.collect(1)
    assert (wire.b.rx_packets, tap.kernel("rx_packets") - before, wire.a.merged) == (1, 1, COUNT - 1)
    assert (arrival.vlan is None) == (tci is None)
    plain = stream(Packet(b"", protocol=protocol, ipv6=ipv6))  # the kernel takes the tag out
    assert arrival.vnet is not None
    assert cut(arrival.vnet.pack(), arrival.data) == [finish(packet.header(), packet.frame()) for packet in plain]


@pytest.mark.parametrize("protocol", [IPPROTO_TCP, IPPROTO_UDP], ids=["TCP", "UDP"])
def test_all_frames_of_a_merged_one_are_dropped_with_it(taps: Taps, make_frameio: MakeFrameIO, protocol: int) -> None:
    wire = Wire(make_frameio, taps.make(up=False))
    wire.carry(stream(Packet(b"", protocol=protocol)))
    assert (wire.b.rx_packets, wire.a.merged) == (0, 0)
    assert wire.a.drops[DropPoint.DEV_READY] == COUNT
    assert wire.a in wire.softnet.touched


def test_frames_around_a_merged_one_that_is_refused_count_for_themselves(taps: Taps, make_frameio: MakeFrameIO) -> None:
    tap = taps.make(up=False)
    wire = Wire(make_frameio, tap)
    packets = stream(Packet(b""))
    alone = Packet(b"alone", ports=(1, 2))
    wire.carry([*packets[:5], alone, *packets[5:8], alone])
    assert wire.a.drops[DropPoint.DEV_READY] == 10
    assert wire.a.merged == 0
