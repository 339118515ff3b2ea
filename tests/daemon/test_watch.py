"""Workers that hang: noticed, replaced in time, counted; and nothing of them outlives the supervisor."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.kit.books import imbalance
from tests.kit.commands import ip, ip_json
from tests.kit.daemon import Daemon
from tests.kit.netns import Namespaces
from tests.kit.pairs import Pair, make_pair_between_fresh
from tests.kit.processes import identify, status_field, survivors
from tests.kit.waiting import eventually
from tests.pairs.killing import DIED, NO_DELAY, flooded, helpers, log_lines, spares, wait_spare, wait_workers
from tests.pairs.test_workers_loss import frozen, in_hand, lost
from tests.pairs.watching import works
from tests.rpc.listening import Listening

#: Seconds: `watchdog` in [worker] when nothing is said.
WATCHDOG = 10.0


def freeze(*pids: int) -> None:
    """Stop processes (SIGSTOP), and wait until they are."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
        eventually(lambda pid=pid: frozen(pid), bool, "it is stopped")  # type: ignore[misc]


def executed(pid: int) -> bool:
    """Whether a process runs the worker's program; False when it is gone."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return b"vethd.worker.process" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def looks(pair: Pair) -> list[Any]:
    """Everything about both links and their addresses that must not change; counters aside."""
    shown = [ip_json(end.netns, "address", "show", "dev", end.name)[0] for end in (pair.a, pair.b)]
    return [{name: value for name, value in link.items() if name != "stats64"} for link in shown]


def test_a_worker_that_hangs_is_replaced_before_half_the_watchdog_has_gone_by(
    daemon: Daemon, netns: Namespaces
) -> None:
    daemon.expected_errors += DIED
    pair = make_pair_between_fresh(daemon, netns)
    ip(pair.a.netns, "address", "add", "192.0.2.1/24", "dev", pair.a.name)
    wait_spare(daemon)
    before, (victim,) = looks(pair), daemon.workers()
    process = identify(victim)
    ear = Listening(daemon.socket)
    try:
        ear.subscribe(topics=["worker"])
        with flooded(pair) as flood:
            freeze(victim)
            began = time.monotonic()
            flood.stop()
        held = in_hand(pair)
        wait_workers(daemon, 1, {victim})
        took = time.monotonic() - began
        died, serving, replaced = (ear.event() for _ in range(3))
    finally:
        ear.close()
    assert took < WATCHDOG / 2
    assert [died["event"], serving["event"], replaced["event"]] == ["died", "serving", "replaced"]
    assert died["fields"]["died_pid"] == victim
    assert died["fields"]["reason"] == "did not answer `ping` within 2.5 s (signal 9)"
    assert replaced["fields"]["frames_lost"] == sum(held.values())
    assert [line["why"] for line in log_lines(daemon, "worker died")] == [died["fields"]["reason"]]
    assert survivors([process]) == [], "nothing is left that could go on"
    assert looks(pair) == before
    assert lost(pair.wait_quiet()) == held
    assert works(pair)
    assert imbalance(daemon.call("stats.get")) == []


def test_a_worker_that_hangs_while_it_is_asked_for_a_pair_does_not_hold_up_the_replacement_of_another(
    start_daemon: Callable[..., Daemon], netns: Namespaces
) -> None:
    daemon = start_daemon(config="[worker]\ncount = 3\nwatchdog = 4.0\n")
    daemon.expected_errors += DIED
    pairs = [make_pair_between_fresh(daemon, netns) for _ in range(3)]
    wait_spare(daemon)
    hanging, _target, dying = daemon.workers()
    freeze(hanging)
    asking = threading.Thread(target=daemon.call, args=("link.set", {"pair": pairs[0].uuid, "set": {"worker": 1}}))
    asking.start()
    os.kill(dying, signal.SIGKILL)
    eventually(lambda: log_lines(daemon, "worker replaced"), bool, "it is replaced")
    assert [line["pid"] for line in log_lines(daemon, "worker died")] == [dying], "the other one is still there"
    asking.join(10)
    (moved,) = [each for each in daemon.pairs() if each["pair"] == pairs[0].uuid]
    assert moved["workers"] == [1]
    assert all(works(pair) for pair in pairs)
    assert hanging not in daemon.workers()


def test_a_spare_that_hangs_is_replaced_before_it_is_needed(
    start_daemon: Callable[..., Daemon], netns: Namespaces
) -> None:
    daemon = start_daemon(config="[worker]\ncount = 1\nwatchdog = 4.0\n")
    daemon.expected_errors += DIED
    spare = wait_spare(daemon)
    freeze(spare)
    eventually(lambda: log_lines(daemon, "spare worker died"), bool, "it is noticed")
    assert wait_spare(daemon) != spare


def test_frozen_workers_do_not_outlive_a_supervisor_that_is_killed(daemon: Daemon, netns: Namespaces) -> None:
    pair = make_pair_between_fresh(daemon, netns)
    wait_spare(daemon)
    frozen_ones = helpers(daemon)
    family = daemon.family()
    freeze(*frozen_ones)
    os.kill(daemon.pid, signal.SIGKILL)
    assert survivors(family) == []
    eventually(lambda: pair.a.exists or pair.b.exists, lambda there: not there, "the devices are gone")
    daemon.kill()  # collects what has ended already


def freeze_at_birth(daemon: Daemon) -> int:
    """Stop a spare that has not come to its first line yet; its pid."""
    victim = wait_spare(daemon)
    for _ in range(20):
        os.kill(victim, signal.SIGKILL)
        (victim,) = eventually(
            lambda: [pid for pid in spares(daemon) if executed(pid) and pid != victim],  # noqa: B023
            bool,
            "the next spare is started",
        )
        freeze(victim)
        if status_field(victim, "NoNewPrivs") == "0":
            return victim
    raise AssertionError("each one was quicker")


def test_a_worker_that_is_frozen_at_its_birth_does_not_outlive_a_supervisor_that_is_killed(
    start_daemon: Callable[..., Daemon],
) -> None:
    """Nothing that it does itself can end it."""
    daemon = start_daemon(config=NO_DELAY.format(count=1))
    newborn = identify(freeze_at_birth(daemon))
    os.kill(daemon.pid, signal.SIGKILL)
    assert survivors([newborn]) == []
    daemon.kill()  # collects what has ended already
