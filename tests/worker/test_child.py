"""child.py: a worker as the supervisor has it - asked, answered, and believed only as far as the protocol goes."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.worker.parent import Supervisor, ended
from vethd.worker.channel import PROTOCOL_VERSION
from vethd.worker.child import WorkerDied
from vethd.worker.counters import Counters


def environment_of(pid: int) -> set[str]:
    """The names of the variables that a process was started with."""
    entries = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return {entry.split("=")[0] for entry in entries if entry}


async def test_a_child_becomes_ready_takes_a_slot_and_answers(supervisor: Supervisor, counters: Counters) -> None:
    child = supervisor.spawn()
    async with asyncio.timeout(10):
        ready = await child.ready
        await child.hello(0, counters.fd, counters.ends)
        await asyncio.gather(*(child.request("ping") for _ in range(20)))
    assert (ready["version"], ready["pid"], child.alive) == (PROTOCOL_VERSION, child.pid, True)


async def test_a_stopped_child_ends_well(supervisor: Supervisor) -> None:
    child = supervisor.spawn()
    async with asyncio.timeout(10):
        await child.ready
    child.stop()
    assert await ended(child) == "exit status 0"
    assert (supervisor.deaths, child.alive) == ([child], False)


async def test_the_death_of_a_child_reaches_everybody_who_waits_for_it(
    supervisor: Supervisor, counters: Counters
) -> None:
    child = supervisor.spawn()
    async with asyncio.timeout(10):
        await child.ready
        await child.hello(0, counters.fd, counters.ends)
    os.kill(child.pid, signal.SIGSTOP)
    waiting = [child.request("ping") for _ in range(3)]
    os.kill(child.pid, signal.SIGKILL)
    assert "signal 9" in await ended(child)
    for future in (*waiting, child.request("ping")):
        with pytest.raises(WorkerDied, match="signal 9"):
            await future
    assert supervisor.deaths == [child]


async def test_a_child_that_dies_before_it_is_ready_is_a_death_too(
    supervisor: Supervisor, impostor: Callable[[str], None]
) -> None:
    impostor("os._exit(3)")
    child = supervisor.spawn()
    assert "exit status 3" in await ended(child)
    with pytest.raises(WorkerDied):
        await child.ready


async def test_the_last_words_of_a_child_that_ends_by_itself_are_heard(
    supervisor: Supervisor, counters: Counters, capfd: pytest.CaptureFixture[str]
) -> None:
    children = [supervisor.spawn() for _ in range(4)]
    for child in children:
        async with asyncio.timeout(10):
            await child.ready
            await child.hello(0, counters.fd, counters.ends)
        child.request("fly")
        await ended(child)
    assert capfd.readouterr().err == len(children) * "vethd worker: unknown op 'fly'\n"


async def test_a_child_that_can_not_do_as_it_was_told_says_why_and_what_to_do(
    supervisor: Supervisor, impostor: Callable[[str], None]
) -> None:
    impostor('say(dict(op="unable", why="there is no ring", remedy="make one")); channel.recv(1); os._exit(1)')
    child = supervisor.spawn()
    async with asyncio.timeout(10):
        with pytest.raises(WorkerDied) as died:
            await child.ready
    assert str(died.value) == await ended(child) == "frameio is 'uring', but there is no ring"
    assert died.value.remedy == "make one; or set worker.frameio (or $VETHD_FRAMEIO) to 'auto'"


async def test_what_a_child_reports_is_handed_on(supervisor: Supervisor, impostor: Callable[[str], None]) -> None:
    impostor('say(ready, dict(op="gone", end=3), dict(op="hdr_invalid", end=4, frames=16))')
    child = supervisor.spawn()
    child.ends = 5
    await supervisor.until(lambda: len(supervisor.reports) == 2)
    assert child.alive
    assert supervisor.reports == [{"op": "gone", "end": 3}, {"op": "hdr_invalid", "end": 4, "frames": 16}]


@pytest.mark.parametrize(
    ("speech", "why"),
    [
        ('say(ready | {"version": 999})', "an unexpected ready"),
        ("say(ready, ready)", "an unexpected ready"),
        ('say(ready, dict(op="unable", why="", remedy=""))', "an unexpected unable"),
        ('say(ready, dict(op="ack", seq=1))', "ack, but of nothing"),
        ('say(ready, dict(op="fly"))', "unknown op"),
        ('say(ready, dict(op="gone", end="3"))', "field end is not of type int"),
        ('say(ready, dict(op="gone", end=-1))', "field end is out of range"),
        ('say(ready | {"why": "\\x1b[2J"})', "field why is not printable"),
        ('say(b"nonsense")', "not a message"),
        ('say(b"[" * 60000)', "not a message"),
        (
            "channel.sendmsg([json.dumps(ready).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fd)])",
            "a worker sends no file descriptors",
        ),
        ("say(b'')", "closed"),
    ],
)
async def test_a_child_that_breaks_the_protocol_is_killed(
    supervisor: Supervisor, impostor: Callable[[str], None], speech: str, why: str
) -> None:
    impostor(speech)
    child = supervisor.spawn()
    assert why in await ended(child)
    assert "signal 9" in child.why_dead
    assert supervisor.reports == []


@pytest.mark.parametrize(
    ("speech", "reports", "why"),
    [
        ('dict(op="gone", end=5)', 0, "gone: there is no end 5"),
        ('dict(op="gone", end=3), dict(op="gone", end=4), dict(op="gone", end=3)', 2, "gone: no news of end 3"),
        ('dict(op="hdr_invalid", end=3, frames=15)', 0, "hdr_invalid: no news of end 3"),
        (
            '*(dict(op="hdr_invalid", end=3, frames=frames) for frames in (16, 40, 79))',
            2,
            "hdr_invalid: no news of end 3",
        ),
    ],
)
async def test_a_child_that_reports_more_than_the_protocol_lets_it_is_killed(
    supervisor: Supervisor, impostor: Callable[[str], None], speech: str, reports: int, why: str
) -> None:
    """Each report makes work for the supervisor."""
    impostor(f"say(ready, {speech})")
    child = supervisor.spawn()
    child.ends = 5
    assert why in await ended(child)
    assert len(supervisor.reports) == reports


async def test_an_end_that_is_added_may_be_reported_again(
    supervisor: Supervisor, impostor: Callable[[str], None]
) -> None:
    gone = 'dict(op="gone", end=3)'
    impostor(f"say(ready, {gone}); channel.recv(9999); say({gone}); say({gone})")
    child = supervisor.spawn()
    child.ends = 5
    await supervisor.until(lambda: len(supervisor.reports) == 1)
    added = child.request("add", ends=[{"number": 3}, {"number": 4}])
    assert "gone: no news of end 3" in await ended(child)
    assert len(supervisor.reports) == 2
    with pytest.raises(WorkerDied):
        await added


async def test_a_child_that_made_a_forbidden_call_is_told_from_others(
    supervisor: Supervisor, impostor: Callable[[str], None]
) -> None:
    impostor("from vethd.worker import confine, seccomp; confine.confine(65534, 65534); seccomp.install(); os.fork()")
    child = supervisor.spawn()
    why = "a system call that no worker makes: signal 31; the kernel's log may name it, audit type 1326"
    assert why in await ended(child)


@pytest.mark.parametrize("environment", ["PYTHONPATH", "LD_PRELOAD", "SECRET"])
async def test_a_child_gets_no_environment_but_vethds_own(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch, environment: str
) -> None:
    monkeypatch.setenv(environment, "")
    monkeypatch.setenv("VETHD_ANYTHING", "1")
    child = supervisor.spawn()
    async with asyncio.timeout(10):
        await child.ready
    names = environment_of(child.pid)
    assert "VETHD_ANYTHING" in names
    assert [name for name in names if not name.startswith(("VETHD_", "LC_CTYPE"))] == []
