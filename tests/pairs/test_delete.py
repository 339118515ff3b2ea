"""dellink: both devices go, once, whoever asks and however often, and nothing is kept."""

from __future__ import annotations

import asyncio
import errno
import os
import threading

import pytest

from tests.kit.commands import ip
from tests.kit.links import LinkMonitor, link_exists
from tests.kit.processes import tap_fds
from tests.pairs.faults import Fault, refuse
from tests.pairs.house import House, soon
from vethd.host import tap
from vethd.host.rtnl import Rtnl
from vethd.pairs.pair import Pair, PairState, Placement

pytestmark = pytest.mark.asyncio(loop_scope="module")

PLACEMENTS: tuple[Placement, ...] = ("move", "inside")
placements = pytest.mark.parametrize("placement", PLACEMENTS)


def devices(pair: Pair, two: tuple[str, str]) -> tuple[bool, bool]:
    return link_exists(two[0], pair.a.ifname), link_exists(two[1], pair.b.ifname)


@placements
async def test_both_devices_are_gone_when_it_returns(house: House, two: tuple[str, str], placement: Placement) -> None:
    pair = await house.newlink(*two, placement=placement)
    assert devices(pair, two) == (True, True)
    await house.dellink(pair)
    assert devices(pair, two) == (False, False)
    assert pair.state is PairState.DYING
    assert list(house.supervisor.registry) == []


async def test_it_returns_while_the_kernel_still_clears_up(
    house: House, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody finds the devices any more; the request that deletes them comes back later, then the fds are closed."""
    pair = await house.newlink(*two)
    fds, delete, cleared_up = tap_fds(os.getpid()), Rtnl.del_link, threading.Event()

    def delete_slowly(self: Rtnl, name: str, nsid: int) -> None:
        delete(self, name, nsid)
        cleared_up.wait(10)

    with monkeypatch.context() as patched:
        patched.setattr(Rtnl, "del_link", delete_slowly)
        try:
            await asyncio.wait_for(house.dellink(pair), 5)
            assert devices(pair, two) == (False, False)
            assert tap_fds(os.getpid()) == fds
        finally:
            cleared_up.set()
        await house.closed()
    assert tap_fds(os.getpid()) == fds - 2


@placements
async def test_nothing_is_kept(house: House, two: tuple[str, str], placement: Placement) -> None:
    await house.dellink(await house.newlink(*two, placement=placement))
    before = await house.inventory(*two)
    for pair in [await house.newlink(*two, placement=placement) for _ in range(3)]:
        await house.dellink(pair)
    assert await house.inventory(*two) == before


async def test_everybody_who_asks_gets_an_answer_when_it_is_done(house: House, two: tuple[str, str]) -> None:
    """Also who asks second: the devices are gone when either hears."""
    pair = await house.newlink(*two)

    async def delete_and_look() -> tuple[bool, bool]:
        await house.dellink(pair)
        return devices(pair, two)

    answers = await asyncio.gather(*(delete_and_look() for _ in range(4)))
    assert answers == [(False, False)] * 4
    assert len(house.lines("link deleted")) == 1


async def test_numbers_are_given_back_once(house: House, two: tuple[str, str]) -> None:
    """Given back twice, one number would belong to two ends, and two workers would write one row of counters."""
    pair = await house.newlink(*two)
    ip(two[0], "link", "del", pair.a.ifname)
    await asyncio.gather(house.dellink(pair), house.dellink(pair))
    await soon(lambda: len(house.supervisor.registry), lambda pairs: pairs == 0, "the entry is gone")
    await house.handled_events()
    pairs = [await house.newlink(*two, placement="inside") for _ in range(3)]
    numbers = [end.number for pair in pairs for end in pair.ends]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize(
    ("owner", "name"),
    [(tap, "current_netns"), (tap, "current_name"), (Rtnl, "__init__"), (Rtnl, "del_link")],
)
@pytest.mark.parametrize("nth", [1, 2])
async def test_a_request_that_fails_is_made_up_for_by_closing(
    house: House, two: tuple[str, str], owner: object, name: str, nth: int
) -> None:
    """A TAP goes with its last descriptor: without memory for a request it goes all the same."""
    pair = await house.newlink(*two)
    with Fault(owner, name, nth, refuse(errno.ENOMEM)) as fault:
        await house.dellink(pair)
    assert fault.happened
    assert devices(pair, two) == (False, False)
    await house.closed()
    assert len(house.lines("device only closed")) == 1


async def test_a_device_that_somebody_else_holds_open_goes_too(house: House, two: tuple[str, str]) -> None:
    """Deleted by request and not just by closing: a forgotten copy of the descriptor does not keep the device."""
    pair = await house.newlink(*two)
    copies = [os.dup(end.fd) for end in pair.ends]
    try:
        await house.dellink(pair)
        assert devices(pair, two) == (False, False)
    finally:
        for copy in copies:
            os.close(copy)


async def test_each_side_hears_one_deletion(house: House, two: tuple[str, str]) -> None:
    pair = await house.newlink(*two)
    names = [end.ifname for end in pair.ends]
    with LinkMonitor(two[0]) as a_events, LinkMonitor(two[1]) as b_events:
        await house.dellink(pair)
        for events, netns, name in zip((a_events, b_events), two, names, strict=True):
            ip(netns, "link", "set", "lo", "alias", "the marker")
            gone: list[str] = []

            def marker(kind: str, state: object, gone: list[str] = gone, name: str = name) -> bool:
                if kind == "del" and getattr(state, "name", "") == name:
                    gone.append(kind)
                return getattr(state, "name", "") == "lo"

            events.wait(marker, "the marker")
            assert gone == ["del"]
