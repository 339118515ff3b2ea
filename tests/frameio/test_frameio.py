"""Each frame I/O on real TAPs: what each answer of the kernel to a read or a write comes to."""

import errno
import os
import socket
import tty
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from tests.frameio.taps import Tap, Taps
from tests.frameio.ways import MakeFrameIO, start_without_loop
from tests.kit.frames import BROADCAST, ETH_P_IP, checksum, frame, number_of, numbered
from tests.kit.netns import inside
from tests.kit.packets import PacketSocket, VnetHeader
from vethd.datapath.netdev import NetDevice, join
from vethd.datapath.softnet import SoftnetData
from vethd.datapath.veth import ingest
from vethd.drops import N_POINTS, DropPoint
from vethd.frameio.base import DeviceGone, drop_point
from vethd.host import tap

TCPV4 = 1
ETH_P_8021Q = 0x8100


def interfaces() -> list[str]:
    """Names of the devices in this namespace."""
    return [name for _index, name in socket.if_nameindex()]


class Wire:
    """Two ends, a backlog and frame I/O between them: `carry` moves what waits at A to B."""

    def __init__(self, make: MakeFrameIO, a_fd: int, b_fd: int, *, hdr_len: int = 10, mtu: int = 1500) -> None:
        self.softnet = SoftnetData()
        self.io = make(self.softnet)
        self.a = NetDevice(1, a_fd, mtu=mtu, netns=1, carrier=True, hdr_len=hdr_len)
        self.b = NetDevice(2, b_fd, mtu=mtu, netns=2, carrier=True, hdr_len=hdr_len)
        join(self.a, self.b)
        start_without_loop(self.io, self.a, self.b)

    def read(self, quota: int = 64) -> int:
        """Read from A into the backlog; returns the number of frames."""
        batch = self.io.receive(self.a, quota)
        ingest(self.a, batch, self.softnet, 0)
        return len(batch)

    def read_back(self) -> int:
        """Read from B into the backlog; returns the number of frames."""
        batch = self.io.receive(self.b, 64)
        ingest(self.b, batch, self.softnet, 0)
        return len(batch)

    def write(self) -> None:
        """Deliver the whole backlog."""
        while batch := self.softnet.process_backlog(64):
            self.io.deliver(batch)

    def carry(self) -> int:
        count = self.read()
        self.write()
        return count

    def put(self, data: bytes, header: bytes = bytes(10)) -> None:
        """Put a frame into the backlog as if it had been read from A."""
        skb = self.softnet.pool.alloc()
        skb.data[: len(header) + len(data)] = header + data
        skb.len = len(data)
        ingest(self.a, [skb], self.softnet, 0)

    def drops(self) -> dict[DropPoint, int]:
        """The drop points of A that counted anything."""
        return {point: self.a.drops[point] for point in DropPoint if self.a.drops[point]}


@pytest.fixture
def wire_between(make_frameio: MakeFrameIO) -> Iterator[Callable[..., Wire]]:
    """A function that makes a wire: after the test its equation must hold and its pool must be whole."""
    wires: list[Wire] = []

    def make(a_fd: int, b_fd: int, *, hdr_len: int = 10, mtu: int = 1500) -> Wire:
        wires.append(Wire(make_frameio, a_fd, b_fd, hdr_len=hdr_len, mtu=mtu))
        return wires[-1]

    yield make
    for wire in wires:
        for start, finish in ((wire.a, wire.b), (wire.b, wire.a)):
            assert start.read == finish.rx_packets + start.merged + sum(start.drops)
        wire.io.close()
        assert wire.softnet.pool.in_use == 0


@pytest.fixture
def make_wire(taps: Taps, wire_between: Callable[..., Wire]) -> Callable[..., tuple[Wire, Tap, Tap]]:
    """A function that makes a wire between two TAPs."""

    def make(*, mtu: int = 1500, b_up: bool = True, best: bool = False) -> tuple[Wire, Tap, Tap]:
        a, b = taps.make(mtu=mtu, best=best), taps.make(mtu=mtu, up=b_up, best=best)
        return wire_between(a.fd, b.fd, hdr_len=a.hdr_len, mtu=mtu), a, b

    return make


MakeWire = Callable[..., tuple[Wire, Tap, Tap]]


