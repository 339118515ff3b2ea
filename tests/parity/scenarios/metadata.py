"""What the kernel knows about a frame besides its bytes: mark, priority, hash and tag, as seen from B."""

import ctypes
import os
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from tests.kit.bpf import push_tag_on_egress
from tests.kit.commands import in_netns, ip
from tests.kit.frames import ETH_P_IP, frame
from tests.kit.netns import inside, socket_in
from tests.kit.packets import PacketSocket, send_and_collect
from tests.parity.link import End, PairUnderTest, give_addresses
from tests.parity.outcome import Outcome, kernel_version
from tests.parity.scenario import scenario

MARK, PRIORITY = 0x42, 5
RULES = """
table netdev parity {{
  counter marked {{}}
  counter unmarked {{}}
  counter prioritised {{}}
  counter unprioritised {{}}
  chain arrival {{
    type filter hook ingress device "{device}" priority 0;
    meta mark {mark} counter name marked
    meta mark 0 counter name unmarked
    meta priority {priority} counter name prioritised
    meta priority 0 counter name unprioritised
  }}
}}
"""


def count_at(end: End) -> None:
    """Install rules that count what arrives at an end by mark and priority."""
    rules = RULES.format(device=end.name, mark=MARK, priority=PRIORITY)
    in_netns(end.netns, "nft", rules)


def counted(end: End) -> dict[str, int]:
    text = in_netns(end.netns, "nft", "list", "counters").out
    found = re.findall(r"counter (\w+) \{\s*packets (\d+)", text)
    return {name: int(packets) for name, packets in found}


def send_marked(link: PairUnderTest) -> int:
    with link.a.socket() as a, link.b.socket() as b:
        a.set_mark(MARK)
        a.set_priority(PRIORITY)
        return len(send_and_collect(a, b, [frame(60, link.b.mac)] * 4))


@scenario
def mark_and_priority_across_namespaces(link: PairUnderTest, out: Outcome) -> None:
    """Neither mark nor priority leaves a namespace."""
    link.create()
    count_at(link.b)
    out.see("arrived", send_marked(link), 4)
    seen = counted(link.b)
    out.see("mark at b", (seen["marked"], seen["unmarked"]), (0, 4))
    out.see("priority at b", (seen["prioritised"], seen["unprioritised"]), (0, 4))


@scenario
def mark_and_priority_within_a_namespace(link: PairUnderTest, out: Outcome) -> None:
    """Between two ends in one namespace the mark stays, the priority does not."""
    link.create(same_netns=True)
    count_at(link.b)
    out.see("arrived", send_marked(link), 4)
    seen = counted(link.b)
    out.see("mark at b", (seen["marked"], seen["unmarked"]), (4, 0))
    out.see("priority at b", (seen["prioritised"], seen["unprioritised"]), (0, 4))


SO_ATTACH_FILTER = 26
LOAD_WORD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
FROM_THE_SKB, HASH, QUEUE = 0xFFFFF000, 32, 24  # SKF_AD_OFF and what may be read there


def accept_unless_zero(listener: PacketSocket, field: int) -> None:
    """Let a packet socket take only frames in which a field of their skb is not zero."""
    program = [(LOAD_WORD, 0, 0, FROM_THE_SKB + field), (JUMP_IF_EQUAL, 0, 1, 0), (RETURN, 0, 0, 0)]
    program.append((RETURN, 0, 0, 0x40000))
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
    listener.set_option(SO_ATTACH_FILTER, struct.pack("@HP", len(program), ctypes.addressof(code)))


@scenario
def hash_and_queue(link: PairUnderTest, out: Outcome) -> None:
    """The flow hash of a local TCP socket stays with the frame; the frame comes in on the first queue."""
    link.create()
    _, target = give_addresses(link)
    with link.b.socket() as everything, link.b.socket() as hashed, link.b.socket() as queued:
        accept_unless_zero(hashed, HASH)
        accept_unless_zero(queued, QUEUE)
        with socket_in(link.a.netns, socket.AF_INET, socket.SOCK_STREAM) as client:
            client.setblocking(False)
            client.connect_ex((target, 9000))
            seen = everything.collect(1, wanted=lambda got: got.ethertype == ETH_P_IP)
        link.quiet()
        out.see("arrived", len(seen), 1)
        out.see("has a hash", len(hashed.waiting()), 1)
        out.see("came in on another queue than the first", len(queued.waiting()), 0)


@scenario
def sender_of_a_waiting_frame(link: PairUnderTest, out: Outcome) -> None:
    """A frame counts against its sender's buffer for as long as it waits anywhere behind the wire."""
    link.create()
    netns = link.b.netns
    ip(netns, "link", "add", "name", "slow", "type", "veth", "peer", "name", "end")
    ip(netns, "link", "add", "name", "br0", "type", "bridge")
    for name in ("slow", "end", "br0"):
        ip(netns, "link", "set", "dev", name, "up")
    for name in ("slow", link.b.name):
        ip(netns, "link", "set", "dev", name, "master", "br0")
    in_netns(
        netns, "tc", "qdisc", "add", "dev", "slow", "root", "tbf", "rate", "8bit", "burst", "1600", "limit", "100000"
    )
    with link.a.socket() as a, PacketSocket(netns, "end") as end:
        for _ in range(11):  # the bucket holds one of them, the others wait at `slow` for minutes
            a.send(frame(1500, "02:aa:bb:cc:dd:ee"))
        out.see("the first passes", len(end.collect(1)), 1)
        link.quiet()
        out.see("charged to the sender", a.unsent() > 10 * 1500, True)


@contextmanager
def tagging(end: End) -> Iterator[PacketSocket]:
    """Yield a socket whose frames leave the end with a tag beside them, as a VLAN device sends them."""
    if kernel_version() < (6, 6):
        ip(end.netns, "link", "add", "link", end.name, "name", "tagged", "type", "vlan", "id", "100")
        ip(end.netns, "link", "set", "dev", "tagged", "up")
        with PacketSocket(end.netns, "tagged") as sender:
            yield sender
    else:
        attachment = inside(end.netns, push_tag_on_egress, end.state().ifindex, 100)
        try:
            with end.socket() as sender:
                yield sender
        finally:
            os.close(attachment)


@scenario
def tag_beside_the_frame(link: PairUnderTest, out: Outcome) -> None:
    """A tag that travels beside the frame is counted by neither end, and by no length test."""
    link.create(b_options=("mtu", "1000"))
    with tagging(link.a) as sender, link.b.socket() as b:
        for size in (200, 1014, 1018):
            sender.send(frame(size))
        link.quiet()
        got = b.waiting()
    out.see("lengths that arrive", [len(arrival.data) for arrival in got], [200, 1014, 1018])
    out.see("tags", {arrival.vlan for arrival in got}, {(0x8100, 100)})
    total = 200 + 1014 + 1018
    out.see("kernel: a.tx_bytes", link.a.counts()["tx_bytes"], total)
    out.see("charged: a.tx_bytes", link.charged(link.a)["tx_bytes"], total)
    out.see("charged: b.rx_bytes", link.charged(link.b)["rx_bytes"], total)
