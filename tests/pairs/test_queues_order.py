"""No frame overtakes another of its flow, however many queues and workers there are."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from tests.kit.daemon import Daemon
from tests.kit.netns import Namespaces
from tests.kit.pairs import make_pair_between_fresh
from tests.pairs.flows import FLOWS, flows_both_ways, wait_sent
from tests.pairs.killing import DIED, wait_spare, wait_workers

#: Nothing is dropped on the way: a full backlog makes its worker wait, a full ring the sender.
CONFIG = '[worker]\ncount = {workers}\noverload = "backpressure"\nrestart_window = 0.0\n'


@pytest.mark.parametrize(("queues", "workers"), [(4, 4), (8, 3)])
def test_every_flow_arrives_whole_and_in_order(
    start_daemon: Callable[..., Daemon], netns: Namespaces, queues: int, workers: int
) -> None:
    daemon = start_daemon(config=CONFIG.format(workers=workers))
    pair = make_pair_between_fresh(daemon, netns, numqueues=queues)
    with flows_both_ways(pair) as directions:
        wait_sent(directions, 200)
    for way in directions:
        assert way.disorder() == []
        assert len(way.arrived) == FLOWS
        assert way.missing() == 0
    for end in pair.stats().values():
        assert all(queue["read"] > 0 for queue in end["queues"]), "a queue was never used"


def test_order_holds_when_a_worker_dies(start_daemon: Callable[..., Daemon], netns: Namespaces) -> None:
    """What it had in hand is missing, and nothing else; what comes after comes in order."""
    daemon = start_daemon(config=CONFIG.format(workers=4))
    daemon.expected_errors += DIED
    pair = make_pair_between_fresh(daemon, netns, numqueues=4)
    with flows_both_ways(pair) as directions:
        for round_ in range(1, 4):
            wait_sent(directions, 100 * round_)
            wait_spare(daemon)
            victim = daemon.workers()[round_]
            os.kill(victim, signal.SIGKILL)
            wait_workers(daemon, 4, {victim})
    ends = pair.stats()
    for way, letter in zip(directions, "ab", strict=True):
        assert way.disorder() == []
        assert way.missing() == ends[letter]["drops"]["WORKER_LOST"]
