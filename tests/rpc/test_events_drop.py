"""Drop events: what they count is what the counters grow by, while somebody listens."""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.kit.commands import ip
from tests.kit.daemon import Daemon
from tests.kit.frames import frame
from tests.kit.netns import Namespaces
from tests.kit.packets import PacketSocket
from tests.kit.pairs import Pair, make_pair
from tests.kit.waiting import eventually
from tests.pairs import watching
from tests.pairs.killing import flooded, stopped, wait_spare
from tests.rpc.listening import Listening
from tests.rpc.talk import Talk

Drops = Counter[tuple[str, str]]


@pytest.fixture
def ear(talker: Callable[..., Talk], shared_daemon: Daemon) -> Iterator[Listening]:
    """A listener at the shared daemon; not subscribed yet."""
    listening = Listening(shared_daemon.socket)
    yield listening
    listening.close()


def counted(pair: Pair) -> Drops:
    """The counters of a pair: frames by end and point."""
    return Counter({(letter, point): n for letter, end in pair.stats().items() for point, n in end["drops"].items()})


def told(events: list[dict[str, Any]]) -> Drops:
    """What events say was dropped; the total in each must fit to those before it."""
    sums: Drops = Counter()
    for event in events:
        fields = event["fields"]
        assert fields["frames"] > 0
        sums[event["end"], fields["point"]] += fields["frames"]
    return sums


def send(pair: Pair, frames: int, size: int = 60) -> int:
    """Send frames from a; how many the kernel did not refuse to the sender's face."""
    with PacketSocket(pair.a.netns, pair.a.name) as sender:
        return sum(sender.try_send(frame(size)) == "ok" for _ in range(frames))


def too_big(pair: Pair) -> None:
    ip(pair.b.netns, "link", "set", "dev", pair.b.name, "mtu", "500")
    eventually(lambda: pair.daemon.pairs()[0]["b"]["mtu"], lambda mtu: mtu == 500, "the daemon knows")
    send(pair, 3, 1000)
    pair.wait_quiet()


def no_carrier(pair: Pair) -> None:
    ip(pair.b.netns, "link", "set", "dev", pair.b.name, "down")
    eventually(lambda: pair.a.state().carrier, lambda on: not on, "the carrier is gone")
    send(pair, 4)


def full_ring(pair: Pair) -> None:
    with stopped(pair.daemon.workers()):
        send(pair, 1100)
    pair.wait_quiet()


@pytest.mark.parametrize(
    ("cause", "point"), [(too_big, "PKT_TOO_BIG"), (no_carrier, "NO_CARRIER"), (full_ring, "TAP_RING")]
)
def test_what_is_told_is_what_the_counter_grows_by(
    ear: Listening, pair: Pair, cause: Callable[[Pair], None], point: str
) -> None:
    """Also of what was dropped before: that is not told; and since the last event: that is told on leaving."""
    cause(pair)
    before = counted(pair)
    assert before["a", point] > 0
    ear.subscribe(topics=["drop"], interval=3600)
    cause(pair)
    (event,) = events = ear.unsubscribe()
    assert (event["pair"], event["end"], event["fields"]["point"]) == (pair.uuid, "a", point)
    after = counted(pair)
    assert told(events) == after - before
    assert event["fields"]["total"] == after["a", point]


def test_what_the_ring_refused_is_told_as_that_while_a_carrier_is_about_to_go(pair: Pair) -> None:
    """Whoever looks before the worker knows of it, and so before the TAPs are told, must not take it for the reason."""
    with stopped(pair.daemon.workers()):
        send(pair, 1100)
        ip(pair.b.netns, "link", "set", "dev", pair.b.name, "down")
        eventually(
            lambda: watching.told(pair, "a")["carrier"], lambda on: not on, "the daemon is about to take the carrier"
        )
        pair.stats()
        pair.daemon.call("link.list", {"stats": True})
        before = pair.a.state()
        assert before.carrier
    pair.wait_carrier(False)
    refused = before.stats["tx_dropped"]
    assert refused > 0
    eventually(lambda: counted(pair)["a", "TAP_RING"], lambda count: count == refused, "it is charged to the ring")


def test_what_only_the_kernel_counts_is_told_as_time_goes_by(ear: Listening, pair: Pair) -> None:
    ear.subscribe(topics=["drop"], interval=0.1)
    no_carrier(pair)
    heard: list[dict[str, Any]] = []
    while told(heard) != {("a", "NO_CARRIER"): 4}:
        heard.append(ear.event())
    assert ear.unsubscribe() == []


