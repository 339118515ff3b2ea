"""threads.py: where the host threads live, and that they do not wait for each other."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from tests.kit.waiting import eventually
from vethd.host import netns as host_netns
from vethd.host.threads import REAPERS, HostThreads


@pytest.fixture
async def threads(_no_descriptor_is_leaked: None) -> AsyncIterator[HostThreads]:
    made = HostThreads()
    yield made
    await asyncio.to_thread(made.close)


def here() -> tuple[int, str]:
    """The namespace of the calling thread, and the thread's name."""
    return os.stat("/proc/thread-self/ns/net").st_ino, threading.current_thread().name


async def test_all_threads_live_in_the_staging_namespace(threads: HostThreads) -> None:
    staging = os.fstat(threads.staging).st_ino
    gate = threading.Barrier(REAPERS)

    def together() -> tuple[int, str]:
        gate.wait(10)
        return here()

    reapers = await asyncio.gather(*(threads.reap(together) for _ in range(REAPERS)))
    everybody = [await threads.create(here), await threads.follow(here), *reapers]
    assert {where for where, _name in everybody} == {staging}
    assert {name for _where, name in everybody} == {"create_0", "follow_0", *(f"reap_{n}" for n in range(REAPERS))}


async def test_the_event_loop_stays_at_home(threads: HostThreads) -> None:
    before = here()
    await threads.create(int)
    assert here() == before
    assert here()[0] != os.fstat(threads.staging).st_ino


async def test_nobody_waits_behind_a_long_creation(threads: HostThreads) -> None:
    """Nor behind a device that takes its time to die."""
    go = threading.Event()
    slow = [asyncio.ensure_future(threads.create(go.wait, 10)), asyncio.ensure_future(threads.reap(go.wait, 10))]
    async with asyncio.timeout(5):
        assert await threads.follow(here)
        assert await threads.reap(here)
    assert not any(task.done() for task in slow)
    go.set()
    assert await asyncio.gather(*slow) == [True, True]


async def test_calls_of_one_thread_run_in_order(threads: HostThreads) -> None:
    done: list[int] = []
    await asyncio.gather(*(threads.follow(done.append, number) for number in range(100)))
    assert done == list(range(100))


@pytest.mark.parametrize("name", ["create", "follow", "reap"])
async def test_what_a_call_raises_is_raised_to_who_asked(threads: HostThreads, name: str) -> None:
    def fail(word: str, *, number: int) -> None:
        raise LookupError(word, number)

    with pytest.raises(LookupError) as raised:
        await getattr(threads, name)(fail, "word", number=7)
    assert raised.value.args == ("word", 7)
    assert await getattr(threads, name)(len, "and it goes on") == 14


async def test_a_device_is_asked_through_a_copy(threads: HostThreads) -> None:
    """The descriptor may be closed, and its number be another file's, before the thread gets to it."""
    theirs, ours = os.pipe()
    go = threading.Event()
    busy = asyncio.ensure_future(threads.follow(go.wait, 10))
    asked = asyncio.ensure_future(threads.follow_device(ours, os.write, b"hello"))
    await asyncio.sleep(0)  # the copy is made when the request is
    other, other_end = os.pipe()
    os.dup2(other_end, ours)
    go.set()
    try:
        assert await asked == 5
        assert await busy
        os.set_blocking(theirs, False)
        assert os.read(theirs, 100) == b"hello"
    finally:
        for fd in (theirs, ours, other, other_end):
            os.close(fd)


async def test_the_copy_is_closed_whatever_happens(threads: HostThreads) -> None:
    def fail(_fd: int) -> None:
        raise LookupError

    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(LookupError):
        await threads.follow_device(threads.staging, fail)
    assert sorted(os.listdir("/proc/self/fd")) == before
    with pytest.raises(OSError, match="Bad file descriptor"):
        await threads.follow_device(max(map(int, before)) + 100, fail)


async def test_the_staging_namespace_goes_with_the_threads() -> None:
    names = {thread.name for thread in threading.enumerate()}
    made = HostThreads()
    identity = host_netns.identity(made.staging)
    await made.create(int)
    await made.follow(int)
    await made.reap(int)
    await asyncio.to_thread(made.close)
    assert {thread.name for thread in threading.enumerate()} - names <= {"uvloop_0"}
    eventually(_namespaces_of_tasks, lambda found: identity[1] not in found, "the kernel has ended the threads, too")


def _namespaces_of_tasks() -> set[int]:
    found = set()
    for task in os.listdir("/proc/self/task"):
        with suppress(FileNotFoundError, ProcessLookupError):
            found.add(os.stat(f"/proc/self/task/{task}/ns/net").st_ino)
    return found
