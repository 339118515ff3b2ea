"""What each method answers, on pairs that exist."""

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

import vethd
import vethd.rpc.schema.daemon
import vethd.rpc.schema.stats
from tests.kit.daemon import Daemon
from tests.kit.links import read_link
from tests.kit.netns import Namespaces, inside, netns_inode
from tests.kit.pairs import Pair, make_pair
from tests.kit.rpc import RpcError
from tests.rpc.talk import Talk, refused, request, result
from vethd.drops import DropPoint

END = {
    *("ifname", "ifindex", "netns", "netns_inode", "address", "mtu", "txqueuelen", "alias"),
    *("up", "carrier", "operstate", "offload", "offload_why", "gro", "master"),
}


@pytest.fixture
def two(shared_daemon: Daemon, netns: Namespaces) -> tuple[Pair, Pair]:
    """Two pairs: one between red and blue, one within red; ends of the second have the same name in blue and green."""
    red, blue, green = netns.make(), netns.make(), netns.make()
    one = make_pair(shared_daemon, red, blue, up=False, placement="inside")
    names = {"ifname": "vtrtwin"}
    other = make_pair(shared_daemon, blue, green, up=False, placement="inside", a=names, b=names)
    return one, other


def uuids(pairs: list[dict[str, Any]]) -> set[str]:
    return {pair["pair"] for pair in pairs}


def test_link_add_tells_what_was_made(talk: Talk, netns: Namespaces) -> None:
    red, blue = netns.make(), netns.make()
    a = {"ifname": "vtra", "netns": red, "address": "02:00:00:00:00:0A", "mtu": 9000, "txqueuelen": 500, "up": True}
    talk.say(request(1, "link.add", a=a, b={"ifname": "vtrb", "netns": blue, "up": True}, placement="inside"))
    made = talk.hear(result(1))["result"]
    assert str(UUID(made["pair"])) == made["pair"]
    assert {key: made[key] for key in ("origin", "placement", "numqueues", "workers")} == {
        "origin": "api",
        "placement": "inside",
        "numqueues": 1,
        "workers": [0],
    }
    for letter, place, expected in (("a", red, (9000, 500)), ("b", blue, (1500, 1000))):
        end, kernel = made[letter], read_link(place, f"vtr{letter}")
        assert end.keys() == END
        assert (end["ifname"], end["netns"], end["netns_inode"]) == (f"vtr{letter}", place, netns_inode(place))
        assert (end["mtu"], end["txqueuelen"]) == (kernel.mtu, kernel.txqlen) == expected
        assert (end["ifindex"], end["address"]) == (kernel.ifindex, kernel.address)
        assert (end["up"], end["carrier"], end["operstate"]) == (kernel.up, kernel.carrier, kernel.operstate)
        assert end["carrier"]
    assert made["a"]["address"] == "02:00:00:00:00:0a"


def test_the_peer_without_fields_of_its_own_takes_mtu_and_txqueuelen(talk: Talk, netns: Namespaces) -> None:
    red = netns.make()
    connection = inside(red, Talk, talk.socket.getpeername())
    try:
        connection.say(request(1, "link.add", a={"mtu": 2000, "txqueuelen": 7, "up": True}, placement="inside"))
        peer = connection.hear(result(1))["result"]["b"]
    finally:
        connection.close()
    assert (peer["mtu"], peer["txqueuelen"], peer["up"], peer["netns"]) == (2000, 7, False, red)


def test_link_list_filters_by_name_namespace_and_uuid(shared_daemon: Daemon, two: tuple[Pair, Pair]) -> None:
    one, other = two
    call = shared_daemon.call
    assert uuids(call("link.list")) == {one.uuid, other.uuid}
    assert uuids(call("link.list", {"ifname": one.b.name})) == {one.uuid}
    assert uuids(call("link.list", {"netns": one.a.netns})) == {one.uuid}
    assert uuids(call("link.list", {"netns": one.b.netns})) == {one.uuid, other.uuid}
    assert uuids(call("link.list", {"netns": other.b.netns, "ifname": "vtrtwin"})) == {other.uuid}
    assert uuids(call("link.list", {"netns": one.a.netns, "ifname": "vtrtwin"})) == set()
    assert uuids(call("link.list", {"pair": other.uuid})) == {other.uuid}
    with pytest.raises(RpcError, match="no_such_link"):
        call("link.list", {"pair": "00000000-0000-4000-8000-000000000000"})


