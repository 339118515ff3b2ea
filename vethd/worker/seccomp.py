"""The system calls that a worker may make once it serves: a seccomp filter, which nothing can take off again.

A worker that was taken over by a frame has the descriptors that it was given, and with them only what stands here. It
opens no file, makes no socket, process, thread or executable memory, signals nobody but itself, and asks its TAPs for
nothing. The same holds for what io_uring does on its behalf: the ring itself refuses all but reads, writes and their
cancelling (frameio/ring.pyx), for no filter sees those.

::

    another architecture, x32      the process is killed
    a number newer than this file  ENOSYS: the C library has another way for kernels without it
    REFUSED                        an error: what Python does to show a traceback, and libuv before it asks fcntl
    ALLOWED, and GUARDED           allowed; the latter when an argument is right
    everything else                the process is killed, and the supervisor says that it was for this

Killed, not refused: no code of ours makes such a call, so whoever does is somebody else, and must not go on with the
frames of the pairs. A successor takes over. The kernel's log names the call (audit type 1326).

The filter is written here and not with libseccomp: pyseccomp starts two processes when it is imported, which makes the
start of a worker half as long again, and has no release since 2021; what it would save is the table of numbers, which
never change. Tests compare it with the kernel's headers. What is allowed whatever its arguments costs nearly nothing
since Linux 5.11: the kernel keeps a bitmap. Source: seccomp(2), Documentation/userspace-api/seccomp_filter.rst,
linux/filter.h.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import platform
import struct
import termios
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_KILL_PROCESS, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
#: Of struct seccomp_data, and classic BPF's instructions on it.
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
_LOAD, _JUMP_EQUAL, _JUMP_NOT_BELOW, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_X32_BIT = 0x40000000
_IO_URING_SETUP = 425  # on every architecture
#: The newest system call of Linux 6.10, mseal; above it numbers mean what this file can't know.
NEWEST: Final = 462


class Machine(NamedTuple):
    """An architecture. audit: what the kernel calls it there (linux/audit.h). column: of NUMBERS."""

    audit: int
    column: int


#: By `uname -m`; both are little endian, which the guards of arguments rely on.
MACHINES: Final = {"x86_64": Machine(0xC000003E, 0), "aarch64": Machine(0xC00000B7, 1)}

#: On x86_64 and on aarch64; None where there is none. Source: asm/unistd_64.h, asm-generic/unistd.h.
NUMBERS: Final[dict[str, tuple[int | None, int | None]]] = {
    # frames, the channel, and waiting for them
    "epoll_pwait": (281, 22),
    "read": (0, 63),
    "write": (1, 64),
    "readv": (19, 65),
    "writev": (20, 66),
    "io_uring_enter": (426, 426),
    "recvmsg": (47, 212),
    "sendmsg": (46, 211),
    "epoll_wait": (232, None),
    "epoll_pwait2": (441, 441),
    "epoll_ctl": (233, 21),
    "poll": (7, None),
    "ppoll": (271, 73),
    "close": (3, 57),
    "fcntl": (72, 25),
    "fstat": (5, 80),
    "getsockname": (51, 204),
    "getpeername": (52, 205),
    # memory
    "mmap": (9, 222),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "mprotect": (10, 226),
    "madvise": (28, 233),
    "brk": (12, 214),
    # time; system calls where the clock can't be read in user space
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "gettimeofday": (96, 169),
    "time": (201, None),
    "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115),
    # what the C library and Python do by themselves
    "futex": (202, 98),
    "getrandom": (318, 278),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "sched_yield": (24, 124),
    "sched_setaffinity": (203, 122),
    "prlimit64": (302, 261),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    "tgkill": (234, 131),
    "exit": (60, 93),
    "exit_group": (231, 94),
    # refused
    "ioctl": (16, 29),
    "open": (2, None),
    "openat": (257, 56),
    "stat": (4, None),
    "lstat": (6, None),
    "newfstatat": (262, 79),
    "statx": (332, 291),
    "access": (21, None),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "getcwd": (79, 17),
    "lseek": (8, 62),
}
#: And the errno. Python looks for its own source to show it in a traceback, and does without.
REFUSED: Final = dict.fromkeys(
    (
        *("open", "openat", "stat", "lstat", "newfstatat", "statx", "access", "faccessat", "faccessat2"),
        *("readlink", "readlinkat", "getcwd", "lseek"),
    ),
    errno.EACCES,
)


class Guard(NamedTuple):
    """What becomes of a call depends on one argument, or on the lower half of it: here the kernel looks at no more.

    number: of the argument. verdicts: by its value; none of these: killed. without_bits: allowed when it has none of
    them, in place of `verdicts`.
    """

    number: int
    verdicts: Mapping[int, int] = MappingProxyType({})
    without_bits: int = 0


def guarded(pid: int) -> dict[str, Guard]:
    """Calls that depend on an argument, for the process of this pid.

    - mmap, mprotect: memory that holds code is what was there before.
    - fcntl: not the commands that make the kernel signal somebody (F_SETOWN), or change what others share (F_SETFL).
    - tgkill: abort() of the C library. sched_setaffinity, prlimit64: of the process itself.
    - ioctl: Python's isatty() hears what it would hear of a TAP. libuv's FIONBIO "succeeds" and is not made: what a
      worker watches is non-blocking, and its standard error, which it shares with the supervisor, is to stay as it is.
      All others would turn a TAP's offloads, carrier or owner.
    """
    return {
        "mmap": Guard(2, without_bits=mmap.PROT_EXEC),
        "mprotect": Guard(2, without_bits=mmap.PROT_EXEC),
        "fcntl": Guard(1, dict.fromkeys((fcntl.F_GETFD, fcntl.F_GETFL, fcntl.F_DUPFD_CLOEXEC), _ALLOW)),
        "tgkill": Guard(0, {pid: _ALLOW}),
        "sched_setaffinity": Guard(0, {0: _ALLOW}),
        "prlimit64": Guard(0, {0: _ALLOW}),
        "ioctl": Guard(1, {termios.FIONBIO: _ERRNO | 0, termios.TCGETS: _ERRNO | errno.ENOTTY}),
    }


def program(machine: Machine, pid: int) -> bytes:
    """The filter for a process of this pid, as the kernel takes it: struct sock_filter after struct sock_filter."""
    code = [
        *(_do(_LOAD, _ARCHITECTURE_AT), _jump(_JUMP_EQUAL, machine.audit, 1, 0), _do(_RETURN, _KILL_PROCESS)),
        *(_do(_LOAD, _NUMBER_AT), _jump(_JUMP_NOT_BELOW, _X32_BIT, 0, 1), _do(_RETURN, _KILL_PROCESS)),
        *(_jump(_JUMP_NOT_BELOW, NEWEST + 1, 0, 1), _do(_RETURN, _ERRNO | errno.ENOSYS)),
    ]
    guards = guarded(pid)
    for name, numbers in NUMBERS.items():
        number = numbers[machine.column]
        if number is None:
            continue
        if name in guards:
            body = _guard(guards[name])
        else:
            body = [_do(_RETURN, _ERRNO | REFUSED[name] if name in REFUSED else _ALLOW)]
        code += [_jump(_JUMP_EQUAL, number, 0, len(body)), *body]
    return b"".join([*code, _do(_RETURN, _KILL_PROCESS)])


def _guard(guard: Guard) -> list[bytes]:
    """What decides about a call whose number was the right one."""
    code = [_do(_LOAD, _ARGUMENTS_AT + 8 * guard.number)]
    if guard.without_bits:
        code += [_jump(_JUMP_ANY_BIT, guard.without_bits, 1, 0), _do(_RETURN, _ALLOW)]
    for value, verdict in guard.verdicts.items():
        code += [_jump(_JUMP_EQUAL, value, 0, 1), _do(_RETURN, verdict)]
    return [*code, _do(_RETURN, _KILL_PROCESS)]


def _do(code: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, 0, 0, value)


def _jump(code: int, value: int, if_true: int, if_false: int) -> bytes:
    """Compare what was loaded; then go on so many instructions further."""
    return struct.pack("=HBBI", code, if_true, if_false, value)


def forbid_rings() -> None:
    """Let io_uring_setup fail from now on: libuv would make a ring of its own, which is not restricted, for epoll_ctl.

    Raises OSError when the kernel takes no filter.
    """
    load, jump = _do(_LOAD, _NUMBER_AT), _jump(_JUMP_EQUAL, _IO_URING_SETUP, 0, 1)
    _load(b"".join([load, jump, _do(_RETURN, _ERRNO | errno.ENOSYS), _do(_RETURN, _ALLOW)]))


def install() -> str:
    """Put the filter on this process, for good; it needs no_new_privs. Returns in words what came of it.

    Raises OSError when the kernel takes none.
    """
    machine = MACHINES.get(platform.machine())
    if machine is None:
        return f"no seccomp filter for {platform.machine()}"
    _load(program(machine, os.getpid()))
    return "seccomp filter"


def _load(code: bytes) -> None:
    buffer = ctypes.create_string_buffer(code)
    header = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
    # prctl, not seccomp(2): a service manager's filter may forbid the latter.
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0):
        error = ctypes.get_errno()
        raise OSError(error, f"seccomp: {os.strerror(error)}")
