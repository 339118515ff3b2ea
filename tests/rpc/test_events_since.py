"""No event is lost, doubled or told too soon: around the answer, across connections, and in a storm."""

import threading
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from tests.kit.commands import ip, run
from tests.kit.daemon import Daemon
from tests.kit.netns import Namespaces, fresh_name
from tests.kit.pairs import Pair, make_pair
from tests.rpc.listening import Listening, State, flood
from tests.rpc.talk import request, result
from vethd.pairs.journal import HISTORY

Hear = Callable[[], Listening]


def test_the_answer_comes_first_and_then_all_that_was_recorded_meanwhile(hear: Hear, netns: Namespaces) -> None:
    """In a batch other requests come between the snapshot and its way out."""
    ear, red, name = hear(), netns.make(), fresh_name("a")
    ends = {"a": {"ifname": name, "netns": red, "up": True}, "b": {"netns": red, "up": True}}
    ear.say(
        [
            request(1, "link.add", **ends, placement="inside"),
            request(2, "events.subscribe"),
            request(3, "link.del", ifname=name, netns=red),
            request(4, "link.add", **ends, placement="inside"),
            request(5, "events.subscribe"),
            request(6, "events.unsubscribe", subscription=2),
        ]
    )
    first, answer, *_others = ear.hear([result(number) for number in range(1, 7)])
    assert [pair["pair"] for pair in answer["result"]["snapshot"]["pairs"]] == [first["result"]["pair"]]
    events = ear.until("carrier", "changed", carrier=True)
    assert [event["seq"] for event in events] == list(range(answer["result"]["seq"] + 1, events[-1]["seq"] + 1))
    told = [event["event"] for event in events if event["topic"] == "link" and event["event"] in ("added", "deleted")]
    assert told == ["deleted", "added"]


def test_a_pair_on_its_way_out_is_there_until_its_deletion_is_told(
    hear: Hear, shared_daemon: Daemon, netns: Namespaces
) -> None:
    there = 0
    for _ in range(5):
        made = make_pair(shared_daemon, netns.make(), netns.make(), up=False)
        deleter, ear = hear(), hear()
        deleter.say(request(1, "link.del", pair=made.uuid))
        state = State(ear.subscribe(topics=["link"])["snapshot"])
        if made.uuid in state.pairs:
            there += 1
            state.apply(ear.event())
        assert state.pairs == {}
        deleter.hear(result(1))
        ear.hear_nothing()
    assert there, "each subscription came too late to see it"


def test_who_comes_back_gets_what_it_missed_and_no_snapshot(hear: Hear, pair: Pair, netns: Namespaces) -> None:
    before = hear().subscribe()
    witness = hear()
    witness.subscribe(topics=["link"])
    made = make_pair(pair.daemon, netns.make(), netns.make())
    made.delete()
    missed = witness.until("link", "deleted")
    since = {"server_id": before["server_id"], "seq": before["seq"]}
    ear = hear()
    answer = ear.subscribe(topics=["link"], since=since)
    assert (answer["found"], answer["snapshot"], answer["events"]) == (True, None, missed)
    assert answer["seq"] >= missed[-1]["seq"]
    ip(pair.a.netns, "link", "set", "dev", pair.a.name, "mtu", "1300")
    assert ear.event()["fields"] == {"mtu": 1300}
    assert hear().subscribe(since={**since, "seq": answer["seq"] + 1})["events"] == []


@pytest.mark.parametrize("lie", ["another daemon's", "of the future"])
def test_who_knows_of_another_past_gets_a_snapshot(hear: Hear, pair: Pair, lie: str) -> None:
    now = hear().subscribe()
    since = {"server_id": now["server_id"], "seq": now["seq"] + 1}
    if lie == "another daemon's":
        since = {"server_id": "00000000-0000-0000-0000-000000000000", "seq": now["seq"]}
    answer = hear().subscribe(since=since)
    assert (answer["found"], answer["events"]) == (False, [])
    assert answer["snapshot"] == now["snapshot"]


