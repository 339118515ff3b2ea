"""steering.py: all frames of a flow come out of one queue, whatever is sent, however, and whatever comes back."""

from __future__ import annotations

import errno
import os
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.host.conftest import HostThread
from tests.kit.commands import in_netns, ip
from tests.kit.frames import ETH_P_8021AD, ETH_P_8021Q, ETH_P_IP, frame, mac
from tests.kit.ippackets import IPPROTO_TCP, IPPROTO_UDP, packet
from tests.kit.links import read_link
from tests.kit.netns import Namespaces
from tests.kit.packets import PacketSocket
from tests.kit.waiting import eventually
from vethd.errors import KernelRefused
from vethd.host import steering, tap

QUEUES = 4
HDR_LEN = 10
MACS = "02:00:00:00:00:02", "02:00:00:00:00:01"
V4, V6 = ("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")
PROTOCOLS = {"TCP": 6, "UDP": 17, "DCCP": 33, "SCTP": 132, "UDP-Lite": 136}


@dataclass
class Device:
    """A TAP of several queues, up, and a packet socket on it."""

    fds: list[int]
    name: str
    netns: str
    socket: PacketSocket

    def queue_of(self, data: bytes) -> int:
        """Send a frame; the queue it comes out of."""
        self.socket.send(data)
        (queue,) = [queue for queue, fd in enumerate(self.fds) for _frame in waiting(fd)]
        return queue

    def queues_of(self, *frames: bytes) -> set[int]:
        return {self.queue_of(data) for data in frames}


def waiting(fd: int) -> Iterator[bytes]:
    while True:
        try:
            yield os.read(fd, 1 << 17)[HDR_LEN:]
        except BlockingIOError:
            return


@pytest.fixture
def device(host: HostThread, netns: Namespaces) -> Iterator[Device]:
    """Steered, and with a carrier."""
    where = netns.make()
    fds = host.do_in(where, tap.open_queues, "steered", QUEUES)
    try:
        steering.steer(fds[0])
        ip(where, "link", "set", "dev", "steered", "up")
        tap.set_carrier(fds[0], True)
        eventually(lambda: read_link(where, "steered").operstate, lambda state: state == "UP", "it has a carrier")
        with PacketSocket(where, "steered") as socket:
            for fd in fds:
                list(waiting(fd))
            yield Device(fds, "steered", where, socket)
    finally:
        for fd in fds:
            os.close(fd)


def udp(ports: tuple[int, int] = (1000, 2000), length: int = 8, addresses: tuple[str, str] = V4) -> bytes:
    return packet(*MACS, *addresses, protocol=IPPROTO_UDP, payload=bytes(length), ports=ports)


def tagged(data: bytes, *tags: tuple[int, int]) -> bytes:
    return data[:12] + b"".join(struct.pack("!HH", tpid, tci) for tpid, tci in tags) + data[12:]


def fragment(data: bytes, flags_and_offset: int) -> bytes:
    """An IPv4 frame as a fragment; its checksum is none of the program's business."""
    return data[:20] + struct.pack("!H", flags_and_offset) + data[22:]


def with_protocol(data: bytes, protocol: int) -> bytes:
    at = 23 if data[12:14] == struct.pack("!H", ETH_P_IP) else 20
    return data[:at] + bytes([protocol]) + data[at + 1 :]


@pytest.mark.parametrize("addresses", [V4, V6])
def test_the_length_of_a_frame_does_not_matter_with_tags_or_without(device: Device, addresses: tuple[str, str]) -> None:
    """Untagged, tagged and doubly tagged: one flow; the driver's own choice goes by the length of tagged ones."""
    for port in range(8):
        frames = [udp((port, 80), length, addresses) for length in range(0, 400, 23)]
        one = [tagged(data, (ETH_P_8021Q, 5)) for data in frames]
        two = [tagged(data, (ETH_P_8021AD, 7), (ETH_P_8021Q, 5)) for data in frames]
        assert len(device.queues_of(*frames, *one, *two)) == 1


def test_frames_with_a_length_for_an_ethertype_are_one_flow_per_pair_of_macs(device: Device) -> None:
    frames = [frame(14 + length, *MACS, ethertype=length) for length in range(46, 100)]
    assert len(device.queues_of(*frames)) == 1


def test_what_comes_back_moves_nothing(device: Device) -> None:
    """The driver by itself would move a flow to the queue into which its answers are written."""
    queue = device.queue_of(udp())
    answer = packet(MACS[1], MACS[0], *reversed(V4), protocol=IPPROTO_UDP, payload=b"", ports=(2000, 1000))
    for fd in device.fds:
        os.write(fd, bytes(HDR_LEN) + answer)
        assert device.queue_of(udp()) == queue


def test_both_directions_have_the_same_queue(device: Device) -> None:
    for addresses in (V4, V6):
        for port in range(1000, 1064):
            there = packet(*MACS, *addresses, protocol=IPPROTO_TCP, payload=b"", ports=(port, 80))
            back = packet(*reversed(MACS), *reversed(addresses), protocol=IPPROTO_TCP, payload=b"", ports=(80, port))
            assert device.queue_of(there) == device.queue_of(back)


