"""How a pair ends, moves and is renamed, by whoever does it."""

from tests.kit.commands import Answer, ip, ip_json
from tests.kit.frames import frame
from tests.kit.links import LinkState
from tests.kit.netns import fresh_name
from tests.parity.link import End, PairUnderTest, give_addresses, ping
from tests.parity.outcome import Outcome
from tests.parity.scenario import scenario


def exists(link: PairUnderTest) -> tuple[bool, bool]:
    return link.a.exists, link.b.exists


def passes(link: PairUnderTest) -> tuple[int, int]:
    """How many of one frame each way arrive."""
    with link.a.socket() as a, link.b.socket() as b:
        a.send(frame(60))
        b.send(frame(61))
        return len(b.collect(1)), len(a.collect(1))


def error(answer: Answer) -> str:
    return answer.err.strip().removeprefix("RTNETLINK answers: ") or "ok"


@scenario
def delete_either_end(link: PairUnderTest, out: Outcome) -> None:
    """`ip link del` of one end takes both away."""
    link.create()
    ip(link.a.netns, "link", "del", "dev", link.a.name)
    out.wait("after deleting a", lambda: exists(link), (False, False))
    link.create()
    ip(link.b.netns, "link", "del", "dev", link.b.name)
    out.wait("after deleting b", lambda: exists(link), (False, False))
    link.create(up=False)
    ip(link.a.netns, "link", "del", "dev", link.a.name)
    out.wait("after deleting a, down", lambda: exists(link), (False, False))


@scenario
def delete_with_the_tool(link: PairUnderTest, out: Outcome) -> None:
    """The tool that made the pair deletes it by either end's name, and both ends are gone when it returns."""
    link.create()
    link.delete(link.a)
    out.see("after deleting a", exists(link), (False, False))
    link.create()
    link.delete(link.b)
    out.see("after deleting b", exists(link), (False, False))


@scenario
def names_are_free_after_a_deletion(link: PairUnderTest, out: Outcome) -> None:
    """The same names can be used at once, and the new pair works."""
    link.create()
    for turn in range(3):
        ip(link.a.netns, "link", "del", "dev", link.a.name)
        out.wait(f"{turn}: gone", lambda: exists(link), (False, False))
        link.add(link.a, link.b)
        link.up()
        out.see(f"{turn}: frames pass", passes(link), (1, 1))


@scenario
def events_of_a_deletion(link: PairUnderTest, out: Outcome) -> None:
    """Listeners on both sides hear of a running link that first goes down, then away."""
    link.create()
    with link.a.monitor() as at_a, link.b.monitor() as at_b:
        ip(link.a.netns, "link", "del", "dev", link.a.name)
        for name, monitor in (("a", at_a), ("b", at_b)):
            heard: list[str] = []

            def last(kind: str, state: LinkState, heard: list[str] = heard) -> bool:
                heard.append("gone" if kind == "del" else "down" if not state.up else "up")
                return kind == "del"

            monitor.wait(last, f"end {name} is deleted")
            out.see(f"{name}: down is heard before gone", heard[-2:], ["down", "gone"])


@scenario
def delete_a_namespace(link: PairUnderTest, out: Outcome) -> None:
    """When one namespace goes, its end goes with it, and so does the other end; nothing keeps the namespace alive."""
    link.create()
    link.netns.delete(link.a.netns)
    out.wait("b exists", lambda: link.b.exists, False)
    out.see("kept alive", link.netns.undead(), [])
    link.create()
    link.netns.delete(link.b.netns)
    out.wait("a exists", lambda: link.a.exists, False)
    out.see("kept alive, the other way", link.netns.undead(), [])


@scenario
def delete_the_only_namespace(link: PairUnderTest, out: Outcome) -> None:
    """A pair with both ends in one namespace does not keep it alive."""
    link.create(same_netns=True)
    link.netns.delete(link.a.netns)
    out.see("kept alive", link.netns.undead(), [])


@scenario
def delete_a_namespace_placed_inside(link: PairUnderTest, out: Outcome) -> None:
    """Nothing in a pair keeps its namespaces alive, however it was made."""
    link.create(inside=True)
    link.netns.delete(link.a.netns)
    out.see("kept alive", len(link.netns.undead(within=1.0)), 0)
    out.wait("b exists", lambda: link.b.exists, False, within=1.0)
    link.forget()
    out.see("kept alive after the pair is gone", link.netns.undead(), [])


@scenario
def delete_both_namespaces(link: PairUnderTest, out: Outcome) -> None:
    """Both namespaces may go at the same time."""
    link.create()
    link.netns.delete(link.a.netns)
    link.netns.delete(link.b.netns)
    out.see("kept alive", link.netns.undead(), [])


