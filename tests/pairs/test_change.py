"""setlink: what is asked for is so in the kernel, in the picture and at the workers when it returns."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import Any

import pytest

from tests.kit.commands import ip
from tests.kit.links import LinkState, link_exists, read_link
from tests.kit.netns import Namespaces, fresh_name, netns_inode
from tests.kit.packets import PacketSocket
from tests.pairs.house import House, assert_wire_has_mtu, held, soon
from vethd.errors import (
    InvalidAddress,
    InvalidName,
    InvalidParams,
    LimitReached,
    LinkExists,
    MtuOutOfRange,
    StaleGeneration,
    VethdError,
)
from vethd.pairs.change import EndChange, PairChange
from vethd.pairs.pair import End, Pair, Placement, default_alias

pytestmark = pytest.mark.asyncio(loop_scope="module")

PLACEMENTS: tuple[Placement, ...] = ("move", "inside")


async def set_end(house: House, pair: Pair, letter: str = "a", netns: str | None = None, **fields: Any) -> None:
    """Change one end. netns: the name of a namespace to move it to."""
    with held(netns) if netns is not None else nullcontext() as fd:
        of_end = EndChange(netns=fd, **fields)
        change = PairChange(a=of_end) if letter == "a" else PairChange(b=of_end)
        await house.supervisor.changer.setlink(pair, change, "the test wants it")


def seen(end: End, where: str) -> LinkState:
    """What the kernel says of an end, after a look whether the picture says the same."""
    state = read_link(where, end.ifname)
    kernel = {"ifindex": state.ifindex, "address": state.address, "mtu": state.mtu, "txqlen": state.txqlen}
    kernel |= {"up": state.up, "operstate": state.operstate, "alias": state.attributes.get("IFLA_IFALIAS", "")}
    assert {name: getattr(end, name) for name in kernel} == kernel
    assert end.netns[1] == netns_inode(where)
    assert end.pair.carrier == state.carrier
    return state


# -- one field at a time ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("letter", ["a", "b"])
async def test_one_field_after_the_other_of_a_running_end(house: House, two: tuple[str, str], letter: str) -> None:
    pair = await house.newlink(*two)
    end, where = (pair.a, two[0]) if letter == "a" else (pair.b, two[1])
    steps: tuple[tuple[dict[str, Any], str, object], ...] = (
        ({"address": "02:76:74:70:00:0E"}, "address", "02:76:74:70:00:0e"),
        ({"mtu": 68}, "mtu", 68),
        ({"mtu": 65521}, "mtu", 65521),
        ({"txqueuelen": 64}, "txqlen", 64),
        ({"txqueuelen": 0}, "txqlen", 1000),
        ({"ifname": "vtpnew"}, "name", "vtpnew"),
        ({"ifname": "vtpnew%d"}, "name", "vtpnew0"),
    )
    for fields, name, value in steps:
        await set_end(house, pair, letter, **fields)
        assert getattr(seen(end, where), name) == value
        assert seen(end.peer, two[1] if letter == "a" else two[0]).carrier
    assert seen(end, where).carrier_counts == (2, 1, 1), "it went on running"
    await house.assert_wire(pair, two)


async def test_the_wire_has_the_new_mtu_and_address_when_setlink_returns(house: House, two: tuple[str, str]) -> None:
    """No look at the device's own counters in between: the worker knew before the answer came."""
    pair = await house.newlink(*two)
    with PacketSocket(two[0], pair.a.ifname) as a, PacketSocket(two[1], pair.b.ifname) as b:
        for mtu in (1000, 1400, 1200):
            await set_end(house, pair, "b", mtu=mtu)
            await assert_wire_has_mtu(a, b, mtu)


@pytest.mark.parametrize("letter", ["a", "b"])
async def test_the_carrier_has_followed_when_setlink_returns(house: House, two: tuple[str, str], letter: str) -> None:
    pair = await house.newlink(*two)
    for up in (False, True) * 3:
        await set_end(house, pair, letter, up=up)
        assert pair.carrier is up
        for end, where in zip(pair.ends, two, strict=True):
            assert seen(end, where).carrier is up
    await house.assert_wire(pair, two)


