"""What a creation accepts, what it refuses and with which errno, and that a refusal leaves nothing behind."""

from tests.kit.commands import ip
from tests.kit.links import LinkState, all_links
from tests.kit.netns import fresh_name
from tests.kit.waiting import settled
from tests.parity.link import End, PairUnderTest
from tests.parity.newlink import EndWish, Wish
from tests.parity.outcome import Outcome
from tests.parity.scenario import scenario


class Asker:
    """Asks for pairs between two fresh namespaces, one after the other, and clears up between them."""

    def __init__(self, link: PairUnderTest) -> None:
        self.link = link
        self.netns = (link.netns.make(), link.netns.make())

    def names(self) -> tuple[list[str], list[str]]:
        """Return the names of the devices in both namespaces, `lo` aside."""
        first, second = (sorted(set(all_links(netns)) - {"lo"}) for netns in self.netns)
        return first, second

    def __call__(self, wish: Wish) -> str:
        return self.link.attempt(wish, *self.netns)

    def clear(self) -> None:
        for name in self.names()[0]:
            ip(self.netns[0], "link", "del", "dev", name)
        left = settled(self.names, lambda names: names == ([], []))
        assert left == ([], []), f"devices were left: {left}"


def verdict(ask: Asker, wish: Wish) -> tuple[str, int, int]:
    """Return the answer and how many devices there are in each namespace after it; then clear up."""
    answer = ask(wish)
    first, second = ask.names()
    ask.clear()
    return answer, len(first), len(second)


MADE = ("ok", 1, 1)


def refused(errno_name: str) -> tuple[str, int, int]:
    return errno_name, 0, 0


NAMES = {
    "fifteen characters": ("vt3456789012345", MADE),
    "sixteen characters": ("vt34567890123456", refused("ERANGE")),
    "empty": ("", refused("EINVAL")),
    "slash": ("vt/x", refused("EINVAL")),
    "space": ("vt x", refused("EINVAL")),
    "tab": ("vt\tx", refused("EINVAL")),
    "colon": ("vt:x", refused("EINVAL")),
    "dot": (".", refused("EINVAL")),
    "dots": ("..", refused("EINVAL")),
    "dot inside": ("vt.x", MADE),
    "%s": ("vt%s", refused("EINVAL")),
    "%": ("vt%", refused("EINVAL")),
    "two patterns": ("vt%d%d", refused("EINVAL")),
    "%d": ("vt%d", MADE),
    "all": ("all", refused("EINVAL")),
    "default": ("default", refused("EINVAL")),
    "UTF-8": ("vtä€", MADE),
    "digits": ("4711", MADE),
    "dash": ("-x", MADE),
    "quote": ("vt'\"x", MADE),
}


@scenario
def names(link: PairUnderTest, out: Outcome) -> None:
    """Which names an end may have."""
    ask = Asker(link)
    for what, (name, wanted) in NAMES.items():
        out.see(f"a: {what}", verdict(ask, Wish(EndWish(name), EndWish("vtpeer"))), wanted)
        out.see(f"b: {what}", verdict(ask, Wish(EndWish("vtmain"), EndWish(name))), wanted)


@scenario
def names_that_are_taken(link: PairUnderTest, out: Outcome) -> None:
    """A name that exists is refused, and nothing of the pair stays."""
    ask = Asker(link)
    for netns in ask.netns:
        ip(netns, "link", "add", "name", "vttaken", "type", "bridge")
    for what, wish in (
        ("a", Wish(EndWish("vttaken"), EndWish("vtb"))),
        ("b", Wish(EndWish("vta"), EndWish("vttaken"))),
        ("lo", Wish(EndWish("lo"), EndWish("vtb"))),
    ):
        out.see(what, ask(wish), "EEXIST")
        out.see(f"{what}: devices", ask.names(), (["vttaken"], ["vttaken"]))
    ask.netns = (ask.netns[0], ask.netns[0])
    out.see("both the same", ask(Wish(EndWish("vtsame"), EndWish("vtsame"))), "EEXIST")
    out.see("both the same: devices", ask.names()[0], ["vttaken"])


