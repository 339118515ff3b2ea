"""A pair of several queues: how it is made, shown, changed, counted and deleted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.kit.books import imbalance
from tests.kit.commands import in_netns, ip, ip_json
from tests.kit.daemon import Daemon
from tests.kit.netns import Namespaces
from tests.kit.packets import PacketSocket
from tests.kit.pairs import Pair, make_pair, make_pair_between_fresh
from tests.kit.processes import tap_fds
from tests.kit.waiting import eventually
from tests.pairs.flows import FLOWS, flow_frame, number_in
from tests.pairs.killing import stopped
from tests.pairs.watching import wait_gone, works
from vethd.rpc.client import RpcError

QUEUES = 4
PLACEMENTS = ("move", "inside")


@pytest.fixture
def several(start_daemon: Callable[..., Daemon]) -> Daemon:
    """A daemon with three workers."""
    return start_daemon(config="[worker]\ncount = 3\n")


def cross(pair: Pair, number: int = 0) -> list[int]:
    """Send one frame of every flow from a; the flows that arrive at b."""
    with PacketSocket(pair.a.netns, pair.a.name) as a, PacketSocket(pair.b.netns, pair.b.name) as b:
        for flow in range(FLOWS):
            a.send(flow_frame(flow, number))
        return sorted(number_in(arrival.data)[0] for arrival in b.collect(FLOWS, 2.0))


def shown(daemon: Daemon, pair: Pair) -> dict[str, Any]:
    result: dict[str, Any] = daemon.call("link.get", {"pair": pair.uuid})
    return result


# -- making --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_all_queues_are_there_before_the_first_up(several: Daemon, netns: Namespaces, placement: str) -> None:
    pair = make_pair(several, netns.make(), netns.make(), up=False, placement=placement, numqueues=QUEUES)
    for end in (pair.a, pair.b):
        queues = in_netns(end.netns, "ls", f"/sys/class/net/{end.name}/queues").out.split()
        assert sorted(queues) == sorted(f"{way}-{number}" for way in ("rx", "tx") for number in range(QUEUES))
        assert (end.state().up, end.state().qdisc, end.state().carrier) == (False, "noqueue", False)
        ip(end.netns, "link", "set", "dev", end.name, "up")
    pair.wait_carrier()
    for end in (pair.a, pair.b):
        assert end.state().qdisc == "noqueue"
        assert in_netns(end.netns, "tc", "qdisc", "show", "dev", end.name).out.count("qdisc") == 1
    assert cross(pair) == list(range(FLOWS))
    pair.delete()


def test_one_queue_is_a_plain_tap(several: Daemon, netns: Namespaces) -> None:
    pair = make_pair_between_fresh(several, netns, numqueues=1)
    (link,) = ip_json(pair.a.netns, "link", "show", "dev", pair.a.name)
    assert (link["num_tx_queues"], link["linkinfo"]["info_data"]["multi_queue"]) == (1, False)


def test_queues_go_to_the_workers_with_the_fewest(several: Daemon, netns: Namespaces) -> None:
    where = netns.make()
    pairs = [
        make_pair(several, where, where, up=False, placement="inside", numqueues=numqueues)
        for numqueues in (1, 4, 2, 5)
    ]
    assert [shown(several, pair)["workers"] for pair in pairs] == [[0], [1, 2, 0, 1], [2, 0], [1, 2, 0, 1, 2]]
    assert [tap_fds(pid) for pid in several.workers()] == [8, 8, 8]
    rows = several.call("daemon.info")["workers"]
    assert [(row["pairs"], row["queues"]) for row in rows] == [(4, 4), (2, 4), (3, 4)]
    pairs[1].delete()
    assert [tap_fds(pid) for pid in several.workers()] == [6, 4, 6]


def test_there_may_be_more_queues_than_workers(daemon: Daemon, netns: Namespaces) -> None:
    pair = make_pair_between_fresh(daemon, netns, numqueues=7)
    assert cross(pair) == list(range(FLOWS))


def test_the_most_queues_there_can_be(several: Daemon, netns: Namespaces) -> None:
    where = netns.make()
    pair = make_pair(several, where, where, placement="inside", numqueues=256)
    assert Counter(shown(several, pair)["workers"]) == {0: 86, 1: 85, 2: 85}
    assert works(pair)
    pair.delete()
    assert [tap_fds(pid) for pid in several.workers()] == [0, 0, 0]


def test_a_pair_counts_once_per_queue(start_daemon: Callable[..., Daemon], netns: Namespaces) -> None:
    daemon = start_daemon(config="[limits]\nmax_pairs = 5\n")
    where = netns.make()
    first = make_pair(daemon, where, where, placement="inside", numqueues=2)
    with pytest.raises(RpcError, match="numqueues 4: 3 queues are left, of 5 for all pairs together") as caught:
        make_pair(daemon, where, where, placement="inside", numqueues=4)
    assert caught.value.kind == "limit_reached"
    assert "max_pairs" in str(caught.value.hint)
    make_pair(daemon, where, where, placement="inside", numqueues=3)
    with pytest.raises(RpcError, match="5 pairs exist already"):
        make_pair(daemon, where, where, placement="inside")
    first.delete()
    make_pair(daemon, where, where, placement="inside", numqueues=2)


# -- changing ------------------------------------------------------------------------------------------------------


def test_what_ip_changes_holds_for_every_queue(several: Daemon, netns: Namespaces) -> None:
    pair = make_pair_between_fresh(several, netns, numqueues=QUEUES)
    assert cross(pair, 50) == list(range(FLOWS))
    ip(pair.b.netns, "link", "set", "dev", pair.b.name, "mtu", "100")
    eventually(lambda: cross(pair, 50), lambda arrived: arrived == [], "the new mtu in every worker")
    end = pair.stats()["a"]
    assert end["drops"]["PKT_TOO_BIG"] >= FLOWS
    assert all(queue["drops"]["PKT_TOO_BIG"] > 0 for queue in end["queues"])
    ip(pair.b.netns, "link", "set", "dev", pair.b.name, "mtu", "1500")
    ip(pair.a.netns, "link", "set", "dev", pair.a.name, "down")
    pair.wait_carrier(on=False)
    ip(pair.a.netns, "link", "set", "dev", pair.a.name, "up")
    pair.wait_carrier()
    assert cross(pair, 50) == list(range(FLOWS))


def test_an_end_that_moves_takes_its_queues_along(several: Daemon, netns: Namespaces) -> None:
    pair = make_pair_between_fresh(several, netns, numqueues=QUEUES)
    elsewhere = netns.make()
    ip(pair.b.netns, "link", "set", "dev", pair.b.name, "netns", elsewhere)
    pair.b.netns = elsewhere
    ip(elsewhere, "link", "set", "dev", pair.b.name, "up")
    pair.wait_carrier()
    eventually(lambda: pair.b.state().qdisc, lambda qdisc: qdisc == "noqueue", "noqueue again")
    assert cross(pair) == list(range(FLOWS))


# -- counting ------------------------------------------------------------------------------------------------------


def test_the_end_is_the_sum_of_its_queues(several: Daemon, netns: Namespaces) -> None:
    pair = make_pair_between_fresh(several, netns, numqueues=QUEUES)
    assert cross(pair) == list(range(FLOWS))
    pair.wait_quiet()
    for end in pair.stats().values():
        assert [queue["queue"] for queue in end["queues"]] == list(range(QUEUES))
        assert [queue["worker"] for queue in end["queues"]] == shown(several, pair)["workers"]
        for name in ("read", "delivered", "merged", "rx_packets", "rx_bytes", "tx_packets", "tx_bytes"):
            assert sum(queue[name] for queue in end["queues"]) == end[name], name
    a = pair.stats()["a"]
    assert a["read"] == FLOWS
    assert all(queue["read"] > 0 for queue in a["queues"])
    assert imbalance(several.call("stats.get")) == []


def test_what_the_rings_refuse_is_counted_once(several: Daemon, netns: Namespaces) -> None:
    """The kernel's tx_dropped is that of the device: TAP_RING of the end, and of no queue."""
    pair = make_pair_between_fresh(several, netns, numqueues=2)
    refused = 0
    pids = several.workers()
    with PacketSocket(pair.a.netns, pair.a.name) as a, stopped(pids):
        for number in range(40):
            refused += sum(a.try_send(flow_frame(flow, number)) == "ENOBUFS" for flow in range(FLOWS))
    assert refused > 0
    end = pair.wait_quiet()["a"]
    assert end["drops"]["TAP_RING"] == refused
    assert all("TAP_RING" not in queue["drops"] for queue in end["queues"])


