"""System calls answered by a test instead of the kernel: a seccomp filter on one thread asks what to say.

A filter is for life, but it is the life of its thread: the rest of the process goes on as before. Run as a program,
`seccomp.py CALL ERRNO COMMAND...` becomes a command that gets this errno for a system call, such as io_uring_setup in
many containers.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import select
import struct
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

T = TypeVar("T")

#: Numbers of system calls; those of io_uring are the same on every architecture.
SECCOMP: Final = {"x86_64": 317, "aarch64": 277}
IO_URING_SETUP, IO_URING_ENTER = 425, 426
CALLS: Final = {
    "bpf": {"x86_64": 321, "aarch64": 280},
    "io_uring_setup": dict.fromkeys(SECCOMP, IO_URING_SETUP),
    "setsockopt": {"x86_64": 54, "aarch64": 208},
    "unshare": {"x86_64": 272, "aarch64": 97},
}
_SET_MODE_FILTER, _NEW_LISTENER = 1, 8
_NOTIF_RECV, _NOTIF_SEND = 0xC0502100, 0xC0182101
_LET_IT_PASS = 1
_NOTIF = struct.Struct(
    "=QIIiIQ6Q"
)  # id, pid, flags, then struct seccomp_data: number, architecture, address, arguments
_ANSWER = struct.Struct("=QqiI")  # id, value, error, flags
_LOAD_NUMBER, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ASK, _ERRNO = 0x7FFF0000, 0x7FC00000, 0x00050000

_libc = ctypes.CDLL(None, use_errno=True)


def without_io_uring(error: int) -> Sequence[str]:
    """The words before a command that shall get this errno for io_uring_setup."""
    return without("io_uring_setup", error)


def without(call: str, error: int) -> Sequence[str]:
    """The words before a command that shall get this errno for a system call of CALLS."""
    return [sys.executable, __file__, call, str(error)]


def forbid(number: int, error: int) -> None:
    """Let a system call fail with this errno in this thread, and what it starts, from now on."""
    _filter(number, _ERRNO | error, 0)


def answering(number: int, answer: Callable[[tuple[int, ...]], int], function: Callable[[], T]) -> T:
    """Run a function in a thread of its own; each time it makes the system call, `answer` is asked what comes of it.

    answer: gets the six arguments and returns an errno, or 0 to let the kernel do it; it runs in the calling thread, so
    the other must let go of the GIL while it is in that system call.
    """
    results: list[T] = []
    errors: list[BaseException] = []
    listener: list[int] = []
    listening = threading.Event()

    def run() -> None:
        try:
            listener.append(_filter(number, _ASK, _NEW_LISTENER))
            listening.set()
            results.append(function())
        except BaseException as error:  # noqa: BLE001 - it is raised again in the calling thread
            errors.append(error)
            listening.set()

    thread = threading.Thread(target=run, name="answered")
    thread.start()
    listening.wait()
    for fd in listener:
        _answer_all(fd, answer)
        os.close(fd)
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _answer_all(listener: int, answer: Callable[[tuple[int, ...]], int]) -> None:
    """Answer until the thread with the filter has ended."""
    poller = select.poll()
    poller.register(listener, select.POLLIN)
    while not any(event & select.POLLHUP for _fd, event in poller.poll()):
        try:
            asked = _NOTIF.unpack(fcntl.ioctl(listener, _NOTIF_RECV, bytes(_NOTIF.size)))
        except FileNotFoundError:  # a signal took the thread out of the system call; it makes it again
            continue
        error = answer(asked[6:])
        reply = _ANSWER.pack(asked[0], 0, -error, 0 if error else _LET_IT_PASS)
        try:
            fcntl.ioctl(listener, _NOTIF_SEND, reply)
        except FileNotFoundError:
            continue


def _filter(number: int, verdict: int, flags: int) -> int:
    instructions = [
        (_LOAD_NUMBER, 0, 0, 0),
        (_JUMP_IF_EQUAL, 0, 1, number),
        (_RETURN, 0, 0, verdict),
        (_RETURN, 0, 0, _ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in instructions))
    program = struct.pack("@HP", len(instructions), ctypes.addressof(code))
    result: int = _libc.syscall(SECCOMP[platform.machine()], _SET_MODE_FILTER, flags, program)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"seccomp: {os.strerror(number)}")
    return result


if __name__ == "__main__":
    forbid(CALLS[sys.argv[1]][platform.machine()], int(sys.argv[2]))
    os.execvp(sys.argv[3], sys.argv[3:])