def tcp_segment_train(size: int) -> tuple[bytes, VnetHeader]:
    """A TCPv4 frame of `size` bytes with its checksum still to be computed, and the header that makes it GSO."""
    total = size - 14
    head = bytes.fromhex("4500") + total.to_bytes(2, "big") + bytes.fromhex("0001 4000 40 06 0000 0a000001 0a000002")
    head = head[:10] + checksum(head).to_bytes(2, "big") + head[12:]
    tcp = bytes.fromhex("1389 138a 00000001 00000001 5010 ffff 0000 0000")
    data = frame(size, ethertype=ETH_P_IP, payload=head + tcp)
    return data, VnetHeader(1, TCPV4, 54, 1448, 34, 16)


def test_a_batch_is_read_oldest_first(make_wire: MakeWire) -> None:
    wire, a, b = make_wire()
    with closing(PacketSocket(a.netns, a.name)) as sender, closing(PacketSocket(b.netns, b.name)) as receiver:
        for number in range(5):
            sender.send(numbered(number))
        assert wire.carry() == 5
        assert [number_of(arrival.data) for arrival in receiver.collect(5)] == [0, 1, 2, 3, 4]
    assert (wire.a.read, wire.a.tx_packets, wire.b.rx_packets, wire.b.rx_bytes) == (5, 5, 5, 300)
    assert (a.kernel("tx_packets"), b.kernel("rx_packets")) == (5, 5)


def test_no_more_frames_are_read_than_the_quota(make_wire: MakeWire) -> None:
    wire, a, _b = make_wire()
    with closing(PacketSocket(a.netns, a.name)) as sender:
        for number in range(5):
            sender.send(numbered(number))
    assert [wire.read(quota) for quota in (2, 0, 2, 2, 2)] == [2, 0, 2, 1, 0]
    wire.write()


def test_reading_an_idle_end_gives_nothing_and_takes_no_skb(make_wire: MakeWire) -> None:
    wire, _a, _b = make_wire()
    assert wire.io.receive(wire.a, 64) == []
    wire.io.close()
    assert wire.softnet.pool.in_use == 0


def test_reading_a_deleted_device_says_that_it_is_gone(make_wire: MakeWire) -> None:
    wire, a, _b = make_wire()
    a.delete()
    with pytest.raises(DeviceGone) as caught:
        wire.io.receive(wire.a, 64)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.EBADFD


def test_frames_read_before_an_error_are_not_lost_to_it(wire_between: Callable[..., Wire]) -> None:
    """A terminal whose other side is closed gives what was written to it, then EIO."""
    here, there = os.openpty()
    try:
        tty.setraw(there)
        os.set_blocking(here, False)
        os.write(there, bytes(10) + numbered(0))
        os.close(there)
        wire = wire_between(here, -1)
        batch = wire.io.receive(wire.a, 64)
        assert [number_of(skb.data[10 : 10 + skb.len].tobytes()) for skb in batch] == [0]
        wire.softnet.pool.free_batch(batch)
        with pytest.raises(DeviceGone) as caught:
            wire.io.receive(wire.a, 64)
    finally:
        os.close(here)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.EIO


@pytest.mark.parametrize("waiting", [63, 64, 65, 200])
def test_batches_keep_their_order_whatever_their_length(make_wire: MakeWire, waiting: int) -> None:
    wire, a, b = make_wire()
    with closing(PacketSocket(a.netns, a.name)) as sender, closing(PacketSocket(b.netns, b.name)) as receiver:
        for number in range(waiting):
            sender.send(numbered(number))
        while wire.read(500):
            pass
        wire.io.deliver(wire.softnet.process_backlog(500))
        assert [number_of(arrival.data) for arrival in receiver.collect(waiting)] == list(range(waiting))


def test_ten_thousand_frames_arrive_in_order_in_both_directions(make_wire: MakeWire) -> None:
    """Written and read in the same passes, with a ring of 1000 that is never full."""
    wire, a, b = make_wire()
    with (
        closing(PacketSocket(a.netns, a.name)) as at_a,
        closing(PacketSocket(b.netns, b.name)) as at_b,
    ):
        for start in range(0, 10_000, 500):
            numbers = list(range(start, start + 500))
            for number in numbers:
                at_a.send(numbered(number))
                at_b.send(numbered(number))
            while wire.read() + wire.read_back():
                wire.write()
            for end in (at_a, at_b):
                assert [number_of(arrival.data) for arrival in end.collect(500)] == numbers
    assert (wire.b.rx_packets, wire.a.rx_packets, wire.drops()) == (10_000, 10_000, {})


