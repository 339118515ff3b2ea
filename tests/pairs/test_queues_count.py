"""While a dead worker's frames are counted no other one has a queue of its pairs; and what may happen meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.kit.netns import Namespaces
from tests.kit.processes import tap_fds
from tests.pairs.house import House, soon
from tests.pairs.killing import DIED
from vethd.pairs import lost
from vethd.pairs.pair import Pair
from vethd.pairs.stats import kernel_stats

pytestmark = pytest.mark.asyncio

WORKERS = 3


@pytest_asyncio.fixture
async def house(tmp_path: Path, netns: Namespaces) -> AsyncIterator[House]:
    """A supervisor with three workers, whose death is expected."""
    built = House(tmp_path, WORKERS)
    built.expect(*DIED)
    try:
        await built.supervisor.start()
        yield built
    finally:
        await built.supervisor.stop()
    assert built.troubles() == []


@pytest_asyncio.fixture
async def pair(house: House, two: tuple[str, str]) -> Pair:
    """One queue per worker."""
    return await house.newlink(*two, placement="inside", numqueues=WORKERS)


def pids(house: House) -> list[int | None]:
    return [ready.get("pid") for _slot, ready in house.supervisor.workers.serving()]


def kill(pid: int | None) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


async def replaced(house: House, times: int) -> None:
    """Wait until so many workers were replaced and all serve."""
    await soon(lambda: len(house.lines("worker replaced")), lambda count: count >= times, "it is replaced", 20.0)
    await soon(lambda: pids(house), lambda found: None not in found, "all serve", 20.0)


async def hold(workers: Callable[[], list[int | None]], wanted: list[int]) -> None:
    """Wait until the workers have so many TAP descriptors; they get theirs back a moment after the count."""

    def held() -> list[int]:
        return [tap_fds(pid) for pid in workers() if pid is not None]

    await soon(held, lambda found: found == wanted, "they have their queues")


Meanwhile = Callable[[], Awaitable[None]]


@pytest.fixture
def during_a_count(monkeypatch: pytest.MonkeyPatch) -> Callable[[Meanwhile], None]:
    """A function that lets something happen in the middle of the first count to come."""

    def install(meanwhile: Meanwhile) -> None:
        waiting = [meanwhile]

        async def read(*args: Any) -> Any:
            if waiting:
                await waiting.pop()()
            return await kernel_stats(*args)

        monkeypatch.setattr(lost, "kernel_stats", read)

    return install


async def test_the_others_hand_their_queues_in_and_get_them_back(
    house: House, pair: Pair, two: tuple[str, str], during_a_count: Callable[[Meanwhile], None]
) -> None:
    """Those of other pairs they keep, and all of them are said to serve meanwhile."""
    for _ in range(WORKERS):
        await house.newlink(*two, placement="inside")
    dying, *others = pids(house)
    held: list[int] = []
    served: list[Any] = []

    async def look() -> None:
        held.extend(tap_fds(pid) for pid in others if pid is not None)
        served.extend(pids(house))

    during_a_count(look)
    kill(dying)
    await replaced(house, 1)
    assert held == [2, 2], "a worker held a queue while the kernel's counters were read"
    assert served == [None, *others]
    await hold(lambda: pids(house), [4, 4, 4])
    await house.assert_wire(pair, two)


async def test_a_worker_may_die_while_it_has_handed_in(
    house: House, pair: Pair, two: tuple[str, str], during_a_count: Callable[[Meanwhile], None]
) -> None:
    first, second, third = pids(house)

    async def die() -> None:
        kill(second)
        await soon(lambda: pids(house)[1], lambda pid: pid is None, "its death is known")

    during_a_count(die)
    kill(first)
    await replaced(house, 2)
    assert pids(house)[2] == third
    await hold(lambda: pids(house), [2, 2, 2])
    await house.assert_wire(pair, two)


async def test_a_pair_may_be_deleted_while_it_is_counted(
    house: House, pair: Pair, two: tuple[str, str], during_a_count: Callable[[Meanwhile], None]
) -> None:
    """Whoever deletes it waits for the end of the count, and no worker gets it back."""
    tasks: list[asyncio.Task[None]] = []
    early: list[bool] = []

    async def delete() -> None:
        tasks.append(asyncio.create_task(house.dellink(pair)))
        early.extend(task.done() for task in (await asyncio.wait(tasks, timeout=0.2))[0])

    during_a_count(delete)
    kill(pids(house)[0])
    await replaced(house, 1)
    await asyncio.gather(*tasks)
    assert early == []
    await hold(lambda: pids(house), [0, 0, 0])
    fresh = await house.newlink(*two, placement="inside", numqueues=WORKERS)
    await hold(lambda: pids(house), [2, 2, 2])
    await house.assert_wire(fresh, two)


async def test_a_pair_may_be_made_and_changed_while_another_is_counted(
    house: House, pair: Pair, two: tuple[str, str], during_a_count: Callable[[Meanwhile], None]
) -> None:
    """It waits until the workers have their queues back."""
    tasks: list[asyncio.Task[Any]] = []
    early: list[bool] = []

    async def change() -> None:
        tasks.append(asyncio.create_task(house.newlink(*two, placement="inside", numqueues=WORKERS)))
        tasks.append(asyncio.create_task(house.supervisor.workers.tell(pair.a)))
        early.extend(task.done() for task in (await asyncio.wait(tasks, timeout=0.2))[0])

    during_a_count(change)
    kill(pids(house)[1])
    await replaced(house, 1)
    made, _none = await asyncio.gather(*tasks)
    assert early == []
    await hold(lambda: pids(house), [4, 4, 4])
    await house.assert_wire(made, two)


async def test_a_count_that_fails_gives_the_queues_back_and_is_done_again(
    house: House, pair: Pair, two: tuple[str, str], during_a_count: Callable[[Meanwhile], None]
) -> None:
    house.expect("lost frames not counted, trying again")

    async def fail() -> None:
        raise OSError(24, "Too many open files")

    during_a_count(fail)
    others = pids(house)[1:]
    kill(pids(house)[0])
    await soon(lambda: house.lines("lost frames not counted, trying again"), bool, "it is tried again")
    await hold(lambda: others, [2, 2])
    await replaced(house, 1)
    await hold(lambda: pids(house), [2, 2, 2])
    await house.assert_wire(pair, two)
