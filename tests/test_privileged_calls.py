"""What needs a privilege is asked of Linux in vethd/host alone, and workers do not even load that."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

VETHD = Path(__file__).parents[1] / "vethd"
#: Ways past Python's own functions, and the packages that open devices or speak netlink.
MODULES = {"ctypes", "pytun", "pyroute2"}
#: Of any module: what Linux refuses to those without a capability, or does not to those with one.
NAMES = {
    *("ioctl", "AF_NETLINK", "AF_PACKET", "SOCK_RAW", "setns", "unshare"),
    *("mount", "umount", "mknod", "chroot", "pivot_root", "chown", "fchown", "lchown"),
    *("setuid", "seteuid", "setreuid", "setresuid", "setgid", "setegid", "setregid", "setresgid"),
    *("setgroups", "initgroups", "sched_setscheduler", "setpriority"),
}
#: Those elsewhere, each with the reason why it may.
ELSEWHERE = {
    ("cli/session.py", "ctypes"): "a client, with its caller's rights",
    ("cli/session.py", "setns"): "the same",
    ("daemon/doctor.py", "ioctl"): "asks /dev/net/tun for its features, which needs no capability",
    ("docker/conntrack.py", "AF_NETLINK"): "a process of its own, which has CAP_NET_ADMIN for the firewall",
    ("docker/conntrack.py", "SOCK_RAW"): "the same",
    ("datapath/skb.py", "ctypes"): "addresses of its own buffers",
    ("worker/confine.py", "ctypes"): "gives privileges up",
    ("worker/confine.py", "setgroups"): "the same",
    ("worker/confine.py", "setresgid"): "the same",
    ("worker/confine.py", "setresuid"): "the same",
    ("worker/seccomp.py", "ctypes"): "the same",
}


def privileged(source: str) -> Iterator[str]:
    """The modules and names above that a program uses."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from {alias.name.partition(".")[0] for alias in names} & MODULES
            case ast.ImportFrom(module=str(module), names=names):
                yield from {module.partition(".")[0]} & MODULES
                yield from {alias.name for alias in names} & NAMES
            case ast.Attribute(attr=name) if name in NAMES and not _of_host(node):
                yield name


def _of_host(node: ast.Attribute) -> bool:
    """Whether it is a function of vethd.host: `netns.setns`, which is where it belongs."""
    return isinstance(node.value, ast.Name) and node.value.id in {"netns", "tap", "rtnl"}


def test_what_needs_a_privilege_is_in_host_alone() -> None:
    found = {
        (str(path.relative_to(VETHD)), name)
        for path in VETHD.rglob("*.py")
        if VETHD / "host" not in path.parents
        for name in privileged(path.read_text())
    }
    assert found == ELSEWHERE.keys()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import ctypes", ["ctypes"]),
        ("import ctypes.util as u", ["ctypes"]),
        ("from pyroute2.netlink import rtnl", ["pyroute2"]),
        ("def f():\n    from fcntl import ioctl", ["ioctl"]),
        ("import fcntl\nfcntl.ioctl(0, 1)", ["ioctl"]),
        ("import socket as s\ns.socket(s.AF_NETLINK)", ["AF_NETLINK"]),
        ("netns.setns(3); os.setns(3)", ["setns"]),
        ("import os, socket\nos.close(3); socket.AF_UNIX", []),
    ],
)
def test_it_is_found_however_it_is_written(source: str, found: list[str]) -> None:
    assert list(privileged(source)) == found


def test_a_worker_loads_nothing_that_needs_a_privilege() -> None:
    program = "import sys, vethd.worker.process; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert [name for name in loaded if name.startswith(("vethd.host", "vethd.rpc", "pytun", "pydantic"))] == []
