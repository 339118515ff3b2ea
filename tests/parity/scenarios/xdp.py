"""XDP on the receiving end: what attaching a program does to both ends."""

import os
import socket
import struct

from tests.kit.bpf import passing_xdp
from tests.kit.commands import in_netns
from tests.kit.frames import frame
from tests.kit.netns import socket_in
from tests.parity.link import End, PairUnderTest
from tests.parity.newlink import NLM_F_ACK, NLM_F_REQUEST, attribute, errno_of_answer
from tests.parity.outcome import Outcome
from tests.parity.scenario import scenario

RTM_SETLINK, IFLA_XDP, IFLA_XDP_FD, IFLA_XDP_FLAGS, XDP_FLAGS_DRV_MODE = 19, 43, 1, 3, 4


def attach(end: End, fd: int) -> str:
    """Attach a program to an end in the driver's own mode (-1 detaches); return `ok` or the errno's name."""
    xdp = attribute(IFLA_XDP_FD, struct.pack("=i", fd)) + attribute(
        IFLA_XDP_FLAGS, struct.pack("=I", XDP_FLAGS_DRV_MODE)
    )
    body = struct.pack("=BxHiII", 0, 0, end.state().ifindex, 0, 0) + attribute(IFLA_XDP, xdp)
    request = struct.pack("=IHHII", 16 + len(body), RTM_SETLINK, NLM_F_REQUEST | NLM_F_ACK, 1, 0) + body
    with socket_in(end.netns, socket.AF_NETLINK, socket.SOCK_RAW) as link:
        link.bind((0, 0))
        link.send(request)
        return errno_of_answer(link.recv(1 << 16))


def tso(end: End) -> str:
    text = in_netns(end.netns, "ethtool", "-k", end.name).out
    return text.split("tcp-segmentation-offload: ")[1].split()[0]


@scenario
def xdp_in_the_driver(link: PairUnderTest, out: Outcome) -> None:
    """A program on one end takes segmentation and big MTUs from the other, as long as it is attached."""
    link.create()
    fd = passing_xdp()
    try:
        out.see("attach", attach(link.b, fd), "ok")
    finally:
        os.close(fd)
    out.see("tso of the peer", tso(link.a), "off")
    out.see("largest mtu of the peer", link.a.state().attributes["IFLA_MAX_MTU"], 3506)
    with link.a.socket() as a, link.b.socket() as b:
        for _ in range(10):
            a.send(frame(100))
        out.see("pass", [len(got.data) for got in b.collect(10)], [100] * 10)
    link.quiet()
    out.see("b.rx_packets, rx_bytes", (link.b.counts()["rx_packets"], link.b.counts()["rx_bytes"]), (10, 860))
    out.see("detach", attach(link.b, -1), "ok")
    out.see("tso of the peer, detached", tso(link.a), "on")