def test_detaching_gives_back_what_was_read_and_leaves_the_rest(make_wire: MakeWire) -> None:
    wire, a, _b = make_wire()
    with closing(PacketSocket(a.netns, a.name)) as sender:
        for number in range(200):
            sender.send(numbered(number))
    received = wire.io.receive(wire.a, 2)
    returned = wire.io.detach(wire.a)
    seen = [number_of(skb.data[10 : 10 + skb.len].tobytes()) for skb in received + returned]
    while len(seen) < 200:
        seen.append(number_of(os.read(a.fd, 2000)[10:]))
    assert seen == list(range(200))
    with pytest.raises(BlockingIOError):
        os.read(a.fd, 2000)
    wire.softnet.pool.free_batch(received + returned)
    assert wire.io.detach(wire.a) == []


def test_a_detached_device_goes_when_its_fd_is_closed(make_wire: MakeWire) -> None:
    wire, a, _b = make_wire()
    wire.io.receive(wire.a, 64)
    assert a.name in inside(a.netns, interfaces)
    wire.io.detach(wire.a)
    a.close()
    assert a.name not in inside(a.netns, interfaces)


def test_a_burst_of_a_whole_ring_is_read_without_loss(make_wire: MakeWire) -> None:
    """Sixteen times as many frames as buffers wait already: reads end without one again and again."""
    wire, a, b = make_wire()
    with closing(PacketSocket(a.netns, a.name)) as sender, closing(PacketSocket(b.netns, b.name)) as receiver:
        for start in (0, 1000):
            for number in range(start, start + 1000):
                sender.send(numbered(number))
            while wire.carry():
                pass
        assert [number_of(arrival.data) for arrival in receiver.collect(2000)] == list(range(2000))
    assert (a.kernel("tx_dropped"), wire.b.rx_packets, wire.drops()) == (0, 2000, {})


def test_a_frame_is_delivered_though_the_carrier_is_off(make_wire: MakeWire) -> None:
    wire, _a, b = make_wire()
    tap.set_carrier(b.fd, False)
    wire.put(numbered(1))
    wire.write()
    assert (wire.b.rx_packets, b.kernel("rx_packets"), wire.drops()) == (1, 1, {})


def test_a_write_to_a_device_that_is_down_is_dev_ready(make_wire: MakeWire) -> None:
    wire, _a, b = make_wire(b_up=False)
    wire.put(numbered(1))
    wire.write()
    assert wire.drops() == {DropPoint.DEV_READY: 1}
    assert (wire.b.rx_packets, b.kernel("rx_packets"), b.kernel("rx_dropped")) == (0, 0, 1)
    assert wire.io.gone == []
    b.set_up()
    wire.put(numbered(2))
    wire.write()
    assert (wire.b.rx_packets, b.kernel("rx_packets"), wire.drops()) == (1, 1, {DropPoint.DEV_READY: 1})


def test_a_header_that_the_kernel_refuses_is_hdr_invalid(make_wire: MakeWire) -> None:
    wire, _a, b = make_wire()
    before = b.kernel("rx_dropped")
    wire.put(numbered(1), VnetHeader(gso_type=TCPV4, gso_size=0).pack())
    wire.write()
    assert wire.drops() == {DropPoint.HDR_INVALID: 1}
    assert (wire.b.rx_packets, b.kernel("rx_packets"), b.kernel("rx_dropped")) == (0, 0, before)
    assert wire.io.gone == []


def test_a_write_to_a_deleted_device_is_write_failed_and_names_the_end_once(make_wire: MakeWire) -> None:
    wire, _a, b = make_wire()
    b.delete()
    for number in range(3):
        wire.put(numbered(number))
    wire.write()
    assert wire.drops() == {DropPoint.WRITE_FAILED: 3}
    assert wire.io.gone == [wire.b]


def test_a_receiver_that_takes_nothing_more_is_write_failed_but_not_gone(wire_between: Callable[..., Wire]) -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with here, there:
        here.setblocking(False)
        wire = wire_between(-1, here.fileno())
        while not wire.drops():
            wire.put(numbered(0))
            wire.write()
        assert wire.drops() == {DropPoint.WRITE_FAILED: 1}
        assert wire.io.gone == []


