"""process.py: what a worker may do, what it holds, how its life begins and how it ends."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit.limits import free_descriptors
from tests.kit.processes import open_files
from tests.worker.conftest import StartWorker
from tests.worker.ends import StandIn, ends_of
from tests.worker.subject import ENDS, NOBODY, WirePair, Worker
from vethd.worker.channel import PROTOCOL_VERSION


@pytest.mark.parametrize("capabilities", ["CapInh", "CapPrm", "CapEff", "CapAmb", "CapBnd"])
def test_a_worker_holds_no_capability(start_worker: StartWorker, capabilities: str) -> None:
    worker = start_worker()
    worker.hear_ready()
    assert int(worker.status(capabilities), 16) == 0


def test_a_worker_can_never_gain_a_privilege(start_worker: StartWorker) -> None:
    worker = start_worker()
    worker.hear_ready()
    assert worker.status("NoNewPrivs") == "1"


def test_a_worker_is_nobody_in_every_way(start_worker: StartWorker) -> None:
    worker = start_worker()
    worker.hear_ready()
    assert worker.status("Uid").split() == [str(NOBODY)] * 4
    assert worker.status("Gid").split() == [str(NOBODY)] * 4
    assert worker.status("Groups") == ""


def test_a_worker_has_no_ring_but_its_own(start_worker: StartWorker) -> None:
    """libuv would have one, too, with which everything could be done that a filter of system calls forbids."""
    worker = start_worker()
    rings = {"uring": 1, "syscalls": 0}[worker.hear_ready()["frameio"]]
    assert worker.open_fds().count("anon_inode:[io_uring]") == rings


def test_a_worker_is_out_of_reach_of_others_of_its_user(start_worker: StartWorker) -> None:
    """Whoever may read its environment may also trace it; see ptrace(2), ptrace access mode checking."""

    def environment_as_nobody(pid: int) -> bool:
        return (
            subprocess.run(["cat", f"/proc/{pid}/environ"], user=NOBODY, capture_output=True, check=False).returncode
            == 0
        )

    worker = start_worker()
    worker.hear_ready()
    with subprocess.Popen(["sleep", "60"], user=NOBODY) as bystander:
        assert environment_as_nobody(bystander.pid)
        assert not environment_as_nobody(worker.pid)
        bystander.kill()


def test_a_worker_is_confined_before_its_first_word(start_worker: StartWorker) -> None:
    """Nothing that it says or is told comes from, or reaches, a privileged process."""
    worker = start_worker()
    worker.hear_ready()
    at_once = {name: worker.status(name) for name in ("Uid", "CapEff", "NoNewPrivs")}
    worker.talk.close()
    worker.wait_exit()
    assert at_once == {"Uid": "\t".join([str(NOBODY)] * 4), "CapEff": "0" * 16, "NoNewPrivs": "1"}


def test_a_worker_inherits_only_its_channel(start_worker: StartWorker, tmp_path: Path) -> None:
    with (tmp_path / "bystander").open("w") as bystander:
        os.set_inheritable(bystander.fileno(), True)
        worker = start_worker()
        worker.hear_ready()
        assert bystander.name not in worker.open_fds()
    own = [target for target in worker.open_fds() if target.startswith("/") and target != "/dev/null"]
    assert [target for target in own if not target.endswith(".log")] == [os.readlink("/proc/self/fd/1")]


def test_a_worker_ends_well_when_its_channel_closes_before_the_hello(start_worker: StartWorker) -> None:
    worker = start_worker()
    worker.hear_ready()
    worker.talk.close()
    assert (worker.wait_exit(), worker.log()) == (0, "")


def test_a_worker_ends_well_when_its_channel_closes(worker: Worker) -> None:
    worker.talk.close()
    assert (worker.wait_exit(), worker.log()) == (0, "")


def test_a_worker_says_that_it_is_there_before_it_is_needed(start_worker: StartWorker) -> None:
    worker = start_worker()
    worker.hear_ready()
    worker.talk.ask("ping")
    worker.talk.ask("ping")
    fds = [worker.counters.fd]
    worker.talk.ask("hello", fds, version=PROTOCOL_VERSION, ends=worker.counters.ends, slot=worker.slot)
    worker.talk.ask("ping")


@pytest.mark.parametrize("free", [0, 1])  # of two that are needed
def test_a_worker_without_free_descriptors_refuses_a_pair_and_forwards_the_others(
    start_worker: StartWorker, stand_in: Callable[..., StandIn], free: int
) -> None:
    worker, (a, b), more = start_worker(), (stand_in(), stand_in()), (stand_in(), stand_in())
    worker.greet()
    worker.add(a, b)
    refused = WirePair(worker, more, (2, 3))
    before = open_files(worker.pid)
    with free_descriptors(worker.pid, free) as limit:
        seq = worker.talk.say("add", ends_of(*more), ends=worker.describe(refused, (1500, 1500), True))
        why = f"no file descriptor is free in the worker, of {limit} (RLIMIT_NOFILE)"
        worker.talk.hear("refused", seq=seq, why=why)
        assert open_files(worker.pid) == before
    a.send(bytes(60))
    assert b.receive() is not None


@pytest.mark.parametrize(
    "first",
    [
        {"op": "drain", "seq": 1},
        {"op": "hello", "seq": 1},
        {"op": "hello", "seq": 1, "version": PROTOCOL_VERSION + 1, "ends": ENDS, "slot": 0},
        {"op": "hello", "seq": 1, "version": PROTOCOL_VERSION - 1, "ends": ENDS, "slot": 0},
        {"op": "hello", "seq": 1, "version": str(PROTOCOL_VERSION), "ends": ENDS, "slot": 0},
        {},
    ],
    ids=json.dumps,
)
def test_a_worker_hangs_up_when_the_first_message_is_no_hello_of_its_version(
    start_worker: StartWorker, first: dict[str, object]
) -> None:
    worker = start_worker()
    worker.hear_ready()
    worker.talk.say_raw(json.dumps(first).encode(), [worker.counters.fd])
    worker.talk.hear_hang_up()
    assert worker.wait_exit() == 1
    assert worker.log() == "vethd worker: the first message must be a hello of this protocol version\n"


@pytest.mark.parametrize(
    ("packet", "complaint"),
    [
        (b'{"op": "fly", "seq": 9}', "unknown op 'fly'"),
        (b'{"op": null, "seq": 9}', "unknown op None"),
        (b'{"seq": 9}', "unknown op None"),
        (b'{"op": "hello", "seq": 9}', "unknown op 'hello'"),
        (b'{"op": "sysctl", "seq": 9, "values": {"pool": 1}}', "unknown sysctl 'pool'"),
        (b"[]", "not a message: not an object"),
        (b"{", "not a message: "),
        (b"\xff", "not a message: "),
        (b"[" * 60000, "not a message: "),
    ],
    ids=lambda value: value[:40].decode(errors="replace") if isinstance(value, bytes) else "",
)
def test_a_worker_that_does_not_understand_says_why_and_hangs_up(worker: Worker, packet: bytes, complaint: str) -> None:
    worker.talk.say_raw(packet)
    worker.talk.hear_hang_up()
    assert worker.wait_exit() == 1
    assert worker.log().startswith(f"vethd worker: {complaint}")
    assert worker.log().count("\n") == 1


@pytest.mark.parametrize(
    "packet",
    [b'{"op": "ping"}', b'{"op": "set", "seq": 9}', b'{"op": "del", "seq": 9}', b'{"op": "add", "seq": 9, "ends": []}'],
    ids=bytes.decode,
)
def test_a_worker_ends_when_it_fails_instead_of_living_on_half_done(worker: Worker, packet: bytes) -> None:
    worker.talk.say_raw(packet)
    worker.talk.hear_hang_up()
    assert worker.wait_exit() == 1
    assert "Traceback" in worker.log()
    assert worker.log().splitlines()[-1].startswith("vethd worker: ")
