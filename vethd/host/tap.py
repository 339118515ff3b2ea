"""TAP devices: open a queue, set what tun ioctls set, ask an fd about the device behind it.

Every ioctl here takes RTNL and may wait tens of milliseconds behind somebody else's move; none is called on the event
loop. Facts and traps: kernel `drivers/net/tun.c`, Documentation/networking/tuntap.rst.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from contextlib import ExitStack
from typing import Final

import pytun

from vethd.errors import KernelRefused, no_fd_left, tun_missing

_TUNSETOFFLOAD: Final = 0x400454D0
_TUNGETIFF: Final = 0x800454D2
_TUNGETVNETHDRSZ: Final = 0x800454D7
_TUNSETVNETHDRSZ: Final = 0x400454D8
_TUNSETCARRIER: Final = 0x400454E2
_TUNGETDEVNETNS: Final = 0x54E3
_SIOCGIFHWADDR: Final = 0x8927

_IFF_NO_CARRIER: Final = 0x0040
_IFF_VNET_HDR: Final = 0x4000
_IFF_TUN_EXCL: Final = 0x8000

#: Longest interface name, bytes (IFNAMSIZ - 1). The kernel would cut a longer one silently.
NAME_MAX: Final = 15
MTU_MIN: Final = 68
#: A TAP's max_mtu; kernel veth has 65535.
MTU_MAX: Final = 65521
#: Most queues of one TAP (MAX_TAP_QUEUES).
QUEUES_MAX: Final = 256

#: TUNSETOFFLOAD value and the virtio header size it needs, from most to least. 0x1ef: checksum, TSO 4 and 6, ECN, USO,
#: UDP tunnels (6.17 and later); 0x6f: without tunnels; 0x0f: without USO; 0: none.
OFFLOADS: Final[tuple[tuple[int, int], ...]] = ((0x1EF, 24), (0x6F, 10), (0x0F, 10), (0, 10))
_TUN_F_USO4: Final = 0x20
_OFFLOAD_NAMES: Final = (
    (0x01, "tx-checksum"),
    (0x02, "tso4"),
    (0x04, "tso6"),
    (0x08, "tso-ecn"),
    (_TUN_F_USO4, "uso4"),
    (0x40, "uso6"),
    (0x80, "udp-tunnel"),
    (0x100, "udp-tunnel-csum"),
)

#: What TUNGETDEVNETNS says of a device that is gone (EBADFD), or about to go because its namespace dies (EINVAL).
GONE: Final = frozenset({errno.EBADFD, errno.EINVAL})


def open_queues(name: str, count: int) -> list[int]:
    """Create the TAP `name` with so many queues in the calling thread's namespace and return their fds.

    It has a virtio header, no carrier, and goes away with its last fd. Raises what open_queue does; nothing is left
    then.
    """
    if count == 1:
        return [open_queue(name)]
    with ExitStack() as undo:
        fds = [open_queue(name, pytun.IFF_MULTI_QUEUE | _IFF_TUN_EXCL)]
        undo.callback(os.close, fds[0])
        made = current_name(fds[0])  # `name` may have been a pattern
        for _ in range(1, count):
            fds.append(open_queue(made, pytun.IFF_MULTI_QUEUE))
            undo.callback(os.close, fds[-1])
        if len({_address(fd) for fd in fds}) > 1:  # moved or renamed by somebody, and TUNSETIFF made another device
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        undo.pop_all()
    return fds


def _address(fd: int) -> bytes:
    """The MAC of the device behind fd; each new device has a random one."""
    request: bytes = fcntl.ioctl(fd, _SIOCGIFHWADDR, bytes(40))
    return request[18:24]


def open_queue(name: str, flags: int = _IFF_TUN_EXCL) -> int:
    """Open a queue of the TAP `name` in the calling thread's namespace; its fd, non-blocking and close-on-exec.

    flags: with IFF_TUN_EXCL a device is created, without it the queue is added to one that exists. Raises TunMissing
    when /dev/net/tun can't be used, LimitReached when no fd is free, KernelRefused when the kernel refuses the device
    (EBUSY: the name is taken).
    """
    flags |= pytun.IFF_TAP | pytun.IFF_NO_PI | _IFF_VNET_HDR | _IFF_NO_CARRIER
    try:
        device = pytun.TunTapDevice(name=name, flags=flags)
    except pytun.Error as error:
        number = error.args[0] if error.args and isinstance(error.args[0], int) else errno.EIO
        if number in (errno.EBUSY, errno.EINVAL):
            raise KernelRefused(
                f"TAP {name}: {os.strerror(number)}", hint="does a device of that name exist already?", errno=number
            ) from error
        if number in (errno.EMFILE, errno.ENFILE):
            raise no_fd_left("/dev/net/tun: ", number) from error
        raise tun_missing(number) from error
    try:
        # pytun's own fd is inheritable and blocking, and pytun can't let go of it: keep a duplicate.
        fd = fcntl.fcntl(device.fileno(), fcntl.F_DUPFD_CLOEXEC, 0)
    except OSError as error:
        raise no_fd_left("/dev/net/tun: ", error.errno) from error
    finally:
        device.close()
    os.set_blocking(fd, False)
    return fd


def set_offload(fd: int, offload: int) -> None:
    """Say which offloads the reader of this TAP takes (TUNSETOFFLOAD). Raises OSError."""
    fcntl.ioctl(fd, _TUNSETOFFLOAD, offload)


def probe_offload(fd: int) -> tuple[int, int]:
    """Turn on the most offloads that the kernel takes: (TUNSETOFFLOAD value, virtio header bytes). Raises OSError."""
    for offload, hdr_len in OFFLOADS:
        try:
            fcntl.ioctl(fd, _TUNSETVNETHDRSZ, struct.pack("i", hdr_len))
            set_offload(fd, offload)
        except OSError as error:
            if error.errno != errno.EINVAL or offload == 0:
                raise
        else:
            return offload, hdr_len
    raise AssertionError("unreachable: offload 0 is always taken")


def offload_of(fd: int) -> tuple[int, int]:
    """(TUNSETOFFLOAD value, virtio header bytes) of a TAP of which the former is not known any more.

    The kernel tells the latter alone, so the former is the least that may have gone with it. Raises OSError.
    """
    (hdr_len,) = struct.unpack("i", fcntl.ioctl(fd, _TUNGETVNETHDRSZ, bytes(4)))
    return min((offload for offload, size in OFFLOADS if size == hdr_len and offload), default=0), hdr_len


def offload_names(offload: int) -> list[str]:
    """What a TUNSETOFFLOAD value turns on, in words."""
    return [name for bit, name in _OFFLOAD_NAMES if offload & bit]


def takes_uso(offload: int) -> bool:
    """True when a kernel that took this TUNSETOFFLOAD value takes UDP GSO frames written to a TAP (6.2 and later)."""
    return bool(offload & _TUN_F_USO4)


def lower_offload(offload: int) -> int:
    """The next lesser TUNSETOFFLOAD value of the probe order; 0 stays 0."""
    values = [value for value, _hdr_len in OFFLOADS]
    return values[min(values.index(offload) + 1, len(values) - 1)]


def set_carrier(fd: int, on: bool) -> None:
    """Set the carrier of the device behind fd. Raises OSError (EBADFD: the device is gone)."""
    fcntl.ioctl(fd, _TUNSETCARRIER, struct.pack("i", int(on)))


def current_name(fd: int) -> str:
    """The device's name now, after whatever renames. Raises OSError (EBADFD: the device is gone)."""
    request: bytes = fcntl.ioctl(fd, _TUNGETIFF, bytes(40))
    return request[:16].split(b"\0", 1)[0].decode(errors="surrogateescape")


def current_netns(fd: int) -> int:
    """A new fd of the namespace that the device is in now; the caller closes it. Raises OSError (see GONE)."""
    return int(fcntl.ioctl(fd, _TUNGETDEVNETNS))
