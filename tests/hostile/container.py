"""A container whose root is hostile: a user namespace and a network namespace of its own, and /dev/net/tun."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.kit.commands import Answer, run
from tests.kit.netns import Namespaces, fresh_name, set_sysctl
from tests.kit.waiting import eventually

#: Attaches a queue to the device `sys.argv[1]`, with flags as in linux/if_tun.h; prints `ok` or the errno's name.
_ATTACH = """
import errno, fcntl, os, struct, sys
fd = os.open("/dev/net/tun", os.O_RDWR)
try:
    fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", sys.argv[1].encode(), int(sys.argv[2], 0)))
    print("ok", flush=True)
    sys.stdin.read()
except OSError as error:
    print(errno.errorcode[error.errno])
"""
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR, IFF_MULTI_QUEUE, IFF_PERSIST = 0x2, 0x1000, 0x4000, 0x100, 0x800


@dataclass
class Container:
    """name: of its network namespace. pid: of a process in it."""

    name: str
    pid: int

    def root(self, *words: str, check: bool = True) -> Answer:
        """Run a command as the container's root."""
        return run(*self._enter(), *words, check=check)

    @contextmanager
    def queue(self, device: str, flags: int) -> Iterator[str]:
        """Try to attach a queue to a device as the container's root; what came of it. It is let go after the body."""
        command = [*self._enter(), sys.executable, "-c", _ATTACH, device, str(flags)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            yield process.stdout.readline().strip()

    def _enter(self) -> list[str]:
        return ["nsenter", f"--target={self.pid}", "--user", "--net", "--preserve-credentials", "--"]


@contextmanager
def container(netns: Namespaces) -> Iterator[Container]:
    """A container; its namespace has a name, so that the kit can look into it."""
    own = os.readlink("/proc/self/ns/net")
    with subprocess.Popen(["unshare", "--user", "--map-root-user", "--net", "sleep", "60"]) as process:
        try:
            where = Path(f"/proc/{process.pid}/ns/net")
            eventually(lambda: os.readlink(where), lambda link: link != own, "it has a namespace of its own")
            name = fresh_name("c")
            run("ip", "netns", "attach", name, str(process.pid))
            netns.adopt(name)
            for scope in ("all", "default"):  # no frames but those of the test
                set_sysctl(name, f"net.ipv6.conf.{scope}.disable_ipv6", 1)
            yield Container(name, process.pid)
        finally:
            process.kill()
