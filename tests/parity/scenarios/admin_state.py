"""Carrier and operational state: both ends have a carrier if and only if both are up."""

import errno

from tests.kit.commands import ip, ip_json
from tests.kit.frames import frame
from tests.kit.packets import PacketSocket
from tests.parity.link import End, PairUnderTest, give_addresses
from tests.parity.outcome import Outcome
from tests.parity.scenario import scenario

View = tuple[bool, bool, bool, bool, str, tuple[int, int, int]]


def view(end: End) -> View:
    """Up, running, lower-up, carrier, operstate, and (changes, ups, downs) of the carrier."""
    state = end.state()
    return state.up, state.running, state.lower_up, state.carrier, state.operstate, state.carrier_counts


def down(counts: tuple[int, int, int]) -> View:
    return False, False, False, False, "DOWN", counts


def waiting(counts: tuple[int, int, int]) -> View:
    return True, False, False, False, "DOWN", counts


def running(counts: tuple[int, int, int]) -> View:
    return True, True, True, True, "UP", counts


def watch(out: Outcome, step: str, link: PairUnderTest, a: View, b: View) -> None:
    out.wait(f"{step}: a", lambda: view(link.a), a)
    out.wait(f"{step}: b", lambda: view(link.b), b)


@scenario
def eight_admin_states(link: PairUnderTest, out: Outcome) -> None:
    """All transitions of both ends' admin state, with the kernel's own count of carrier changes."""
    link.create(up=False)
    watch(out, "1 created", link, down((1, 0, 1)), down((1, 0, 1)))
    link.a.up()
    watch(out, "2 a up", link, waiting((1, 0, 1)), down((1, 0, 1)))
    link.b.up()
    watch(out, "3 b up", link, running((2, 1, 1)), running((2, 1, 1)))
    link.b.down()
    watch(out, "4 b down", link, waiting((3, 1, 2)), down((3, 1, 2)))
    link.b.up()
    watch(out, "5 b up again", link, running((4, 2, 2)), running((4, 2, 2)))
    link.a.down()
    watch(out, "6 a down", link, down((5, 2, 3)), waiting((5, 2, 3)))
    link.b.down()
    watch(out, "7 both down", link, down((5, 2, 3)), down((5, 2, 3)))
    link.b.up()
    watch(out, "8 b alone up", link, down((5, 2, 3)), waiting((5, 2, 3)))


@scenario
def up_and_down_many_times(link: PairUnderTest, out: Outcome) -> None:
    """After fast flapping the last state holds: nothing late overwrites it."""
    link.create()
    for _ in range(25):
        link.b.down()
        link.b.up()
    out.wait("a runs again", lambda: link.a.state().operstate, "UP")
    out.wait("b runs again", lambda: link.b.state().operstate, "UP")
    with link.a.socket() as sender, link.b.socket() as receiver:

        def passes() -> bool:
            sender.send(frame(60))
            return receiver.receive(0.05) is not None

        out.wait("frames pass in the end", passes, True)
    for _ in range(25):
        link.b.up()
        link.b.down()
    out.wait("a waits", lambda: link.a.state().operstate, "DOWN")
    link.followed()
    out.see("and goes on waiting", (link.a.state().operstate, link.b.state().up), ("DOWN", False))


@scenario
def carrier_set_by_a_user(link: PairUnderTest, out: Outcome) -> None:
    """`ip link set NAME carrier off` cannot take the carrier of a veth away."""
    link.create()
    answer = link.a.set("carrier", "off", check=False)
    out.see("answer", answer.err.strip() or "ok", "RTNETLINK answers: Operation not supported")
    out.wait("carrier of a", lambda: link.a.state().carrier, True)
    out.wait("carrier of b", lambda: link.b.state().carrier, True)
    with link.a.socket() as sender, link.b.socket() as receiver:
        sender.send(frame(60))
        out.see("frames pass", len(receiver.collect(1)), 1)


@scenario
def peer_down(link: PairUnderTest, out: Outcome) -> None:
    """A frame sent while the other end is down vanishes: the sender hears nothing, its tx_dropped grows."""
    link.create()
    link.b.down()
    out.wait("carrier of a", lambda: link.a.state().carrier, False)
    with link.a.socket() as sender:
        out.see("send", [sender.try_send(frame(100)) for _ in range(5)], ["ok"] * 5)
        link.quiet()
        out.wait("kernel: a.tx_dropped", lambda: link.a.counts()["tx_dropped"], 5, older=0)
        out.wait("charged: a.tx_dropped", lambda: link.charged(link.a)["tx_dropped"], 5, older=0)
        out.see("kernel: a.tx_packets", link.a.counts()["tx_packets"], 0)
        out.see("kernel: b.rx_packets", link.b.counts()["rx_packets"], 0)
        out.see("kernel: b.rx_dropped", link.b.counts()["rx_dropped"], 0)
        out.see("charged: b.rx_dropped", link.charged(link.b)["rx_dropped"], 0)
        link.up_again()
        with link.b.socket() as receiver:
            sender.send(frame(60))
            out.see("lengths after b is up again", [got.length for got in receiver.collect(1)], [60])
            link.quiet()
            out.see("late frames", len(receiver.waiting()), 0)


@scenario
def sender_down(link: PairUnderTest, out: Outcome) -> None:
    """A device that is down takes no frames."""
    link.create(up=False)
    link.b.up()
    answer = "bound"
    try:
        with PacketSocket(link.a.netns, link.a.name) as sender:
            answer = sender.try_send(frame(60))
    except OSError as error:
        answer = errno.errorcode[error.errno or 0]
    out.see("send", answer, "ENETDOWN")
    out.see("a.tx_dropped", link.a.counts()["tx_dropped"], 0)


@scenario
def linkdown_routes(link: PairUnderTest, out: Outcome) -> None:
    """IPv4 routes carry the `linkdown` flag exactly while the peer is down."""
    link.create()
    give_addresses(link)
    ip(link.a.netns, "route", "add", "198.51.100.0/24", "via", "192.0.2.2")

    def flags() -> list[str]:
        return [
            " ".join(sorted(route["flags"])) for route in ip_json(link.a.netns, "-4", "route", "show", "table", "main")
        ]

    out.wait("carrier on", flags, ["", ""])
    link.b.down()
    out.wait("peer down", flags, ["linkdown", "linkdown"])
    link.b.up()
    out.wait("peer up again", flags, ["", ""])
