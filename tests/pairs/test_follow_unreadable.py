"""A device that its worker can't read although it exists is given to a worker again, and the trouble is logged."""

from __future__ import annotations

import pytest

from tests.kit.processes import tap_fds
from tests.pairs.house import House, soon

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_worker_that_gave_a_living_device_up_gets_it_again(house: House, two: tuple[str, str]) -> None:
    """Frames cross again afterwards."""
    pair = await house.newlink(*two)
    workers, follower = house.supervisor.workers, house.supervisor.follower
    await workers.release(pair)  # as if the worker had stopped reading
    assert workers.serving()[0][0].queues == {}
    follower.gone(pair.a)
    await soon(lambda: list(workers.serving()[0][0].pairs), lambda pairs: pairs == [pair], "a worker has the pair")
    await house.assert_wire(pair, two)
    assert len(house.lines("end unreadable, its worker tries again")) == 1
    house.expect("end unreadable, its worker tries again")


async def test_a_pair_deleted_meanwhile_is_not_given_to_a_worker(house: House, two: tuple[str, str]) -> None:
    pair = await house.newlink(*two)
    house.supervisor.follower.gone(pair.a)
    await house.dellink(pair)
    await house.handled_events()
    assert house.supervisor.workers.serving()[0][0].queues == {}


async def test_a_pair_with_both_ends_given_up_is_taken_once(house: House, two: tuple[str, str]) -> None:
    """Taken twice, its descriptors would be held twice, and one of them for ever."""
    house.expect("end unreadable, its worker tries again")
    pair = await house.newlink(*two)
    ((slot, ready),) = house.supervisor.workers.serving()
    for end in pair.ends:
        house.supervisor.follower.gone(end)
    await house.handled_events()
    assert (tap_fds(ready["pid"]), list(slot.pairs)) == (2, [pair])
    await house.assert_wire(pair, two)
    await house.dellink(pair)
    assert tap_fds(ready["pid"]) == 0
