"""The MTU of the receiver, the range of MTUs, and the queue length."""

from tests.kit.frames import ETH_P_8021Q, frame
from tests.kit.ippackets import IPPROTO_TCP, offloaded, packet
from tests.kit.waiting import settled
from tests.parity.link import PairUnderTest, give_addresses, ping
from tests.parity.outcome import Outcome
from tests.parity.scenario import scenario


def lengths(link: PairUnderTest, out: Outcome, what: str, data: bytes, answer: str, arrives: bool) -> None:
    """Send one frame; record the sender's answer and the length at B, if it arrives."""
    with link.a.socket() as a, link.b.socket() as b:
        out.see(f"{what}: send", a.try_send(data), answer)
        got = b.collect(1) if arrives else []
        link.quiet()
        got += b.waiting()
        out.see(f"{what}: arrives", [len(g.data) + (4 if g.vlan else 0) for g in got], [len(data)] if arrives else [])


@scenario
def mtu_of_the_receiver(link: PairUnderTest, out: Outcome) -> None:
    """The receiver's MTU + 18 is the limit: 1018 bytes pass an MTU of 1000, 1019 do not, and both ends are charged."""
    link.create()
    link.b.set("mtu", "1000")
    link.followed()
    out.see("mtu of b", link.b.state().mtu, 1000)
    out.see("mtu of a", link.a.state().mtu, 1500)
    lengths(link, out, "1014", frame(1014), "ok", True)
    lengths(link, out, "1018", frame(1018), "ok", True)
    lengths(link, out, "1018 with a tag", frame(1018, tags=((ETH_P_8021Q, 9),)), "ok", True)
    lengths(link, out, "1019", frame(1019), "ENOBUFS", False)
    lengths(link, out, "1019 with a tag", frame(1019, tags=((ETH_P_8021Q, 9),)), "ENOBUFS", False)
    lengths(link, out, "1514", frame(1514), "ENOBUFS", False)
    out.wait("charged: a.tx_dropped", lambda: link.charged(link.a)["tx_dropped"], 3)
    out.wait("charged: a.tx_packets", lambda: link.charged(link.a)["tx_packets"], 3)
    out.wait("charged: b.rx_packets", lambda: link.charged(link.b)["rx_packets"], 3)
    out.see("kernel: a.tx_dropped", link.a.counts()["tx_dropped"], 3)
    out.see("kernel: a.tx_packets", link.a.counts()["tx_packets"], 3)
    out.see("kernel: b.rx_packets", link.b.counts()["rx_packets"], 3)
    with link.b.socket() as b, link.a.socket() as a:
        b.send(frame(1014))
        out.see("the other way", [len(got.data) for got in a.collect(1)], [1014])
    link.b.set("mtu", "1001")
    link.followed()
    lengths(link, out, "1019 at mtu 1001", frame(1019), "ok", True)
    link.b.set("mtu", "68")
    link.followed()
    lengths(link, out, "86 at mtu 68", frame(86), "ok", True)
    lengths(link, out, "87 at mtu 68", frame(87), "ENOBUFS", False)


@scenario
def oversize_drops_charge_the_receiver(link: PairUnderTest, out: Outcome) -> None:
    """A frame too long for the receiver counts in its rx_dropped, too."""
    link.create(b_options=("mtu", "1000"))
    with link.a.socket() as a:
        for _ in range(4):
            a.try_send(frame(1019))
    link.quiet()
    out.wait("charged: b.rx_dropped", lambda: link.charged(link.b)["rx_dropped"], 4)
    out.see("kernel: b.rx_dropped", link.b.counts()["rx_dropped"], 4)


@scenario
def gso_frames_pass_a_small_mtu(link: PairUnderTest, out: Outcome) -> None:
    """The MTU test spares frames that are still to be cut, even into segments that do not fit."""
    link.create(b_options=("mtu", "1000"))
    data = packet(
        link.b.mac, link.a.mac, "192.0.2.1", "192.0.2.2", protocol=IPPROTO_TCP, payload=bytes(13988), partial=True
    )
    with link.a.socket(vnet_hdr=True) as a, link.b.socket(vnet_hdr=True) as b:
        out.see("send", a.try_send(data, offloaded(data, IPPROTO_TCP, 1448)), "ok")
        got = b.collect(1)
        out.see("arrives whole", [(len(g.data), g.vnet.gso_size if g.vnet else 0) for g in got], [(14042, 1448)])
    link.quiet()
    out.see("charged: a.tx_dropped", link.charged(link.a)["tx_dropped"], 0)


