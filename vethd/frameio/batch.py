"""A batch of frames by readv and write, in Python. `_batch.pyx` does the same in C; `syscalls.py` picks one of them.

Both count what they deliver; a write that failed is the caller's to count, for it happens seldom and needs no speed.
"""

from __future__ import annotations

import errno
import os

from vethd.datapath.netdev import NetDevice
from vethd.datapath.skb import Skb, SkbPool
from vethd.datapath.softnet import SoftnetData


def read_batch(dev: NetDevice, quota: int, pool: SkbPool) -> list[Skb]:
    """Read up to `quota` frames from `dev`, oldest first; it ends at the first read that fails.

    Raises OSError when that is the very first one and its errno is not EAGAIN.
    """
    batch: list[Skb] = []
    alloc = pool.alloc
    readv = os.readv
    fd = dev.fd
    hdr_len = dev.hdr_len
    for _ in range(quota):
        skb = alloc()
        try:
            skb.len = readv(fd, skb.iov) - hdr_len
        except BlockingIOError:
            pool.free(skb)
            break
        except OSError:
            pool.free(skb)
            if batch:  # the frames first; the next call meets the error again
                break
            raise
        batch.append(skb)
    return batch


def write_batch(batch: list[Skb], softnet: SoftnetData) -> list[tuple[Skb, int]]:
    """Write each frame to its `skb.dev`, in order, and count those delivered.

    Returns the frame and the errno of each write that failed.
    """
    write = os.write
    touch = softnet.touch
    failed: list[tuple[Skb, int]] = []
    for skb in batch:
        dev = skb.dev
        if dev is None:
            raise AssertionError("a frame in the backlog has no device")
        length = skb.len
        try:
            write(dev.fd, skb.data[: skb.head + length])
        except OSError as error:
            failed.append((skb, error.errno or errno.EIO))
        else:
            dev.rx_packets += 1
            dev.rx_bytes += length
            if not dev.touched:
                touch(dev)
    return failed
