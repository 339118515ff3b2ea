"""vethd as systemd runs it with User=: three capabilities are enough, and its workers have none of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.hostile.unprivileged import USER, unprivileged_daemon
from tests.kit.daemon import Daemon
from tests.kit.netns import Namespaces
from tests.kit.pairs import make_pair_between_fresh
from tests.kit.processes import status_field
from tests.pairs.killing import DIED, helpers, wait_spare, wait_workers
from tests.pairs.watching import works
from tests.rpc.identity import talks_of
from tests.rpc.talk import refused, request

#: net_broadcast, net_admin, sys_admin; see include/uapi/linux/capability.h.
THREE = 1 << 11 | 1 << 12 | 1 << 21
SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


def capabilities(pid: int) -> dict[str, int]:
    """The capability sets of a process."""
    return {name: int(status_field(pid, name), 16) for name in SETS}


@pytest.fixture(scope="module")
def daemon_of_somebody() -> Iterator[Daemon]:
    """A daemon of USER, for all tests of this module."""
    with unprivileged_daemon(config="[worker]\ncount = 1\n") as daemon:
        daemon.expected_errors += DIED
        yield daemon


def test_it_forwards_and_replaces_its_workers(daemon_of_somebody: Daemon, netns: Namespaces) -> None:
    pair = make_pair_between_fresh(daemon_of_somebody, netns)
    assert works(pair)
    spare, (victim,) = wait_spare(daemon_of_somebody), daemon_of_somebody.workers()
    os.kill(victim, signal.SIGKILL)
    assert wait_workers(daemon_of_somebody, 1, {victim}) == [spare]
    assert works(pair)
    pair.delete()


def test_its_program_is_replaced_and_it_still_has_what_it_needs(daemon_of_somebody: Daemon, netns: Namespaces) -> None:
    pair = make_pair_between_fresh(daemon_of_somebody, netns)
    daemon_of_somebody.reexec()
    daemon_of_somebody.family()
    other = make_pair_between_fresh(daemon_of_somebody, netns)
    assert works(pair)
    assert works(other)
    for each in (pair, other):
        each.delete()


def test_its_workers_have_no_capability_and_may_get_none(daemon_of_somebody: Daemon) -> None:
    wait_spare(daemon_of_somebody)
    assert capabilities(daemon_of_somebody.pid) == dict.fromkeys(SETS, THREE)
    for pid in helpers(daemon_of_somebody):
        # Emptying the bounding set takes a capability that the daemon does not have; without exec it gives nothing.
        assert capabilities(pid) == dict.fromkeys(SETS, 0) | {"CapBnd": THREE}
        assert {name: status_field(pid, name) for name in ("NoNewPrivs", "Seccomp")} == {
            "NoNewPrivs": "1",
            "Seccomp": "2",
        }
        assert status_field(pid, "Uid").split() == [str(USER)] * 4


def test_the_user_of_its_workers_may_do_nothing_although_it_is_its_own(daemon_of_somebody: Daemon) -> None:
    (talk,) = talks_of(USER, USER, [], daemon_of_somebody.socket)
    talk.say(request(1, "daemon.info"))
    talk.hear(refused(1, "not_permitted"))
    talk.close()
