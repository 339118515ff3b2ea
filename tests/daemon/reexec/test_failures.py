"""daemon.reexec: what fails costs no link, before the program is replaced and after."""

from __future__ import annotations

import os
import resource
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.daemon.reexec.successor import NextProgram
from tests.kit.commands import ip
from tests.kit.daemon import Daemon
from tests.kit.netns import Namespaces
from tests.kit.pairs import Pair, make_pair_between_fresh
from tests.kit.rpc import RpcClient
from tests.kit.traffic import Numbered, frame_crosses, looks, silent
from tests.kit.waiting import eventually
from tests.pairs.killing import log_lines
from tests.rpc.talk import Talk, refused, request, result
from vethd.daemon.state import VERSION

# -- what the next program can't use ----------------------------------------------------------------------------------


def test_workers_of_another_version_are_replaced_and_lose_nothing(
    daemon: Daemon, next_program: NextProgram, pair: Pair
) -> None:
    before = daemon.workers()
    next_program.finds('"op":"ready","version":', '"op":"ready","version":1000')
    with Numbered(pair) as flood:
        flood.goes_on()
        with silent(pair):
            daemon.reexec()
            assert not set(daemon.workers()) & set(before)
            flood.goes_on()
    assert pair.stats()["a"]["drops"]["WORKER_LOST"] == 0
    assert len(log_lines(daemon, "worker of another version retired")) == 2


def test_a_state_that_is_not_understood_costs_no_link(
    daemon: Daemon, next_program: NextProgram, pair: Pair, netns: Namespaces
) -> None:
    """Only a device that was deleted meanwhile is no more, and its twin."""
    daemon.expected_errors += ["state not understood", "counters begin again"]
    deleted, workers, seen = make_pair_between_fresh(daemon, netns), daemon.workers(), looks(pair)
    next_program.finds('"pairs":', '"pears":')
    next_program.waits()
    with Numbered(pair) as flood:
        flood.goes_on()
        with silent(pair):
            with RpcClient(daemon.socket) as client:
                client.call("daemon.reexec")
            daemon.hang_up()
            with next_program.waiting():
                ip(deleted.b.netns, "link", "delete", deleted.b.name)
            (row,) = daemon.pairs()
            flood.goes_on()
    assert looks(pair) == seen
    assert not set(daemon.workers()) & set(workers)
    assert (row["pair"], row["origin"], row["placement"]) == (pair.uuid, "api", "move")
    assert row["a"]["alias"] == f"vethd {pair.uuid} peer {pair.b.name}"
    eventually(lambda: deleted.a.exists, lambda there: not there, "the twin is gone")


# -- what fails before ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("raise SystemExit('out of order')", "out of order"),
        (
            f"import vethd.daemon.state\nvethd.daemon.state.READABLE = {{{VERSION + 1}, {VERSION + 2}}}",
            f"vethd: state of version {VERSION} is not understood, only of {VERSION + 1}, {VERSION + 2}",
        ),
    ],
)
def test_a_program_that_can_not_take_over_is_not_executed(
    daemon: Daemon, next_program: NextProgram, pair: Pair, script: str, why: str
) -> None:
    before = daemon.call("daemon.info")
    next_program.does(script)
    talk = Talk(daemon.socket, within=30)
    talk.say(request(1, "daemon.reexec"))
    talk.hear(refused(1, "reexec_failed", f"the next program can't take over: {why}"))
    talk.close()
    after = daemon.call("daemon.info")
    assert (after["server_id"], after["workers"]) == (before["server_id"], before["workers"])
    frame_crosses(pair)


def test_a_signal_and_vethctl_say_why_nothing_was_replaced(
    daemon: Daemon, next_program: NextProgram, config: Path
) -> None:
    daemon.expected_errors.append("program not replaced")
    config.write_text("nonsense = 1\n")
    answer = daemon.ctl("daemon", "reexec", check=False)
    assert (answer.code, f"can't take over: vethd: {config}:1: nonsense" in answer.err) == (2, True)
    noticed = len(log_lines(daemon, "program not replaced"))
    os.kill(daemon.pid, signal.SIGUSR2)
    (line,) = eventually(
        lambda: log_lines(daemon, "program not replaced")[noticed:], bool, "the signal failed, too", within=20
    )
    assert "nonsense" in line["error"]


def test_only_one_at_a_time(daemon: Daemon, next_program: NextProgram) -> None:
    next_program.waits_when_tried()
    first, second = Talk(daemon.socket, within=30), Talk(daemon.socket, within=30)
    first.say(request(1, "daemon.reexec"))
    first.say(request(2, "link.list"))
    second.say(request(1, "daemon.info"))  # the first has been read by then
    second.hear(result(1))
    second.say(request(2, "daemon.reexec"))
    second.hear(refused(2, "reexec_failed", "it is being replaced already"))
    with next_program.waiting():
        pass
    first.hear(refused(1, "reexec_failed", "the next program can't take over: enough"))
    first.hear(result(2))
    for talk in (first, second):
        talk.close()


def test_what_fails_after_the_answer_leaves_all_as_it_was(
    daemon: Daemon, next_program: NextProgram, pair: Pair
) -> None:
    """The program that is only tried takes the old one's descriptors away, so that there is none for the state."""
    daemon.expected_errors += ["going on as before", "accept failed"]
    before, listed, family = daemon.call("daemon.info"), daemon.pairs(), daemon.family()
    limits = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    next_program.does(f"import resource\nresource.prlimit({daemon.pid}, resource.RLIMIT_NOFILE, (3, {limits[1]}))")
    with ThreadPoolExecutor(1) as executor:
        asked = executor.submit(daemon.ctl, "daemon", "reexec", check=False)
        try:
            eventually(
                lambda: log_lines(daemon, "program not replaced, going on as before"), bool, "it is given up", within=20
            )
        finally:
            resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, limits)
        assert (asked.result().code, asked.result().err) == (
            2,
            "Error: the daemon's program was not replaced\nhint: the daemon goes on as before; its log says why\n",
        )
    daemon.hang_up()
    assert daemon.call("daemon.info")["server_id"] == before["server_id"]
    assert (daemon.pairs(), daemon.family()) == (listed, family)
    ip(pair.a.netns, "link", "set", pair.a.name, "mtu", "1400")
    eventually(lambda: daemon.pairs()[0]["a"]["mtu"], lambda mtu: mtu == 1400, "events are heard again")
    next_program.does_nothing()
    daemon.reexec()
    frame_crosses(pair)
