"""AF_PACKET sockets: putting frames on a link and seeing what arrives, with all the kernel knows about them."""

import errno
import fcntl
import socket
import struct
import termios
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.kit.frames import TEST_ETHERTYPE
from tests.kit.netns import inside

SOL_PACKET = 263
PACKET_ADD_MEMBERSHIP, PACKET_STATISTICS, PACKET_AUXDATA, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 1, 6, 8, 15, 23
PACKET_MR_PROMISC = 1
ETH_P_ALL = 3
SO_RCVBUFFORCE, SO_SNDBUFFORCE = 33, 32
PKTTYPES = ("HOST", "BROADCAST", "MULTICAST", "OTHERHOST", "OUTGOING", "LOOPBACK")
TP_STATUS_CSUMNOTREADY, TP_STATUS_VLAN_VALID, TP_STATUS_CSUM_VALID = 1 << 3, 1 << 4, 1 << 7
VNET_HDR = struct.Struct("<BBHHHH")
AUXDATA = struct.Struct("=IIIHHHH")


@dataclass(frozen=True)
class VnetHeader:
    """`struct virtio_net_hdr`: what the kernel knows about checksum and segmentation of a frame."""

    flags: int = 0
    gso_type: int = 0
    hdr_len: int = 0
    gso_size: int = 0
    csum_start: int = 0
    csum_offset: int = 0

    def pack(self) -> bytes:
        return VNET_HDR.pack(self.flags, self.gso_type, self.hdr_len, self.gso_size, self.csum_start, self.csum_offset)


@dataclass(frozen=True)
class Arrival:
    """One frame as a packet socket saw it. A VLAN tag the kernel took out of the frame stands in `vlan`."""

    data: bytes
    length: int
    pkttype: str
    protocol: int
    csum_not_ready: bool
    vlan: tuple[int, int] | None
    vnet: VnetHeader | None

    @property
    def ethertype(self) -> int:
        return int(struct.unpack_from("!H", self.data, 12)[0])


class PacketSocket:
    """A packet socket bound to one device of one namespace; it pins the namespace until closed."""

    def __init__(
        self, netns: str, ifname: str, *, vnet_hdr: bool = False, ethertype: int = ETH_P_ALL, outgoing: bool = False
    ) -> None:
        self.vnet_hdr = vnet_hdr
        self._socket = inside(netns, self._open, ifname, ethertype, outgoing)

    def _open(self, ifname: str, ethertype: int, outgoing: bool) -> socket.socket:
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        try:
            raw.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
            raw.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 8 << 20)
            raw.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
            if not outgoing:
                raw.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            if self.vnet_hdr:
                raw.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
            raw.bind((ifname, ethertype))
        except OSError:
            raw.close()
            raise
        return raw

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def set_mark(self, mark: int) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, 36, mark)  # SO_MARK

    def set_priority(self, priority: int) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, 12, priority)  # SO_PRIORITY

    def set_option(self, option: int, value: bytes) -> None:
        """Set a SOL_SOCKET option that takes bytes."""
        self._socket.setsockopt(socket.SOL_SOCKET, option, value)

    def send(self, data: bytes, header: VnetHeader | None = None) -> None:
        """Transmit one frame; OSError says what the kernel answered."""
        prefix = (header or VnetHeader()).pack() if self.vnet_hdr else b""
        self._socket.send(prefix + data)

    def try_send(self, data: bytes, header: VnetHeader | None = None) -> str:
        """Transmit one frame and return `ok` or the name of the error, such as `ENOBUFS`."""
        try:
            self.send(data, header)
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, str(error))
        return "ok"

    def receive(self, within: float = 5.0) -> Arrival | None:
        """Return the next frame, or None when nothing came within that many seconds."""
        self._socket.settimeout(within)
        try:
            data, ancillary, _, address = self._socket.recvmsg(1 << 18, 256)
        except (TimeoutError, BlockingIOError):
            return None
        vnet = None
        if self.vnet_hdr:
            vnet, data = VnetHeader(*VNET_HDR.unpack_from(data)), data[VNET_HDR.size :]
        status, length, vlan = 0, len(data), None
        for level, kind, value in ancillary:
            if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
                status, length, _, _, _, tci, tpid = AUXDATA.unpack(value[: AUXDATA.size])
                vlan = (tpid, tci) if status & TP_STATUS_VLAN_VALID else None
        return Arrival(
            data=data,
            length=length,
            pkttype=PKTTYPES[address[2]] if address[2] < len(PKTTYPES) else str(address[2]),
            protocol=address[1],
            csum_not_ready=bool(status & TP_STATUS_CSUMNOTREADY),
            vlan=vlan,
            vnet=vnet,
        )

    def collect(
        self, count: int, within: float = 5.0, wanted: Callable[[Arrival], bool] = lambda arrival: True
    ) -> list[Arrival]:
        """Return up to `count` frames that `wanted` accepts, as soon as they are there or when time is up."""
        deadline = time.monotonic() + within
        got: list[Arrival] = []
        while len(got) < count and (left := deadline - time.monotonic()) > 0:
            arrival = self.receive(left)
            if arrival is not None and wanted(arrival):
                got.append(arrival)
        return got

    def waiting(self) -> list[Arrival]:
        """Return everything that has arrived already, without waiting."""
        got: list[Arrival] = []
        while (arrival := self.receive(0)) is not None:
            got.append(arrival)
        return got

    def unsent(self) -> int:
        """Return how many bytes of kernel memory still wait on behalf of this sender (SIOCOUTQ)."""
        return int(struct.unpack("=i", fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4)))[0])

    def overruns(self) -> int:
        """Return how many frames this socket itself lost since the last call, because its buffer was full."""
        data = self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
        return int(struct.unpack("=II", data)[1])


def send_and_collect(
    sender: PacketSocket,
    receiver: PacketSocket,
    frames: Iterable[bytes],
    *,
    window: int = 128,
    within: float = 5.0,
    ethertype: int = TEST_ETHERTYPE,
) -> list[Arrival]:
    """Send frames in windows, each received before the next goes out, so that no queue on the way can overflow.

    The frames must all have `ethertype`, by which they are told from other traffic.
    """
    got: list[Arrival] = []
    batch: list[bytes] = []

    def flush() -> bool:
        for data in batch:
            sender.send(data)
        arrived = receiver.collect(len(batch), within, lambda arrival: arrival.ethertype == ethertype)
        got.extend(arrived)
        complete = len(arrived) == len(batch)
        batch.clear()
        return complete

    for data in frames:
        batch.append(data)
        if len(batch) == window and not flush():
            return got
    flush()
    return got
