"""ring.pyx: whoever has the ring can have it read and write, and nothing else; no seccomp filter sees what it does."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.frameio.ways import WAYS
from tests.kit.seccomp import IO_URING_ENTER
from vethd.datapath.softnet import SoftnetData

RINGS = [name for name in WAYS if name.startswith("uring")]
READ, WRITE, ASYNC_CANCEL = 22, 23, 14
#: Some of what io_uring can do for a process, by name; include/uapi/linux/io_uring.h.
FORBIDDEN: Final = {
    "nop": 0,
    "readv": 1,
    "poll_add": 6,
    "sendmsg": 9,
    "accept": 13,
    "connect": 16,
    "openat": 18,
    "close": 19,
    "files_update": 20,
    "statx": 21,
    "openat2": 28,
    "renameat": 35,
    "unlinkat": 36,
    "msg_ring": 40,
    "socket": 45,
    "uring_cmd": 46,
}
_SQES_AT, _TAIL_AT, _CQ_HEAD_AT, _CQES_AT, _CQ_ENTRIES = 0x10000000, 4, 8, 64, 4096
_ARRAY_AT = _CQES_AT + 16 * _CQ_ENTRIES
_GETEVENTS = 1
_REGISTER, _REGISTER_EVENTFD, _REGISTER_RESTRICTIONS = 427, 4, 11
_SQE = struct.Struct("=BBHiQQIIQ24x")
_libc = ctypes.CDLL(None, use_errno=True)


class RawRing:
    """An io_uring as whoever took the process over would use it: by its fd alone. Layout: struct io_rings."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._rings = mmap.mmap(fd, _ARRAY_AT + 4 * 256)
        self._sqes = mmap.mmap(fd, 64 * 256, offset=_SQES_AT)

    def ask(self, opcode: int, fd: int, *, flags: int = 0, address: int = 0, length: int = 0) -> int:
        """Submit one request and return its result."""
        (tail,) = struct.unpack_from("=I", self._rings, _TAIL_AT)
        _SQE.pack_into(self._sqes, 0, opcode, flags, 0, fd, 0, address, length, 0, 7)
        struct.pack_into("=I", self._rings, _ARRAY_AT + 4 * (tail & 255), 0)
        struct.pack_into("=I", self._rings, _TAIL_AT, tail + 1)
        assert _libc.syscall(IO_URING_ENTER, self.fd, 1, 1, _GETEVENTS, None, 0) == 1
        (head,) = struct.unpack_from("=I", self._rings, _CQ_HEAD_AT)
        user_data, result = struct.unpack_from("=Qi", self._rings, _CQES_AT + 16 * (head & _CQ_ENTRIES - 1))
        struct.pack_into("=I", self._rings, _CQ_HEAD_AT, head + 1)
        assert user_data == 7
        return int(result)

    def register(self, opcode: int) -> int:
        """io_uring_register; the errno, 0 when it was done."""
        argument = struct.pack("=Q", 0)
        return ctypes.get_errno() if _libc.syscall(_REGISTER, self.fd, opcode, argument, 1) else 0

    def close(self) -> None:
        self._rings.close()
        self._sqes.close()


def _ring_fds() -> set[int]:
    fds = set()
    for entry in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{entry}") == "anon_inode:[io_uring]":
                fds.add(int(entry))
        except FileNotFoundError:
            continue
    return fds


@contextmanager
def raw_ring(way: str) -> Iterator[RawRing]:
    """The ring of a frame I/O."""
    before = _ring_fds()
    frameio = WAYS[way](SoftnetData())
    (fd,) = _ring_fds() - before
    raw = RawRing(fd)
    try:
        yield raw
    finally:
        raw.close()
        frameio.close()


def test_a_ring_does_what_frames_need_and_refuses_all_else() -> None:
    for way in RINGS:
        with raw_ring(way) as raw:
            reader, writer = os.pipe()
            text = ctypes.create_string_buffer(b"frame")
            try:
                assert raw.ask(WRITE, writer, address=ctypes.addressof(text), length=5) == 5
                assert raw.ask(READ, reader, address=ctypes.addressof(text), length=5) == 5
                assert raw.ask(ASYNC_CANCEL, -1) == -errno.ENOENT
                refused = {name: raw.ask(opcode, reader) for name, opcode in FORBIDDEN.items()}
            finally:
                os.close(reader)
                os.close(writer)
        assert refused == dict.fromkeys(FORBIDDEN, -errno.EACCES)


def test_a_rings_restrictions_can_not_be_changed_nor_anything_registered() -> None:
    for way in RINGS:
        with raw_ring(way) as raw:
            assert [raw.register(opcode) for opcode in (_REGISTER_RESTRICTIONS, _REGISTER_EVENTFD)] == [
                errno.EACCES,
                errno.EACCES,
            ]


def test_a_ring_takes_no_request_with_a_flag_that_frames_do_not_need() -> None:
    """A fixed file, a drain, a link, and a request that a kernel thread would wait with."""
    for way in RINGS:
        with raw_ring(way) as raw:
            assert [raw.ask(WRITE, -1, flags=1 << bit) for bit in range(5)] == [-errno.EACCES] * 5
