"""Overload in simulated time, against a reviewed table: who gets how much, where the rest is dropped, how queues fill.

The table is `snapshots/overload.txt`. A change of it is a change of behaviour and wants a look: write it anew with
`VETHD_UPDATE_SNAPSHOTS=1 pytest tests/datapath/test_simulation.py`, then read the difference. Columns, in frames:
offered by all senders; least and most that one pair had delivered; dropped at the backlog (CPU_BACKLOG) per pair;
refused by the ring of the sending TAP per pair; Jain's fairness index of what was delivered, in thousandths; passes
that ended with work left; longest input_pkt_queue and process_queue.
"""

import os
from pathlib import Path

import pytest

from tests.datapath.simulation import Scenario, Worker, table

SNAPSHOT = Path(__file__).parent / "snapshots" / "overload.txt"
SEED = 20
SCENARIOS = [
    Scenario("1 pair, load 80 %", 1, 80),
    Scenario("1 pair, load 200 %", 1, 200),
    Scenario("1 pair, load 200 %, cap 32", 1, 200, max_backlog=32),
    Scenario("1 pair, load 200 %, cap 32, backpressure", 1, 200, backpressure=True, max_backlog=32),
    Scenario("1 pair, load 200 %, budget 32", 1, 200, budget=32),
    Scenario("1 pair, load 200 %, budget 32, backpressure", 1, 200, backpressure=True, budget=32),
    Scenario("2 pairs, load 80 %", 2, 80),
    Scenario("2 pairs, load 200 %", 2, 200),
    Scenario("2 pairs, load 300 %, one offers 5 times as much", 2, 300, heavy=5),
    Scenario("2 pairs, load 200 %, 100 us", 2, 200, budget_usecs=100),
    Scenario("2 pairs, load 200 %, 100 us, backpressure", 2, 200, backpressure=True, budget_usecs=100),
    Scenario("50 pairs, load 80 %", 50, 80),
    Scenario("50 pairs, load 200 %", 50, 200),
    Scenario("50 pairs, load 200 %, backpressure", 50, 200, backpressure=True),
    Scenario("50 pairs, load 300 %, one offers 50 times as much", 50, 300, heavy=50),
]


def simulate(scenario: Scenario) -> Worker:
    """Run a scenario to its end and check its books."""
    worker = Worker(scenario, SEED)
    worker.run()
    worker.check()
    return worker


def test_overload_looks_as_it_was_reviewed() -> None:
    found = table([simulate(scenario).row() for scenario in SCENARIOS])
    if os.environ.get("VETHD_UPDATE_SNAPSHOTS") == "1":
        SNAPSHOT.write_text(found)
    assert found == SNAPSHOT.read_text()


def test_the_same_seed_gives_the_same_run_and_another_seed_another() -> None:
    scenario = Scenario("any", 2, 200, duration=10_000_000)
    runs = [Worker(scenario, seed) for seed in (1, 1, 2)]
    for worker in runs:
        worker.run()
    assert runs[0].row() == runs[1].row()
    assert runs[0].row() != runs[2].row()


@pytest.mark.parametrize("pairs", [1, 2, 50])
def test_no_frame_is_dropped_while_the_load_can_be_carried(pairs: int) -> None:
    worker = simulate(Scenario("light", pairs, 50, duration=20_000_000))
    assert [sender.offered for sender in worker.senders] == [sender.delivered for sender in worker.senders]


@pytest.mark.parametrize("pairs", [1, 2, 50])
def test_under_backpressure_the_backlog_drops_nothing(pairs: int) -> None:
    worker = simulate(Scenario("full", pairs, 400, backpressure=True, max_backlog=100, budget=50))
    assert worker.softnet.dropped == 0
    assert sum(sender.refused for sender in worker.senders) > 0
