"""Which frames pass, what they look like at the other end, and what both ends count, exactly."""

import struct
from pathlib import Path

from tests.kit.frames import (
    ETH_P_8021AD,
    ETH_P_8021Q,
    ETH_P_IP,
    TEST_ETHERTYPE,
    frame,
    number_of,
    numbered,
)
from tests.kit.packets import send_and_collect
from tests.parity.link import Counts, PairUnderTest
from tests.parity.outcome import Outcome
from tests.parity.scenario import scenario

TEN = 10


def sent_only(packets: int, size: int) -> Counts:
    zero = {"rx_packets": 0, "rx_bytes": 0, "rx_dropped": 0, "tx_dropped": 0}
    return zero | {"tx_packets": packets, "tx_bytes": packets * size}


def received_only(packets: int, size: int) -> Counts:
    zero = {"tx_packets": 0, "tx_bytes": 0, "rx_dropped": 0, "tx_dropped": 0}
    return zero | {"rx_packets": packets, "rx_bytes": packets * size}


def growth(before: Counts, after: Counts) -> Counts:
    return {name: after[name] - before[name] for name in after}


def count_ten(link: PairUnderTest, out: Outcome, what: str, data: bytes, unhandled: bool = False) -> None:
    """Send a frame ten times; record the answers, the lengths at B, and all four sets of counters.

    `unhandled`: B's stack drops the frames after it received them, because it has no device for their VLAN.
    """
    ends = (link.a, link.b)
    before = [(end.counts(), link.charged(end)) for end in ends]
    with link.a.socket() as sender, link.b.socket() as receiver:
        out.see(f"{what}: send", {sender.try_send(data) for _ in range(TEN)}, {"ok"})
        got = receiver.collect(TEN)
        link.quiet()
        got += receiver.waiting()
    # A tag that the kernel took out of the frame is still part of what crossed the wire.
    out.see(f"{what}: lengths", [len(g.data) + (4 if g.vlan else 0) for g in got], [len(data)] * TEN)
    received = received_only(TEN, len(data)) | {"rx_dropped": TEN if unhandled else 0}
    wanted = (sent_only(TEN, len(data)), received)
    for end, name, (kernel, charged), want in zip(ends, "ab", before, wanted, strict=True):
        out.see(f"{what}: kernel's counters of {name}", growth(kernel, end.counts()), want)
        # What B's own stack drops is a matter apart from what the wire delivered.
        mine = growth(charged, link.charged(end))
        out.see(f"{what}: charged to {name}: rx_dropped", mine.pop("rx_dropped"), want.pop("rx_dropped"))
        out.see(f"{what}: charged to {name}", mine, want)


@scenario
def frame_sizes(link: PairUnderTest, out: Outcome) -> None:
    """Frames of 14 to 1514 bytes cross as they are: no padding, exact counts on both ends."""
    link.create()
    for size in (14, 15, 42, 59, 60, 61, 1514):
        count_ten(link, out, f"{size}", frame(size, link.b.mac))
    with link.a.socket() as a:
        before = link.a.counts()
        out.see("13: send", a.try_send(frame(13)), "EINVAL")
        out.see("1515: send", a.try_send(frame(1515)), "EMSGSIZE")
        out.see("1518 untagged: send", a.try_send(frame(1518)), "EMSGSIZE")
        out.see("refused by the socket: counted", growth(before, link.a.counts()), sent_only(0, 0))


@scenario
def frame_sizes_with_tags(link: PairUnderTest, out: Outcome) -> None:
    """One 802.1Q tag may exceed the MTU by its four bytes; other tags may not."""
    link.create()
    single = ((ETH_P_8021Q, 100),)
    service = ((ETH_P_8021AD, 100),)
    double = ((ETH_P_8021AD, 100), (ETH_P_8021Q, 5))
    count_ten(link, out, "1518 with 802.1Q", frame(1518, tags=single), unhandled=True)
    count_ten(link, out, "1514 with 802.1ad", frame(1514, tags=service), unhandled=True)
    count_ten(link, out, "1514 with QinQ", frame(1514, tags=double), unhandled=True)
    count_ten(link, out, "60 with QinQ", frame(60, tags=double), unhandled=True)
    with link.a.socket() as a:
        out.see("1519 with 802.1Q: send", a.try_send(frame(1519, tags=single)), "EMSGSIZE")
        out.see("1518 with 802.1ad: send", a.try_send(frame(1518, tags=service)), "EMSGSIZE")
        out.see("1518 with QinQ: send", a.try_send(frame(1518, tags=double)), "EMSGSIZE")


