"""child.py: a worker that does not answer is killed - and no other, however slow it or the supervisor is."""

import asyncio
import os
import signal
import time
from collections.abc import Callable

import pytest

from tests.kit.processes import cpu_seconds, status_field
from tests.kit.waiting import settled
from tests.worker.parent import Supervisor, ended
from vethd.worker.child import LOOKS, WorkerDied
from vethd.worker.counters import Counters

#: Seconds; a worker that is well answers in far less, also on a machine that is busy.
WITHIN = 0.6
#: Says what every worker says before the rest of what an impostor does.
ANSWERS = """
say(ready)
def answer():
    channel.send(json.dumps(dict(op="ack", seq=json.loads(channel.recv(65536))["seq"])).encode())
"""


async def test_a_stopped_worker_is_killed_whether_it_is_asked_for_something_or_not(
    supervisor: Supervisor, counters: Counters
) -> None:
    spare, idle, asked = (supervisor.spawn(WITHIN) for _ in range(3))
    async with asyncio.timeout(10):
        await asyncio.gather(spare.ready, idle.ready, asked.ready)
        await asyncio.gather(*(child.hello(0, counters.fd, counters.ends) for child in (idle, asked)))
    for child in (spare, idle, asked):
        os.kill(child.pid, signal.SIGSTOP)
    answer = asked.request("drain")
    assert await ended(spare) == await ended(idle) == "did not answer `ping` within 0.6 s (signal 9)"
    assert await ended(asked) == "did not answer `drain` within 0.6 s (signal 9)"
    with pytest.raises(WorkerDied, match="did not answer"):
        await answer


async def test_a_worker_in_an_endless_loop_is_killed(supervisor: Supervisor, impostor: Callable[[str], None]) -> None:
    impostor(ANSWERS + "answer()\nwhile True: pass")
    child = supervisor.spawn(WITHIN)
    assert "did not answer `ping`" in await ended(child)


async def test_a_worker_that_answers_only_what_came_last_is_killed(
    supervisor: Supervisor, impostor: Callable[[str], None]
) -> None:
    impostor(ANSWERS + "channel.recv(65536)\nwhile True: answer()")
    child = supervisor.spawn(WITHIN)

    async def ask_on() -> None:
        while True:
            await child.request("drain")
            await asyncio.sleep(WITHIN / 9)

    async with asyncio.timeout(10):
        await child.ready
        child.request("sysctl", values={})
        with pytest.raises(WorkerDied, match="did not answer `sysctl`"):
            await ask_on()


async def test_a_worker_that_goes_on_in_time_is_left_alone(supervisor: Supervisor, counters: Counters) -> None:
    child = supervisor.spawn(WITHIN)
    async with asyncio.timeout(10):
        await child.ready
        await child.hello(0, counters.fd, counters.ends)
        for _ in range(3):  # three times as long in all as it may be silent
            os.kill(child.pid, signal.SIGSTOP)
            late = child.request("ping")
            await asyncio.sleep(WITHIN / 2)
            os.kill(child.pid, signal.SIGCONT)
            await late
    assert child.alive


async def test_a_supervisor_that_was_held_up_itself_kills_nobody(supervisor: Supervisor, counters: Counters) -> None:
    """As after the sleep of a machine: all timers are due at once, and the answers stand in the channel."""
    child = supervisor.spawn(WITHIN)
    async with asyncio.timeout(10):
        await child.ready
        await child.hello(0, counters.fd, counters.ends)
        for _ in range(LOOKS):
            answers = [child.request("ping") for _ in range(3)]
            time.sleep(1.2 * WITHIN)  # noqa: ASYNC251 - the loop is to stand still
            await asyncio.gather(*answers)
    assert child.alive


async def test_a_worker_that_hangs_while_it_starts_is_killed_once_there_is_a_hurry(
    supervisor: Supervisor, impostor: Callable[[str], None]
) -> None:
    impostor("signal.pause()")
    child = supervisor.spawn(WITHIN)
    await asyncio.sleep(0)
    child.hurry(WITHIN)
    assert await ended(child) == "was not ready in time (signal 9)"


async def test_being_asked_costs_an_idle_worker_nothing(supervisor: Supervisor, counters: Counters) -> None:
    child = supervisor.spawn(WITHIN)
    async with asyncio.timeout(10):
        await child.ready
        await child.hello(0, counters.fd, counters.ends)
    asked, before = child.sequence, cpu_seconds(child.pid)
    await asyncio.sleep(2 * WITHIN)
    assert child.sequence >= asked + 4
    assert cpu_seconds(child.pid) - before <= 0.02
    state = settled(lambda: status_field(child.pid, "State"), lambda state: state.startswith("S"))  # it may just answer
    assert state.startswith("S")
