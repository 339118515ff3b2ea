"""What `link set` changes, asked of the tool that made the pair: `ip link set`, and vethd's link.set."""

from typing import Any

from tests.kit.commands import ip, ip_json
from tests.kit.links import sysfs_value
from tests.kit.netns import fresh_name
from tests.parity.link import End, PairUnderTest, give_addresses, ping
from tests.parity.outcome import Outcome
from tests.parity.scenario import scenario

NEW_MAC = "02:76:74:70:00:0e"
UP: Any = ["BROADCAST", "MULTICAST", "UP", "LOWER_UP"]
WAITING: Any = ["NO-CARRIER", "BROADCAST", "MULTICAST", "UP"]
DOWN: Any = ["BROADCAST", "MULTICAST"]


def shown(end: End, *names: str) -> list[Any]:
    """What `ip link show` says of an end."""
    (link,) = ip_json(end.netns, "link", "show", "dev", end.name)
    return [link.get(name) for name in names]


@scenario
def change_one_thing_after_the_other(link: PairUnderTest, out: Outcome) -> None:
    """Each change has its effect when the answer comes, on a link that runs, and disturbs nothing else."""
    link.create()
    give_addresses(link)
    before = link.a.state().carrier_counts
    for name, value, field in (
        ("mtu", 1400, "mtu"),
        ("mtu", 9000, "mtu"),
        ("txqueuelen", 64, "txqlen"),
        ("alias", "it's mine", "ifalias"),
        ("address", NEW_MAC, "address"),
    ):
        out.see(f"{name} {value}", link.change(link.a, **{name: value}), True)
        out.see(f"{name} {value}: shown", shown(link.a, field), [value])
        out.see(f"{name} {value}: flags", shown(link.a, "flags") + shown(link.b, "flags"), [UP, UP])
    old, new = link.a.name, fresh_name("c")
    out.see("name", link.change(link.a, ifname=new), True)
    link.a.name = new
    out.see("name: shown", shown(link.a, "ifname", "flags", "mtu", "txqlen")[1:], [UP, 9000, 64])
    out.see("the old name is gone", End(link.a.netns, old).exists, False)
    out.see("addr_assign_type", sysfs_value(link.a.netns, link.a.name, "addr_assign_type"), "3")
    out.see("the link never went down", link.a.state().carrier_counts == before, True)
    ip(link.b.netns, "neigh", "replace", "192.0.2.1", "lladdr", NEW_MAC, "dev", link.b.name)
    out.see("ping", ping(link.a, "192.0.2.2").code, 0)
    out.see("the other end", shown(link.b, "mtu", "txqlen"), [1500, 1000])


@scenario
def change_up_and_down(link: PairUnderTest, out: Outcome) -> None:
    """Carrier is what it will be when the answer comes."""
    link.create(up=False)
    both = ("flags", "operstate")
    steps: list[tuple[End, bool, list[Any], list[Any]]] = [
        (link.a, True, [WAITING, "DOWN"], [DOWN, "DOWN"]),
        (link.b, True, [UP, "UP"], [UP, "UP"]),
        (link.b, True, [UP, "UP"], [UP, "UP"]),
        (link.a, False, [DOWN, "DOWN"], [WAITING, "DOWN"]),
        (link.b, False, [DOWN, "DOWN"], [DOWN, "DOWN"]),
    ]
    for step, (end, up, a, b) in enumerate(steps):
        out.see(f"{step}: answer", link.change(end, up=up), True)
        # The kernel's linkwatch may tell the operstate later.
        out.wait(f"{step}: a", lambda: shown(link.a, *both), a)
        out.wait(f"{step}: b", lambda: shown(link.b, *both), b)


@scenario
def change_place_and_all(link: PairUnderTest, out: Outcome) -> None:
    """A move with everything else in one request."""
    link.create()
    give_addresses(link)
    away, name = link.netns.make(), "vtaway"
    fields: dict[str, Any] = {
        "ifname": name,
        "mtu": 3000,
        "address": NEW_MAC,
        "txqueuelen": 99,
        "alias": "far away",
        "up": True,
    }
    out.see("answer", link.change(link.a, netns=away, **fields), True)
    home, link.a.netns, link.a.name = link.a.netns, away, name
    told = ("ifname", "mtu", "address", "txqlen", "ifalias")
    out.see("shown", shown(link.a, *told), [name, 3000, NEW_MAC, 99, "far away"])
    out.wait("flags", lambda: shown(link.a, "flags", "operstate", "qdisc"), [UP, "UP", "noqueue"])
    out.see("IP addresses", [entry["addr_info"] for entry in ip_json(away, "-4", "addr", "show", "dev", name)], [])
    ip(away, "addr", "add", "192.0.2.1/24", "dev", name)
    ip(link.b.netns, "neigh", "replace", "192.0.2.1", "lladdr", NEW_MAC, "dev", link.b.name)
    out.see("ping", ping(link.a, "192.0.2.2").code, 0)
    out.see("back home", link.change(link.a, netns=home), True)
    link.a.netns = home
    out.wait("down there", lambda: shown(link.a, "flags", "mtu", "ifalias"), [DOWN, 3000, "far away"])
    out.wait("the peer waits", lambda: shown(link.b, "flags"), [WAITING])


@scenario
def change_what_is_refused(link: PairUnderTest, out: Outcome) -> None:
    """What can't be, and what of such a request is done all the same."""
    link.create()
    there = link.netns.make()
    for where in (link.a.netns, there):
        ip(where, "link", "add", "name", "vttaken", "type", "bridge")
    out.see("mtu 67", link.change(link.a, mtu=67), False)
    out.see("multicast", link.change(link.a, address="01:00:00:00:00:01"), False)
    out.see("zero", link.change(link.a, address="00:00:00:00:00:00"), False)
    out.see("name taken", link.change(link.a, ifname="vttaken"), False)
    out.see("so far: mtu, flags", shown(link.a, "mtu", "flags"), [1500, UP])
    out.see("mtu, name taken", link.change(link.a, mtu=1400, ifname="vttaken"), False)
    out.see("mtu, name taken: mtu", shown(link.a, "mtu"), [1400])
    out.see("move, name taken", link.change(link.a, netns=there, ifname="vttaken"), False)
    out.see("move, name taken: moved", End(there, link.a.name).exists, True)
