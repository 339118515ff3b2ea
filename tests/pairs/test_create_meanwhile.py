"""What others do while a pair is made: they delete, they take names, they kill workers, they let workers hang."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.kit.commands import ip
from tests.kit.links import link_exists, read_link
from tests.kit.netns import Namespaces
from tests.kit.waiting import settled
from tests.pairs.faults import Fault
from tests.pairs.house import House, soon
from tests.pairs.killing import DIED
from vethd.errors import KernelRefused, LinkExists
from vethd.host import tap
from vethd.host.rtnl import Rtnl
from vethd.pairs import create
from vethd.pairs.pair import Pair, Placement

pytestmark = pytest.mark.asyncio(loop_scope="module")

PLACEMENTS: tuple[Placement, ...] = ("move", "inside")
NAMES: dict[str, dict[str, Any]] = {"a": {"ifname": "vtp_a"}, "b": {"ifname": "vtp_b"}}
#: Moments on the way of newlink, each before a call to the kernel.
MOMENTS = {
    "b is opened": (tap, "open_queue", 1),
    "a is opened": (tap, "open_queue", 2),
    "a gets its qdisc": (Rtnl, "set_noqueue", 2),
    "b gets its alias": (create, "_set_alias_and_up", 1),
    "a gets its alias": (create, "_set_alias_and_up", 2),
    "the first carrier is set": (tap, "set_carrier", 1),
    "the second carrier is set": (tap, "set_carrier", 2),
}
moments = pytest.mark.parametrize("moment", MOMENTS)
placements = pytest.mark.parametrize("placement", PLACEMENTS)


def at(moment: str, do: Callable[[], object]) -> Fault:
    owner, name, nth = MOMENTS[moment]
    return Fault(owner, name, nth, lambda: (do(), None)[1])


def worker_pid(house: House) -> int:
    ((_slot, ready),) = house.supervisor.workers.serving()
    return int(ready["pid"])


def carrier(pair: Pair, two: tuple[str, str]) -> tuple[bool, bool]:
    return read_link(two[0], pair.a.ifname).carrier, read_link(two[1], pair.b.ifname).carrier


@placements
@pytest.mark.parametrize("letter", ["a", "b"])
@pytest.mark.parametrize("moment", ["a gets its alias", "the first carrier is set"])
async def test_a_device_deleted_meanwhile_leaves_nothing(
    house: House, two: tuple[str, str], placement: Placement, letter: str, moment: str
) -> None:
    await house.dellink(await house.newlink(*two, placement=placement))
    before = await house.inventory(*two)
    where = two["ab".index(letter)]
    delete = at(moment, lambda: ip(where, "link", "del", f"vtp_{letter}"))
    with delete as fault, pytest.raises(KernelRefused) as refused:
        await house.newlink(*two, placement=placement, a=NAMES["a"], b=NAMES["b"])
    assert fault.happened
    assert refused.value.errno == errno.ENODEV
    assert refused.value.hint
    assert await house.inventory(*two) == before
    await house.newlink(*two, placement=placement, a=NAMES["a"], b=NAMES["b"])


@pytest.mark.parametrize("letter", ["a", "b"])
@pytest.mark.parametrize("moment", ["the first carrier is set", "the second carrier is set"])
async def test_an_end_set_down_meanwhile_takes_the_carrier_along(
    house: House, two: tuple[str, str], letter: str, moment: str
) -> None:
    """The creation sets the carrier of ends that it has just set up; one of them is not any more."""
    where, name = two["ab".index(letter)], f"vtp_{letter}"
    with at(moment, lambda: ip(where, "link", "set", name, "down")) as fault:
        pair = await house.newlink(*two, placement="inside", a=NAMES["a"], b=NAMES["b"])
    assert fault.happened
    await soon(lambda: (pair.carrier, carrier(pair, two)), lambda seen: seen == (False, (False, False)), "no carrier")
    ip(where, "link", "set", name, "up")
    await soon(lambda: (pair.carrier, carrier(pair, two)), lambda seen: seen == (True, (True, True)), "a carrier")
    await house.assert_wire(pair, two)


async def test_a_carrier_that_others_switch_off_meanwhile_is_set_again(house: House, two: tuple[str, str]) -> None:
    with at("the second carrier is set", lambda: ip(two[0], "link", "set", "vtp_a", "carrier", "off")) as fault:
        pair = await house.newlink(*two, placement="inside", a=NAMES["a"], b=NAMES["b"])
    assert fault.happened
    await soon(lambda: carrier(pair, two), lambda seen: seen == (True, True), "a carrier on both ends")
    await house.assert_wire(pair, two)


@placements
@pytest.mark.parametrize("letter", ["a", "b"])
@pytest.mark.parametrize("kind", ["bridge", "tap"])
async def test_a_name_taken_meanwhile_is_refused_and_leaves_nothing(
    house: House, two: tuple[str, str], placement: Placement, letter: str, kind: str
) -> None:
    """It was free when newlink looked, and is taken when the end gets there."""
    before = await house.inventory(*two)
    where, name = two["ab".index(letter)], f"vtp_{letter}"

    def take() -> None:
        if kind == "tap":
            ip(where, "tuntap", "add", "dev", name, "mode", "tap")
        else:
            ip(where, "link", "add", "name", name, "type", kind)

    with at("b is opened", take), pytest.raises(LinkExists) as refused:
        await house.newlink(*two, placement=placement, a=NAMES["a"], b=NAMES["b"])
    assert refused.value.message == f"end {letter}: name 'vtp_{letter}' exists in the namespace already"
    assert read_link(where, name).kind == ("tun" if kind == "tap" else kind), "the stranger's device is untouched"
    ip(where, "link", "del", name)
    after = await house.inventory(*two)
    after["nsids"] = before["nsids"]  # they live as long as the namespaces do
    assert after == before


@moments
async def test_a_namespace_deleted_meanwhile_takes_the_moved_pair_along(
    house: House, two: tuple[str, str], netns: Namespaces, moment: str
) -> None:
    """The request keeps it alive until it is answered, so the pair is made whole; and goes."""
    with at(moment, lambda: netns.delete(two[0])):
        pair = await house.newlink(*two)
    await soon(lambda: link_exists(two[1], pair.b.ifname), lambda there: not there, "the twin is gone")
    await soon(lambda: len(house.supervisor.registry), lambda pairs: pairs == 0, "the entry is gone")
    assert netns.undead() == []


@moments
async def test_a_worker_killed_meanwhile_is_not_noticed(house: House, two: tuple[str, str], moment: str) -> None:
    house.expect(*DIED)
    pid = worker_pid(house)
    with at(moment, lambda: os.kill(pid, signal.SIGKILL)) as fault:
        pair = await house.newlink(*two, placement="inside")
    assert fault.happened
    assert carrier(pair, two) == (True, True)
    await soon(lambda: house.supervisor.workers.serving()[0][1].get("pid", pid), lambda now: now != pid, "a new one")
    await house.assert_wire(pair, two)


async def test_a_worker_killed_before_a_deletion_is_not_noticed(house: House, two: tuple[str, str]) -> None:
    house.expect(*DIED)
    pair = await house.newlink(*two)
    os.kill(worker_pid(house), signal.SIGKILL)
    await house.dellink(pair)
    assert not link_exists(two[0], pair.a.ifname)
    assert not link_exists(two[1], pair.b.ifname)
    await house.assert_wire(await house.newlink(*two), two)


async def test_a_worker_that_hangs_is_killed_and_the_pair_is_made(house: House, two: tuple[str, str]) -> None:
    house.expect(*DIED)
    pid = worker_pid(house)
    os.kill(pid, signal.SIGSTOP)
    house.hurry_worker()
    pair = await house.newlink(*two)
    assert worker_pid(house) != pid
    await house.assert_wire(pair, two)


async def test_a_worker_that_hangs_does_not_keep_a_pair(house: House, two: tuple[str, str]) -> None:
    house.expect(*DIED)
    pair = await house.newlink(*two)
    os.kill(worker_pid(house), signal.SIGSTOP)
    house.hurry_worker()
    await house.dellink(pair)
    assert not link_exists(two[0], pair.a.ifname)
    (died,) = house.lines("worker died")
    assert "did not answer" in died["why"]


async def test_creations_that_others_cross_leave_nothing(house: House, two: tuple[str, str]) -> None:
    """Pairs are made while somebody deletes every second one; then all that is left is deleted, twice at once."""
    names = [({"ifname": f"vtp_a{number}"}, {"ifname": f"vtp_b{number}"}) for number in range(16)]
    await house.dellink(await house.newlink(*two))
    await asyncio.to_thread(int)
    before = await house.inventory(*two)
    outcomes = await asyncio.gather(
        *(house.newlink(*two, placement="inside", a=a, b=b) for a, b in names),
        *(asyncio.to_thread(delete_as_soon_as_there, two[0], a["ifname"]) for a, _b in names[::2]),
        return_exceptions=True,
    )
    assert {type(outcome) for outcome in outcomes} <= {Pair, KernelRefused, bool}, outcomes
    assert outcomes.count(True) == len(names[::2])
    left = list(house.supervisor.registry)
    assert len(left) >= len(names[1::2])
    await asyncio.gather(*(house.dellink(pair) for pair in left * 2))
    await soon(lambda: len(house.supervisor.registry), lambda pairs: pairs == 0, "every pair is gone")
    await house.handled_events()
    assert await house.inventory(*two) == before


def delete_as_soon_as_there(netns: str, name: str) -> bool:
    return settled(lambda: ip(netns, "link", "del", name, check=False).ok, bool)