def test_vethctl_shows_the_queues(several: Daemon, netns: Namespaces) -> None:
    a, b = netns.make(), netns.make()
    words = ("link", "add", "vq0", "netns", a, "up", "type", "veth", "peer", "name", "vq1", "netns", b, "up")
    several.ctl(*words, "numqueues", "3")
    (first, second) = several.ctl("-j", "-s", "-s", "link", "show").json()
    assert first["numqueues"] == second["numqueues"] == 3
    assert first["workers"] == [0, 1, 2]
    assert [queue["queue"] for queue in first["queues"]] == [0, 1, 2]
    text = several.ctl("-s", "-s", "-d", "link", "show").out
    assert " numqueues 3 workers 0 1 2 " in text
    assert text.count("  queue  worker") == 2
    assert "pairs 1 queues 1" in several.ctl("daemon", "info").out


# -- deleting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["vethctl", "ip", "namespace"])
def test_everything_goes_together(several: Daemon, netns: Namespaces, way: str) -> None:
    pair = make_pair_between_fresh(several, netns, numqueues=QUEUES)
    assert cross(pair) == list(range(FLOWS))
    if way == "vethctl":
        pair.delete()
    elif way == "ip":
        ip(pair.b.netns, "link", "del", "dev", pair.b.name)
    else:
        netns.delete(pair.b.netns)
    wait_gone(pair)
    assert [tap_fds(pid) for pid in several.workers()] == [0, 0, 0]
    several.check_fds()
