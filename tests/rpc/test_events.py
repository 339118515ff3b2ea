"""Listening: what is told of a pair's life, in which order, and from when on."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.kit.commands import ip
from tests.kit.daemon import Daemon
from tests.kit.netns import Namespaces, fresh_name, netns_inode
from tests.kit.pairs import Pair, make_pair
from tests.rpc.listening import Listening, State
from tests.rpc.talk import Talk, refused, request, result


@pytest.fixture
def ear(talker: Callable[..., Talk], shared_daemon: Daemon) -> Iterator[Listening]:
    """A listener at the shared daemon; not subscribed yet."""
    listening = Listening(shared_daemon.socket)
    yield listening
    listening.close()


def names(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(event["topic"], event["event"]) for event in events]


def test_the_snapshot_is_what_link_list_and_daemon_info_say(ear: Listening, pair: Pair, shared_daemon: Daemon) -> None:
    answer = ear.subscribe()
    info = shared_daemon.call("daemon.info")
    assert answer == {
        "subscription": 1,
        "server_id": info["server_id"],
        "seq": info["seq"],
        "found": False,
        "events": [],
        "snapshot": {"pairs": shared_daemon.pairs(), "workers": info["workers"]},
    }


def test_a_new_pair_is_told_with_all_there_is_to_know(ear: Listening, shared_daemon: Daemon, netns: Namespaces) -> None:
    state = State(ear.subscribe()["snapshot"])
    made = make_pair(shared_daemon, netns.make(), netns.make())
    added, *others = ear.until("carrier", "changed", carrier=True)
    assert (added["topic"], added["event"], added["pair"]) == ("link", "added", made.uuid)
    assert added["fields"]["generation"] == added["seq"]
    for event in (added, *others):
        state.apply(event)
    while list(state.pairs.values()) != shared_daemon.pairs():  # the operstate may come after the carrier
        state.apply(ear.event())


def test_events_are_numbered_in_order_without_a_gap(ear: Listening, shared_daemon: Daemon, netns: Namespaces) -> None:
    seq = ear.subscribe()["seq"]
    made = make_pair(shared_daemon, netns.make(), netns.make())
    made.delete()
    events = ear.until("link", "deleted")
    assert [event["seq"] for event in events] == list(range(seq + 1, seq + 1 + len(events)))
    assert all(earlier["time"] <= later["time"] for earlier, later in itertools.pairwise(events))


def test_what_the_kernel_changes_is_told(ear: Listening, pair: Pair) -> None:
    ear.subscribe(topics=["link"])
    name = fresh_name("r")
    for words, fields in (
        (("mtu", "1234"), {"mtu": 1234}),
        (("address", "02:76:74:00:00:01"), {"address": "02:76:74:00:00:01"}),
        (("txqueuelen", "77"), {"txqueuelen": 77}),
        (("alias", "uplink"), {"alias": "uplink"}),
        (("down",), {"up": False}),
        (("name", name), {"ifname": name}),
    ):
        ip(pair.a.netns, "link", "set", "dev", pair.a.name, *words)
        event = ear.event()
        assert (event["event"], event["pair"], event["end"]) == ("changed", pair.uuid, "a")
        assert event["fields"] == fields
    pair.a.name = name
    alias = ear.event()  # the peer's says who its peer is
    assert (alias["end"], alias["fields"]) == ("b", {"alias": f"vethd {pair.uuid} peer {name}"})


def test_the_carrier_is_told_once_for_both_ends_and_the_operstate_of_each(ear: Listening, pair: Pair) -> None:
    ear.subscribe(topics=["carrier"])
    ip(pair.b.netns, "link", "set", "dev", pair.b.name, "down")
    events = [ear.event() for _ in range(3)]
    assert sorted((event["event"], event.get("end"), *event["fields"].values()) for event in events) == [
        ("changed", None, False),
        ("operstate", "a", "DOWN"),
        ("operstate", "b", "DOWN"),
    ]


def test_a_move_tells_where_the_end_is(ear: Listening, pair: Pair, netns: Namespaces) -> None:
    ear.subscribe(topics=["link"])
    away = netns.make()
    ip(pair.a.netns, "link", "set", "dev", pair.a.name, "netns", away)
    moved = ear.until("link", "moved")[-1]
    assert (moved["pair"], moved["end"]) == (pair.uuid, "a")
    assert moved["fields"] == {
        "netns": away,
        "netns_inode": netns_inode(away),
        "ifindex": pair.daemon.call("link.get", {"pair": pair.uuid})["a"]["ifindex"],
        "from_inode": netns_inode(pair.a.netns),
    }
    pair.a.netns = away


@pytest.mark.parametrize("how", ["link.del", "ip link del", "ip netns del"])
def test_a_deletion_is_told_once_with_its_reason(
    ear: Listening, shared_daemon: Daemon, netns: Namespaces, how: str
) -> None:
    made = make_pair(shared_daemon, netns.make(), netns.make())
    ear.subscribe(topics=["link"])
    if how == "link.del":
        made.delete()
        reason = "link.del by uid 0, gid 0, pid "
    elif how == "ip link del":
        ip(made.a.netns, "link", "del", made.a.name)
        reason = f"device a ({made.a.name}) was deleted"
    else:
        netns.delete(made.a.netns)
        reason = "device a "
    event = ear.until("link", "deleted")[-1]  # the kernel may set it down first
    assert event["pair"] == made.uuid
    assert event["fields"]["reason"].startswith(reason)
    make_pair(shared_daemon, netns.make(), netns.make(), up=False)
    assert ear.event()["event"] == "added"


# -- subscriptions ----------------------------------------------------------------------------------------------------


def test_each_subscription_hears_of_its_topics(ear: Listening, pair: Pair) -> None:
    ear.subscribe(topics=["link"])
    assert ear.subscribe(topics=["carrier"])["subscription"] == 2
    ip(pair.a.netns, "link", "set", "dev", pair.a.name, "down")
    assert ear.event(1)["event"] == "changed"
    assert {ear.event(2)["event"] for _ in range(3)} == {"changed", "operstate"}
    ear.say(request(3, "events.unsubscribe", subscription=2))
    ear.hear(result(3, {"subscription": 2}))
    ip(pair.a.netns, "link", "set", "dev", pair.a.name, "up")
    assert ear.event(1)["event"] == "changed"
    ear.hear_nothing()
    assert ear.subscribe(topics=["link"])["subscription"] == 3  # a number is not used again


def test_nothing_comes_after_the_last_subscription_ended(ear: Listening, pair: Pair) -> None:
    ear.subscribe()
    ear.say(request(2, "events.unsubscribe", subscription=1))
    ear.hear(result(2, {"subscription": 1}))
    ip(pair.a.netns, "link", "set", "dev", pair.a.name, "mtu", "1300")
    pair.daemon.call("link.get", {"pair": pair.uuid})
    ear.hear_nothing()


def test_a_subscription_that_is_not_there_can_not_be_ended(ear: Listening) -> None:
    ear.say(request(1, "events.unsubscribe", subscription=1))
    ear.hear(refused(1, "invalid_params", "subscription: there is no 1", hint="of this connection: none"))
    ear.subscribe()
    ear.subscribe()
    ear.say(request(2, "events.unsubscribe", subscription=7))
    ear.hear(refused(2, "invalid_params", "subscription: there is no 7", hint="of this connection: 1, 2"))


def test_a_connection_has_at_most_16_subscriptions(ear: Listening) -> None:
    for number in range(1, 17):
        assert ear.subscribe(topics=["config"])["subscription"] == number
    ear.say(request(17, "events.subscribe"))
    ear.hear(
        refused(
            17,
            "limit_reached",
            "16 subscriptions on this connection",
            hint="end some, or hear of several topics in one",
        )
    )
    ear.say(request(18, "events.unsubscribe", subscription=3))
    ear.hear(result(18))
    assert ear.subscribe()["subscription"] == 17


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"topics": []}, "topics: "),
        ({"topics": ["links"]}, "topics.0: "),
        ({"since": {"seq": 1}}, "since.server_id: "),
        ({"since": {"server_id": "x", "seq": -1}}, "since.seq: "),
        ({"interval": 0.05}, "interval: "),
        ({"every": 1}, "every: "),
    ],
)
def test_bad_parameters_are_refused_by_name(ear: Listening, params: dict[str, Any], message: str) -> None:
    ear.say(request(1, "events.subscribe", **params))
    assert ear.hear(refused(1, "invalid_params"))["error"]["message"].startswith(message)
