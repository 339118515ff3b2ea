"""What the firewall of dockerd's namespace lets through, as text; a pure function of the networks.

nftables, in a table of our own, always replaced as a whole:

* what leaves a network gets the address that the machine has there (masquerade), unless docker was told otherwise;
* nothing but answers and published ports comes in from outside or from other networks, and nothing leaves an internal
  network. Docker's own bridges are outside as well;
* published ports lead to the container. Who uses one from within the same network, or from the machine by a loopback
  address, is masqueraded, or the container would answer past the machine.

iptables, since an accept in one table is nothing to a drop in another: docker makes DROP the policy of FORWARD, and
bridged frames go through it as well where br_netfilter says so. So all of our bridges' traffic, of which the above has
decided, is accepted by a chain that is called where docker leaves room for others: in DOCKER-USER, behind what the
administrator has there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from vethd.docker.state import Network, Published

TABLE: Final = "vethd_docker"
CHAIN: Final = "VETHD-DOCKER"
USER_CHAIN: Final = "DOCKER-USER"
#: Drops what goes to one of docker's own bridges.
ISOLATION: Final = "DOCKER-ISOLATION-STAGE-2"
_ANYWHERE: Final = ("0.0.0.0", "::")


def nft(networks: Sequence[Network]) -> str:
    """Input of `nft -f`: the table as it shall be, or no table when there is no network."""
    anew = [f"table inet {TABLE}", f"delete table inet {TABLE}"]  # the first, so that there is one to be deleted
    if not networks:
        return "\n".join([*anew, ""])
    published = [port for network in networks for each in network.endpoints.values() for port in each.published]
    bridges = ", ".join(_name(network) for network in networks)
    blocks = [
        *(_map(version, anywhere, published) for version in (4, 6) for anywhere in (False, True)),
        _chain("raw", "filter hook prerouting priority raw", [f"iifname {{ {bridges} }} ip daddr 127.0.0.0/8 drop"]),
        _chain("prerouting", "nat hook prerouting priority dstnat", _DNAT),
        _chain("output", "nat hook output priority -100", _DNAT),
        _chain("forward", "filter hook forward priority filter", [rule for n in networks for rule in _forward(n)]),
        _chain(
            "postrouting",
            "nat hook postrouting priority srcnat",
            [rule for n in networks for rule in _postrouting(n)],
        ),
    ]
    return "\n".join([*anew, f"table inet {TABLE} {{", *(line for block in blocks for line in block), "}", ""])


def iptables(networks: Iterable[Network], version: int, *, isolation: bool) -> str:
    """Input of `iptables-restore --noflush`: our chain. version: of IP. isolation: ISOLATION is there."""
    lines = ["*filter", f":{CHAIN} - [0:0]"]
    for network in networks:
        bridge = network.options.bridge
        if network.options.internal:
            lines.append(f"-A {CHAIN} -i {bridge} -o {bridge} -j ACCEPT")
            continue
        if isolation and version == 4:
            lines.append(f"-A {CHAIN} -i {bridge} ! -o {bridge} -j {ISOLATION}")
        lines += [f"-A {CHAIN} -i {bridge} -j ACCEPT", f"-A {CHAIN} -o {bridge} -j ACCEPT"]
    return "\n".join([*lines, "COMMIT", ""])


_DNAT: Final = [
    line
    for ip, version in (("ip", 4), ("ip6", 6))
    for line in (
        f"dnat {ip} to {ip} daddr . meta l4proto . th dport map @ports{version}",
        f"meta nfproto ipv{version} fib daddr type local dnat {ip} to meta l4proto . th dport map @anywhere{version}",
    )
]


def _forward(network: Network) -> Iterator[str]:
    bridge = _name(network)
    yield f"iifname {bridge} oifname {bridge} accept"
    if network.options.internal:
        yield f"iifname {bridge} drop"
    else:
        yield f"oifname {bridge} ct state established,related accept"
        yield f"oifname {bridge} ct status dnat accept"
    yield f"oifname {bridge} drop"


def _postrouting(network: Network) -> Iterator[str]:
    bridge = _name(network)
    for pool in network.options.pools:
        source = f"{'ip6' if ':' in pool else 'ip'} saddr {pool}"
        if network.options.masquerade and not network.options.internal:
            yield f"{source} oifname != {bridge} masquerade"
        yield f"{source} oifname {bridge} ct status dnat masquerade"
    yield f"ip saddr 127.0.0.0/8 oifname {bridge} masquerade"


def _map(version: int, anywhere: bool, published: Iterable[Published]) -> list[str]:
    """Ports published at one address, or at any of the machine's."""
    key = "inet_proto . inet_service" if anywhere else f"ipv{version}_addr . inet_proto . inet_service"
    elements = []
    for each in published:
        if (":" in each.host) == (version == 6) and (each.host in _ANYWHERE) == anywhere:
            where = "" if anywhere else f"{each.host} . "
            elements.append(f"{where}{each.protocol} . {each.host_port} : {each.address} . {each.port}")
    lines = [f"map {'anywhere' if anywhere else 'ports'}{version} {{", f"type {key} : ipv{version}_addr . inet_service"]
    return [*lines, *([f"elements = {{ {', '.join(elements)} }}"] if elements else []), "}"]


def _chain(name: str, hook: str, rules: Iterable[str]) -> list[str]:
    return [f"chain {name} {{", f"type {hook};", *rules, "}"]


def _name(network: Network) -> str:
    return json.dumps(network.options.bridge)
