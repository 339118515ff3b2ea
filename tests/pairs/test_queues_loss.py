"""One of several workers of a pair dies: what it had in hand is counted to the frame, while the others forward on."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.kit.books import imbalance
from tests.kit.daemon import Daemon
from tests.kit.links import LinkMonitor
from tests.kit.netns import Namespaces
from tests.kit.packets import PacketSocket
from tests.kit.pairs import Pair, make_pair_between_fresh
from tests.kit.processes import sleeping, tap_fds
from tests.kit.waiting import eventually
from tests.pairs.flows import FLOWS, flow_frame, flows_both_ways, wait_sent
from tests.pairs.killing import log_lines, stopped, wait_spare, wait_workers
from tests.pairs.test_workers_loss import frozen, in_hand, lost
from tests.pairs.watching import set_end, works

QUEUES = 4
EXPLAINED = {"WORKER_LOST", "TAP_RING"}


def explained(ends: dict[str, Any]) -> bool:
    return {point for end in ends.values() for point, count in end["drops"].items() if count} <= EXPLAINED


def wait_taps(pids: list[int], wanted: list[int]) -> None:
    """Wait until each worker has so many TAP descriptors: they get theirs back a moment after the count."""
    eventually(lambda: [tap_fds(pid) for pid in pids], lambda counts: counts == wanted, "every queue is read")


def kill(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def caught_at_work(pair: Pair, victim: int, others: list[int]) -> None:
    """Freeze a worker while it empties the rings of its queue, and wait until the others have emptied theirs."""
    with PacketSocket(pair.a.netns, pair.a.name) as a, PacketSocket(pair.b.netns, pair.b.name) as b:
        with stopped([victim]):
            for number in range(40):
                for flow in range(FLOWS):
                    a.try_send(flow_frame(flow, number))
                    b.try_send(flow_frame(flow, number, 1))
            eventually(lambda: all(map(sleeping, others)), bool, "the others have finished")
            before = pair.a.state().stats["tx_packets"]
        eventually(lambda: pair.a.state().stats["tx_packets"], lambda now: now > before, "it reads")
        os.kill(victim, signal.SIGSTOP)
        eventually(lambda: frozen(victim), bool, "it is frozen")


def test_frames_in_hand_are_counted_to_the_frame(killable: Callable[[int], Daemon], netns: Namespaces) -> None:
    """One worker is frozen at work, the others have finished: the kernel says what it has read and not written."""
    daemon = killable(QUEUES)
    pair = make_pair_between_fresh(daemon, netns, numqueues=QUEUES)
    caught = 0
    for round_ in range(12):
        wait_spare(daemon)
        pids = daemon.workers()
        victim = pids.pop(round_ % QUEUES)
        caught_at_work(pair, victim, pids)
        held = in_hand(pair)  # those of the rounds before included: what is lost stays in the difference
        caught += held != lost(pair.stats())
        kill(victim)
        wait_workers(daemon, QUEUES, {victim})
        eventually(lambda: lost(pair.stats()), lambda counted: counted == held, "they are counted")  # noqa: B023
        assert explained(pair.wait_quiet())
        assert lost(pair.stats()) == held
        assert imbalance(daemon.call("stats.get")) == []
    assert caught > 0, "no worker was caught with a frame in hand: the test proves nothing"


@pytest.mark.parametrize("together", [1, 2, 4])
def test_the_books_balance_when_workers_die_under_load(
    killable: Callable[[int], Daemon], netns: Namespaces, together: int
) -> None:
    """One, two and all of them at once; the pair's other queues are handed in, counted and read again."""
    daemon = killable(QUEUES)
    pair, other = (make_pair_between_fresh(daemon, netns, numqueues=queues) for queues in (QUEUES, 3))
    for round_ in range(3):
        wait_spare(daemon)
        pids = daemon.workers()
        victims = [pids[(round_ + at) % QUEUES] for at in range(together)]
        with flows_both_ways(pair, other) as directions:
            wait_sent(directions, 10)
            kill(*victims)
            pids = wait_workers(daemon, QUEUES, set(victims))
            wait_sent(directions, 10 + max(min(way.sent) for way in directions))
        assert all(way.disorder() == [] for way in directions)
        assert explained(pair.stats())
        daemon.check_books()
        wait_taps(pids, [4, 4, 4, 2])


