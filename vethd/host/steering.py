"""Which queue of a TAP a frame takes: an eBPF program that looks at the frame alone, so that no flow changes queues.

The tun driver's own choice (`tun_automq_select_queue`) does not keep that promise. It asks the flow dissector, which
goes by what the skb claims to be: a packet socket that sends frames with a VLAN tag, or with a length for an EtherType,
has one flow spread over all queues, each frame by its length (seen on 6.18). And it learns: a frame that is written
into a queue moves the flow of the answers there, in the middle of a conversation. Queues are served by different
workers, so frames of one flow could overtake one another. With a program the driver neither dissects nor learns.

What is a flow here, after at most two VLAN tags:

* TCP, UDP, UDP-Lite, SCTP and DCCP: both addresses and both ports. Not of a fragment, and over IPv6 only when the
  header stands right behind the IP header.
* other IP packets, fragments among them: both addresses.
* everything else: both MAC addresses.

Sums are hashed, so both directions of a flow have the same queue. A frame shorter than its headers takes queue 0
(BPF_LD ends the program when it reads past the end).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import struct
from typing import Final

from vethd.errors import KernelRefused

_TUNSETSTEERINGEBPF: Final = 0x800454E0
_BPF_SYSCALL: Final = {"x86_64": 321, "aarch64": 280, "riscv64": 280}
_BPF_PROG_LOAD: Final = 5
_BPF_PROG_TYPE_SOCKET_FILTER: Final = 1

_B, _H, _W = 0x10, 0x08, 0x00  # sizes of BPF_LD: byte, half word, word; read in network order into r0
_ETH_HLEN, _VLAN_HLEN, _IPV6_HLEN = 14, 4, 40
_ETH_P_IP, _ETH_P_IPV6, _ETH_P_8021Q, _ETH_P_8021AD = 0x0800, 0x86DD, 0x8100, 0x88A8
_FRAGMENT: Final = 0x3FFF  # more fragments, or an offset
_WITH_PORTS: Final = (6, 17, 33, 132, 136)
_MIX: Final = 0x9E3779B1 - (1 << 32)  # 2**32 / golden ratio, as a signed immediate

# r6 must hold the skb for BPF_LD, which clobbers r1 to r5.
_R0, _R1, _R6, _AT, _SUM, _PROTO = 0, 1, 6, 7, 8, 9


class _Assembler:
    """Instructions, and jumps forward to labels."""

    def __init__(self) -> None:
        self._code: list[tuple[int, int, int, int | str, int]] = []
        self._labels: dict[str, int] = {}

    def add(self, code: int, dst: int = 0, src: int = 0, to: int | str = 0, imm: int = 0) -> None:
        self._code.append((code, dst, src, to, imm))

    def label(self, name: str) -> None:
        self._labels[name] = len(self._code)

    def load(self, size: int, at: int) -> None:
        """r0 = frame[at]"""
        self.add(0x20 | size, imm=at)

    def load_there(self, size: int, offset: int) -> None:
        """r0 = frame[r7 + offset]"""
        self.add(0x40 | size, src=_AT, imm=offset)

    def sum(self) -> None:
        """r8 += r0"""
        self.add(0x0C, _SUM, _R0)

    def mix(self) -> None:
        """Let every bit of r8 change the bits 16 and above."""
        self.add(0xBC, _R1, _SUM)
        self.add(0x74, _R1, imm=16)
        self.add(0xAC, _SUM, _R1)
        self.add(0x24, _SUM, imm=_MIX)

    def code(self) -> bytes:
        return b"".join(
            struct.pack("=BBhi", code, src << 4 | dst, self._labels[to] - at - 1 if isinstance(to, str) else to, imm)
            for at, (code, dst, src, to, imm) in enumerate(self._code)
        )


def _program() -> bytes:
    asm = _Assembler()
    asm.add(0xBF, _R6, _R1)
    asm.add(0xB7, _SUM, imm=0)
    asm.add(0xB7, _AT, imm=_ETH_HLEN)
    asm.load(_H, 12)
    for tag in ("outer", "inner"):
        asm.add(0x15, _R0, to=tag, imm=_ETH_P_8021Q)
        asm.add(0x55, _R0, to="type", imm=_ETH_P_8021AD)
        asm.label(tag)
        asm.load_there(_H, 2)
        asm.add(0x07, _AT, imm=_VLAN_HLEN)
    asm.label("type")
    asm.add(0x15, _R0, to="ipv4", imm=_ETH_P_IP)
    asm.add(0x15, _R0, to="ipv6", imm=_ETH_P_IPV6)
    for size, at in ((_W, 0), (_H, 4), (_W, 6), (_H, 10)):
        asm.load(size, at)
        asm.sum()
    asm.add(0x05, to="end")

    asm.label("ipv4")
    for at in (12, 16):
        asm.load_there(_W, at)
        asm.sum()
    asm.load_there(_H, 6)
    asm.add(0x45, _R0, to="end", imm=_FRAGMENT)
    asm.load_there(_B, 9)
    asm.add(0xBF, _PROTO, _R0)
    asm.load_there(_B, 0)
    asm.add(0x57, _R0, imm=0x0F)
    asm.add(0x67, _R0, imm=2)
    asm.add(0x0F, _AT, _R0)
    asm.add(0x05, to="transport")

    asm.label("ipv6")
    for at in range(8, _IPV6_HLEN, 4):
        asm.load_there(_W, at)
        asm.sum()
    asm.load_there(_B, 6)
    asm.add(0xBF, _PROTO, _R0)
    asm.add(0x07, _AT, imm=_IPV6_HLEN)

    asm.label("transport")
    for protocol in _WITH_PORTS:
        asm.add(0x15, _PROTO, to="ports", imm=protocol)
    asm.add(0x05, to="end")
    asm.label("ports")
    asm.mix()
    for at in (0, 2):
        asm.load_there(_H, at)
        asm.sum()

    asm.label("end")
    asm.mix()
    asm.add(0xBC, _R0, _SUM)
    asm.add(0x74, _R0, imm=16)
    asm.add(0x95)
    return asm.code()


def steer(fd: int) -> None:
    """Let the program choose among the queues of the TAP behind fd: its answer modulo their number.

    Raises KernelRefused when bpf(2) is not allowed or not there, OSError when it fails or the device is gone.
    """
    program = _load(_program())
    try:
        fcntl.ioctl(fd, _TUNSETSTEERINGEBPF, struct.pack("i", program))
    finally:
        os.close(program)  # the device holds it now


def try_out() -> None:
    """Raise what `steer` would raise for the want of bpf(2)."""
    os.close(_load(_program()))


def _load(code: bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    number = _BPF_SYSCALL.get(platform.machine())
    steps, licence = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"GPL")
    head = struct.pack(
        "=IIQQ", _BPF_PROG_TYPE_SOCKET_FILTER, len(code) // 8, ctypes.addressof(steps), ctypes.addressof(licence)
    )
    attributes = head.ljust(128, b"\0")
    fd: int = -1 if number is None else libc.syscall(number, _BPF_PROG_LOAD, attributes, len(attributes))
    if fd < 0:
        error = errno.ENOSYS if number is None else ctypes.get_errno()
        if error not in (errno.EPERM, errno.EACCES, errno.ENOSYS):
            raise OSError(error, f"bpf(BPF_PROG_LOAD): {os.strerror(error)}")
        raise KernelRefused(
            f"bpf(BPF_PROG_LOAD): {os.strerror(error)}",
            hint="several queues need a program that keeps each flow in one: CAP_BPF or CAP_SYS_ADMIN outside of user"
            " namespaces, and a seccomp filter that allows bpf(2). numqueues 1 needs none",
            errno=error,
        )
    return fd
