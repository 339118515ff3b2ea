"""vethd/firewall.py in namespaces of its own: one table, each element its owner's, nothing left when all have gone."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from tests.kit.commands import run
from tests.kit.netns import RUN_NETNS, Namespaces
from vethd.firewall import FirewallError, accept_forward, forget, masquerade, owners

FOREIGN = "add table ip theirs; add chain ip theirs postrouting { type nat hook postrouting priority 50; }"


@pytest.fixture
def ns(netns: Namespaces) -> str:
    """A namespace with a table of somebody else's."""
    name = netns.make()
    nft(name, FOREIGN)
    return name


@pytest.fixture
def without_nft(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine that has iptables alone."""
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda program: None if program == "nft" else which(program))


def nft(ns: str, words: str) -> str:
    return run("ip", "netns", "exec", ns, "nft", words).out


def path(ns: str) -> str:
    return str(RUN_NETNS / ns)


def tables(ns: str) -> set[str]:
    return set(nft(ns, "list tables").splitlines())


def elements(ns: str, name: str) -> str:
    listed = nft(ns, f"list set inet vethd {name}")
    return " ".join(listed.partition("elements = {")[2].partition("}")[0].split())


def test_hosts_and_networks_are_masqueraded_but_not_among_themselves(ns: str) -> None:
    masquerade("one", ["10.1.0.5/16", "fd01::5/64"], path(ns))
    masquerade("two", ["10.2.0.0/16", "fd02::/64"], path(ns))
    assert elements(ns, "hosts4") == '10.1.0.5 comment "one"'
    assert elements(ns, "nets4") == '10.2.0.0/16 comment "two"'
    assert elements(ns, "hosts6") == 'fd01::5 comment "one"'
    assert elements(ns, "nets6") == 'fd02::/64 comment "two"'
    assert elements(ns, "local_hosts4") == '10.1.0.5 . 10.1.0.0/16 comment "one"'
    assert elements(ns, "local_nets4") == '10.2.0.0/16 . 10.2.0.0/16 comment "two"'
    assert owners(path(ns)) == {"one", "two"}


def test_to_ask_twice_changes_nothing_and_to_forget_leaves_nothing(ns: str) -> None:
    masquerade("one", ["10.1.0.5/16", "10.2.0.0/16"], path(ns))
    before = nft(ns, "list table inet vethd")
    masquerade("one", ["10.1.0.5/16", "10.2.0.0/16"], path(ns))
    assert nft(ns, "list table inet vethd") == before
    forget("other", path(ns))
    assert nft(ns, "list table inet vethd") == before
    for _ in range(2):
        forget("one", path(ns))
        assert tables(ns) == {"table ip theirs"}
    assert owners(path(ns)) == set()


def test_a_host_may_be_in_a_network_that_is_masqueraded_as_a_whole(ns: str) -> None:
    masquerade("net", ["10.1.0.0/16"], path(ns))
    masquerade("host", ["10.1.0.5/16"], path(ns))
    assert owners(path(ns)) == {"net", "host"}
    forget("host", path(ns))
    assert owners(path(ns)) == {"net"}


def test_what_two_ask_for_belongs_to_the_last_one(ns: str) -> None:
    masquerade("old", ["10.1.0.5/16"], path(ns))
    masquerade("new", ["10.1.0.5/16"], path(ns))
    forget("old", path(ns))
    assert elements(ns, "hosts4") == '10.1.0.5 comment "new"'


def test_twenty_at_a_time_do_not_meet(ns: str) -> None:
    with ThreadPoolExecutor(20) as pool:
        calls = [partial(masquerade, f"c{number}", [f"10.1.0.{number}/16"], path(ns)) for number in range(1, 21)]
        list(pool.map(lambda call: call(), calls))
        assert owners(path(ns)) == {f"c{number}" for number in range(1, 21)}
        # Some come while others go, down to none and back.
        list(pool.map(lambda number: _come_or_go(number, path(ns)), range(1, 41)))
    assert owners(path(ns)) == {f"c{number}" for number in range(21, 41)}
    nft(ns, "list table ip theirs")


def _come_or_go(number: int, where: str) -> None:
    if number <= 20:
        forget(f"c{number}", where)
    else:
        masquerade(f"c{number}", [f"10.1.0.{number}/16"], where)


def test_what_can_not_be_changes_nothing(ns: str) -> None:
    masquerade("one", ["10.1.0.0/16"], path(ns))
    before = nft(ns, "list table inet vethd")
    with pytest.raises(FirewallError, match="nft: interval overlaps"):
        masquerade("two", ["10.9.0.5/16", "10.1.2.0/24"], path(ns))
    assert nft(ns, "list table inet vethd") == before
    for wrong in ('a"b', "", "x" * 101):
        with pytest.raises(ValueError, match="owner"):
            masquerade(wrong, ["10.1.0.0/16"], path(ns))
    with pytest.raises(FirewallError, match="all whose names begin so"):
        accept_forward("one", "br+", path(ns))
    with pytest.raises(FirewallError, match="/run/netns/nowhere: No such file"):
        masquerade("one", ["10.1.0.0/16"], "/run/netns/nowhere")


def test_frames_between_ports_pass_docker(ns: str) -> None:
    inside = ("ip", "netns", "exec", ns, "iptables", "-w")
    accept_forward("net", "br0", path(ns))
    assert "br0" not in run(*inside, "-S").out  # nothing would drop them
    run(*inside, "-P", "FORWARD", "DROP")
    for _ in range(2):
        accept_forward("net", "br0", path(ns))
    assert run(*inside, "-S", "FORWARD").out.count("-i br0 -o br0") == 1
    run(*inside, "-N", "DOCKER-USER")
    run(*inside, "-A", "DOCKER-USER", "-j", "RETURN")
    accept_forward("net", "br0", path(ns), outside=True)
    assert [line for line in run(*inside, "-S", "DOCKER-USER").out.splitlines() if "br0" in line] == [
        '-A DOCKER-USER -o br0 -m conntrack --ctstate RELATED,ESTABLISHED -m comment --comment "vethd net" -j ACCEPT',
        '-A DOCKER-USER -i br0 -m comment --comment "vethd net" -j ACCEPT',
    ]
    forget("net", path(ns))
    assert "br0" not in run(*inside, "-S").out


@pytest.mark.usefixtures("without_nft")
def test_iptables_does_it_where_there_is_no_nft(netns: Namespaces) -> None:
    name = netns.make()
    inside = ("ip", "netns", "exec", name, "iptables", "-w", "-t", "nat")
    for _ in range(2):
        masquerade("one", ["10.1.0.5/16"], path(name))
    rules = [line.replace(' -m comment --comment "vethd one"', "") for line in run(*inside, "-S").out.splitlines()]
    assert rules[-3:] == [
        "-A POSTROUTING -s 10.1.0.5/32 -d 10.1.0.0/16 -j RETURN",
        "-A POSTROUTING -s 10.1.0.5/32 -d 224.0.0.0/4 -j RETURN",
        "-A POSTROUTING -s 10.1.0.5/32 -j MASQUERADE",
    ]
    forget("one", path(name))
    assert "one" not in run(*inside, "-S").out