def test_a_worker_that_hangs_does_not_hold_up_the_replacement_of_another_that_dies(
    killable: Callable[[int], Daemon], netns: Namespaces
) -> None:
    """It does not hand its queues in, and nobody waits for that; it is killed, and then both are counted."""
    daemon = killable(3)
    pair = make_pair_between_fresh(daemon, netns, numqueues=3)
    wait_spare(daemon)
    hanging, dying, _well = pids = daemon.workers()
    with flows_both_ways(pair) as directions:
        wait_sent(directions, 10)
        os.kill(hanging, signal.SIGSTOP)
        kill(dying)
        eventually(lambda: log_lines(daemon, "worker replaced"), bool, "the dead one is replaced")
        assert [line["pid"] for line in log_lines(daemon, "worker died")] == [dying], "the other one is still there"
        wait_workers(daemon, 3, {hanging, dying}, within=15.0)
    (why,) = [line["why"] for line in log_lines(daemon, "worker died") if line["pid"] == hanging]
    assert re.fullmatch(r"did not answer `(del|ping)` within 2.5 s \(signal 9\)", why)
    assert pids[2] in daemon.workers(), "the third one has done nothing wrong"
    daemon.check_books()


def test_no_other_pair_loses_a_frame(killable: Callable[[int], Daemon], netns: Namespaces) -> None:
    daemon = killable(2)
    several = make_pair_between_fresh(daemon, netns, numqueues=2)
    dying, living = (make_pair_between_fresh(daemon, netns) for _ in range(2))
    wait_spare(daemon)
    victim = daemon.workers()[0]
    with flows_both_ways(several, dying, living) as load:
        wait_sent(load, 10)
        kill(victim)
        wait_workers(daemon, 2, {victim})
    assert lost(living.stats()) == {"a": 0, "b": 0}
    assert imbalance(daemon.call("stats.get")) == []


def test_the_devices_notice_nothing(killable: Callable[[int], Daemon], netns: Namespaces) -> None:
    """Queues are handed in and read again without any link event: a marker is the first one that anybody hears."""
    daemon = killable(2)
    pair = make_pair_between_fresh(daemon, netns, numqueues=2)
    with LinkMonitor(pair.a.netns) as a_events, LinkMonitor(pair.b.netns) as b_events:
        for at in (0, 1):
            wait_spare(daemon)
            victim = daemon.workers()[at]
            with flows_both_ways(pair) as directions:
                wait_sent(directions, 10)
                kill(victim)
                wait_workers(daemon, 2, {victim})
        for end, events in ((pair.a, a_events), (pair.b, b_events)):
            set_end(end, "alias", "the marker")
            first = events.wait(lambda _kind, _state: True, "any event")
            assert first.attributes["IFLA_IFALIAS"] == "the marker", f"an event before the marker: {first}"


def test_deleting_a_pair_whose_worker_just_died(killable: Callable[[int], Daemon], netns: Namespaces) -> None:
    """In the middle of the count, before it, after it: nothing of the pair stays, and the others are read."""
    daemon = killable(3)
    stays: Pair = make_pair_between_fresh(daemon, netns, numqueues=3)
    for at in range(6):
        wait_spare(daemon)
        pair = make_pair_between_fresh(daemon, netns, numqueues=3)
        victim = daemon.workers()[at % 3]
        kill(victim)
        daemon.call("link.del", {"pair": pair.uuid})
        assert not pair.a.exists
        assert not pair.b.exists
        pids = wait_workers(daemon, 3, {victim})
        wait_taps(pids, [2, 2, 2])
        assert works(stays)