def spread(device: Device, frames: list[bytes]) -> Counter[int]:
    return Counter(device.queue_of(data) for data in frames)


@pytest.mark.parametrize("addresses", [V4, V6])
@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_flows_spread_by_their_ports(device: Device, addresses: tuple[str, str], protocol: int) -> None:
    found = spread(device, [with_protocol(udp((port, 80), addresses=addresses), protocol) for port in range(64)])
    assert sorted(found) == list(range(QUEUES))
    assert max(found.values()) <= 32


def test_flows_spread_by_their_addresses(device: Device) -> None:
    """Also when they differ in the highest bits only."""
    for addresses in (
        [f"10.0.{number}.1" for number in range(64)],
        [f"10.0.0.{number + 1}" for number in range(64)],
        [f"{number + 1}.0.0.1" for number in range(64)],
        [f"2001:db8:{number:x}::1" for number in range(64)],
    ):
        peer = "2001:db8::ffff" if ":" in addresses[0] else "192.0.2.1"
        found = spread(device, [with_protocol(udp(addresses=(address, peer)), 47) for address in addresses])
        assert sorted(found) == list(range(QUEUES)), addresses


def test_other_frames_spread_by_their_macs(device: Device) -> None:
    found = spread(device, [frame(60, MACS[0], mac("02:00:00:00:01:00")[:5] + bytes([n])) for n in range(64)])
    assert sorted(found) == list(range(QUEUES))


def test_all_fragments_of_two_hosts_are_one_flow(device: Device) -> None:
    """A later fragment has no ports; so neither does the first one count them."""
    fragments = [
        fragment(udp((port, 80)), flags) for port in range(1000, 1016) for flags in (0x2000, 0x2010, 0x0020, 0x1FFF)
    ]
    assert len(device.queues_of(*fragments)) == 1
    dont_fragment = [fragment(udp((port, 80)), 0x4000) for port in range(1000, 1064)]
    assert len(device.queues_of(*dont_fragment)) == QUEUES


def test_ports_behind_options_are_found(device: Device) -> None:
    """An IPv4 header of 24 bytes."""

    def with_options(port: int) -> bytes:
        data = udp((port, 80))
        return data[:14] + b"\x46" + data[15:34] + bytes(4) + data[34:]

    for port in range(1000, 1016):
        assert device.queue_of(with_options(port)) == device.queue_of(udp((port, 80)))


def test_a_frame_that_ends_too_early_goes_to_the_first_queue(device: Device) -> None:
    for length in (14, 15, 30, 33, 35, 37):
        assert device.queue_of(udp()[:length]) == 0
    assert device.queue_of(tagged(udp(), (ETH_P_8021Q, 5))[:16]) == 0


def test_segments_of_a_stack_keep_their_queue(device: Device) -> None:
    """Not packet sockets alone: what a socket sends, and the stack cuts or tags, is steered the same."""
    ip(device.netns, "address", "add", "192.0.2.1/24", "dev", device.name)
    ip(device.netns, "neigh", "add", "192.0.2.2", "lladdr", MACS[0], "dev", device.name)
    script = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('192.0.2.1', 1000));"
        " [s.sendto(bytes(n), ('192.0.2.2', 2000)) for n in range(1, 1400, 20)]"
    )
    in_netns(device.netns, "python3", "-c", script)
    arrived = {queue: list(waiting(fd)) for queue, fd in enumerate(device.fds)}
    assert [queue for queue, frames in arrived.items() if frames] == [device.queue_of(udp())]


def test_a_kernel_that_refuses_the_program_says_what_to_do(
    make_tap: Callable[[str], tuple[int, str]], netns: Namespaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    fd, _name = make_tap(netns.make())
    monkeypatch.setattr(steering, "_BPF_SYSCALL", {})
    with pytest.raises(KernelRefused, match=r"bpf\(BPF_PROG_LOAD\): Function not implemented") as refused:
        steering.steer(fd)
    assert refused.value.errno == errno.ENOSYS
    assert "numqueues 1" in str(refused.value.hint)


def test_a_program_that_is_not_loaded_is_an_error(
    make_tap: Callable[[str], tuple[int, str]], netns: Namespaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    fd, _name = make_tap(netns.make())
    monkeypatch.setattr(steering, "_BPF_PROG_TYPE_SOCKET_FILTER", 9999)
    with pytest.raises(OSError, match="Invalid argument") as refused:
        steering.steer(fd)
    assert refused.value.errno == errno.EINVAL


def test_a_device_that_is_gone_has_nothing_to_steer(
    make_tap: Callable[[str], tuple[int, str]], netns: Namespaces
) -> None:
    where = netns.make()
    fd, name = make_tap(where)
    ip(where, "link", "del", "dev", name)
    with pytest.raises(OSError, match="bad state") as gone:
        steering.steer(fd)
    assert gone.value.errno == errno.EBADFD