@scenario
def jumbo_frames(link: PairUnderTest, out: Outcome) -> None:
    """An MTU of 9000 on both ends carries frames of 9014 bytes."""
    link.create(a_options=("mtu", "9000"), b_options=("mtu", "9000"))
    count_ten(link, out, "9014", frame(9014))
    count_ten(link, out, "9018 with 802.1Q", frame(9018, tags=((ETH_P_8021Q, 7),)), unhandled=True)
    with link.a.socket() as a:
        out.see("9015: send", a.try_send(frame(9015)), "EMSGSIZE")
    link.a.set("mtu", "65521")
    link.b.set("mtu", "65521")
    link.followed()
    count_ten(link, out, "65535", frame(65535))


@scenario
def destinations(link: PairUnderTest, out: Outcome) -> None:
    """There is no MAC filter: every destination arrives and is classified by the receiver's address."""
    link.create()
    kinds = {
        "own": (link.b.mac, "HOST"),
        "broadcast": (b"\xff" * 6, "BROADCAST"),
        "IPv4 multicast": (bytes.fromhex("01005e000001"), "MULTICAST"),
        "IPv6 multicast": (bytes.fromhex("333300000001"), "MULTICAST"),
        "pause": (bytes.fromhex("0180c2000001"), "MULTICAST"),
        "bridge group": (bytes.fromhex("0180c2000000"), "MULTICAST"),
        "foreign": (bytes.fromhex("02aabbccddee"), "OTHERHOST"),
        "the sender's own": (link.a.mac, "OTHERHOST"),
        "zero": (bytes(6), "OTHERHOST"),
    }
    with link.a.socket() as a, link.b.socket() as b:
        for name, (dst, pkttype) in kinds.items():
            data = frame(60, dst, link.a.mac)
            a.send(data)
            out.see(name, [(got.pkttype, got.data == data) for got in b.collect(1)], [(pkttype, True)])
        link.quiet()
        stats = link.b.state().stats
        out.see("b.rx_packets", stats["rx_packets"], len(kinds))
        out.see("b.multicast", stats["multicast"], 0)
        link.b.set("address", "02:00:00:00:be:ef")
        link.followed()
        a.send(frame(60, bytes.fromhex("02000000beef")))
        out.see("to a new address", [got.pkttype for got in b.collect(1)], ["HOST"])


@scenario
def vlan_tags(link: PairUnderTest, out: Outcome) -> None:
    """Tags cross untouched: the receiver finds the outer one taken out of the frame, inner ones in it."""
    link.create()
    shapes: dict[str, tuple[tuple[int, int], ...]] = {
        "802.1Q": ((ETH_P_8021Q, 100),),
        "802.1Q with priority": ((ETH_P_8021Q, 0xB064),),
        "priority only": ((ETH_P_8021Q, 0xE000),),
        "802.1ad": ((ETH_P_8021AD, 200),),
        "QinQ": ((ETH_P_8021AD, 200), (ETH_P_8021Q, 100)),
        "802.1Q twice": ((ETH_P_8021Q, 200), (ETH_P_8021Q, 100)),
        "three tags": ((ETH_P_8021AD, 3), (ETH_P_8021Q, 2), (ETH_P_8021Q, 1)),
    }
    with link.a.socket() as a, link.b.socket() as b:
        for name, tags in shapes.items():
            data = frame(100, tags=tags)
            a.send(data)
            seen = [(got.vlan, got.data == data[:12] + data[16:]) for got in b.collect(1)]
            out.see(name, seen, [(tags[0], True)])
        # A tag cut off in the middle is dropped by the receiver's stack, after it was counted as received.
        link.quiet()
        before = link.b.counts()["rx_packets"]
        a.send(frame(15, ethertype=ETH_P_8021Q))
        out.wait("truncated tag: received", lambda: link.b.counts()["rx_packets"] - before, 1)
        out.see("truncated tag: seen", len(b.waiting()), 0)


