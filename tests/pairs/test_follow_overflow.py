"""Lost link events (ENOBUFS) lead to a picture that is right again, never to a stale one.

The event socket gets a small buffer, and the loop stands still while the world changes: every `ip` here blocks it.
"""

from __future__ import annotations

import errno
import os
import signal
import socket

import pytest

from tests.kit.commands import ip, run
from tests.kit.links import link_exists, read_link
from tests.kit.netns import Namespaces, netns_inode
from tests.pairs.faults import Fault, refuse
from tests.pairs.house import House, soon
from tests.pairs.killing import DIED
from vethd.host import tap
from vethd.pairs import carrier, follow
from vethd.pairs.pair import End, Pair
from vethd.pairs.stats import kernel_stats

pytestmark = pytest.mark.asyncio(loop_scope="module")

SO_RCVBUFFORCE = 33
LOST = "link events lost, asking every end"
#: Buffer for a handful of events, and for several hundred: more than the follower reads in one turn of the loop.
FEW, MANY = 8 << 10, 1 << 20


def give_room(house: House, size: int) -> None:
    """Give the event socket a buffer of `size` bytes, as the kernel counts them."""
    events = house.supervisor.follower._events
    assert events is not None
    events.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size // 2)  # the kernel doubles it


def flood(netns: str, name: str, changes: int) -> None:
    """Change the MTU of a link so often that the buffer overflows; it is 1500 again in the end."""
    lines = "".join(f"link set dev {name} mtu {1000 + number % 400}\n" for number in range(changes))
    run("ip", "-n", netns, "-batch", "-", given=lines + f"link set dev {name} mtu 1500\n")


def deafen(house: House, netns: str, name: str) -> None:
    """Let no further event through until the follower has run."""
    give_room(house, FEW)
    flood(netns, name, 40)


async def hear_again(house: House) -> None:
    """Let the follower run until it knows that it missed something."""
    await soon(lambda: house.lines(LOST), bool, "the loss is noticed")
    give_room(house, 16 << 20)


def right(pair: Pair, where: dict[str, str]) -> bool:
    """Whether the picture of both ends is what the kernel says; where: the namespace of each end."""

    def same(end: End) -> bool:
        state = read_link(where[end.letter], end.ifname)
        picture = (end.ifindex, end.mtu, end.address, end.txqlen, end.up, end.netns[1])
        return picture == (
            *(state.ifindex, state.mtu, state.address, state.txqlen, state.up),
            netns_inode(where[end.letter]),
        )

    return all(link_exists(where[end.letter], end.ifname) and same(end) for end in pair.ends)


async def test_changes_that_went_unheard_are_seen(house: House, two: tuple[str, str]) -> None:
    pair = await house.newlink(*two)
    deafen(house, two[0], pair.a.ifname)
    ip(two[0], "link", "set", "dev", pair.a.ifname, "mtu", "1234", "address", "02:76:74:70:00:01", "txqueuelen", "77")
    ip(two[1], "link", "set", "dev", pair.b.ifname, "name", "vtpunheard")
    await hear_again(house)
    await soon(lambda: pair.b.ifname, lambda name: name == "vtpunheard", "the new name is seen")
    await soon(lambda: (pair.a.mtu, pair.a.txqlen), lambda seen: seen == (1234, 77), "the new MTU is seen")
    assert right(pair, {"a": two[0], "b": two[1]})


async def test_what_is_still_in_the_buffer_cannot_undo_the_picture(house: House, two: tuple[str, str]) -> None:
    """The events that did arrive are older than what the kernel answered: read after it, they would be believed."""
    pair = await house.newlink(*two)
    for _ in range(5):
        give_room(house, MANY)
        flood(two[0], pair.a.ifname, 1000)
        await hear_again(house)
        ip(two[1], "link", "set", "dev", pair.b.ifname, "alias", "the last event")
        await house.handled_events()
        assert right(pair, {"a": two[0], "b": two[1]})
        house.log.clear()


async def test_the_carrier_follows_what_went_unheard(house: House, two: tuple[str, str]) -> None:
    pair = await house.newlink(*two)
    for state, on in (("down", False), ("up", True)):
        deafen(house, two[0], pair.a.ifname)
        ip(two[1], "link", "set", "dev", pair.b.ifname, state)
        await hear_again(house)
        await soon(lambda: carriers(pair, two), lambda seen, on=on: seen == (on, on), "the carrier of both ends")  # type: ignore[misc]
        house.log.clear()


async def test_a_move_that_went_unheard_is_found(house: House, two: tuple[str, str], netns: Namespaces) -> None:
    pair, away = await house.newlink(*two), netns.make()
    deafen(house, two[0], pair.a.ifname)
    ip(two[0], "link", "set", "dev", pair.a.ifname, "netns", away)
    ip(away, "link", "set", "dev", pair.a.ifname, "up")
    await hear_again(house)
    await soon(lambda: pair.a.netns[1], lambda inode: inode == netns_inode(away), "the new place is known")
    await soon(lambda: read_link(away, pair.a.ifname).qdisc, lambda qdisc: qdisc == "noqueue", "its qdisc")
    await soon(lambda: read_link(two[1], pair.b.ifname).carrier, bool, "the carrier is back")
    ip(away, "link", "set", "dev", pair.a.ifname, "mtu", "1300")
    await soon(lambda: pair.a.mtu, lambda mtu: mtu == 1300, "events from the new place are heard")