@scenario
def names_the_driver_chooses(link: PairUnderTest, out: Outcome) -> None:
    """`veth%d` where no name is given, the lowest free number, the peer first."""
    ask = Asker(link)
    out.see("none given", ask(Wish()), "ok")
    out.see("none given: names", ask.names(), (["veth0"], ["veth0"]))
    out.see("again", ask(Wish()), "ok")
    out.see("again: names", ask.names(), (["veth0", "veth1"], ["veth0", "veth1"]))
    out.see("patterns", ask(Wish(EndWish("hvp%d"), EndWish("x%dy"))), "ok")
    out.see("patterns: names", ask.names(), (["hvp0", "veth0", "veth1"], ["veth0", "veth1", "x0y"]))
    ip(ask.netns[0], "link", "del", "dev", "veth0")
    settled(lambda: ask.names()[1], lambda names: "veth0" not in names)
    out.see("a gap is filled", ask(Wish()), "ok")
    out.see("a gap is filled: names", ask.names(), (["hvp0", "veth0", "veth1"], ["veth0", "veth1", "x0y"]))
    netns = link.netns.make()
    ask.netns = (netns, netns)
    out.see("one namespace", ask(Wish()), "ok")
    links = all_links(netns)
    out.see("one namespace: the peer is first", links["veth0"].ifindex < links["veth1"].ifindex, True)


MTUS = {0: refused("EINVAL"), 67: refused("EINVAL"), 68: MADE, 1500: MADE, 9000: MADE, 65521: MADE}
MTUS |= {65522: MADE, 65535: MADE, 65536: refused("EINVAL")}


@scenario
def mtus_at_creation(link: PairUnderTest, out: Outcome) -> None:
    """Which MTUs an end may be made with."""
    ask = Asker(link)
    for mtu, wanted in MTUS.items():
        out.see(f"a: {mtu}", verdict(ask, Wish(EndWish("vta", mtu=mtu), EndWish("vtb"))), wanted)
        out.see(f"b: {mtu}", verdict(ask, Wish(EndWish("vta"), EndWish("vtb", mtu=mtu))), wanted)


@scenario
def addresses_at_creation(link: PairUnderTest, out: Outcome) -> None:
    """Which MAC addresses an end may be made with."""
    ask = Asker(link)
    for what, address, wanted in (
        ("local", "02:00:00:00:00:01", MADE),
        ("global", "00:16:3e:00:00:01", MADE),
        ("upper case", "02:AB:CD:EF:00:01", MADE),
        ("multicast", "01:00:5e:00:00:01", refused("EADDRNOTAVAIL")),
        ("broadcast", "ff:ff:ff:ff:ff:ff", refused("EADDRNOTAVAIL")),
        ("zero", "00:00:00:00:00:00", refused("EADDRNOTAVAIL")),
        ("five bytes", "02:00:00:00:00", refused("EINVAL")),
        ("seven bytes", "02:00:00:00:00:00:01", refused("EINVAL")),
        ("nothing", "", refused("EINVAL")),
    ):
        out.see(f"a: {what}", verdict(ask, Wish(EndWish("vta", address=address), EndWish("vtb"))), wanted)
        out.see(f"b: {what}", verdict(ask, Wish(EndWish("vta"), EndWish("vtb", address=address))), wanted)


@scenario
def values_of_one_end(link: PairUnderTest, out: Outcome) -> None:
    """What is asked of one end is not done to the other; either may be asked for its queue length."""
    ask = Asker(link)
    out.see("made", ask(Wish(EndWish("vta", mtu=1400, txqueuelen=77), EndWish("vtb", txqueuelen=5))), "ok")
    a, b = (all_links(netns)[name] for netns, name in zip(ask.netns, ("vta", "vtb"), strict=True))
    out.see("a: mtu, txqueuelen", (a.mtu, a.txqlen), (1400, 77))
    out.see("b: mtu, txqueuelen", (b.mtu, b.txqlen), (1500, 5))
    ask.clear()
    out.see("txqueuelen 0", verdict(ask, Wish(EndWish("vta", txqueuelen=0), EndWish("vtb"))), MADE)