@scenario
def ethertypes(link: PairUnderTest, out: Outcome) -> None:
    """Unknown types and 802.3 lengths arrive; what nobody handles counts in rx_dropped besides rx_packets."""
    link.create()
    novell = frame(60, ethertype=46, payload=b"\xff\xff")
    cases = {
        "experimental": (frame(60), TEST_ETHERTYPE),
        "reserved": (frame(60, ethertype=0xFFFF), 0xFFFF),
        "zero": (frame(60, ethertype=0), 0x0004),
        "802.2 LLC": (frame(60, ethertype=46, payload=b"\xaa\xaa\x03"), 0x0004),
        "Novell 802.3": (novell, 0x0001),
        "loopback": (frame(60, ethertype=0x9000), 0x9000),
        "LLDP": (frame(60, "01:80:c2:00:00:0e", ethertype=0x88CC), 0x88CC),
        "IPv4 garbage": (frame(60, ethertype=ETH_P_IP), ETH_P_IP),
    }
    with link.a.socket() as a:
        with link.b.socket() as b:
            for name, (data, protocol) in cases.items():
                a.send(data)
                seen = [(hex(got.protocol), got.data == data) for got in b.collect(1)]
                out.see(name, seen, [(hex(protocol), True)])
        link.quiet()
        before = link.b.counts()
        for _ in range(3):
            a.send(frame(60))
        out.wait("nobody listens: b.rx_packets", lambda: growth(before, link.b.counts())["rx_packets"], 3)
        out.wait("nobody listens: b.rx_dropped", lambda: growth(before, link.b.counts())["rx_dropped"], 3)


@scenario
def order_of_ten_thousand(link: PairUnderTest, out: Outcome) -> None:
    """Frames arrive in the order they were sent, each once, unchanged."""
    link.create()
    total = 10_000
    dst = link.b.mac
    frames = [numbered(i, 60 + i % 1200, dst) for i in range(total)]
    with link.a.socket() as a, link.b.socket() as b:
        got = send_and_collect(a, b, frames)
        link.quiet()
        got += b.waiting()
        out.see("arrived", len(got), total)
        out.see("in order", [number_of(g.data) for g in got] == list(range(total)), True)
        out.see("unchanged", all(g.data == data for g, data in zip(got, frames, strict=False)), True)
        out.see("lost by the socket itself", b.overruns(), 0)
    size = sum(len(data) for data in frames)
    for end, name in ((link.a, "tx"), (link.b, "rx")):
        for how, counts in (("kernel", end.counts()), ("charged", link.charged(end))):
            seen = (counts[f"{name}_packets"], counts[f"{name}_bytes"])
            out.see(f"{how}: {name} packets, bytes", seen, (total, size))


@scenario
def both_directions_at_once(link: PairUnderTest, out: Outcome) -> None:
    """Traffic one way does not disturb the other."""
    link.create()
    total = 2000
    with link.a.socket() as a, link.b.socket() as b:
        at_a: list[int] = []
        at_b: list[int] = []
        for start in range(0, total, 50):
            for i in range(start, start + 50):
                a.send(numbered(i, 60))
                b.send(numbered(i, 200))
            at_b += [number_of(got.data) for got in b.collect(50)]
            at_a += [number_of(got.data) for got in a.collect(50)]
        out.see("at a", at_a == list(range(total)), True)
        out.see("at b", at_b == list(range(total)), True)
    link.quiet()
    for name, end, tx, rx in (("a", link.a, 60, 200), ("b", link.b, 200, 60)):
        wanted = {"rx_packets": total, "rx_bytes": total * rx, "rx_dropped": 0}
        wanted |= {"tx_packets": total, "tx_bytes": total * tx, "tx_dropped": 0}
        out.see(f"kernel's counters of {name}", end.counts(), wanted)
        out.see(f"charged to {name}", link.charged(end), wanted)


def processed() -> int:
    """Return how many frames the receive paths of all CPUs have taken so far."""
    return sum(int(line.split()[0], 16) for line in Path("/proc/net/softnet_stat").read_text().splitlines())


@scenario
def softnet_stat(link: PairUnderTest, out: Outcome) -> None:
    """The machine's `/proc/net/softnet_stat` counts each frame once where it is received."""
    link.create()
    before, total = processed(), 5000
    with link.a.socket() as a, link.b.socket() as b:
        got = send_and_collect(a, b, (numbered(i) for i in range(total)))
    out.see("arrived", len(got), total)
    out.see("processed", processed() - before >= total, True)


@scenario
def burst_of_three_thousand(link: PairUnderTest, out: Outcome) -> None:
    """A single sender cannot outrun kernel veth, however long the receiving side takes."""
    link.create()
    total = 3000
    with link.a.socket() as a, link.b.socket() as b:
        with link.stalled():
            answers = [a.try_send(frame(60, payload=struct.pack("!I", i))) for i in range(total)]
        out.see("every send succeeds", set(answers) == {"ok"}, True)
        link.quiet()
        got = [number_of(arrival.data) for arrival in b.waiting()]
        out.see("all arrive", len(got) == total, True)
        out.see("in order", got == sorted(got), True)
        answered = answers.count("ok")
        out.see("what was accepted arrives", len(got) == answered, True)
        charged = link.charged(link.a)
        out.see("every frame is charged", charged["tx_packets"] + charged["tx_dropped"], total)
