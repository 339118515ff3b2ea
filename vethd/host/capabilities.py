"""Which capabilities this process has, by the names of capabilities(7)."""

from __future__ import annotations

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


def effective() -> list[str]:
    """The effective ones."""
    status = Path("/proc/self/status").read_text()
    bits = int(status.split("CapEff:\t", 1)[1].split("\n", 1)[0], 16)
    return [name for number, name in enumerate(NAMES) if bits >> number & 1]