def test_link_get_says_which_end_was_meant(shared_daemon: Daemon, two: tuple[Pair, Pair]) -> None:
    one, _other = two
    (listed,) = shared_daemon.call("link.list", {"pair": one.uuid})
    for params, letter in (({"ifname": one.a.name}, "a"), ({"ifname": one.b.name}, "b"), ({"pair": one.uuid}, "a")):
        assert shared_daemon.call("link.get", params) == {**listed, "end": letter}


def test_a_name_in_several_namespaces_is_the_callers_own(shared_daemon: Daemon, two: tuple[Pair, Pair]) -> None:
    _one, other = two
    for letter, end in (("a", other.a), ("b", other.b)):
        talk = inside(end.netns, Talk, shared_daemon.socket)
        try:
            talk.say(request(1, "link.get", ifname="vtrtwin"))
            assert talk.hear(result(1))["result"]["end"] == letter
        finally:
            talk.close()


@pytest.mark.parametrize("method", ["link.get", "link.del"])
def test_a_name_in_several_other_namespaces_is_refused_with_their_list(
    talk: Talk, two: tuple[Pair, Pair], method: str
) -> None:
    _one, other = two
    places = ", ".join(sorted((other.a.netns, other.b.netns)))
    talk.say(request(1, method, ifname="vtrtwin"))
    message = f'"vtrtwin" exists in several namespaces: {places}'
    talk.hear(refused(1, "ambiguous_name", message, hint="say which one: netns NAME"))
    talk.say(request(2, "link.get", ifname="vtrtwin", netns=other.b.netns))
    assert talk.hear(result(2))["result"]["end"] == "b"


def test_link_del_answers_when_both_devices_are_gone(shared_daemon: Daemon, two: tuple[Pair, Pair]) -> None:
    one, other = two
    assert shared_daemon.call("link.del", {"ifname": one.b.name}) == {"pair": one.uuid}
    assert not one.a.exists
    assert not one.b.exists
    assert other.a.exists
    assert shared_daemon.call("link.del", {"ifname": "vtrtwin", "netns": other.a.netns}) == {"pair": other.uuid}
    assert not other.b.exists
    assert shared_daemon.pairs() == []


def test_a_name_in_the_wrong_namespace_is_not_found(talk: Talk, two: tuple[Pair, Pair]) -> None:
    one, _other = two
    for method in ("link.get", "link.del"):
        talk.say(request(1, method, ifname=one.a.name, netns=one.b.netns))
        hint = "`vethctl link show` lists the links"
        talk.hear(refused(1, "no_such_link", f'Cannot find device "{one.a.name}"', hint=hint))
    assert one.a.exists


def test_stats_have_every_counter_and_every_drop_point(shared_daemon: Daemon, two: tuple[Pair, Pair]) -> None:
    one, other = two
    everything = shared_daemon.call("stats.get")["pairs"]
    assert {pair["uuid"] for pair in everything} == {one.uuid, other.uuid}
    (pair,) = shared_daemon.call("stats.get", {"ifname": one.a.name})["pairs"]
    assert pair["uuid"] == one.uuid
    for end in pair["ends"].values():
        assert end.keys() == vethd.rpc.schema.stats.EndStatsResult.__annotations__.keys()
        assert list(end["drops"]) == [point.name for point in DropPoint]
        assert end["kernel"].keys() == vethd.rpc.schema.stats.KernelStats.__annotations__.keys()


def test_softnet_and_info_have_a_row_per_worker(
    start_daemon: Callable[..., Daemon], talker: Callable[..., Talk]
) -> None:
    daemon = start_daemon(config="[worker]\ncount = 2\n[limits]\nmax_pairs = 7\n")
    info = daemon.call("daemon.info")
    assert info.keys() == vethd.rpc.schema.daemon.DaemonInfo.__annotations__.keys()
    assert (info["version"], info["pid"]) == (vethd.__version__, daemon.pid)
    assert (info["pairs"], info["max_pairs"]) == (0, 7)
    assert [row["id"] for row in info["workers"]] == [0, 1]
    for row in info["workers"]:
        assert row.keys() == vethd.rpc.schema.daemon.WorkerRow.__annotations__.keys()
        assert row["datapath"] in ("compiled", "interpreted")
        assert row["frameio"] in ("uring", "syscalls")
        assert row["why"]
    rows = daemon.worker_rows()
    assert [row["pid"] for row in rows] == [row["pid"] for row in info["workers"]]
    assert all(row.keys() == vethd.rpc.schema.stats.SoftnetRow.__annotations__.keys() for row in rows)
    assert json.dumps(rows)
