"""To the outside world through a bridge and NAT, set up by hand: the same over either wire."""

from tests.e2e.outside import world
from tests.e2e.outside.world import HOST4, HOST6, NARROW, WORLD4, WORLD6, learned_mtu, tcp, udp
from tests.kit.commands import in_netns, ip
from tests.kit.netns import set_sysctl
from tests.parity.link import PairUnderTest
from tests.parity.outcome import Outcome
from tests.parity.scenario import scenario

NAT = """
add table inet nat; add chain inet nat post { type nat hook postrouting priority srcnat; }
add rule inet nat post oifname up0 masquerade
"""


@scenario
def masqueraded_to_the_world(link: PairUnderTest, out: Outcome) -> None:
    """TCP, UDP and the path MTU, over IPv4 and IPv6, from an end through a bridge that the other is a port of."""
    link.create(ipv6=True)
    inner, host = link.a.netns, link.b.netns
    outside = world.make(link.netns, host)
    ip(host, "link", "add", "name", "br0", "type", "bridge")
    ip(host, "link", "set", "dev", "br0", "up")
    link.b.set("master", "br0")
    for where, name, number in ((host, "br0", 1), (inner, link.a.name, 2)):
        ip(where, "addr", "add", f"10.9.0.{number}/24", "dev", name)
        ip(where, "addr", "add", f"fd09::{number}/64", "dev", name, "nodad")
    ip(inner, "route", "add", "default", "via", "10.9.0.1")
    ip(inner, "-6", "route", "add", "default", "via", "fd09::1")
    for sysctl in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
        set_sysctl(host, sysctl, 1)
    in_netns(host, "nft", NAT)
    for to, source in ((WORLD4, HOST4), (WORLD6, HOST6)):
        out.see(f"udp to {to} comes from", udp(inner, outside.world, to), source)
        out.see(f"large udp to {to} comes from", udp(inner, outside.world, to, size=1350), source)
        out.see(f"tcp to {to} comes from", tcp(inner, outside.world, to), source)
        out.see(f"path mtu to {to}", learned_mtu(inner, to), NARROW)


@scenario
def bridge_port_leaves_and_comes_back(link: PairUnderTest, out: Outcome) -> None:
    """A device that leaves its bridge is the same device, its carrier and its addresses untouched."""
    link.create()
    netns = link.b.netns
    ip(netns, "link", "add", "name", "br0", "type", "bridge")
    before = link.b.state()
    for item, words in (("in", ("master", "br0")), ("out", ("nomaster",)), ("in again", ("master", "br0"))):
        link.b.set(*words)
        link.followed()
        state = link.b.state()
        same = (state.ifindex == before.ifindex, state.carrier, link.a.exists)
        out.see(item, same, (True, True, True))
    ip(netns, "link", "del", "dev", "br0")
    link.followed()
    out.see("without the bridge", (link.b.state().carrier, link.a.state().carrier), (True, True))
    out.see("carrier changes", link.b.state().carrier_counts == before.carrier_counts, True)