async def test_an_end_that_was_never_up(house: House, two: tuple[str, str]) -> None:
    pair = await house.newlink(*two, a={"up": False}, b={"up": False})
    await set_end(house, pair, "a", up=True)
    assert (seen(pair.a, two[0]).carrier, seen(pair.a, two[0]).operstate) == (False, "DOWN")
    await set_end(house, pair, "b", up=True)
    assert [seen(end, where).operstate for end, where in zip(pair.ends, two, strict=True)] == ["UP", "UP"]
    await house.assert_wire(pair, two)


async def test_both_ends_in_one_call(house: House, two: tuple[str, str]) -> None:
    pair = await house.newlink(*two, a={"up": False}, b={"up": False})
    change = PairChange(EndChange(mtu=9000, up=True), EndChange(mtu=8000, up=True, ifname="vtpboth"))
    await house.supervisor.changer.setlink(pair, change, "both")
    assert (seen(pair.a, two[0]).mtu, seen(pair.b, two[1]).mtu, pair.b.ifname) == (9000, 8000, "vtpboth")
    assert pair.a.alias == default_alias(pair.a)
    assert pair.carrier


async def test_what_is_so_already_changes_nothing(house: House, two: tuple[str, str]) -> None:
    pair = await house.newlink(*two)
    await house.handled_events()
    before = pair.generation
    end = pair.a
    same = {"ifname": end.ifname, "address": end.address, "mtu": end.mtu, "txqueuelen": end.txqlen, "alias": end.alias}
    await set_end(house, pair, "a", two[0], **same, gro=False, up=True)
    change = PairChange(labels={"none": None}, worker=0, overload="drop")
    await house.supervisor.changer.setlink(pair, change, "no change")
    assert pair.generation == before
    assert seen(pair.a, two[0]).carrier_counts == (2, 1, 1)


# -- moves ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("up", [True, None])
async def test_a_move(
    house: House, two: tuple[str, str], netns: Namespaces, placement: Placement, up: bool | None
) -> None:
    pair = await house.newlink(*two, placement=placement, a={"mtu": 9000, "alias": "mine"})
    there, name = netns.make(), pair.a.ifname
    await set_end(house, pair, "a", there, up=up)
    assert not link_exists(two[0], name)
    state = seen(pair.a, there)
    assert (state.name, state.mtu, state.attributes["IFLA_IFALIAS"]) == (name, 9000, "mine")
    assert (state.up, state.carrier, state.qdisc) == (bool(up), bool(up), "noqueue")
    if not up:  # as after `ip link set netns`
        await set_end(house, pair, "a", up=True)
    await house.assert_wire(pair, (there, two[1]))
    assert read_link(there, name).qdisc == "noqueue"


@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_a_move_with_everything_else(
    house: House, two: tuple[str, str], netns: Namespaces, placement: Placement
) -> None:
    pair = await house.newlink(*two, placement=placement)
    there, name = netns.make(), fresh_name("e")
    ip(there, "link", "add", "name", pair.b.ifname, "type", "bridge")  # its old name is taken there
    fields = {"ifname": name, "address": "02:76:74:70:00:0f", "mtu": 3000, "txqueuelen": 77, "alias": "all of it"}
    await set_end(house, pair, "b", there, **fields, up=True, gro=True)
    state = seen(pair.b, there)
    assert (state.name, state.address, state.mtu, state.txqlen) == (name, "02:76:74:70:00:0f", 3000, 77)
    assert (state.carrier, state.qdisc, pair.b.gro) == (True, "noqueue", True)
    assert seen(pair.a, two[0]).attributes["IFLA_IFALIAS"] == f"vethd {pair.uuid} peer {name}"
    await house.assert_wire(pair, (two[0], there))