def test_a_longer_interval_means_fewer_events_for_the_same_frames(
    ear: Listening, talker: Callable[..., Talk], pair: Pair
) -> None:
    slow = Listening(pair.daemon.socket)
    too_big(pair)
    ear.subscribe(topics=["drop"], interval=0.1)
    slow.subscribe(topics=["drop"], interval=0.55)
    before = counted(pair)
    heard: list[dict[str, Any]] = []
    try:
        with PacketSocket(pair.a.netns, pair.a.name) as sender:
            while len(heard) < 8:
                sender.send(frame(1000))
                heard.append(ear.event())
        heard_slowly = [slow.event(), *slow.unsubscribe()]
        heard += ear.unsubscribe()
    finally:
        slow.close()
    assert told(heard) == told(heard_slowly) == counted(pair) - before
    assert len(heard_slowly) < len(heard)
    assert all(event["fields"]["interval"] >= 0.1 for event in heard[:8])
    assert heard_slowly[0]["fields"]["interval"] >= 0.6, "steps of 0.1"


def test_listeners_of_one_interval_that_begin_at_different_times_each_get_their_own_sum(
    ear: Listening, pair: Pair
) -> None:
    too_big(pair)
    sent = {}
    with PacketSocket(pair.a.netns, pair.a.name) as sender:
        for number in range(1, 6):
            ear.subscribe(topics=["drop"], interval=2)
            sent[number] = 6 - number
            sender.send(frame(1000))
            pair.wait_quiet()
    assert {number: told(ear.unsubscribe(number)) for number in sent} == {
        number: {("a", "PKT_TOO_BIG"): frames} for number, frames in sent.items()
    }


@pytest.mark.parametrize("added_meanwhile", [False, True])
def test_the_last_drops_of_a_pair_are_told_before_its_deletion(
    ear: Listening, shared_daemon: Daemon, netns: Namespaces, added_meanwhile: bool
) -> None:
    places = netns.make(), netns.make()
    if added_meanwhile:
        ear.subscribe(topics=["link", "drop"], interval=3600)
    pair = make_pair(shared_daemon, *places)
    if not added_meanwhile:
        ear.subscribe(topics=["link", "drop"], interval=3600)
    too_big(pair)
    drops = counted(pair)
    pair.delete()
    events = ear.until("link", "deleted")
    assert [event["event"] for event in events[-2:]] == ["dropped", "deleted"]
    assert told(events[-2:-1]) == drops - Counter()
    assert events[-2]["seq"] < events[-1]["seq"], "who comes back with its number must not miss the deletion"
    again = make_pair(shared_daemon, *places)  # with the same numbers, and so the same counters
    too_big(again)
    last = [event for event in ear.unsubscribe() if event["topic"] == "drop"]
    assert told(last) == counted(again) - Counter()


def test_a_worker_that_dies_is_told_with_all_that_follows(
    start_daemon: Callable[..., Daemon], netns: Namespaces
) -> None:
    daemon = start_daemon(config="[worker]\ncount = 1\nrestart_window = 10.0\n")
    daemon.expected_errors += ["worker died", "spare worker died"]
    pair = make_pair(daemon, netns.make(), netns.make())
    spare = wait_spare(daemon)
    ear = Listening(daemon.socket)
    try:
        (row,) = ear.subscribe(topics=["worker", "drop"], interval=3600)["snapshot"]["workers"]
        victim = row["pid"]
        before = counted(pair)
        with flooded(pair):
            os.kill(victim, signal.SIGKILL)
            died, serving, replaced = (ear.event() for _ in range(3))
        assert [event["event"] for event in (died, serving, replaced)] == ["died", "serving", "replaced"]
        assert (died["fields"]["id"], died["fields"]["died_pid"], died["fields"]["pid"]) == (0, victim, None)
        assert died["fields"]["reason"]
        assert serving["fields"] == daemon.call("daemon.info")["workers"][0] == row | {"pid": spare}
        spare = wait_spare(daemon)
        os.kill(spare, signal.SIGKILL)
        spare_died = ear.event()
        assert (spare_died["event"], spare_died["fields"]["died_pid"]) == ("spare_died", spare)
        drops = told(ear.unsubscribe())
        assert drops == counted(pair) - before
        lost = sum(frames for (_end, point), frames in drops.items() if point == "WORKER_LOST")
        assert lost == replaced["fields"]["frames_lost"]
    finally:
        ear.close()
