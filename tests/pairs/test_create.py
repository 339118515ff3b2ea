"""What newlink makes: names, addresses, sizes, placement, and who gets which worker."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest

from tests.kit.commands import ip
from tests.kit.daemon import Daemon
from tests.kit.links import LinkMonitor, link_exists, read_link, sysfs_value
from tests.kit.netns import Namespaces, inside
from tests.kit.pairs import End, Pair, make_pair, make_pair_between_fresh
from tests.kit.rpc import RpcClient, RpcError
from tests.pairs.watching import ends_of, followed, told, wait_gone, works

PLACEMENTS = ["move", "inside"]
NET_ADDR_SET = "3"  # addr_assign_type: chosen by the user, so udev leaves it alone


def add(daemon: Daemon, **params: Any) -> dict[str, Any]:
    made: dict[str, Any] = daemon.call("link.add", params)
    return made


def kinds_of_refusal(daemon: Daemon, **params: Any) -> tuple[str, str]:
    """The kind and the message of a refused link.add."""
    with pytest.raises(RpcError) as refused:
        add(daemon, **params)
    assert refused.value.data.get("hint"), "a refusal says what to do"
    return refused.value.kind, refused.value.message


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_what_nobody_asked_for_is_as_with_veth(shared_daemon: Daemon, netns: Namespaces, placement: str) -> None:
    a, b = netns.make(), netns.make()
    made = add(shared_daemon, a={"netns": a}, b={"netns": b}, placement=placement)
    assert (made["a"]["ifname"], made["b"]["ifname"]) == ("veth0", "veth0")
    for where in (a, b):
        state = read_link(where, "veth0")
        assert (state.mtu, state.txqlen, state.up, state.carrier) == (1500, 1000, False, False)
        assert state.operstate == "DOWN"
        assert state.qdisc == "noqueue"


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_everything_asked_for_is_there(shared_daemon: Daemon, netns: Namespaces, placement: str) -> None:
    a, b = netns.make(), netns.make()
    wishes = {
        "a": {"ifname": "vtpA", "address": "02:76:74:70:00:0a", "mtu": 68, "txqueuelen": 64, "up": True},
        "b": {"ifname": "vtpB", "address": "02:76:74:70:00:0b", "mtu": 65521, "txqueuelen": 5000, "up": True},
    }
    made = add(shared_daemon, a={**wishes["a"], "netns": a}, b={**wishes["b"], "netns": b}, placement=placement)
    for letter, where in (("a", a), ("b", b)):
        wish, state = wishes[letter], read_link(where, f"vtp{letter.upper()}")
        assert (state.address, state.mtu, state.txqlen) == (wish["address"], wish["mtu"], wish["txqueuelen"])
        assert (state.up, state.carrier, state.qdisc) == (True, True, "noqueue")
        assert {name: made[letter][name] for name in wish} == wish
        assert (made[letter]["carrier"], made[letter]["operstate"]) == (True, "UP")


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_each_end_says_whose_it_is(shared_daemon: Daemon, netns: Namespaces, placement: str) -> None:
    pair = make_pair(shared_daemon, netns.make(), netns.make(), placement=placement)
    for end, peer in ((pair.a, pair.b), (pair.b, pair.a)):
        state = end.state()
        assert state.attributes["IFLA_IFALIAS"] == f"vethd {pair.uuid} peer {peer.name}"
        assert sysfs_value(end.netns, end.name, "addr_assign_type") == NET_ADDR_SET
        assert int(state.address[:2], 16) & 0b11 == 0b10, "a random address is unicast and locally administered"
    assert pair.a.state().address != pair.b.state().address


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_the_peer_comes_first_in_one_namespace(shared_daemon: Daemon, netns: Namespaces, placement: str) -> None:
    """As `ip link add type veth` does: the peer has the lower number and the lower index."""
    where = netns.make()
    made = add(shared_daemon, a={"netns": where}, b={"netns": where}, placement=placement)
    assert (made["b"]["ifname"], made["a"]["ifname"]) == ("veth0", "veth1")
    assert made["b"]["ifindex"] < made["a"]["ifindex"]


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_patterns_take_the_lowest_free_number(shared_daemon: Daemon, netns: Namespaces, placement: str) -> None:
    where = netns.make()
    for taken in ("vtp0x", "vtp2x"):
        ip(where, "link", "add", "name", taken, "type", "bridge")
    made = add(
        shared_daemon,
        a={"netns": where, "ifname": "vtp%dx"},
        b={"netns": where, "ifname": "vtp%dx"},
        placement=placement,
    )
    assert (made["b"]["ifname"], made["a"]["ifname"]) == ("vtp1x", "vtp3x")


def test_a_peer_of_which_nothing_is_said_takes_the_main_sizes(shared_daemon: Daemon, netns: Namespaces) -> None:
    """But neither name nor address; and it is where the caller is."""
    where = netns.make()
    main = {"ifname": "vtpmain", "netns": where, "mtu": 1400, "txqueuelen": 77, "address": "02:76:74:70:00:0c"}
    with inside(where, RpcClient, shared_daemon.socket) as client:
        alone = client.call("link.add", {"a": main})
        assert (alone["b"]["mtu"], alone["b"]["txqueuelen"]) == (1400, 77)
        assert (alone["b"]["netns"], alone["b"]["ifname"]) == (where, "veth0")
        assert alone["b"]["address"] != main["address"]
        beside = client.call("link.add", {"a": {**main, "ifname": "vtpmain2"}, "b": {}})
        assert (beside["b"]["mtu"], beside["b"]["txqueuelen"]) == (1500, 1000), "a peer with words of its own"


@pytest.mark.parametrize("up", [("a",), ("b",), ()])
def test_one_end_up_gives_no_carrier(shared_daemon: Daemon, netns: Namespaces, up: tuple[str, ...]) -> None:
    pair = make_pair(shared_daemon, netns.make(), netns.make(), up=False, a={"up": "a" in up}, b={"up": "b" in up})
    for letter, end in ends_of(pair).items():
        assert (end.state().up, end.state().carrier) == (letter in up, False)
    for letter, end in ends_of(pair).items():
        if letter not in up:
            ip(end.netns, "link", "set", end.name, "up")
    pair.wait_carrier()
    assert works(pair)


def test_a_moved_pair_dies_with_its_namespace(shared_daemon: Daemon, netns: Namespaces) -> None:
    pair = make_pair_between_fresh(shared_daemon, netns)
    netns.delete(pair.a.netns)
    wait_gone(pair)
    assert netns.undead() == [], "the pair does not keep the namespace"


def test_a_pair_made_inside_keeps_its_namespace_until_it_is_deleted(shared_daemon: Daemon, netns: Namespaces) -> None:
    pair = make_pair(shared_daemon, netns.make(), netns.make(), placement="inside")
    netns.delete(pair.a.netns)
    assert told(pair, "a")["netns"] is None, "it has no name any more"
    assert netns.undead(within=0.2) == [pair.a.netns]
    assert pair.b.state().carrier, "the wire does not notice"
    shared_daemon.call("link.del", {"pair": pair.uuid})
    assert not pair.b.exists
    assert netns.undead() == []


def test_a_pair_made_inside_may_move_and_follow(shared_daemon: Daemon, netns: Namespaces) -> None:
    pair = make_pair(shared_daemon, netns.make(), netns.make(), placement="inside")
    ip(pair.a.netns, "link", "set", "dev", pair.a.name, "netns", pair.b.netns)
    pair.a = End(pair.b.netns, pair.a.name)
    ip(pair.a.netns, "link", "set", "dev", pair.a.name, "up")
    followed(pair)
    pair.wait_carrier()
    assert works(pair)
    pair.delete()


@pytest.mark.parametrize("letter", ["a", "b"])
def test_a_name_that_exists_is_refused_before_anything_happens(
    shared_daemon: Daemon, netns: Namespaces, letter: str
) -> None:
    where = {"a": netns.make(), "b": netns.make()}
    ip(where[letter], "link", "add", "name", "vtptaken", "type", "bridge")
    ends = {end: {"netns": name, "ifname": "vtptaken"} for end, name in where.items()}
    other = where["b" if letter == "a" else "a"]
    with LinkMonitor(other) as events:
        assert kinds_of_refusal(shared_daemon, **ends) == (
            "link_exists",
            f"end {letter}: name 'vtptaken' exists in the namespace already",
        )
        ip(other, "link", "set", "lo", "alias", "the marker")
        first = events.wait(lambda _kind, _state: True, "any event")
        assert first.attributes.get("IFLA_IFALIAS") == "the marker", f"the other end was made: {first}"


def test_one_name_for_both_ends_is_refused_in_one_namespace_only(shared_daemon: Daemon, netns: Namespaces) -> None:
    one, other = netns.make(), netns.make()
    assert kinds_of_refusal(
        shared_daemon, a={"netns": one, "ifname": "vtpsame"}, b={"netns": one, "ifname": "vtpsame"}
    ) == ("link_exists", "end b: name 'vtpsame' exists in the namespace already")
    assert not link_exists(one, "vtpsame")
    add(shared_daemon, a={"netns": one, "ifname": "vtpsame"}, b={"netns": other, "ifname": "vtpsame"})


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_of_two_requests_for_one_name_just_one_succeeds(
    shared_daemon: Daemon, netns: Namespaces, placement: str
) -> None:
    """The name was free when each asked; the kernel decides, and the other leaves nothing."""
    a, b = netns.make(), netns.make()
    params = {"a": {"netns": a, "ifname": "vtprace"}, "b": {"netns": b, "ifname": "vtprace"}, "placement": placement}
    outcomes = at_once(shared_daemon, [params] * 4)
    made = [outcome for outcome in outcomes if not isinstance(outcome, RpcError)]
    refused = {outcome.kind for outcome in outcomes if isinstance(outcome, RpcError)}
    assert (len(made), refused) == (1, {"link_exists"})
    assert [pair["pair"] for pair in shared_daemon.pairs()] == [made[0]["pair"]]
    shared_daemon.call("link.del", {"pair": made[0]["pair"]})
    assert not link_exists(a, "vtprace")
    assert not link_exists(b, "vtprace")


def at_once(daemon: Daemon, requests: list[dict[str, Any]]) -> list[dict[str, Any] | RpcError]:
    """Send requests on connections of their own at the same time; answers or refusals, in no order."""
    outcomes: list[dict[str, Any] | RpcError] = []

    def ask(params: dict[str, Any]) -> None:
        with RpcClient(daemon.socket) as client:
            try:
                outcomes.append(client.call("link.add", params))
            except RpcError as refused:
                outcomes.append(refused)

    threads = [threading.Thread(target=ask, args=(params,)) for params in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a request was never answered"
    return outcomes


def test_pairs_asked_for_at_once_spread_over_the_workers(start_daemon: Any, netns: Namespaces) -> None:
    daemon = start_daemon(config="[worker]\ncount = 2\n")
    where = netns.make()
    requests = [{"a": {"netns": where}, "b": {"netns": where}, "placement": "inside"}] * 8
    outcomes = at_once(daemon, requests)
    assert [outcome for outcome in outcomes if isinstance(outcome, RpcError)] == []
    assert [worker["pairs"] for worker in daemon.call("daemon.info")["workers"]] == [4, 4]
    assert Counter(worker for pair in daemon.pairs() for worker in pair["workers"]) == {0: 4, 1: 4}
    assert len({pair[end]["ifname"] for pair in daemon.pairs() for end in ("a", "b")}) == 16


def test_no_more_pairs_than_the_limit(start_daemon: Any, netns: Namespaces) -> None:
    daemon = start_daemon(config="[limits]\nmax_pairs = 2\n")
    where = netns.make()
    ends = {"a": {"netns": where}, "b": {"netns": where}}
    first, _second = (add(daemon, **ends, placement="inside") for _ in range(2))
    kind, message = kinds_of_refusal(daemon, **ends)
    assert (kind, message) == ("limit_reached", "2 pairs exist already")
    daemon.call("link.del", {"pair": first["pair"]})
    add(daemon, **ends, placement="inside")


def test_a_new_pair_counts_from_nothing(start_daemon: Any, netns: Namespaces) -> None:
    """It gets the numbers, and with them the rows, of one that is gone."""
    daemon = start_daemon(config="[limits]\nmax_pairs = 1\n")
    used: Pair = make_pair_between_fresh(daemon, netns)
    assert works(used)
    used.delete()
    fresh = make_pair_between_fresh(daemon, netns)
    counts = [
        {**end, "kernel": None, "drops": sum(end["drops"].values()), "queues": None} for end in fresh.stats().values()
    ]
    assert all(not any(end.values()) for end in counts), counts
