"""What tools show of a link: kind, driver, queues, features, addresses."""

import re
from pathlib import Path

from tests.kit.commands import in_netns, ip_json
from tests.kit.links import sysfs_value
from tests.parity.link import End, PairUnderTest
from tests.parity.outcome import Outcome
from tests.parity.scenario import scenario


def ethtool(end: End, *words: str) -> dict[str, str]:
    """Run `ethtool` on an end and return its `name: value` lines."""
    answer = in_netns(end.netns, "ethtool", *words, end.name, check=False)
    pairs = (line.split(":", 1) for line in answer.out.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def refuses(end: End, *words: str) -> bool:
    return not in_netns(end.netns, "ethtool", *words, end.name, check=False).ok


def possible_cpus() -> int:
    """Return how many CPUs this kernel can ever have."""
    last = Path("/sys/devices/system/cpu/possible").read_text().strip().replace(",", "-").split("-")[-1]
    return int(last) + 1


@scenario
def attributes_of_a_new_link(link: PairUnderTest, out: Outcome) -> None:
    """Everything `ip -d link show` says right after creation."""
    link.create(up=False)
    shown = ip_json(link.a.netns, "link", "show", "dev", link.a.name)[0]
    out.see("kind", shown["linkinfo"]["info_kind"], "veth")
    out.see("flags", shown["flags"], ["BROADCAST", "MULTICAST"])
    out.see("mtu", shown["mtu"], 1500)
    out.see("operstate", shown["operstate"], "DOWN")
    out.see("txqlen", shown["txqlen"], 1000)
    out.see("qdisc", shown["qdisc"], "noop")
    out.see("link type", shown["link_type"], "ether")
    out.see("broadcast", shown["broadcast"], "ff:ff:ff:ff:ff:ff")
    out.see("group", shown["group"], "default")
    out.see("promiscuity", shown["promiscuity"], 0)
    out.see("address mode", shown["inet6_addr_gen_mode"], "eui64")
    out.see("alias", "ifalias" in shown, False)
    out.see("a transmit queue per CPU", shown["num_tx_queues"] == possible_cpus(), True)
    out.see("a receive queue per CPU", shown["num_rx_queues"] == possible_cpus(), True)
    out.see("gso_max_size", shown["gso_max_size"], 65536)
    out.see("gso_max_segs", shown["gso_max_segs"], 65535)
    attributes = link.a.state().attributes
    out.see("tso_max_size", attributes["IFLA_TSO_MAX_SIZE"], 524280)
    out.see("peer's ifindex shown", attributes.get("IFLA_LINK") == link.b.state().ifindex, True)
    out.see("peer's namespace shown", "IFLA_LINK_NETNSID" in attributes, True)
    out.see("lowest free ifindex", link.a.state().ifindex == 2, True)
    out.see("name_assign_type", sysfs_value(link.a.netns, link.a.name, "name_assign_type"), "3")
    out.see("addr_assign_type", sysfs_value(link.a.netns, link.a.name, "addr_assign_type"), "1")


@scenario
def attributes_of_a_running_link(link: PairUnderTest, out: Outcome) -> None:
    """What is seen once both ends are up."""
    link.create()
    shown = ip_json(link.a.netns, "link", "show", "dev", link.a.name)[0]
    out.see("flags", shown["flags"], ["BROADCAST", "MULTICAST", "UP", "LOWER_UP"])
    out.wait("qdisc of a", lambda: link.a.state().qdisc, "noqueue")
    out.wait("qdisc of b", lambda: link.b.state().qdisc, "noqueue")
    link.a.down()
    link.a.up()
    out.wait("qdisc after down and up", lambda: link.a.state().qdisc, "noqueue")
    for entry, wanted in (("speed", "10000"), ("duplex", "full"), ("carrier", "1"), ("tx_queue_len", "1000")):
        out.see(entry, sysfs_value(link.a.netns, link.a.name, entry), wanted)


@scenario
def ethtool_answers(link: PairUnderTest, out: Outcome) -> None:
    """Driver, link settings and what ethtool refuses."""
    link.create()
    driver = ethtool(link.a, "-i")
    out.see("driver", driver["driver"], "veth")
    out.see("version", driver["version"], "1.0")
    out.see("bus", driver["bus-info"], "")
    out.see("has own statistics", driver["supports-statistics"], "yes")
    settings = ethtool(link.a)
    wanted = {"Speed": "10000Mb/s", "Duplex": "Full", "Auto-negotiation": "off", "Port": "Twisted Pair"}
    for name, value in {**wanted, "Link detected": "yes"}.items():
        out.see(name, settings.get(name), value)
    out.see("names the peer", "peer_ifindex" in ethtool(link.a, "-S"), True)
    for option, refused in (("-g", True), ("-c", True), ("-a", True), ("-l", False), ("-T", False)):
        out.see(f"ethtool {option} refused", refuses(link.a, option), refused)


FEATURES = {
    "rx-checksumming": "on",
    "tx-checksumming": "on",
    "scatter-gather": "on",
    "tcp-segmentation-offload": "on",
    "generic-segmentation-offload": "on",
    "generic-receive-offload": "off",
    "large-receive-offload": "off",
    "rx-vlan-offload": "on",
    "tx-vlan-offload": "on",
    "tx-udp-segmentation": "on",
    "tx-udp_tnl-segmentation": "on",
    "tx-gre-segmentation": "on",
    "tx-sctp-segmentation": "on",
    "tx-checksum-sctp": "on",
    "highdma": "on",
    "rx-udp-gro-forwarding": "off",
    "rx-gro-list": "off",
}


@scenario
def offload_features(link: PairUnderTest, out: Outcome) -> None:
    """What `ethtool -k` shows as switched on."""
    link.create()
    shown = ethtool(link.a, "-k")
    for name, wanted in FEATURES.items():
        out.see(name, shown.get(name, "(absent)").removesuffix(" [fixed]").removesuffix(" [requested on]"), wanted)


@scenario
def offloads_are_switchable(link: PairUnderTest, out: Outcome) -> None:
    """A user may switch segmentation and checksum offload off and on again."""
    link.create()
    for feature in ("tso", "gso", "tx", "gro"):
        state = "off" if feature != "gro" else "on"
        answer = in_netns(link.a.netns, "ethtool", "-K", link.a.name, feature, state, check=False)
        out.see(f"{feature} {state}", answer.ok, True)
    long = {"tso": "tcp-segmentation-offload", "gso": "generic-segmentation-offload", "tx": "tx-checksumming"}
    shown = ethtool(link.a, "-k")
    out.see("shown off", [re.split(r"\s", shown[name])[0] for name in long.values()], ["off"] * 3)
    in_netns(link.a.netns, "ethtool", "-K", link.a.name, "tx", "on", "tso", "on", "gso", "on")
    shown = ethtool(link.a, "-k")
    out.see("shown on", [re.split(r"\s", shown[name])[0] for name in long.values()], ["on"] * 3)
    link.a.down()
    link.a.up()
    in_netns(link.a.netns, "ethtool", "-K", link.a.name, "tso", "off")
    link.b.down()
    link.b.up()
    link.followed()
    out.see("a user's choice stays", ethtool(link.a, "-k")["tcp-segmentation-offload"], "off")


@scenario
def hardware_addresses(link: PairUnderTest, out: Outcome) -> None:
    """Random addresses by default; a given one is used; a running link takes another one."""
    link.create(b_options=("address", "02:00:00:00:00:0b"))
    first = link.a.mac
    out.see("random: local, unicast", first[0] & 3, 2)
    out.see("given", link.b.state().address, "02:00:00:00:00:0b")
    out.see("assign type, given", sysfs_value(link.b.netns, link.b.name, "addr_assign_type"), "3")
    out.see("permanent address", link.a.state().attributes.get("IFLA_PERM_ADDRESS"), None)
    out.see("change while up", link.a.set("address", "02:00:00:00:00:0a", check=False).ok, True)
    out.see("changed", link.a.state().address, "02:00:00:00:00:0a")
    out.see("assign type, changed", sysfs_value(link.a.netns, link.a.name, "addr_assign_type"), "3")
    out.see("multicast", link.a.set("address", "01:00:00:00:00:0a", check=False).ok, False)
    out.see("zero", link.a.set("address", "00:00:00:00:00:00", check=False).ok, False)
    out.see("same on both ends", link.a.set("address", "02:00:00:00:00:0b", check=False).ok, True)
    out.see("still running", link.a.state().operstate, "UP")
    link.create(up=False)
    out.see("two pairs differ", len({link.a.mac, link.b.mac, first}), 3)