@scenario
def ping_and_the_mtu(link: PairUnderTest, out: Outcome) -> None:
    """What users notice of it: big pings fail, small ones pass, and the sender's own MTU decides about fragments."""
    link.create()
    _, b = give_addresses(link)
    out.see("five pings", ping(link.a, b, count=5).code, 0)
    link.quiet()
    wanted = {"rx_packets": 5, "rx_bytes": 490, "rx_dropped": 0, "tx_packets": 5, "tx_bytes": 490, "tx_dropped": 0}
    for name, end in (("a", link.a), ("b", link.b)):
        out.see(f"five pings: kernel's counters of {name}", end.counts(), wanted)
        out.see(f"five pings: charged to {name}", link.charged(end), wanted)
    out.see("five pings of 4000 bytes", ping(link.a, b, count=5, size=4000).code, 0)
    link.quiet()
    counts = link.a.counts()
    out.see("fragments and bytes", (counts["tx_packets"] - 5, counts["tx_bytes"] - 490), (15, 20550))
    link.b.set("mtu", "1000")
    link.followed()
    out.see("ping of 900 bytes into mtu 1000", ping(link.a, b, count=1, size=900).code, 0)
    out.see("ping of 1400 bytes into mtu 1000", ping(link.a, b, count=1, size=1400, within=1).code, 1)


@scenario
def mtu_range(link: PairUnderTest, out: Outcome) -> None:
    """Which MTUs a link takes later on, and what it says of its range."""
    link.create()
    limits = {name: link.a.state().attributes[name] for name in ("IFLA_MIN_MTU", "IFLA_MAX_MTU")}
    out.see("smallest", limits["IFLA_MIN_MTU"], 68)
    out.see("largest", limits["IFLA_MAX_MTU"], 65535)
    for mtu, accepted in ((68, True), (67, False), (9000, True), (65521, True), (65522, True), (65536, False)):
        out.see(f"mtu {mtu}", link.a.set("mtu", str(mtu), check=False).ok, accepted)
    out.see("peer untouched", link.b.state().mtu, 1500)


@scenario
def queue_length(link: PairUnderTest, out: Outcome) -> None:
    """The queue length is a number that veth shows and never uses."""
    link.create(b_options=("txqueuelen", "55"))
    out.see("default", link.a.state().txqlen, 1000)
    out.see("given", link.b.state().txqlen, 55)
    link.b.set("txqueuelen", "2000")
    link.followed()
    out.see("changed", link.b.state().txqlen, 2000)
    lengths(link, out, "after a change", frame(60), "ok", True)
    link.a.set("txqueuelen", "0")
    out.wait("qdisc with 0", lambda: link.a.state().qdisc, "noqueue")
    out.see("zero", settled(lambda: link.a.state().txqlen, lambda length: length != 0, within=0.5), 0)
    lengths(link, out, "with 0", frame(60), "ok", True)
    lengths(link, out, "with 0, again", frame(61), "ok", True)


@scenario
def effects_are_immediate(link: PairUnderTest, out: Outcome) -> None:
    """A change is in force when `ip` returns, whatever else the machine is busy with; none is passed over."""
    link.create()
    with link.held():
        link.b.set("mtu", "1000")
        lengths_now(link, out, "1400 into mtu 1000", frame(1400), "ENOBUFS", [])
        link.b.down()
        out.see("carrier of a, b down", link.a.state().carrier, False)
    out.wait("carrier of a, in the end", lambda: link.a.state().carrier, False)
    link.b.up()
    out.wait("carrier of a, b up", lambda: link.a.state().carrier, True)
    link.followed()
    with link.held():
        for _ in range(3):
            link.b.down()
            link.b.up()
    link.followed()
    out.see("every flip counts", link.a.state().carrier_counts, (10, 5, 5))


def lengths_now(link: PairUnderTest, out: Outcome, what: str, data: bytes, answer: str, arrive: list[int]) -> None:
    """Like `lengths`, without anything that waits for the daemon."""
    with link.a.socket() as a, link.b.socket() as b:
        out.see(f"{what}: send", a.try_send(data), answer)
        out.see(f"{what}: arrives", [len(got.data) for got in b.collect(1, within=0.5)], arrive)