def test_frames_around_a_failure_are_delivered_in_order(make_wire: MakeWire) -> None:
    wire, _a, b = make_wire()
    with closing(PacketSocket(b.netns, b.name)) as receiver:
        wire.put(numbered(0))
        wire.put(numbered(1), VnetHeader(hdr_len=5).pack())
        wire.put(numbered(2))
        wire.write()
        assert [number_of(arrival.data) for arrival in receiver.collect(2)] == [0, 2]
    assert wire.drops() == {DropPoint.HDR_INVALID: 1}


def test_delivery_and_failure_are_to_be_published_where_they_are_counted(make_wire: MakeWire) -> None:
    wire, _a, b = make_wire()
    touched = wire.softnet.touched

    def settle_touched() -> list[NetDevice]:
        found = list(touched)
        for dev in found:
            dev.touched = False
        touched.clear()
        return found

    wire.put(numbered(0))
    settle_touched()
    wire.write()
    assert settle_touched() == [wire.b]
    b.set_down()
    wire.put(numbered(1))
    settle_touched()
    wire.write()
    assert settle_touched() == [wire.a]


@pytest.mark.parametrize("best", [False, True], ids=["10-byte header", "best header"])
@pytest.mark.parametrize("size", [1600, 65226, 65535])
def test_a_gso_frame_crosses_whole(make_wire: MakeWire, size: int, best: bool) -> None:
    wire, a, b = make_wire(best=best)
    data, header = tcp_segment_train(size)
    with (
        closing(PacketSocket(a.netns, a.name, vnet_hdr=True)) as sender,
        closing(PacketSocket(b.netns, b.name, vnet_hdr=True)) as receiver,
    ):
        sender.send(data, header)
        assert wire.carry() == 1
        arrival = receiver.receive()
    assert arrival is not None
    assert (len(arrival.data), arrival.data == data) == (size, True)
    assert arrival.vnet is not None
    assert (arrival.vnet.gso_type, arrival.vnet.gso_size, arrival.csum_not_ready) == (TCPV4, 1448, True)
    assert (wire.a.tx_bytes, wire.b.rx_bytes) == (size, size)


@pytest.mark.parametrize("tagged", [False, True], ids=["untagged", "with a VLAN tag"])
def test_the_longest_ordinary_frame_crosses_whole(make_wire: MakeWire, tagged: bool) -> None:
    mtu = 65521
    wire, a, b = make_wire(mtu=mtu)
    tags = ((ETH_P_8021Q, 7),) if tagged else ()
    data = frame(mtu + 14 + 4 * len(tags), BROADCAST, tags=tags)
    with (
        closing(PacketSocket(a.netns, a.name)) as sender,
        closing(PacketSocket(b.netns, b.name)) as receiver,
    ):
        sender.send(data)
        assert wire.carry() == 1
        arrival = receiver.receive()
    assert arrival is not None
    assert wire.b.rx_bytes == len(data)
    assert (arrival.vlan, arrival.data[-1000:] == data[-1000:]) == ((ETH_P_8021Q, 7) if tagged else None, True)
    assert len(arrival.data) == mtu + 14


@pytest.mark.parametrize("size", [14, 15, 59, 60, 1514])
def test_a_frame_of_any_length_crosses_unchanged(make_wire: MakeWire, size: int) -> None:
    wire, a, b = make_wire(best=True)
    data = frame(size)
    with closing(PacketSocket(a.netns, a.name)) as sender, closing(PacketSocket(b.netns, b.name)) as receiver:
        sender.send(data)
        assert wire.carry() == 1
        arrival = receiver.receive()
    assert arrival is not None
    assert arrival.data == data


@pytest.mark.parametrize(
    ("error", "point"),
    [
        (errno.EIO, DropPoint.DEV_READY),
        (errno.EINVAL, DropPoint.HDR_INVALID),
        (errno.EBADFD, DropPoint.WRITE_FAILED),
        (errno.EAGAIN, DropPoint.WRITE_FAILED),
        (errno.ENOMEM, DropPoint.WRITE_FAILED),
        (errno.EPIPE, DropPoint.WRITE_FAILED),
        (errno.EFAULT, DropPoint.WRITE_FAILED),
    ],
    ids=errno.errorcode.get,
)
def test_each_error_of_a_write_has_its_drop_point(error: int, point: DropPoint) -> None:
    assert drop_point(error) == point
    assert 0 < drop_point(error) < N_POINTS
