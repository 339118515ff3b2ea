"""What the stacks on both sides make of the link: addresses, bridges, captures, and both ends in one namespace."""

import os
import select
import subprocess
import time

from tests.kit.commands import in_netns, ip, ip_json, start
from tests.kit.frames import frame
from tests.kit.waiting import settled
from tests.parity.link import End, PairUnderTest, ping
from tests.parity.outcome import Outcome
from tests.parity.scenario import scenario


def link_local(end: End) -> list[str]:
    """Return the state of the end's IPv6 link-local address: nothing, `tentative` or `ready`."""
    entries = ip_json(end.netns, "-6", "addr", "show", "dev", end.name, "scope", "link")
    addresses = [address for entry in entries for address in entry.get("addr_info", [])]
    return ["tentative" if address.get("tentative") else "ready" for address in addresses]


@scenario
def ipv6_link_local(link: PairUnderTest, out: Outcome) -> None:
    """An end that is up alone has no link-local address; it appears with the carrier and passes duplicate detection."""
    link.create(up=False, ipv6=True)
    link.a.up()
    link.followed()
    out.see("a up alone", link_local(link.a), [])
    link.b.up()
    out.see("at a once b is up", bool(settled(lambda: link_local(link.a), bool)), True)
    out.see("at b", bool(settled(lambda: link_local(link.b), bool)), True)
    out.wait("a ready", lambda: link_local(link.a), ["ready"], within=6.0)
    out.wait("b ready", lambda: link_local(link.b), ["ready"], within=6.0)
    target = ip_json(link.b.netns, "-6", "addr", "show", "dev", link.b.name)[0]["addr_info"][0]["local"]
    out.see("ping", ping(link.a, f"{target}%{link.a.name}").code, 0)


def port_state(end: End) -> str:
    ports = in_netns(end.netns, "bridge", "-j", "-d", "link", "show", "dev", end.name).json()
    return " ".join(f"{port['state']} cost {port['cost']} mtu {port['mtu']}" for port in ports)


@scenario
def bridge_port(link: PairUnderTest, out: Outcome) -> None:
    """A bridge forwards over the end exactly while it has a carrier, and learns addresses behind it."""
    link.create(up=False)
    netns = link.b.netns
    ip(netns, "link", "add", "name", "br0", "type", "bridge")
    ip(netns, "link", "set", "dev", "br0", "up")
    link.b.set("master", "br0")
    out.wait("b down", lambda: port_state(link.b), "disabled cost 2 mtu 1500")
    link.b.up()
    out.wait("b up alone", lambda: port_state(link.b), "disabled cost 2 mtu 1500")
    link.a.up()
    out.wait("both up", lambda: port_state(link.b), "forwarding cost 2 mtu 1500")
    out.wait("bridge runs", lambda: ip_json(netns, "link", "show", "br0")[0]["operstate"], "UP")
    link.a.down()
    out.wait("a down", lambda: port_state(link.b), "disabled cost 2 mtu 1500")
    out.wait("bridge stops", lambda: ip_json(netns, "link", "show", "br0")[0]["operstate"], "DOWN")
    link.a.up()
    out.wait("a up again", lambda: port_state(link.b), "forwarding cost 2 mtu 1500")
    ip(netns, "addr", "add", "192.0.2.2/24", "dev", "br0")
    ip(link.a.netns, "addr", "add", "192.0.2.1/24", "dev", link.a.name)
    out.see("ping the bridge", ping(link.a, "192.0.2.2").code, 0)
    learned = in_netns(netns, "bridge", "-j", "fdb", "show", "br", "br0").json()
    behind = [entry for entry in learned if entry["mac"] == link.a.state().address]
    out.see("learned", [entry["ifname"] == link.b.name for entry in behind], [True])
    link.b.set("mtu", "1400")
    out.wait("bridge's mtu follows", lambda: ip_json(netns, "link", "show", "br0")[0]["mtu"], 1400)


def _listening(capture: "subprocess.Popen[str]") -> str:
    """Wait until tcpdump says that it listens; return what it said if it does not."""
    assert capture.stderr is not None
    said = ""
    deadline = time.monotonic() + 10
    while "listening on" not in said and (left := deadline - time.monotonic()) > 0:
        if select.select([capture.stderr], [], [], left)[0]:
            text = os.read(capture.stderr.fileno(), 4096).decode()
            if not text:
                break
            said += text
    return said


@scenario
def tcpdump_on_both_ends(link: PairUnderTest, out: Outcome) -> None:
    """tcpdump sees a frame leave one end and enter the other."""
    link.create()
    captures = {
        name: start(end.netns, ["tcpdump", "-l", "-nn", "-e", "-XX", "-c", "1", "-i", end.name, "-Q", direction])
        for name, end, direction in (("a", link.a, "out"), ("b", link.b, "in"))
    }
    try:
        for name, capture in captures.items():
            out.see(f"{name}: listens", "listening on" in _listening(capture), True)
        with link.a.socket() as a:
            a.send(frame(60, link.b.mac, payload=b"seen on both ends"))
        for name, capture in captures.items():
            text, _ = capture.communicate(timeout=10)
            flat = " ".join(text.split())
            out.see(f"{name}: ethertype, length", "ethertype Unknown (0x88b5), length 60" in flat, True)
            out.see(f"{name}: bytes", "on.both.ends" in flat, True)
    finally:
        for capture in captures.values():
            if capture.poll() is None:
                capture.kill()
            capture.communicate()


@scenario
def both_ends_in_one_namespace(link: PairUnderTest, out: Outcome) -> None:
    """A pair may live in one namespace: carrier follows, frames pass, one deletion takes both."""
    link.create(up=False, same_netns=True)
    out.see("the peer has the lower ifindex", link.b.state().ifindex < link.a.state().ifindex, True)
    link.a.up()
    link.followed()
    out.see("a up alone", link.a.state().operstate, "LOWERLAYERDOWN")
    out.see("b meanwhile", link.b.state().operstate, "DOWN")
    link.b.up()
    for name, end in (("a", link.a), ("b", link.b)):
        out.wait(f"{name} with both up", lambda e=end: e.state().operstate, "UP")  # type: ignore[misc]
    with link.a.socket() as a, link.b.socket() as b:
        a.send(frame(60, payload=b"to b"))
        b.send(frame(61, payload=b"to a"))
        out.see("frames", [got.length for got in b.collect(1) + a.collect(1)], [60, 61])
    link.b.down()
    link.followed()
    out.wait("a without carrier", lambda: link.a.state().carrier, False)
    out.see("a with b down", link.a.state().operstate, "LOWERLAYERDOWN")
    ip(link.a.netns, "link", "del", "dev", link.a.name)
    out.wait("deleted", lambda: (link.a.exists, link.b.exists), (False, False))
