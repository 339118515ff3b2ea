"""Real TAPs in namespaces made for the test: opened as the daemon opens them, watched through the kernel's eyes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterator

from tests.kit.commands import ip, run
from tests.kit.links import LinkState, read_link
from tests.kit.netns import Namespaces, fresh_name, inside
from vethd.host import tap

PLAIN_HDR_LEN = 10
#: Checksum, TSO 4 and 6, ECN, USO: what a kernel without tunnel offloads gives at most.
PLAIN_OFFLOAD = 0x6F
_TUNSETVNETHDRSZ = 0x400454D8


class Tap:
    """A TAP with a virtio header, carrier on, up unless told otherwise; it lives as long as `fd` is open.

    hdr_len: bytes of virtio header; 10 with the offloads every kernel has, or with `best` what the kernel offers most.
    """

    def __init__(self, netns: str, *, mtu: int = 1500, up: bool = True, best: bool = False) -> None:
        self.netns = netns
        self.name = fresh_name("t")
        self.hdr_len = PLAIN_HDR_LEN
        self.fd = inside(netns, tap.open_queue, self.name)
        try:
            self._prepare(mtu, up, best)
        except BaseException:
            self.close()
            raise

    def _prepare(self, mtu: int, up: bool, best: bool) -> None:
        if best:
            _offload, self.hdr_len = tap.probe_offload(self.fd)
        else:
            fcntl.ioctl(self.fd, _TUNSETVNETHDRSZ, struct.pack("i", PLAIN_HDR_LEN))
            tap.set_offload(self.fd, PLAIN_OFFLOAD)
        ip(self.netns, "link", "set", self.name, "mtu", str(mtu))
        run("tc", "-n", self.netns, "qdisc", "replace", "dev", self.name, "root", "noqueue")
        tap.set_carrier(self.fd, True)
        if up:
            self.set_up()

    def set_up(self) -> None:
        ip(self.netns, "link", "set", self.name, "up")

    def set_down(self) -> None:
        ip(self.netns, "link", "set", self.name, "down")

    def delete(self) -> None:
        """Take the device away behind the back of whoever holds the fd."""
        ip(self.netns, "link", "del", self.name)

    def state(self) -> LinkState:
        return read_link(self.netns, self.name)

    def kernel(self, counter: str) -> int:
        """One of the kernel's own counters, such as `rx_packets`."""
        return self.state().stats[counter]

    def close(self) -> None:
        """Close the fd, and with the last copy the device goes."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Taps:
    """A factory of TAPs that takes away everything it made, first of all the devices, so that namespaces can die."""

    def __init__(self, netns: Namespaces) -> None:
        self._netns = netns
        self._made: list[Tap] = []

    def make(self, *, mtu: int = 1500, up: bool = True, best: bool = False) -> Tap:
        """A TAP in a namespace of its own."""
        made = Tap(self._netns.make(), mtu=mtu, up=up, best=best)
        self._made.append(made)
        return made

    def close(self) -> None:
        with contextlib.ExitStack() as stack:
            for made in self._made:
                stack.callback(made.close)


GROUP = "7"


@contextlib.contextmanager
def many_taps(netns: str, count: int) -> Iterator[tuple[list[str], list[int]]]:
    """Names and fds of so many TAPs in one namespace, up and with carrier; far faster than one by one."""
    names = [fresh_name("m") for _ in range(count)]
    fds = inside(netns, lambda: [tap.open_queue(name) for name in names])
    try:
        for fd in fds:  # first: carrier of a device that is up takes effect later, and until then it sends nothing
            tap.set_carrier(fd, True)
        for command, line in (("tc", "qdisc replace dev {} root noqueue"), ("ip", f"link set {{}} up group {GROUP}")):
            run(command, "-n", netns, "-batch", "-", given="".join(f"{line.format(name)}\n" for name in names))
        yield names, fds
    finally:
        ip(netns, "link", "del", "group", GROUP)  # all at once: closing an fd waits for RCU
        for fd in fds:
            os.close(fd)
