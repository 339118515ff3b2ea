"""Who forwards a pair, and what happens when one of them dies: processes, replacements, delays, privileges."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable

from tests.kit.daemon import Daemon
from tests.kit.netns import Namespaces
from tests.kit.pairs import make_pair, make_pair_between_fresh
from tests.kit.processes import open_files, status_field, tap_fds
from tests.kit.waiting import eventually
from tests.pairs.killing import DIED, helpers, kill_worker, log_lines, spares, wait_spare, wait_workers
from tests.pairs.watching import works


def test_nobody_but_the_supervisor_holds_a_privilege(daemon: Daemon, netns: Namespaces) -> None:
    make_pair_between_fresh(daemon, netns)
    wait_spare(daemon)
    for pid in helpers(daemon):
        sets = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
        assert {name: int(status_field(pid, name), 16) for name in sets} == dict.fromkeys(sets, 0)
        assert (status_field(pid, "NoNewPrivs"), status_field(pid, "Seccomp")) == ("1", "2")
        assert "0" not in status_field(pid, "Uid").split()
        assert status_field(pid, "Groups") == ""


def test_a_worker_holds_the_ends_of_its_pairs_and_no_other(
    start_daemon: Callable[..., Daemon], netns: Namespaces
) -> None:
    daemon = start_daemon(config="[worker]\ncount = 2\n")
    where = netns.make()
    for _ in range(3):
        make_pair(daemon, where, where, placement="inside", up=False)
    assert sorted(tap_fds(pid) for pid in daemon.workers()) == [2, 4]
    assert tap_fds(wait_spare(daemon)) == 0
    daemon.clear()
    assert [tap_fds(pid) for pid in daemon.workers()] == [0, 0]


def test_the_spare_takes_over_and_is_replaced(killable: Callable[[int], Daemon], netns: Namespaces) -> None:
    daemon = killable(1)
    pair = make_pair_between_fresh(daemon, netns)
    for _ in range(3):
        spare, (victim,) = wait_spare(daemon), daemon.workers()
        os.kill(victim, signal.SIGKILL)
        assert wait_workers(daemon, 1, {victim}) == [spare]
        assert works(pair)
    wait_spare(daemon)


def test_workers_that_die_together_leave_one_spare(killable: Callable[[int], Daemon], netns: Namespaces) -> None:
    daemon = killable(2)
    pairs = [make_pair_between_fresh(daemon, netns) for _ in range(2)]
    for _ in range(3):
        wait_spare(daemon)
        victims = daemon.workers()
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        wait_workers(daemon, 2, set(victims))
        assert all(works(pair) for pair in pairs)
    wait_spare(daemon)
    assert len(helpers(daemon)) == 3


def test_worker_and_spare_may_die_together(killable: Callable[[int], Daemon], netns: Namespaces) -> None:
    daemon = killable(1)
    pair = make_pair_between_fresh(daemon, netns)
    for _ in range(3):
        victims = {wait_spare(daemon), *daemon.workers()}
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        wait_workers(daemon, 1, victims)
        assert works(pair)
    wait_spare(daemon)
    assert len(helpers(daemon)) == 2


def test_a_spare_that_dies_is_replaced(killable: Callable[[int], Daemon]) -> None:
    daemon = killable(1)
    for _ in range(2):
        spare = wait_spare(daemon)
        os.kill(spare, signal.SIGKILL)
        eventually(lambda: log_lines(daemon, "spare worker died"), lambda lines: lines[-1:] != [], "it is noticed")
        eventually(lambda: spares(daemon), lambda pids, spare=spare: pids not in ([], [spare]), "a new spare")  # type: ignore[misc]
    wait_spare(daemon)


def test_from_the_third_death_on_the_delay_doubles(start_daemon: Callable[..., Daemon], netns: Namespaces) -> None:
    daemon = start_daemon(config="[worker]\ncount = 1\n")
    daemon.expected_errors += DIED
    pair = make_pair_between_fresh(daemon, netns)
    for _ in range(5):
        victim = kill_worker(daemon)
        wait_workers(daemon, 1, {victim})
    delays = [line["seconds"] for line in log_lines(daemon, "worker restart delayed")]
    assert delays == [0.1, 0.2, 0.4]
    assert works(pair)


def test_without_descriptors_the_replacement_waits_until_there_are_some(
    killable: Callable[[int], Daemon], netns: Namespaces
) -> None:
    daemon = killable(1)
    daemon.expected_errors.append("trying again")
    pair = make_pair_between_fresh(daemon, netns)
    wait_spare(daemon)
    (victim,) = daemon.workers()
    limits = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: "trying again" in daemon.log(), bool, "the daemon could not replace it")
    finally:
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, limits)
    wait_workers(daemon, 1, {victim})
    assert works(pair)
    wait_spare(daemon)


def test_nothing_of_a_dead_worker_is_kept(killable: Callable[[int], Daemon], netns: Namespaces) -> None:
    """Channels, pidfds: the supervisor has as many descriptors after ten deaths as before."""
    daemon = killable(1)
    make_pair_between_fresh(daemon, netns)
    wait_spare(daemon)
    before = len(open_files(daemon.pid))
    for _ in range(10):
        victim = kill_worker(daemon)
        wait_workers(daemon, 1, {victim})
    wait_spare(daemon)
    eventually(lambda: len(open_files(daemon.pid)), lambda count: count == before, f"{before} descriptors again")