@scenario
def up_at_creation(link: PairUnderTest, out: Outcome) -> None:
    """The main end may be made up; with the peer up there would be no wire yet, and the request is refused."""
    ask = Asker(link)
    out.see("a up", ask(Wish(EndWish("vta", up=True), EndWish("vtb"))), "ok")
    state = all_links(ask.netns[0])["vta"]
    out.see("a up: up, carrier", (state.up, state.carrier), (True, False))
    ask.clear()
    out.see("b up", verdict(ask, Wish(EndWish("vta"), EndWish("vtb", up=True))), refused("ENOTCONN"))
    out.see("both up", verdict(ask, Wish(EndWish("vta", up=True), EndWish("vtb", up=True))), refused("ENOTCONN"))


@scenario
def events_of_a_creation(link: PairUnderTest, out: Outcome) -> None:
    """Each namespace hears of a complete device, down and without carrier; the device never appears half made."""
    link.create(up=False)
    name = fresh_name("c")
    with link.a.monitor() as at_a, link.b.monitor() as at_b:
        link.add(End(link.a.netns, name), End(link.b.netns, name), ("mtu", "1400"))
        for letter, known, monitor, mtu in (("a", link.a, at_a, 1400), ("b", link.b, at_b, 1500)):
            state = monitor.wait(lambda kind, state: state.name == name, f"end {letter} appears")
            out.see(f"{letter}: up, lower up", (state.up, state.lower_up), (False, False))
            out.see(f"{letter}: operstate, mtu", (state.operstate, state.mtu), ("DOWN", mtu))
            known.set("mtu", "1234")  # an event that can only come behind those of the creation
            heard: list[str] = []

            def later(kind: str, state: LinkState, known: str = known.name, heard: list[str] = heard) -> bool:
                heard.extend([kind] * (state.name == name))
                return state.name == known and state.mtu == 1234

            monitor.wait(later, "the event behind it")
            out.see(f"{letter}: further events", heard, [])


@scenario
def the_same_words(link: PairUnderTest, out: Outcome) -> None:
    """The command takes iproute2's words, abbreviated as there, acts in the caller's namespace, and exits as `ip`."""
    link.create(up=False)
    a, b = End(link.a.netns, fresh_name("w")), End(link.b.netns, fresh_name("w"))
    a_words = ("mtu", "1400", "addr", "02:00:00:00:00:0a", "up")
    out.see("made", link.command(a, a_words, b, ("txqlen", "50", "mtu", "1300")).code, 0)
    for letter, end, mtu, txqlen in (("a", a, 1400, 1000), ("b", b, 1300, 50)):
        state = end.state()
        out.see(f"{letter}: mtu, txqlen, up", (state.mtu, state.txqlen, state.up), (mtu, txqlen, letter == "a"))
    out.see("address of a", a.state().address, "02:00:00:00:00:0a")
    other = End(b.netns, fresh_name("w"))
    out.see("name taken", link.command(a, (), other, ()).code, 2)
    out.see("bad mtu", link.command(End(a.netns, fresh_name("w")), ("mtu", "67"), other, ()).code, 2)
    out.see(
        "multicast address",
        link.command(End(a.netns, fresh_name("w")), ("addr", "01:00:00:00:00:01"), other, ()).code,
        2,
    )
    nowhere = End("nowhere", fresh_name("w"))
    out.see("no such namespace", link.command(End(a.netns, fresh_name("w")), (), nowhere, ()).code, 255)
    out.see("an unknown word", link.command(End(a.netns, fresh_name("w")), ("mtuu", "67"), other, ()).code, 255)
    out.see("made by those", other.exists, False)


@scenario
def deleting_what_is_not_there(link: PairUnderTest, out: Outcome) -> None:
    """Deleting an unknown link is refused."""
    link.create(up=False)
    missing = End(link.a.netns, fresh_name("x"))
    out.see("unknown", link.attempt_delete(missing).code, 1)
    link.delete(link.a)
    out.see("deleted before", link.attempt_delete(link.a).code, 1)
    out.see("its peer", link.attempt_delete(link.b).code, 1)
