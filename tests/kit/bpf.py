"""Loading and attaching tiny eBPF programs by system call, for what no rule of `nft` or `tc` can do everywhere."""

import ctypes
import os
import platform
import struct

BPF_SYSCALL = {"x86_64": 321, "aarch64": 280}
BPF_PROG_LOAD, BPF_LINK_CREATE = 5, 28
SCHED_CLS, XDP = 3, 6
BPF_TCX_EGRESS = 47
XDP_PASS, TCX_NEXT = 2, -1
SKB_VLAN_PUSH = 18  # number of the helper bpf_skb_vlan_push

_libc = ctypes.CDLL(None, use_errno=True)


def _bpf(command: int, attributes: bytes, what: str) -> int:
    attributes = attributes.ljust(128, b"\0")
    fd: int = _libc.syscall(BPF_SYSCALL[platform.machine()], command, attributes, len(attributes))
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return fd


def _set(register: int, value: int) -> bytes:
    return struct.pack("=BBhi", 0xB7, register, 0, value)


def _call(helper: int) -> bytes:
    return struct.pack("=BBhi", 0x85, 0, 0, helper)


EXIT = struct.pack("=BBhi", 0x95, 0, 0, 0)


def _load(kind: int, code: bytes) -> int:
    steps, licence = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"GPL")
    head = struct.pack("=IIQQ", kind, len(code) // 8, ctypes.addressof(steps), ctypes.addressof(licence))
    return _bpf(BPF_PROG_LOAD, head, "loading an eBPF program")


def passing_xdp() -> int:
    """Return the file descriptor of an XDP program that lets every frame pass."""
    return _load(XDP, _set(0, XDP_PASS) + EXIT)


def push_tag_on_egress(ifindex: int, vlan: int) -> int:
    """Give every frame that leaves a device of the caller's namespace an 802.1Q tag, beside the frame (Linux 6.6).

    Returns the file descriptor that holds the attachment.
    """
    tpid = struct.unpack("=H", struct.pack("!H", 0x8100))[0]
    code = _set(2, tpid) + _set(3, vlan) + _call(SKB_VLAN_PUSH) + _set(0, TCX_NEXT) + EXIT
    program = _load(SCHED_CLS, code)
    try:
        return _bpf(BPF_LINK_CREATE, struct.pack("=IIII", program, ifindex, BPF_TCX_EGRESS, 0), "attaching to a device")
    finally:
        os.close(program)