async def test_there_and_back(house: House, two: tuple[str, str], netns: Namespaces) -> None:
    pair, there = await house.newlink(*two), netns.make()
    for where in (there, two[0], two[1], two[0]):
        await set_end(house, pair, "a", where, up=True)
        assert seen(pair.a, where).carrier
    await house.assert_wire(pair, two)


async def test_a_moved_pair_dies_with_its_new_namespace(house: House, two: tuple[str, str], netns: Namespaces) -> None:
    pair, grave = await house.newlink(*two), netns.make()
    await set_end(house, pair, "a", grave)
    netns.delete(grave)
    await soon(lambda: list(house.supervisor.registry), lambda pairs: pairs == [], "the pair is gone")
    assert netns.undead() == []


async def test_an_end_made_inside_keeps_the_namespace_it_was_made_in(
    house: House, two: tuple[str, str], netns: Namespaces
) -> None:
    """A TAP's fd refers to the namespace in which /dev/net/tun was opened, wherever the device is now."""
    pair, grave = await house.newlink(*two, placement="inside"), netns.make()
    await set_end(house, pair, "a", grave)
    netns.delete(two[0])
    assert await asyncio.to_thread(netns.undead, 0.2) == [two[0]]
    netns.delete(grave)
    await soon(lambda: list(house.supervisor.registry), lambda pairs: pairs == [], "the pair is gone")
    await house.closed()
    assert netns.undead() == []


# -- what concerns no device ------------------------------------------------------------------------------------------


async def test_labels_are_merged_and_null_removes_one(house: House, two: tuple[str, str]) -> None:
    pair = await house.newlink(*two)
    setlink = house.supervisor.changer.setlink
    await setlink(pair, PairChange(labels={"a": "1", "b": "2"}), "")
    await setlink(pair, PairChange(labels={"b": None, "c": "", "d": None}), "")
    assert pair.labels == {"a": "1", "c": ""}
    before = pair.generation
    with pytest.raises(LimitReached, match="labels: 65 of them") as refused:
        await setlink(pair, PairChange(labels={f"l{number}": "" for number in range(63)}), "")
    assert refused.value.hint == "a pair has at most 64; remove some"
    assert (pair.labels, pair.generation) == ({"a": "1", "c": ""}, before)
    await setlink(pair, PairChange(labels={f"l{number}": "" for number in range(62)}), "")
    assert len(pair.labels) == 64


async def test_each_change_of_the_pair_alone_is_one_event(house: House, two: tuple[str, str]) -> None:
    pair = await house.newlink(*two)
    await house.handled_events()
    journal = house.supervisor.journal
    before = journal.seq
    setlink = house.supervisor.changer.setlink
    await setlink(pair, PairChange(labels={"a": "1"}, overload="backpressure"), "")
    await setlink(pair, PairChange(b=EndChange(gro=True)), "")
    events = journal.after(before)
    assert events is not None
    assert [(event.topic, event.event, event.end, event.fields) for event in events] == [
        ("link", "changed", None, {"overload": "backpressure", "labels": {"a": "1"}}),
        ("link", "changed", "b", {"gro": True}),
    ]
    assert pair.generation == events[-1].seq
    assert {event.pair for event in events} == {str(pair.uuid)}


# -- what is refused --------------------------------------------------------------------------------------------------


async def test_what_a_new_end_can_not_be_no_end_can_become(house: House, two: tuple[str, str]) -> None:
    pair = await house.newlink(*two)
    await house.handled_events()
    before = pair.generation
    refusals: tuple[tuple[dict[str, Any], type[VethdError], str], ...] = (
        ({"ifname": "a b"}, InvalidName, "name 'a b' is not valid"),
        ({"address": "01:00:00:00:00:01"}, InvalidAddress, "address 01:00:00:00:00:01 is not a unicast address"),
        ({"mtu": 67}, MtuOutOfRange, "mtu 67 is not in 68..65521: as with kernel veth"),
        ({"txqueuelen": 500_001}, InvalidParams, "txqueuelen 500001 is not in 0..500000"),
        ({"alias": "x" * 256}, InvalidParams, "alias has 256 bytes"),
        ({"alias": "\u00e9" * 128}, InvalidParams, "alias has 256 bytes"),
        ({"alias": "a\0b"}, InvalidParams, "alias 'a\\x00b' has a NUL in it"),
        ({"alias": "\ud800"}, InvalidParams, "alias '\\ud800' is no text"),
    )
    for fields, kind, message in refusals:
        for letter in "ab":
            wrong, right = EndChange(**fields), EndChange(mtu=1234)
            change = PairChange(wrong, right) if letter == "a" else PairChange(right, wrong)
            with pytest.raises(kind) as refused:
                await house.supervisor.changer.setlink(pair, change, "")
            assert (refused.value.message, bool(refused.value.hint)) == (f"end {letter}: {message}", True)
    await house.handled_events()
    assert pair.generation == before
    assert (seen(pair.a, two[0]).mtu, seen(pair.b, two[1]).mtu) == (1500, 1500)


