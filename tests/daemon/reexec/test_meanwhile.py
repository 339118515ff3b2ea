"""daemon.reexec: what happens while no program is there is found out by the next one."""

from __future__ import annotations

import os
import signal

from tests.daemon.reexec.successor import NextProgram
from tests.kit.commands import ip
from tests.kit.daemon import Daemon
from tests.kit.netns import Namespaces, fresh_name, netns_inode
from tests.kit.pairs import Pair, make_pair_between_fresh
from tests.kit.processes import status_field, survivors
from tests.kit.rpc import RpcClient
from tests.kit.traffic import Numbered, frame_crosses
from tests.kit.waiting import eventually
from tests.rpc.talk import Talk, request, result


def test_what_was_done_to_devices_meanwhile_is_found_out(
    daemon: Daemon, next_program: NextProgram, netns: Namespaces
) -> None:
    deleted, renamed, moved, lowered = (make_pair_between_fresh(daemon, netns) for _ in range(4))
    elsewhere = netns.make()
    next_program.waits()
    with RpcClient(daemon.socket) as client:
        client.call("daemon.reexec")
    daemon.hang_up()
    with next_program.waiting():
        ip(deleted.a.netns, "link", "delete", deleted.a.name)
        ip(renamed.a.netns, "link", "set", renamed.a.name, "down", "name", "vtxnew")
        ip(moved.a.netns, "link", "set", moved.a.name, "netns", elsewhere)
        ip(lowered.a.netns, "link", "set", lowered.a.name, "mtu", "1000", "down")
    by_uuid = {row["pair"]: row for row in daemon.pairs()}
    assert by_uuid.keys() == {pair.uuid for pair in (renamed, moved, lowered)}
    eventually(lambda: deleted.b.exists, lambda there: not there, "the twin is gone")
    assert by_uuid[renamed.uuid]["a"]["ifname"] == "vtxnew"
    assert by_uuid[moved.uuid]["a"]["netns_inode"] == netns_inode(elsewhere)
    assert (by_uuid[lowered.uuid]["a"]["mtu"], by_uuid[lowered.uuid]["a"]["up"]) == (1000, False)
    lowered.wait_carrier(on=False)
    ip(elsewhere, "link", "set", moved.a.name, "up")
    moved.a.netns = elsewhere
    moved.wait_carrier()
    frame_crosses(moved)


def test_who_asked_before_is_answered_first_and_who_connects_meanwhile_by_the_next_program(
    daemon: Daemon, next_program: NextProgram, netns: Namespaces
) -> None:
    red, a, b = netns.make(), fresh_name("a"), fresh_name("b")
    next_program.waits()
    old, bystander = Talk(daemon.socket, within=30), Talk(daemon.socket, within=30)
    bystander.say(request(0, "link.list"))
    bystander.hear(result(0))
    add = request(2, "link.add", a={"ifname": a, "netns": red}, b={"ifname": b, "netns": red})
    old.say([request(1, "daemon.reexec"), add])
    answer = old.hear([result(1), result(2)])[0]["result"]
    for talk in (old, bystander):
        talk.hear_hanging_up()
        talk.close()
    with next_program.waiting():
        new = Talk(daemon.socket, within=30)
        new.say(request(3, "daemon.info"))
    assert new.hear(result(3))["result"]["server_id"] != answer["server_id"]
    new.close()
    daemon.hang_up()
    assert [row["a"]["ifname"] for row in daemon.pairs()] == [a]


def test_a_worker_that_dies_meanwhile_is_replaced(daemon: Daemon, next_program: NextProgram, pair: Pair) -> None:
    daemon.expected_errors.append("worker died")
    victim, other = daemon.workers()
    next_program.waits()
    with Numbered(pair) as flood:
        flood.goes_on()
        with RpcClient(daemon.socket) as client:
            client.call("daemon.reexec")
        daemon.hang_up()
        with next_program.waiting():
            os.kill(victim, signal.SIGKILL)
            eventually(lambda: status_field(victim, "State"), lambda state: state.startswith("Z"), "it is dead")
        workers = eventually(daemon.workers, lambda pids: len(pids) == 2, "two workers serve", within=20)
        assert victim not in workers
        assert other in workers
        flood.goes_on()


def test_a_worker_that_does_not_answer_is_replaced(daemon: Daemon, next_program: NextProgram, pair: Pair) -> None:
    daemon.expected_errors.append("worker died")
    victim, _other = daemon.workers()
    next_program.does("import vethd.daemon.health\nvethd.daemon.health.ANSWER_PART = 0.02")
    os.kill(victim, signal.SIGSTOP)
    daemon.reexec()
    assert victim not in eventually(daemon.workers, lambda pids: len(pids) == 2, "two workers serve", within=20)
    frame_crosses(pair)


def test_a_signal_that_comes_meanwhile_is_obeyed(daemon: Daemon, next_program: NextProgram, pair: Pair) -> None:
    next_program.waits()
    with RpcClient(daemon.socket) as client:
        client.call("daemon.reexec")
    family = daemon.family()
    with next_program.waiting():
        os.kill(daemon.pid, signal.SIGTERM)
    assert eventually(lambda: daemon.exit_code, lambda code: code is not None, "it ends", within=15) == 0
    assert survivors(family) == []
    assert not pair.a.exists
    assert not daemon.socket.exists()
    daemon.kill()  # collects what has ended already


def test_a_program_that_is_killed_meanwhile_leaves_nothing(
    daemon: Daemon, next_program: NextProgram, pair: Pair
) -> None:
    next_program.waits()
    with RpcClient(daemon.socket) as client:
        client.call("daemon.reexec")
    family = daemon.family()
    with next_program.waiting():
        os.kill(daemon.pid, signal.SIGKILL)
    assert survivors(family) == []
    eventually(lambda: pair.a.exists or pair.b.exists, lambda there: not there, "the devices are gone")
    daemon.kill()  # collects what has ended already
