"""Which capabilities this process has, by the names of capabilities(7), and to whom it does not give them."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

#: In the order of their numbers, include/uapi/linux/capability.h.
NAMES: Final = tuple(
    f"CAP_{name}"
    for name in """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
    NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
    SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
    MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
    """.split()  # noqa: SIM905 - a list of 41 words
)
_PR_CAP_AMBIENT: Final = 47
_IS_SET, _RAISE, _CLEAR_ALL = 1, 2, 4

_libc = ctypes.CDLL(None, use_errno=True)


def effective() -> list[str]:
    """The effective ones."""
    status = Path("/proc/self/status").read_text()
    bits = int(status.split("CapEff:\t", 1)[1].split("\n", 1)[0], 16)
    return [name for number, name in enumerate(NAMES) if bits >> number & 1]


@contextmanager
def none_for_children() -> Iterator[None]:
    """Programs that this thread executes in the body get no capabilities, unless it is root or the file has some.

    systemd gives those of a daemon that is not root as ambient ones, which every program that it executes has, too.
    Afterwards they are ambient again, for a daemon that replaces its own program. Raises OSError.
    """
    had = [number for number in range(len(NAMES)) if _ambient(_IS_SET, number) == 1]
    _check(_ambient(_CLEAR_ALL, 0))
    try:
        yield
    finally:
        for number in had:
            _check(_ambient(_RAISE, number))


def _ambient(operation: int, number: int) -> int:
    """The answer; -1 for a capability that the kernel does not know."""
    return int(_libc.prctl(_PR_CAP_AMBIENT, operation, number, 0, 0))


def _check(result: int) -> None:
    if result:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), "prctl PR_CAP_AMBIENT")