@scenario
def move_and_move_back(link: PairUnderTest, out: Outcome) -> None:
    """An end that is moved comes down, loses its addresses, keeps everything else, and the wire follows it."""
    link.create(a_options=("mtu", "1400", "txqueuelen", "777"))
    give_addresses(link)
    out.see("frames pass at home", passes(link), (1, 1))
    link.quiet()
    home, away = link.a.netns, link.netns.make()
    before, counts = link.a.state(), link.a.counts()
    ip(home, "link", "set", "dev", link.a.name, "netns", away)
    link.a.netns = away
    here = link.a.state()
    out.see("gone from home", End(home, link.a.name).exists, False)
    out.see("up after the move", here.up, False)
    out.see("address kept", here.address == before.address, True)
    out.see("ifindex kept", here.ifindex == before.ifindex, True)
    out.see("mtu, txqueuelen", (here.mtu, here.txqlen), (1400, 777))
    out.see("counters kept", link.a.counts() == counts, True)
    out.see("addresses kept", [entry for entry in ip_json(away, "-4", "addr") if entry["ifname"] == link.a.name], [])
    out.wait("operstate of a", lambda: link.a.state().operstate, "DOWN")
    out.wait("carrier of b", lambda: link.b.state().carrier, False)
    link.up_again()
    out.wait("qdisc away", lambda: link.a.state().qdisc, "noqueue")
    out.see("frames pass away", passes(link), (1, 1))
    link.quiet()
    ip(away, "link", "set", "dev", link.a.name, "netns", home)
    link.a.netns = home
    out.wait("carrier of b, a on the way home", lambda: link.b.state().carrier, False)
    link.up_again()
    out.wait("qdisc at home", lambda: link.a.state().qdisc, "noqueue")
    out.see("frames pass at home again", passes(link), (1, 1))
    ip(home, "link", "del", "dev", link.a.name)
    out.wait("deleted after its journey", lambda: exists(link), (False, False))


@scenario
def move_to_the_peer(link: PairUnderTest, out: Outcome) -> None:
    """A pair made across namespaces may end up in one, and be parted again."""
    link.create()
    apart = link.a.netns
    ip(apart, "link", "set", "dev", link.a.name, "netns", link.b.netns)
    link.a.netns = link.b.netns
    link.up_again()
    out.see("frames pass side by side", passes(link), (1, 1))
    ip(link.b.netns, "link", "set", "dev", link.b.name, "netns", apart)
    link.b.netns = apart
    link.up_again()
    out.see("frames pass crossed", passes(link), (1, 1))
    link.netns.delete(apart)
    out.wait("a exists", lambda: link.a.exists, False)


@scenario
def move_with_a_new_name(link: PairUnderTest, out: Outcome) -> None:
    """Container managers move and rename in one request."""
    link.create()
    give_addresses(link)
    away = link.netns.make()
    ip(link.b.netns, "link", "set", "dev", link.b.name, "netns", away, "name", "eth0")
    link.b.netns, link.b.name = away, "eth0"
    link.up_again()
    ip(away, "addr", "add", "192.0.2.2/24", "dev", "eth0")
    out.see("ping", ping(link.a, "192.0.2.2").code, 0)
    link.delete(link.b)
    out.see("deleted by its new name", exists(link), (False, False))


@scenario
def move_where_the_name_is_taken(link: PairUnderTest, out: Outcome) -> None:
    """A move is refused when the target has a device of that name; the link goes on as it was."""
    link.create()
    away = link.netns.make()
    ip(away, "link", "add", "name", link.a.name, "type", "bridge")
    answer = ip(link.a.netns, "link", "set", "dev", link.a.name, "netns", away, check=False)
    out.see("refused", answer.code, 2)
    out.see("frames pass", passes(link), (1, 1))


@scenario
def rename(link: PairUnderTest, out: Outcome) -> None:
    """An end may be renamed while it is up; the wire does not notice."""
    link.create()
    old, new = link.a.name, fresh_name("r")
    index = link.a.state().ifindex
    out.see("rename while up", error(link.a.set("name", new, check=False)), "ok")
    link.a.name = new
    out.see("old name", End(link.a.netns, old).exists, False)
    out.see("same device", link.a.state().ifindex == index, True)
    out.see("still running", link.a.state().operstate, "UP")
    out.see("frames pass", passes(link), (1, 1))
    ip(link.a.netns, "link", "add", "name", "taken", "type", "bridge")
    out.see("to a name that is taken", error(link.a.set("name", "taken", check=False)), "File exists")
    out.see("frames pass still", passes(link), (1, 1))
    link.delete(link.a)
    out.see("deleted by its new name", exists(link), (False, False))
