"""Cursors: stats.get tells how much everything grew since one, and the books balance for that as well."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kit.books import imbalance
from tests.kit.daemon import Daemon
from tests.kit.frames import numbered
from tests.kit.netns import Namespaces
from tests.kit.packets import PacketSocket
from tests.kit.pairs import Pair, make_pair
from tests.kit.rpc import RpcError
from tests.pairs.made_up import paper_pair
from tests.rpc.talk import Talk, refused, request
from vethd.datapath.netdev import NetDevice
from vethd.drops import N_POINTS
from vethd.errors import CursorExpired
from vethd.host.rtnl import LinkStats
from vethd.rpc.cursors import KEPT, Cursors, Snapshot
from vethd.rpc.results import stats_result
from vethd.worker.counters import Counters, EndCounters

#: Not counters: they are as they are now in every answer.
GAUGES = ("queued", "queue", "worker")
ROW_FIELDS = ("read", "merged", "tx_packets", "tx_bytes", "rx_packets", "rx_bytes")
QUEUES = 2
PAIR = paper_pair(tuple(range(2 * QUEUES)))
NEW = paper_pair((4, 5))
EMPTY: dict[int, LinkStats] = {}

counts = st.integers(0, 2**62)
values = st.lists(counts, min_size=len(ROW_FIELDS) + N_POINTS - 1, max_size=len(ROW_FIELDS) + N_POINTS - 1)
#: The rows of all ends, each the worker's and the supervisor's; and what the kernel says of the two devices.
states = st.lists(st.tuples(values, values), min_size=2 * QUEUES, max_size=2 * QUEUES)
kernels = st.lists(st.builds(LinkStats, *[counts] * 6), min_size=2, max_size=2)


@pytest.fixture(scope="module")
def counters() -> Iterator[Counters]:
    made = Counters.create(6)
    yield made
    made.close()


def row(numbers: list[int]) -> EndCounters:
    fields = dict(zip(ROW_FIELDS, numbers, strict=False))
    return EndCounters(**fields, drops=[0, *numbers[len(ROW_FIELDS) :]])


def store(counters: Counters, number: int, mine: list[int], correction: list[int]) -> None:
    device, counted = NetDevice(number), row(mine)
    for name in (*ROW_FIELDS, "drops"):
        setattr(device, name, getattr(counted, name))
    counters.publish(device)
    counters.store_correction(number, row(correction))


def by_number(kernel: list[LinkStats]) -> dict[int, LinkStats]:
    return {end.number: stats for end, stats in zip(PAIR.ends, kernel, strict=True)}


def difference(now: Any, then: Any) -> Any:
    """What an answer grew by since another: every number but the gauges."""
    if isinstance(now, dict):
        return {name: now[name] if name in GAUGES else difference(now[name], then[name]) for name in now}
    if isinstance(now, list):
        return [difference(mine, its) for mine, its in zip(now, then, strict=True)]
    return now - then


# -- the arithmetic ---------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(then=states, now=states, kernel_then=kernels, kernel_now=kernels)
def test_what_grew_is_the_difference_of_two_answers(
    counters: Counters, then: Any, now: Any, kernel_then: list[LinkStats], kernel_now: list[LinkStats]
) -> None:
    snapshots: list[Snapshot] = []
    answers: list[Any] = []
    for state, kernel in ((then, kernel_then), (now, kernel_now)):
        for number, rows in enumerate(state):
            store(counters, number, *rows)
        answers.append(stats_result(PAIR, counters, by_number(kernel)))
        last = snapshots[-1] if snapshots else None
        snapshots.append(Snapshot.take(len(snapshots), [PAIR], counters, by_number(kernel), last))
    assert [snapshot.stats(PAIR, None) for snapshot in snapshots] == answers
    assert snapshots[1].stats(PAIR, snapshots[0]) == difference(answers[1], answers[0])


def test_a_pair_that_was_not_there_counts_from_its_creation(counters: Counters) -> None:
    before = Snapshot.take(0, [PAIR], counters, EMPTY, None)
    store(counters, 4, [7] * 16, [0] * 16)
    now = Snapshot.take(1, [PAIR, NEW], counters, EMPTY, before)
    assert PAIR in before
    assert NEW not in before
    assert now.stats(NEW, before) == now.stats(NEW, None) == stats_result(NEW, counters, EMPTY)
    assert now.stats(NEW, before)["a"]["read"] == 7


@pytest.mark.parametrize("known", [(True, True), (True, False), (False, True)])
def test_what_the_kernel_did_not_tell_both_times_is_not_known(counters: Counters, known: tuple[bool, bool]) -> None:
    kernel = by_number([LinkStats(*range(1, 7))] * 2)
    snapshots = [Snapshot.take(0, [PAIR], counters, kernel if there else EMPTY, None) for there in known]
    grown = snapshots[1].stats(PAIR, snapshots[0])
    expected = dict.fromkeys(("rx_packets", "tx_packets", "rx_bytes", "tx_bytes", "rx_dropped", "tx_dropped"), 0)
    assert grown["a"]["kernel"] == grown["b"]["kernel"] == (expected if all(known) else None)


def test_a_pair_that_did_not_change_is_kept_once(counters: Counters) -> None:
    first = Snapshot.take(0, [PAIR, NEW], counters, EMPTY, None)
    counters.store_correction(4, row([99] * 16))
    second = Snapshot.take(1, [PAIR, NEW], counters, EMPTY, first)
    assert second._pairs[PAIR.uuid] is first._pairs[PAIR.uuid]
    assert second._pairs[NEW.uuid] is not first._pairs[NEW.uuid]


def test_the_last_cursors_are_kept(counters: Counters) -> None:
    cursors, snapshots = Cursors(), [Snapshot(number, {}) for number in range(KEPT + 1)]
    given = [cursors.add(snapshot) for snapshot in snapshots]
    assert cursors.last is snapshots[-1]
    assert [cursors.find(cursor) for cursor in given[1:]] == snapshots[1:]
    with pytest.raises(CursorExpired, match="is not known, or not any more"):
        cursors.find(given[0])
    assert not {Cursors().add(snapshots[0]), Cursors().add(snapshots[0])} & set(given), "daemons share no cursor"


# -- a daemon ---------------------------------------------------------------------------------------------------------


def pass_frames(pair: Pair, count: int) -> None:
    with PacketSocket(pair.a.netns, pair.a.name) as sender:
        for number in range(count):
            sender.send(numbered(number))
    pair.wait_quiet()


def test_stats_since_a_cursor(shared_daemon: Daemon, pair: Pair, netns: Namespaces) -> None:
    call = shared_daemon.call
    plain = call("stats.get")
    assert (plain["cursor"], plain["interval"]) == (None, None)
    pass_frames(pair, 3)
    first = call("stats.get", {"pair": pair.uuid, "cursor": True})
    assert first["interval"] is None
    assert first["pairs"] == call("stats.get", {"pair": pair.uuid})["pairs"]
    pass_frames(pair, 5)
    red = netns.make()
    new = make_pair(shared_daemon, red, red, placement="inside")
    pass_frames(new, 2)
    second = call("stats.get", {"since": first["cursor"]})
    assert imbalance(second) == []
    grown = {row["uuid"]: row["ends"] for row in second["pairs"]}
    ours = call("stats.get", {"pair": pair.uuid})["pairs"][0]["ends"]
    assert grown[pair.uuid] == difference(ours, first["pairs"][0]["ends"])
    assert grown[new.uuid] == call("stats.get", {"pair": new.uuid})["pairs"][0]["ends"]
    for uuid, frames in ((pair.uuid, 5), (new.uuid, 2)):
        a, b = grown[uuid]["a"], grown[uuid]["b"]
        assert (a["read"], a["delivered"], a["queues"][0]["tx_packets"], b["rx_packets"]) == (frames,) * 4
        assert (a["kernel"]["tx_packets"], b["kernel"]["rx_packets"]) == (frames, frames)
    third = call("stats.get", {"since": second["cursor"], "pair": pair.uuid})
    assert third["pairs"][0]["ends"]["a"]["read"] == 0
    assert len({answer["cursor"] for answer in (first, second, third)}) == 3
    both = call("stats.get", {"since": first["cursor"], "pair": pair.uuid})
    assert both["interval"] > second["interval"] > 0
    assert both["interval"] > third["interval"]


def test_a_cursor_is_good_for_every_filter(shared_daemon: Daemon, pair: Pair) -> None:
    other = make_pair(shared_daemon, pair.a.netns, pair.b.netns, placement="inside")
    cursor = shared_daemon.call("stats.get", {"pair": other.uuid, "cursor": True})["cursor"]
    pass_frames(pair, 4)
    (grown,) = shared_daemon.call("stats.get", {"since": cursor, "ifname": pair.a.name})["pairs"]
    assert grown["ends"]["a"]["read"] == 4


def test_a_pair_with_the_numbers_of_a_deleted_one_counts_from_its_creation(
    shared_daemon: Daemon, pair: Pair, netns: Namespaces
) -> None:
    pass_frames(pair, 6)
    cursor = shared_daemon.call("stats.get", {"cursor": True})["cursor"]
    pair.delete()
    shared_daemon.check_fds()
    red = netns.make()
    new = make_pair(shared_daemon, red, red, placement="inside")
    pass_frames(new, 2)
    (grown,) = shared_daemon.call("stats.get", {"since": cursor})["pairs"]
    assert (grown["uuid"], grown["ends"]["a"]["read"]) == (new.uuid, 2)


def test_an_unknown_cursor_is_refused(shared_daemon: Daemon, talk: Talk) -> None:
    talk.say(request(1, "stats.get", since="yesterday"))
    hint = "begin again with a new one: cursor true; the last 64 are kept until the daemon ends"
    talk.hear(refused(1, "cursor_expired", "since: cursor 'yesterday' is not known, or not any more", hint=hint))
    oldest = shared_daemon.call("stats.get", {"cursor": True})["cursor"]
    for _ in range(KEPT - 1):
        shared_daemon.call("stats.get", {"since": oldest})
    shared_daemon.call("stats.get", {"cursor": True})
    with pytest.raises(RpcError, match="cursor_expired"):
        shared_daemon.call("stats.get", {"since": oldest})


def test_link_list_with_stats(shared_daemon: Daemon, pair: Pair) -> None:
    pass_frames(pair, 3)
    (plain,) = shared_daemon.call("link.list")
    assert "stats" not in plain
    (listed,) = shared_daemon.call("link.list", {"stats": True, "pair": pair.uuid})
    assert listed == {**plain, "stats": pair.stats()}
    assert listed["stats"]["a"]["delivered"] == 3
