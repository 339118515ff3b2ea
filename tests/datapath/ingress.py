"""What a frame I/O does to an Skb when it reads a frame, but without any device."""

from tests.kit.frames import frame
from vethd.datapath.netdev import NetDevice, join
from vethd.datapath.skb import Skb
from vethd.datapath.softnet import SoftnetData

HDR_LEN = 10
A_MAC = bytes.fromhex("027674000001")
B_MAC = bytes.fromhex("027674000002")


def read_frame(softnet: SoftnetData, data: bytes, header: bytes = bytes(HDR_LEN)) -> Skb:
    """An Skb from the pool that holds `header` and the frame, as if it had just been read."""
    skb = softnet.pool.alloc()
    whole = header + data
    skb.data[: len(whole)] = whole
    skb.len = len(data)
    return skb


def read_runt(softnet: SoftnetData, size: int) -> Skb:
    """An Skb for a read of only `size` bytes, virtio header included: its length may be negative."""
    skb = softnet.pool.alloc()
    skb.len = size - HDR_LEN
    return skb


def make_pair(
    first: int = 1, *, mtu: int = 1500, carrier: bool = True, b_netns: int = 2
) -> tuple[NetDevice, NetDevice]:
    """Two joined ends, numbered `first` and `first + 1`, end A in namespace 1."""
    a = NetDevice(first, mtu=mtu, address=A_MAC, netns=1, carrier=carrier, hdr_len=HDR_LEN)
    b = NetDevice(first + 1, mtu=mtu, address=B_MAC, netns=b_netns, carrier=carrier, hdr_len=HDR_LEN)
    join(a, b)
    return a, b


def to_b(size: int = 60) -> bytes:
    """A frame of `size` bytes from A's address to B's."""
    return frame(size, B_MAC, A_MAC)


def take_all(softnet: SoftnetData) -> list[bytes]:
    """Everything in the backlog, oldest first, as frames; the Skbs go back to the pool."""
    frames: list[bytes] = []
    while batch := softnet.process_backlog(softnet.dev_weight):
        frames += [skb.frame() for skb in batch]
        softnet.pool.free_batch(batch)
    return frames
