"""A pair that goes from worker to worker: no frame is lost, counted twice or overtaken on the way."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.kit.books import imbalance
from tests.kit.daemon import Daemon
from tests.kit.netns import Namespaces
from tests.kit.pairs import Pair, make_pair_between_fresh
from tests.kit.processes import tap_fds
from tests.kit.rpc import RpcClient, RpcError
from tests.kit.waiting import eventually
from tests.pairs.flows import FLOWS, flows_both_ways, wait_sent
from tests.pairs.killing import DIED, wait_spare, wait_workers

WORKERS = 3
#: Nothing is dropped on the way: a full backlog makes its worker wait, a full ring the sender.
CONFIG = f'[worker]\ncount = {WORKERS}\noverload = "backpressure"\nrestart_window = 0.0\n'


@pytest.fixture
def several(start_daemon: Callable[..., Daemon]) -> Daemon:
    return start_daemon(config=CONFIG)


def move(pair: Pair, worker: int) -> list[int]:
    """Move a pair; the workers that its queues have then."""
    answer: dict[str, Any] = pair.daemon.call("link.set", {"pair": pair.uuid, "set": {"worker": worker}})
    return list(answer["workers"])


@pytest.mark.parametrize("numqueues", [1, 4])
def test_under_traffic_every_frame_arrives_once_and_in_order(
    several: Daemon, netns: Namespaces, numqueues: int
) -> None:
    pair = make_pair_between_fresh(several, netns, numqueues=numqueues)
    with flows_both_ways(pair) as directions:
        for step in range(1, 13):
            wait_sent(directions, 10 * step)
            assert move(pair, step % WORKERS) == [step % WORKERS] * numqueues
            held = [tap_fds(pid) for pid in several.workers()]
            assert held == [2 * numqueues * (worker == step % WORKERS) for worker in range(WORKERS)]
    for way in directions:
        assert way.disorder() == []
        assert (len(way.arrived), way.missing()) == (FLOWS, 0)
    assert imbalance(several.call("stats.get")) == []
    processed = [row["processed"] for row in several.worker_rows()]
    assert all(processed), "a worker had the pair and nothing to do"
    assert sum(processed) == sum(end["read"] for end in pair.stats().values())


def test_a_worker_that_dies_before_it_hands_over_is_waited_for(several: Daemon, netns: Namespaces) -> None:
    """What it had in hand is counted, as if the pair had stayed; then its successor hands it over."""
    several.expected_errors += DIED
    pair = make_pair_between_fresh(several, netns)
    with flows_both_ways(pair) as directions:
        for step in range(3):
            wait_sent(directions, 20 * (step + 1))
            wait_spare(several)
            source, target = step % WORKERS, (step + 1) % WORKERS
            victim = several.workers()[source]
            os.kill(victim, signal.SIGSTOP)  # it can't answer
            answers: list[Any] = []
            with several.connect() as client:
                asking = threading.Thread(target=_ask, args=(client, pair, target, answers))
                asking.start()
                several.call("daemon.info")  # served after the request above had its turn
                os.kill(victim, signal.SIGKILL)
                asking.join(10)
            assert [answer["workers"] for answer in answers] == [[target]]
            wait_workers(several, WORKERS, {victim})
    ends = pair.stats()
    for way, letter in zip(directions, "ab", strict=True):
        assert way.disorder() == []
        assert way.missing() == ends[letter]["drops"]["WORKER_LOST"]
    assert imbalance(several.call("stats.get")) == []


def _ask(client: RpcClient, pair: Pair, worker: int, answers: list[Any]) -> None:
    answers.append(client.call("link.set", {"pair": pair.uuid, "set": {"worker": worker}}))


def test_a_worker_that_is_away_is_waited_for(several: Daemon, netns: Namespaces) -> None:
    several.expected_errors += DIED
    pair = make_pair_between_fresh(several, netns)
    for target in (1, 2, 0):
        wait_spare(several)
        victim = several.workers()[target]
        os.kill(victim, signal.SIGKILL)
        assert move(pair, target) == [target]
        pids = wait_workers(several, WORKERS, {victim})
        eventually(lambda: tap_fds(pids[target]), lambda count: count == 2, "its successor has the pair")  # noqa: B023


def test_there_are_so_many_workers(several: Daemon, netns: Namespaces) -> None:
    pair = make_pair_between_fresh(several, netns)
    with pytest.raises(RpcError, match="worker 3: there are workers 0 to 2") as refused:
        move(pair, WORKERS)
    assert refused.value.kind == "invalid_params"
    assert several.call("link.get", {"pair": pair.uuid})["workers"] == [0]
