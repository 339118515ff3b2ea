"""setlink is answered when everything that follows from it is done, however long a part of it takes."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest

from tests.kit.commands import ip
from tests.kit.links import LinkMonitor, LinkState, read_link
from tests.kit.netns import Namespaces
from tests.kit.packets import PacketSocket
from tests.pairs.faults import Fault, refuse
from tests.pairs.house import House, assert_wire_has_mtu, held
from vethd.errors import KernelRefused
from vethd.host import tap
from vethd.host.rtnl import Rtnl
from vethd.pairs.change import EndChange, PairChange
from vethd.pairs.pair import Pair

pytestmark = pytest.mark.asyncio(loop_scope="module")


@contextmanager
def slow(owner: Any, name: str, seconds: float = 0.1) -> Iterator[None]:
    """A coroutine function begins so much later."""
    really: Callable[..., Awaitable[Any]] = getattr(owner, name)

    async def later(*args: Any) -> Any:
        await asyncio.sleep(seconds)
        return await really(*args)

    with patch.object(owner, name, later):
        yield


def carriers(pair: Pair, two: tuple[str, str]) -> list[bool]:
    return [read_link(where, end.ifname).carrier for where, end in zip(two, pair.ends, strict=True)]


async def test_the_worker_knows(house: House, two: tuple[str, str]) -> None:
    pair = await house.newlink(*two)
    with PacketSocket(two[0], pair.a.ifname) as a, PacketSocket(two[1], pair.b.ifname) as b:
        for mtu in (1000, 1400, 1200):
            with slow(house.supervisor.workers, "tell"):
                await house.supervisor.changer.setlink(pair, PairChange(b=EndChange(mtu=mtu)), "")
            await assert_wire_has_mtu(a, b, mtu)


@pytest.mark.parametrize("letter", ["a", "b"])
async def test_the_alias_of_the_peer_is_renewed(house: House, two: tuple[str, str], letter: str) -> None:
    pair = await house.newlink(*two)
    change = PairChange(EndChange("vtpnew")) if letter == "a" else PairChange(b=EndChange("vtpnew"))
    with slow(house.supervisor.follower, "_renew_alias"):
        await house.supervisor.changer.setlink(pair, change, "")
    peer, where = (pair.b, two[1]) if letter == "a" else (pair.a, two[0])
    assert peer.alias == f"vethd {pair.uuid} peer vtpnew"
    assert read_link(where, peer.ifname).attributes["IFLA_IFALIAS"] == peer.alias


async def test_the_carrier_is_settled(house: House, two: tuple[str, str]) -> None:
    pair = await house.newlink(*two)
    with slow(house.supervisor.workers, "set_carrier"):
        for up in (False, True):
            await house.supervisor.changer.setlink(pair, PairChange(EndChange(up=up)), "")
            assert carriers(pair, two) == [up, up]
            assert [end.operstate for end in pair.ends] == ["UP" if up else "DOWN"] * 2


async def test_a_carrier_that_fails_when_all_else_is_done_is_set_at_once(house: House, two: tuple[str, str]) -> None:
    house.expect("carrier not set, trying again")
    pair = await house.newlink(*two)
    workers = house.supervisor.workers
    with slow(workers, "set_carrier", 0.05), slow(workers, "tell"), Fault(tap, "set_carrier", 1) as failing:
        await house.supervisor.changer.setlink(pair, PairChange(EndChange(up=False)), "")
    assert failing.happened
    assert carriers(pair, two) == [False, False]


def all_states(monitor: LinkMonitor, until: str) -> list[LinkState]:
    """What is heard in a namespace until its `lo` has this alias."""
    states: list[LinkState] = []

    def marked(_kind: object, state: LinkState) -> bool:
        states.append(state)
        return state.attributes.get("IFLA_IFALIAS") == until

    monitor.wait(marked, "the marker")
    return states[:-1]


async def test_an_end_that_moves_is_never_up_with_another_qdisc(
    house: House, two: tuple[str, str], netns: Namespaces
) -> None:
    """Neither where it goes nor, when that fails, where it comes back."""
    pair, there = await house.newlink(*two), netns.make()
    name = pair.a.ifname
    up = Fault(Rtnl, "set_link", 2, refuse(errno.EPERM), lambda *_args, **fields: bool(fields.get("change")))
    with held(there) as fd, LinkMonitor(two[0]) as home, LinkMonitor(there) as away:
        change = PairChange(EndChange(netns=fd, up=True), EndChange(up=False))
        with up, pytest.raises(KernelRefused, match="end b: setting it down"):
            await house.supervisor.changer.setlink(pair, change, "")
        for where in (two[0], there):
            await house.supervisor.threads.create(_mark, where)
        heard = {where: all_states(monitor, "marker") for where, monitor in ((two[0], home), (there, away))}
    for states in heard.values():
        qdiscs = [state.qdisc for state in states if state.name == name and state.up]
        assert qdiscs, "it was never up"
        assert set(qdiscs) == {"noqueue"}
    await house.assert_wire(pair, two)


def _mark(where: str) -> None:
    ip(where, "link", "set", "lo", "alias", "marker")