def test_who_missed_more_than_is_kept_gets_a_snapshot(hear: Hear, pair: Pair) -> None:
    before = hear().subscribe()
    ear = hear()
    ear.subscribe(topics=["link"])
    for _ in range(HISTORY // 512 + 1):  # not so many at once that the kernel loses some
        flood(pair.a, 512)
        seq = ear.until("link", "changed", mtu=1500)[-1]["seq"]
    found = {"server_id": before["server_id"], "seq": seq - HISTORY}
    answer = hear().subscribe(since=found)
    assert answer["found"]
    assert [event["seq"] for event in answer["events"]] == list(range(seq - HISTORY + 1, answer["seq"] + 1))
    answer = hear().subscribe(since={**found, "seq": answer["seq"] - HISTORY - 1})
    assert (answer["found"], answer["events"]) == (False, [])
    assert [listed["pair"] for listed in answer["snapshot"]["pairs"]] == [pair.uuid]


# -- a storm ----------------------------------------------------------------------------------------------------------


class Storm(threading.Thread):
    """Changes of all kinds, as anybody makes them, until it is told to stop."""

    def __init__(self, daemon: Daemon, netns: Namespaces, seed: int) -> None:
        super().__init__()
        self._random = Random(seed)
        self._daemon = daemon
        self._places = [netns.make() for _ in range(3)]
        self._enough = threading.Event()
        self.changes = 0

    def run(self) -> None:
        with self._daemon.connect() as client:
            while not self._enough.is_set() or self.changes < 60:
                self._change(client.call)
                self.changes += 1

    def stop(self) -> None:
        """Return when it is over."""
        self._enough.set()
        self.join()

    def _change(self, call: Callable[..., Any]) -> None:
        random = self._random
        pairs = call("link.list")
        choice = random.randrange(8)
        if choice == 0 or len(pairs) < 3:
            a, b = random.choices(self._places, k=2)
            name = {"ifname": fresh_name("s")}
            ends = {"a": {"netns": a, "up": True, **name}, "b": {"netns": b, "up": random.random() < 0.7}}
            call("link.add", {**ends, "placement": random.choice(["inside", "move"])})
            return
        pair = random.choice(pairs)
        end = pair[random.choice("ab")]
        if choice == 1 and len(pairs) > 3:
            call("link.del", {"pair": pair["pair"]})
            return
        words = {
            2: ("mtu", str(random.randrange(1000, 1400))),
            3: ("down",),
            4: ("up",),
            5: ("name", fresh_name("s")),
            6: ("netns", random.choice(self._places), "name", fresh_name("s")),
        }.get(choice)
        if choice == 7 and len(pairs) > 3:
            ip(end["netns"], "link", "del", end["ifname"], check=False)
        elif words is not None:  # the picture may be old: then it is one change less
            run("ip", "-n", end["netns"], "link", "set", "dev", end["ifname"], *words, check=False)


@pytest.mark.parametrize("seed", [1, 2])
def test_snapshot_and_events_lead_to_the_same_state_in_a_storm(
    hear: Hear, shared_daemon: Daemon, netns: Namespaces, seed: int
) -> None:
    """Listeners begin at any moment of it; one leaves again and again, and goes on from where it was."""
    storm = Storm(shared_daemon, netns, seed)
    steady = hear()
    states = [(steady, State(steady.subscribe()["snapshot"]))]
    comes_and_goes = hear()
    answer = comes_and_goes.subscribe()
    kept, since = State(answer["snapshot"]), {"server_id": answer["server_id"], "seq": answer["seq"]}
    storm.start()
    try:
        for _ in range(4):
            late = hear()
            states.append((late, State(late.subscribe()["snapshot"])))
            for _ in range(15):
                event = comes_and_goes.event()
                kept.apply(event)
                since["seq"] = event["seq"]
            comes_and_goes.close()
            comes_and_goes = hear()
            answer = comes_and_goes.subscribe(since=since)
            assert answer["found"]
            for event in answer["events"]:
                kept.apply(event)
    finally:
        storm.stop()
    states.append((comes_and_goes, kept))
    last = make_pair(shared_daemon, *storm._places[:2], up=False)  # what is told of it comes after everything else
    last.delete()
    for listening, state in states:
        for event in listening.until_deleted(last.uuid):
            state.apply(event)
        assert list(state.pairs.values()) == shared_daemon.pairs()
