"""What a worker takes down with it is counted under WORKER_LOST, to the frame."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.kit.books import imbalance
from tests.kit.daemon import Daemon
from tests.kit.netns import Namespaces
from tests.kit.pairs import Pair, make_pair_between_fresh
from tests.kit.waiting import eventually
from tests.pairs.killing import flooded, kill_worker, wait_spare, wait_workers

#: Drop points that a flood with kills may count.
EXPLAINED = {"WORKER_LOST", "TAP_RING"}


def lost(ends: dict[str, Any]) -> dict[str, int]:
    """Frames under WORKER_LOST, by the end they came from."""
    return {letter: end["drops"]["WORKER_LOST"] for letter, end in ends.items()}


def in_hand(pair: Pair) -> dict[str, int]:
    """Frames that were read and neither delivered nor known to be dropped, by the kernel's counters alone."""
    a, b = pair.a.state().stats, pair.b.state().stats
    return {"a": a["tx_packets"] - b["rx_packets"], "b": b["tx_packets"] - a["rx_packets"]}


def frozen(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return stat[stat.rindex(")") + 2] == "T"


def test_frames_in_hand_are_counted_to_the_frame(killable: Callable[[int], Daemon], netns: Namespaces) -> None:
    """The worker is frozen in the middle of a flood: the kernel's counters say what it has read and not written."""
    pair = make_pair_between_fresh(killable(1), netns)
    held = {"a": 0, "b": 0}
    for _ in range(10):
        wait_spare(pair.daemon)
        with flooded(pair) as flood:
            (victim,) = pair.daemon.workers()
            os.kill(victim, signal.SIGSTOP)
            eventually(lambda: frozen(victim), bool, "the worker is frozen")  # noqa: B023
            flood.stop()
        held = in_hand(pair)  # those of the rounds before included: what is lost stays in the difference
        os.kill(victim, signal.SIGKILL)
        wait_workers(pair.daemon, 1, {victim})
        ends = pair.wait_quiet()
        assert lost(ends) == held
        assert imbalance(pair.daemon.call("stats.get")) == []
        assert {point for end in ends.values() for point, count in end["drops"].items() if count} <= EXPLAINED
        assert (ends["b"]["rx_dropped"], ends["a"]["rx_dropped"]) == (held["a"], held["b"])
    assert sum(held.values()) > 0, "no worker was caught with a frame in hand: the test proves nothing"


def test_the_books_balance_after_each_kill_in_a_flood(killable: Callable[[int], Daemon], netns: Namespaces) -> None:
    pair = make_pair_between_fresh(killable(1), netns)
    for _ in range(10):
        wait_spare(pair.daemon)
        with flooded(pair):
            victim = kill_worker(pair.daemon)
            wait_workers(pair.daemon, 1, {victim})
        pair.wait_quiet()
        assert imbalance(pair.daemon.call("stats.get")) == []


def test_pairs_of_other_workers_lose_nothing(killable: Callable[[int], Daemon], netns: Namespaces) -> None:
    daemon = killable(2)
    first, second = make_pair_between_fresh(daemon, netns), make_pair_between_fresh(daemon, netns)
    wait_spare(daemon)
    victim = daemon.workers()[0]
    with flooded(first), flooded(second):
        os.kill(victim, signal.SIGKILL)
        wait_workers(daemon, 2, {victim})
    assert lost(second.wait_quiet()) == {"a": 0, "b": 0}
    first.wait_quiet()
    assert imbalance(daemon.call("stats.get")) == []


def test_the_softnet_counters_go_on(killable: Callable[[int], Daemon], netns: Namespaces) -> None:
    pair = make_pair_between_fresh(killable(1), netns)
    wait_spare(pair.daemon)
    with flooded(pair):
        pass
    pair.wait_quiet()
    (before,) = pair.daemon.worker_rows()
    assert before["processed"] > 1000
    victim = kill_worker(pair.daemon)
    wait_workers(pair.daemon, 1, {victim})
    (after,) = pair.daemon.worker_rows()
    assert {**after, "pid": 0} == {**before, "pid": 0}