async def test_a_move_there_and_back_between_two_looks_is_noticed(
    house: House, two: tuple[str, str], netns: Namespaces
) -> None:
    """The end is where it was; but a move brings it down and takes its qdisc, whoever saw it."""
    pair, away = await house.newlink(*two), netns.make()
    for source, target in ((two[0], away), (away, two[0])):
        ip(source, "link", "set", "dev", pair.a.ifname, "netns", target)
    ip(two[0], "link", "set", "dev", pair.a.ifname, "up")
    assert read_link(two[0], pair.a.ifname).qdisc != "noqueue"
    await soon(lambda: read_link(two[0], pair.a.ifname).qdisc, lambda qdisc: qdisc == "noqueue", "its qdisc is back")
    await soon(lambda: carriers(pair, two), lambda seen: seen == (True, True), "the carrier is back")
    assert house.lines("link moved") == []


async def test_a_namespace_that_dies_is_noticed_without_the_worker(
    house: House, two: tuple[str, str], netns: Namespaces
) -> None:
    """A worker that reads hears of it too; this one hangs."""
    house.expect(*DIED)
    pair = await house.newlink(*two)
    ((_slot, ready),) = house.supervisor.workers.serving()
    os.kill(ready["pid"], signal.SIGSTOP)
    house.hurry_worker()
    netns.delete(two[1])
    await soon(lambda: link_exists(two[0], pair.a.ifname), lambda there: not there, "the twin is gone")


async def test_a_deletion_that_went_unheard_takes_the_twin(house: House, two: tuple[str, str]) -> None:
    pair = await house.newlink(*two)
    deafen(house, two[0], pair.a.ifname)
    ip(two[1], "link", "del", pair.b.ifname)
    await hear_again(house)
    await soon(lambda: link_exists(two[0], pair.a.ifname), lambda there: not there, "the twin is gone")
    await soon(lambda: len(house.supervisor.registry), lambda pairs: pairs == 0, "the entry is gone")


async def test_a_namespace_that_died_unheard_takes_the_twin(
    house: House, two: tuple[str, str], netns: Namespaces
) -> None:
    pair, doomed = await house.newlink(*two), await house.newlink(two[0], netns.make())
    deafen(house, two[0], pair.a.ifname)
    netns.delete(next(name for name in netns if name not in two))
    await hear_again(house)
    await soon(lambda: link_exists(two[0], doomed.a.ifname), lambda there: not there, "the twin is gone")
    await soon(lambda: list(house.supervisor.registry), lambda pairs: pairs == [pair], "the entry is gone")


async def test_events_after_the_loss_are_heard(house: House, two: tuple[str, str]) -> None:
    pair = await house.newlink(*two)
    deafen(house, two[0], pair.a.ifname)
    await hear_again(house)
    ip(two[0], "link", "set", "dev", pair.a.ifname, "mtu", "1333")
    await soon(lambda: pair.a.mtu, lambda mtu: mtu == 1333, "the new MTU is seen")
    assert len(house.lines(LOST)) == 1


async def test_an_answer_that_failed_is_asked_again(
    house: House, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "RETRY", 0.02)
    house.expect("end not reached, trying again")
    pair = await house.newlink(*two)
    with Fault(tap, "current_netns", 1, refuse(errno.EMFILE)) as fault:
        deafen(house, two[0], pair.a.ifname)
        ip(two[0], "link", "set", "dev", pair.a.ifname, "mtu", "1212")
        await hear_again(house)
        await soon(lambda: pair.a.mtu, lambda mtu: mtu == 1212, "the new MTU is seen")
    assert fault.happened


async def test_counters_are_read_where_the_device_is(house: House, two: tuple[str, str], netns: Namespaces) -> None:
    """Not where it was: a worker may die in the moment of a move, and what it held is computed from these counters."""
    pair, away = await house.newlink(*two), netns.make()
    ip(two[0], "link", "set", "dev", pair.a.ifname, "netns", away)
    ip(two[1], "link", "set", "dev", pair.b.ifname, "address", "02:76:74:70:00:02")
    stats = await kernel_stats(list(pair.ends), house.supervisor.threads)
    assert stats.keys() == {pair.a.number, pair.b.number}
    pair.a.ifindex, ifindex = 1, pair.a.ifindex  # there is a device, but not this one: lo
    assert (await kernel_stats([pair.a], house.supervisor.threads)).keys() == {pair.a.number}
    pair.a.ifindex = ifindex
    await house.handled_events()
    await house.dellink(pair)
    assert await kernel_stats(list(pair.ends), house.supervisor.threads) == {}


@pytest.mark.parametrize("nth", [1, 2])
async def test_a_carrier_that_could_not_be_set_is_set_again(
    house: House, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    monkeypatch.setattr(carrier, "RETRY", 0.02)
    house.expect("carrier not set, trying again")
    pair = await house.newlink(*two)
    for state, on in (("down", False), ("up", True)):
        with Fault(tap, "set_carrier", nth, refuse(errno.EMFILE)) as fault:
            ip(two[0], "link", "set", "dev", pair.a.ifname, state)
            await soon(lambda: fault.happened, bool, "the fault was met")
            await soon(lambda: carriers(pair, two), lambda seen, on=on: seen == (on, on), "the carrier of both ends")  # type: ignore[misc]


def carriers(pair: Pair, two: tuple[str, str]) -> tuple[bool, bool]:
    return read_link(two[0], pair.a.ifname).carrier, read_link(two[1], pair.b.ifname).carrier
