"""What a worker that was taken over by a frame could try, each in a process of its own that is confined as a worker is.

Run as a program, `acts.py PID COUNTERS`: PID is a process to attack, COUNTERS a descriptor of counters. It prints as
JSON what came of each act: `signal N`, `errno NAME`, or `done`.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any, Final

from vethd.worker import seccomp
from vethd.worker.confine import confine

NOBODY: Final = 65534
_TUNSETPERSIST, _TUNSETIFF = 0x400454CB, 0x400454CA
_F_SETFL, _F_SETOWN = 4, 8
_CLONE_NEWNET, _PTRACE_ATTACH, _PR_SET_SECCOMP = 0x40000000, 16, 22
#: Numbers that are the same on every architecture.
_PIDFD_SEND_SIGNAL, _IO_URING_SETUP, _IO_URING_REGISTER, _CLONE3, _OPENAT2, _PIDFD_GETFD = 424, 425, 427, 435, 437, 438

_libc = ctypes.CDLL(None, use_errno=True)


def _acts(victim: int, counters: int, pidfd: int, unconnected: int) -> dict[str, Callable[[], Any]]:
    page = mmap.mmap(-1, mmap.PAGESIZE)
    here = ctypes.addressof(ctypes.c_char.from_buffer(page))
    own = os.getpid()

    def call(name: str, *arguments: Any) -> Callable[[], Any]:
        return lambda: _libc[name](*arguments)

    return {
        "makes a socket": call("socket", socket.AF_UNIX, socket.SOCK_STREAM, 0),
        "connects one": call("connect", unconnected, b"\1\0/run/vethd/control.sock\0", 26),
        "listens": call("listen", unconnected, 1),
        "truncates the counters": call("ftruncate", counters, 0),
        "kills": call("kill", victim, signal.SIGKILL),
        "kills a thread": call("tgkill", victim, victim, signal.SIGKILL),
        "kills by pidfd": call("syscall", _PIDFD_SEND_SIGNAL, pidfd, signal.SIGKILL, None, 0),
        "has the kernel signal": call("fcntl", counters, _F_SETOWN, victim),
        "traces": call("ptrace", _PTRACE_ATTACH, victim, 0, 0),
        "writes memory": call("process_vm_writev", victim, None, 0, None, 0, 0),
        "takes a descriptor": call("syscall", _PIDFD_GETFD, pidfd, 3, 0),
        "opens a file": call("open", b"/etc/passwd", os.O_RDONLY),
        "opens a file another way": call("syscall", _OPENAT2, -100, b"/etc/passwd", bytes(24), 24),
        "looks at a file": lambda: _python(lambda: os.stat("/etc/passwd")),
        "lists a directory": lambda: _python(lambda: os.listdir("/")),
        "executes": call("execve", b"/bin/true", None, None),
        "forks": call("fork"),
        "clones": call("syscall", _CLONE3, None, 0),
        "makes a namespace": call("unshare", _CLONE_NEWNET),
        "enters a namespace": call("setns", counters, _CLONE_NEWNET),
        "makes a device": call("ioctl", counters, _TUNSETIFF, bytes(40)),
        "makes a device stay": call("ioctl", counters, _TUNSETPERSIST, 1),
        "makes what others share blocking": call("fcntl", counters, _F_SETFL, 0),
        "moves what others share": call("lseek", counters, 0, os.SEEK_SET),
        "maps code": call("mmap", None, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_EXEC, mmap.MAP_PRIVATE | 32, -1, 0),
        "makes memory code": call("mprotect", here, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_EXEC),
        "makes a memfd": call("memfd_create", b"x", 0),
        "makes a ring": call("syscall", _IO_URING_SETUP, 1, bytes(120)),
        "changes a ring": call("syscall", _IO_URING_REGISTER, counters, 0, None, 0),
        "becomes root": call("setresuid", 0, 0, 0),
        "puts on another filter": call("prctl", _PR_SET_SECCOMP, 2, bytes(16), 0, 0),
        "binds another process": call("sched_setaffinity", victim, 8, b"\1" + bytes(7)),
        "limits another process": call("prlimit64", victim, 7, bytes(16), None),
        "calls what no kernel has": call("syscall", 5000),
        # what it may do
        "asks for a limit of its own": lambda: resource.getrlimit(resource.RLIMIT_NOFILE),
        "binds itself": call("sched_setaffinity", 0, 8, b"\xff" * 8),
        "aborts": call("abort"),
        "kills a thread of its own": call("tgkill", own, own, signal.SIGUSR1),
        "maps memory": call("mmap", None, mmap.PAGESIZE, mmap.PROT_READ, mmap.MAP_PRIVATE | 32, -1, 0),
        "writes the counters": lambda: mmap.mmap(counters, mmap.PAGESIZE),
        "asks whether it is a terminal": lambda: os.isatty(counters),
    }


def names() -> list[str]:
    """What every act is called."""
    return list(_acts(0, 0, 0, 0))


def _python(function: Callable[[], Any]) -> int:
    try:
        function()
    except OSError as error:
        ctypes.set_errno(error.errno or 0)
        return -1
    return 0


def _outcome(act: str, *arguments: int) -> str:
    """What came of an act, in a process of its own."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        acts = _acts(*arguments)
        seccomp.install()
        result = acts[act]()
        failed = result == -1
        os.write(writer, (f"errno {errno.errorcode[ctypes.get_errno()]}" if failed else "done").encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as said:
        text = said.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return f"signal {signal.Signals(-status).name}" if status < 0 else text


def main() -> None:
    victim, counters = int(sys.argv[1]), int(sys.argv[2])
    arguments = victim, counters, os.pidfd_open(victim), socket.socket().detach()
    confine(NOBODY, NOBODY)
    print(json.dumps({act: _outcome(act, *arguments) for act in _acts(*arguments)}))


if __name__ == "__main__":
    main()
