"""config.apply: static pairs become what they shall be, one by one, and nothing else is touched."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kit.commands import ip, start
from tests.kit.daemon import Daemon
from tests.kit.links import LinkMonitor, all_links, link_exists, read_link
from tests.kit.netns import Namespaces, fresh_name, inside
from tests.kit.pairs import make_pair
from tests.kit.rpc import RpcClient, RpcError
from tests.kit.static import actions, apply, heard_until_now, static_pairs, wish
from tests.rpc.talk import Talk, request, result

Wish = dict[str, Any]


@pytest.fixture
def two(netns: Namespaces) -> tuple[str, str]:
    return netns.make(), netns.make()


@pytest.fixture
def daemon(shared_daemon: Daemon) -> Daemon:
    return shared_daemon


def test_a_pair_is_made_once_and_then_kept(daemon: Daemon, two: tuple[str, str]) -> None:
    one = wish(*two, a={"mtu": 9000, "address": "02:00:00:00:0A:01"}, labels={"rack": "7"}, placement="inside")
    made = apply(daemon, one)
    assert actions(made) == {one["name"]: "create"}
    (pair,) = daemon.pairs()
    assert (pair["name"], pair["origin"], pair["labels"], pair["placement"]) == (
        one["name"],
        "config",
        {"rack": "7"},
        "inside",
    )
    assert pair["pair"] == made[one["name"]]["pair"]
    assert pair["a"]["carrier"]
    assert (pair["a"]["mtu"], pair["b"]["mtu"], pair["a"]["address"]) == (9000, 1500, "02:00:00:00:0a:01")
    assert apply(daemon, one) == {
        one["name"]: {"name": one["name"], "action": "keep", "pair": pair["pair"], "changes": {}, "error": None}
    }
    assert daemon.pairs() == [pair]


def test_a_pair_that_is_as_it_shall_be_is_not_disturbed(daemon: Daemon, two: tuple[str, str]) -> None:
    one = wish(*two)
    apply(daemon, one)
    for number, place in enumerate(two):
        ip(place, "address", "add", f"192.0.2.{number + 1}/24", "dev", one["ab"[number]]["ifname"])
    (before,) = daemon.pairs()
    seq = daemon.call("daemon.info")["seq"]
    ping = start(two[0], ["ping", "-i", "0.002", "-c", "200", "-q", "192.0.2.2"])
    with ping, LinkMonitor(two[0]) as red, LinkMonitor(two[1]) as blue:
        heard: set[str] = set()
        while ping.poll() is None:
            other = wish(*two, placement="inside")
            assert actions(apply(daemon, one, other, prune=True)) == {one["name"]: "keep", other["name"]: "create"}
            assert actions(apply(daemon, one, prune=True)) == {other["name"]: "remove", one["name"]: "keep"}
            heard |= heard_until_now(red, two[0]) | heard_until_now(blue, two[1])
        out, _err = ping.communicate()
    assert "200 received, 0% packet loss" in out
    assert heard
    assert heard.isdisjoint({one["a"]["ifname"], one["b"]["ifname"]})
    assert daemon.pairs() == [before]
    assert daemon.call("daemon.info")["seq"] > seq


CHANGES: list[tuple[Wish, Wish, Wish]] = [
    ({}, {"mtu": 9000}, {"mtu": [1500, 9000]}),
    ({"mtu": 9000}, {}, {"mtu": [9000, 1500]}),
    ({}, {"txqueuelen": 64, "gro": True}, {"txqueuelen": [1000, 64], "gro": [False, True]}),
    ({}, {"alias": "mine"}, {"alias": ["", "mine"]}),
    ({"alias": "mine"}, {}, {"alias": ["mine", ""]}),
    ({"up": True}, {"up": False}, {"up": [True, False]}),
    ({"address": "02:00:00:00:0a:01"}, {}, {}),
    (
        {"address": "02:00:00:00:0a:01"},
        {"address": "02:00:00:00:0A:02"},
        {"address": ["02:00:00:00:0a:01", "02:00:00:00:0a:02"]},
    ),
]


@pytest.mark.parametrize(("before", "after", "changes"), CHANGES)
def test_what_differs_of_an_end_is_changed(
    daemon: Daemon, two: tuple[str, str], before: Wish, after: Wish, changes: Wish
) -> None:
    one = wish(*two, placement="inside")
    first, then = ({**one, "b": {**one["b"], **end}} for end in (before, after))
    apply(daemon, first)
    (was,) = daemon.pairs()
    row = apply(daemon, then)[one["name"]]
    assert (row["action"], row["error"]) == ("change" if changes else "keep", None)
    assert row["changes"] == {f"b.{key}": values for key, values in changes.items()}
    assert actions(apply(daemon, then)) == {one["name"]: "keep"}
    (now,) = daemon.pairs()
    assert (now["pair"], now["b"]["ifindex"]) == (was["pair"], was["b"]["ifindex"])
    for key, (_old, new) in changes.items():
        assert now["b"][key] == new or (key == "alias" and now["b"][key].startswith("vethd "))


def test_an_end_is_moved_and_renamed(daemon: Daemon, netns: Namespaces, two: tuple[str, str]) -> None:
    green, new = netns.make(), fresh_name("r")
    one = wish(*two)
    apply(daemon, one)
    then = {**one, "a": {"ifname": new, "netns": green}}
    row = apply(daemon, then)[one["name"]]
    assert row["changes"] == {"a.ifname": [one["a"]["ifname"], new], "a.netns": [two[0], green]}
    assert read_link(green, new).carrier
    assert actions(apply(daemon, then)) == {one["name"]: "keep"}


def test_what_concerns_the_pair_is_changed(daemon: Daemon, two: tuple[str, str]) -> None:
    one = wish(*two, placement="inside", labels={"x": "1", "y": "2"})
    apply(daemon, one)
    then = {**one, "labels": {"y": "3"}, "overload": "backpressure"}
    row = apply(daemon, then)[one["name"]]
    assert row["changes"] == {"labels": [{"x": "1", "y": "2"}, {"y": "3"}], "overload": ["drop", "backpressure"]}
    (pair,) = daemon.pairs()
    assert (pair["labels"], pair["overload"]) == ({"y": "3"}, "backpressure")


@pytest.mark.parametrize(("key", "value", "now"), [("numqueues", 2, 1), ("placement", "move", "inside")])
def test_what_can_not_be_changed_makes_the_pair_anew(
    daemon: Daemon, two: tuple[str, str], key: str, value: Any, now: Any
) -> None:
    one = wish(*two, placement="inside")
    old = apply(daemon, one)[one["name"]]["pair"]
    row = apply(daemon, {**one, key: value})[one["name"]]
    assert (row["action"], row["changes"], row["error"]) == ("replace", {key: [now, value]}, None)
    (pair,) = daemon.pairs()
    assert (pair[key], pair["pair"]) == (value, row["pair"])
    assert pair["pair"] != old


def test_what_was_changed_by_hand_is_shown_and_set_back(daemon: Daemon, two: tuple[str, str]) -> None:
    one = wish(*two)
    name, peer = one["a"]["ifname"], one["b"]["ifname"]
    apply(daemon, one)
    with LinkMonitor(two[0]) as monitor:
        ip(two[0], "link", "set", name, "mtu", "1400", "txqueuelen", "5")
        ip(two[1], "link", "set", peer, "down")
        monitor.wait(lambda _event, link: link.name == name and not link.carrier, "its carrier is gone")
    changes = {"a.mtu": [1400, 1500], "a.txqueuelen": [5, 1000], "b.up": [False, True]}
    drift = apply(daemon, one, dry_run=True)[one["name"]]
    assert (drift["action"], drift["changes"]) == ("change", changes)
    assert read_link(two[0], name).mtu == 1400
    assert apply(daemon, one)[one["name"]]["changes"] == changes
    link = read_link(two[0], name)
    assert (link.mtu, link.txqlen, link.carrier) == (1500, 1000, True)


def test_an_end_that_was_deleted_by_hand_is_made_again(daemon: Daemon, two: tuple[str, str]) -> None:
    one = wish(*two)
    apply(daemon, one)
    with LinkMonitor(two[1]) as monitor:
        ip(two[0], "link", "del", one["a"]["ifname"])
        monitor.wait(lambda event, link: event == "del" and link.name == one["b"]["ifname"], "its peer goes")
    assert actions(apply(daemon, one)) == {one["name"]: "create"}


def test_dry_run_does_nothing(daemon: Daemon, two: tuple[str, str]) -> None:
    kept, changed, removed, new = (wish(*two, placement="inside") for _ in range(4))
    apply(daemon, kept, changed, removed)
    before, seq = daemon.pairs(), daemon.call("daemon.info")["seq"]
    nowhere = fresh_name("n")
    plan = apply(
        daemon,
        kept,
        {**changed, "overload": "backpressure"},
        {**new, "a": {**new["a"], "netns": nowhere}},
        dry_run=True,
        prune=True,
    )
    assert list(actions(plan).items()) == [
        (removed["name"], "remove"),
        (kept["name"], "keep"),
        (changed["name"], "change"),
        (new["name"], "create"),
    ]
    assert (daemon.pairs(), daemon.call("daemon.info")["seq"]) == (before, seq)


def test_pairs_of_others_are_not_touched(daemon: Daemon, two: tuple[str, str]) -> None:
    theirs = make_pair(daemon, *two, placement="inside")
    mine = wish(*two, placement="inside")
    assert actions(apply(daemon, mine, prune=True)) == {mine["name"]: "create"}
    assert actions(apply(daemon, prune=False)) == {}
    assert static_pairs(daemon).keys() == {mine["name"]}
    assert actions(apply(daemon, prune=True)) == {mine["name"]: "remove"}
    assert [pair["pair"] for pair in daemon.pairs()] == [theirs.uuid]


def test_each_row_has_an_error_of_its_own_and_the_rest_is_done(daemon: Daemon, two: tuple[str, str]) -> None:
    good, other, taken, big, nowhere, renamed = (wish(*two, placement="inside") for _ in range(6))
    apply(daemon, renamed)
    big["b"]["mtu"] = 65522
    nowhere["a"]["netns"] = "/proc/1/ns/none"
    taken["a"]["ifname"] = good["a"]["ifname"]
    renamed = {**renamed, "a": {**renamed["a"], "ifname": good["a"]["ifname"]}}
    rows = apply(daemon, big, good, taken, nowhere, renamed, other)
    assert {name: row["error"] and row["error"]["kind"] for name, row in rows.items()} == {
        good["name"]: None,
        taken["name"]: "link_exists",
        big["name"]: "mtu_out_of_range",
        nowhere["name"]: "no_such_netns",
        renamed["name"]: "link_exists",
        other["name"]: None,
    }
    error = rows[big["name"]]["error"]
    assert error["message"].startswith("b.mtu: 65522 is not in 68..65521: ")
    assert error["hint"] == "use a value in 68..65521"
    assert rows[taken["name"]]["error"]["errno"] == "EEXIST"
    assert rows[nowhere["name"]]["error"]["message"].startswith("end a: netns path '/proc/1/ns/none': ")
    assert static_pairs(daemon).keys() == {good["name"], renamed["name"], other["name"]}


def test_a_pair_whose_wish_is_wrong_is_not_pruned(daemon: Daemon, two: tuple[str, str]) -> None:
    one = wish(*two, placement="inside")
    apply(daemon, one)
    (before,) = daemon.pairs()
    row = apply(daemon, {**one, "numqueues": 0}, prune=True)[one["name"]]
    assert (row["action"], row["error"]["kind"], row["pair"]) == ("change", "invalid_params", before["pair"])
    assert daemon.pairs() == [before]


def test_a_name_given_twice_changes_nothing(daemon: Daemon, two: tuple[str, str]) -> None:
    one = wish(*two)
    with pytest.raises(RpcError) as raised:
        apply(daemon, one, one)
    assert (raised.value.kind, raised.value.message) == ("invalid_params", f"pairs: {one['name']}: given twice")
    assert daemon.pairs() == []


def test_an_unknown_field_changes_nothing(daemon: Daemon, two: tuple[str, str]) -> None:
    with pytest.raises(RpcError, match=r"pairs\.1\.a\.mac: unknown"):
        apply(daemon, wish(*two), wish(*two, a={"mac": "x"}))
    assert daemon.pairs() == []


def test_an_end_without_a_namespace_is_in_the_callers(daemon: Daemon, two: tuple[str, str]) -> None:
    one = wish(None, two[1])
    with inside(two[0], RpcClient, daemon.socket) as client:
        client.call("config.apply", {"pairs": [one]})
        assert client.call("config.apply", {"pairs": [one]})["plan"][0]["action"] == "keep"
    assert link_exists(two[0], one["a"]["ifname"])


def test_a_namespace_that_is_not_there_is_made_and_stays(daemon: Daemon, netns: Namespaces) -> None:
    red, blue = fresh_name("n"), fresh_name("n")
    one, other = wish(red, blue), wish(red, blue)
    apply(daemon, one, other)
    netns.adopt(red)
    netns.adopt(blue)
    assert all_links(red).keys() == {"lo", one["a"]["ifname"], other["a"]["ifname"]}
    assert actions(apply(daemon, prune=True)) == {one["name"]: "remove", other["name"]: "remove"}
    assert all_links(blue).keys() == {"lo"}


def test_two_at_once_are_done_one_after_the_other(daemon: Daemon, two: tuple[str, str]) -> None:
    same_names = [wish(*two, placement="inside") for _ in range(6)]
    lists = [[{**each, "name": f"{side}{number}"} for number, each in enumerate(same_names)] for side in "xy"]
    talks = [Talk(daemon.socket) for _ in lists]
    for turn in range(5):
        for talk, wishes in zip(talks, lists, strict=True):
            talk.say(request(turn, "config.apply", pairs=wishes, prune=True))
    for turn in range(5):
        for talk in talks:
            assert talk.hear(result(turn))["result"]["failed"] == 0
    for talk in talks:
        talk.close()
    assert static_pairs(daemon).keys() in [{wish["name"] for wish in wishes} for wishes in lists]
