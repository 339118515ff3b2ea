"""setlink while others change or delete the same pair."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.kit.commands import ip
from tests.kit.links import all_links, read_link
from tests.kit.netns import Namespaces
from tests.pairs.faults import Fault
from tests.pairs.house import House, held, soon
from vethd.errors import NoSuchLink, StaleGeneration
from vethd.host.rtnl import Rtnl
from vethd.pairs.change import EndChange, PairChange
from vethd.pairs.pair import Pair

pytestmark = pytest.mark.asyncio(loop_scope="module")


def waiting_for(change: threading.Event) -> Callable[[], None]:
    """What a request of the `create` thread does instead: wait for the test."""

    def wait() -> None:
        assert change.wait(10)

    return wait


async def during(house: House, pair: Pair, change: PairChange, nth: int, body: Callable[[], Any]) -> Any:
    """What comes of a change during whose nth RTM_SETLINK `body` runs on the loop."""
    done = threading.Event()
    with Fault(Rtnl, "set_link", nth, waiting_for(done)) as reached:
        task = asyncio.create_task(house.supervisor.changer.setlink(pair, change, "under way"))
        await soon(lambda: reached.happened, bool, "it is under way")
        try:
            result = body()
            if asyncio.iscoroutine(result):
                await result
        finally:
            done.set()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
    return outcome


async def test_the_second_waits_for_the_first(house: House, two: tuple[str, str]) -> None:
    pair = await house.newlink(*two)
    setlink = house.supervisor.changer.setlink
    others: list[asyncio.Task[None]] = []

    async def change_too() -> None:
        others.append(asyncio.create_task(setlink(pair, PairChange(EndChange(mtu=3000)), "second")))
        others.append(asyncio.create_task(setlink(pair, PairChange(EndChange(mtu=4000)), "third")))
        done, _pending = await asyncio.wait(others, timeout=0.05)
        assert not done

    assert await during(house, pair, PairChange(EndChange(mtu=2000, txqueuelen=9)), 2, change_too) is None
    await asyncio.gather(*others)
    assert [line["reason"] for line in house.lines("link set")] == ["under way", "second", "third"]
    state = read_link(two[0], pair.a.ifname)
    assert (state.mtu, state.txqlen, pair.a.mtu) == (4000, 9, 4000)


async def test_of_two_with_one_generation_the_second_changes_nothing(house: House, two: tuple[str, str]) -> None:
    pair = await house.newlink(*two)
    await house.handled_events()
    setlink, seen = house.supervisor.changer.setlink, pair.generation
    outcomes = await asyncio.gather(
        *(setlink(pair, PairChange(EndChange(mtu=mtu)), "", seen) for mtu in (2000, 3000, 4000)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [type(None), StaleGeneration, StaleGeneration]
    assert read_link(two[0], pair.a.ifname).mtu == pair.a.mtu == 2000


async def test_changes_of_two_pairs_do_not_wait_for_each_other(house: House, two: tuple[str, str]) -> None:
    first, second = await house.newlink(*two), await house.newlink(*two)
    await first.lock.acquire()
    try:
        await asyncio.wait_for(house.supervisor.changer.setlink(second, PairChange(EndChange(mtu=2000)), ""), 5)
    finally:
        first.lock.release()


@pytest.mark.parametrize("nth", [1, 2, 3])
async def test_a_pair_that_is_deleted_meanwhile(
    house: House, two: tuple[str, str], netns: Namespaces, nth: int
) -> None:
    """Deleting waits for no change: the change ends, and the descriptors that it holds are closed."""
    there = netns.make()
    with held(there) as fd:
        change = PairChange(EndChange(mtu=2000, netns=fd, up=True), EndChange(mtu=3000))
        pair = await house.newlink(*two)
        await house.supervisor.changer.setlink(pair, change, "")  # now each namespace has its nsid
        await house.dellink(pair)
        inventory = await house.inventory(*two, there)
        pair = await house.newlink(*two)
        generation = pair.generation
        outcome = await during(house, pair, change, nth, lambda: house.dellink(pair))
        assert isinstance(outcome, NoSuchLink)
        assert outcome.message == f"pair {pair.uuid} was deleted"
        events = house.supervisor.journal.after(generation)
        assert events is not None
        assert [event.event for event in events if event.pair == str(pair.uuid)][-1] == "deleted"
        assert [all_links(name).keys() for name in (*two, there)] == [{"lo"}] * 3
        assert await house.inventory(*two, there) == inventory


async def test_one_who_waits_hears_that_the_pair_is_deleted(house: House, two: tuple[str, str]) -> None:
    pair = await house.newlink(*two)
    async with pair.lock:
        change = PairChange(EndChange(mtu=2000))
        task = asyncio.create_task(house.supervisor.changer.setlink(pair, change, ""))
        await house.dellink(pair)
    with pytest.raises(NoSuchLink):
        await task


async def test_a_device_that_somebody_moves_meanwhile_is_found_again(
    house: House, two: tuple[str, str], netns: Namespaces
) -> None:
    """The step that misses it fails, and what was done before is undone where it is now."""
    pair, away = await house.newlink(*two), netns.make()
    name = pair.b.ifname

    def move() -> None:
        ip(two[1], "link", "set", "dev", name, "netns", away)

    change = PairChange(EndChange(mtu=2000), EndChange(mtu=3000, txqueuelen=9))
    outcome = await during(house, pair, change, 2, move)
    assert outcome.message == "end b: setting its mtu: No such device"
    assert outcome.hint == "somebody moved, renamed or deleted it meanwhile; nothing was changed"
    assert read_link(two[0], pair.a.ifname).mtu == pair.a.mtu == 1500
    state = read_link(away, name)
    assert (state.mtu, state.txqlen, pair.b.mtu) == (1500, 1000, 1500)


async def test_a_change_while_the_pair_is_being_made_waits(house: House, two: tuple[str, str]) -> None:
    """It is in the tables, and so can be named, before its ends are up."""
    setlink = house.supervisor.changer.setlink
    tasks: list[asyncio.Task[None]] = []
    # The requests of a creation: place both, then set both up.
    done = threading.Event()
    with Fault(Rtnl, "set_link", 3, waiting_for(done)) as reached:
        making = asyncio.create_task(house.newlink(*two))
        await soon(lambda: reached.happened, bool, "it is being brought up")
        (pair,) = house.supervisor.registry
        tasks.append(asyncio.create_task(setlink(pair, PairChange(EndChange(up=False)), "")))
        await asyncio.wait(tasks, timeout=0.05)
        assert not tasks[0].done()
        done.set()
        assert await making is pair
        await tasks[0]
    assert (read_link(two[0], pair.a.ifname).up, pair.carrier) == (False, False)