async def test_the_longest_alias_there_can_be(house: House, two: tuple[str, str]) -> None:
    pair = await house.newlink(*two)
    await set_end(house, pair, "a", alias="\u00e9" * 127 + "x")
    assert seen(pair.a, two[0]).attributes["IFLA_IFALIAS"] == "\u00e9" * 127 + "x"


@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_a_name_that_is_taken_is_found_before_anything_happens(
    house: House, two: tuple[str, str], netns: Namespaces, placement: Placement
) -> None:
    """A device that moves loses its IP addresses for good."""
    pair, there = await house.newlink(*two, placement=placement), netns.make()
    for where in (two[0], there):
        ip(where, "link", "add", "name", "vtptaken", "type", "bridge")
    ip(two[0], "address", "add", "192.0.2.1/24", "dev", pair.a.ifname)
    name, before = pair.a.ifname, seen(pair.a, two[0])
    await house.handled_events()
    generation = pair.generation
    for place in (None, there):
        with pytest.raises(LinkExists) as refused:
            await set_end(house, pair, "a", place, ifname="vtptaken", mtu=9000)
        assert refused.value.message == "end a: name 'vtptaken' exists in the namespace already"
    ip(there, "link", "add", "name", name, "type", "bridge")
    with pytest.raises(LinkExists, match=f"end a: name '{name}' exists in the namespace already"):
        await set_end(house, pair, "a", there, mtu=9000)
    await house.handled_events()
    assert pair.generation == generation
    assert (seen(pair.a, two[0]).mtu, pair.a.ifname) == (before.mtu, name)
    assert "192.0.2.1" in ip(two[0], "address", "show", "dev", name).out
    await house.assert_wire(pair, two)


async def test_there_is_no_worker_of_that_number(house: House, two: tuple[str, str]) -> None:
    pair = await house.newlink(*two)
    with pytest.raises(InvalidParams, match="worker 1: there are workers 0 to 0") as refused:
        await house.supervisor.changer.setlink(pair, PairChange(EndChange(mtu=9000), worker=1), "")
    assert refused.value.hint
    assert seen(pair.a, two[0]).mtu == 1500


async def test_a_generation_that_was_is_refused_and_named(house: House, two: tuple[str, str]) -> None:
    pair = await house.newlink(*two)
    await house.handled_events()
    before = pair.generation
    setlink = house.supervisor.changer.setlink
    await setlink(pair, PairChange(EndChange(mtu=1400)), "", before)
    message = f"pair {pair.uuid} has generation {pair.generation}, not {before}"
    with pytest.raises(StaleGeneration, match=message):
        await setlink(pair, PairChange(EndChange(mtu=1300), labels={"a": "b"}), "", before)
    assert (seen(pair.a, two[0]).mtu, pair.labels) == (1400, {})
    ip(two[0], "link", "set", "dev", pair.a.ifname, "mtu", "1350")
    seen_then = pair.generation
    await soon(lambda: pair.generation, lambda now: now > seen_then, "what `ip` did is a change, too")
    with pytest.raises(StaleGeneration):
        await setlink(pair, PairChange(EndChange(mtu=1300)), "", seen_then)
