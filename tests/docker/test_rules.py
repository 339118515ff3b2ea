"""The rules are a function of the networks: nft and iptables take them, and what is not needed is not there."""

from __future__ import annotations

from pathlib import Path

from tests.kit.commands import Answer, in_netns, run
from tests.kit.netns import Namespaces
from vethd.docker import rules
from vethd.docker.options import NetworkOptions
from vethd.docker.state import Endpoint, Network, Published

OPEN = Network(
    "a" * 64,
    NetworkOptions("br-a", ("10.1.0.1/24", "fd00::1/64"), ("10.1.0.0/24", "fd00::/64")),
    netns=1,
    endpoints={
        "e": Endpoint(
            "e" * 64,
            "02:42:0a:01:00:02",
            ("10.1.0.2", "fd00::2"),
            [
                Published("tcp", "0.0.0.0", 8080, "10.1.0.2", 80),
                Published("tcp", "::", 8080, "fd00::2", 80),
                Published("udp", "192.0.2.1", 53, "10.1.0.2", 53),
                Published("sctp", "fd00::9", 9, "fd00::2", 9),
            ],
        )
    },
)
CLOSED = Network("b" * 64, NetworkOptions("br.b", ("10.2.0.1/24",), ("10.2.0.0/24",), internal=True), netns=1)


def apply(netns: str, path: Path, text: str) -> Answer:
    path.write_text(text)
    return in_netns(netns, "nft", "-f", str(path))


def test_nft_takes_them_again_and_again_and_none_at_all(netns: Namespaces, tmp_path: Path) -> None:
    here, file = netns.make(), tmp_path / "rules"
    for networks in ([], [OPEN], [OPEN, CLOSED], [OPEN, CLOSED], [CLOSED]):
        apply(here, file, rules.nft(networks))
    assert "br.b" in in_netns(here, "nft", "list", "ruleset").out
    apply(here, file, rules.nft([]))
    assert in_netns(here, "nft", "list", "ruleset").out == ""


def test_each_published_port_is_in_one_map(netns: Namespaces, tmp_path: Path) -> None:
    here = netns.make()
    apply(here, tmp_path / "rules", rules.nft([OPEN]))
    listed = in_netns(here, "nft", "list", "table", "inet", rules.TABLE).out
    assert listed.count("elements") == 4
    for element in (
        "tcp . 8080 : 10.1.0.2 . 80",
        "tcp . 8080 : fd00::2 . 80",
        "192.0.2.1 . udp . 53 : 10.1.0.2 . 53",
        "fd00::9 . sctp . 9 : fd00::2 . 9",
    ):
        assert listed.count(f"{{ {element} }}") == 1


def test_an_internal_network_is_not_masqueraded() -> None:
    assert "10.2.0.0/24 oifname !=" not in rules.nft([OPEN, CLOSED])
    assert 'ip saddr 10.1.0.0/24 oifname != "br-a" masquerade' in rules.nft([OPEN, CLOSED])


def test_iptables_takes_them(netns: Namespaces) -> None:
    here = netns.make()
    text = rules.iptables([OPEN, CLOSED], 4, isolation=False)
    for _again in range(2):
        run("nsenter", f"--net=/run/netns/{here}", "iptables-restore", "--noflush", given=text)
    assert in_netns(here, "iptables", "-S", rules.CHAIN).out.splitlines() == [
        f"-N {rules.CHAIN}",
        f"-A {rules.CHAIN} -i br-a -j ACCEPT",
        f"-A {rules.CHAIN} -o br-a -j ACCEPT",
        f"-A {rules.CHAIN} -i br.b -o br.b -j ACCEPT",
    ]


def test_what_goes_to_a_bridge_of_dockers_is_left_to_docker() -> None:
    lines = rules.iptables([OPEN], 4, isolation=True).splitlines()
    assert lines.index(f"-A {rules.CHAIN} -i br-a ! -o br-a -j {rules.ISOLATION}") < lines.index(
        f"-A {rules.CHAIN} -i br-a -j ACCEPT"
    )
