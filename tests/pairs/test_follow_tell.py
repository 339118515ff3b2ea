"""However fast somebody changes an end, its worker is told what it is, not what it was in between."""

from __future__ import annotations

import asyncio
from unittest.mock import patch

import pytest

from tests.kit.commands import run
from tests.kit.packets import PacketSocket
from tests.pairs.house import House, assert_wire_has_mtu, soon
from vethd.pairs.pair import End

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_one_message_is_under_way_at_a_time(house: House, two: tuple[str, str]) -> None:
    pair = await house.newlink(*two)
    workers = house.supervisor.workers
    really, under_way, most, told = workers.tell, 0, 0, 0

    async def tell(end: End) -> None:
        nonlocal under_way, most, told
        under_way += 1
        most, told = max(most, under_way), told + 1
        await asyncio.sleep(0.05)  # a worker that is busy
        await really(end)
        under_way -= 1

    changes = 300
    lines = "".join(f"link set dev {pair.b.ifname} mtu {mtu}\n" for mtu in [*range(1501, 1500 + changes), 1000])
    with patch.object(workers, "tell", tell):
        await asyncio.to_thread(run, "ip", "-n", two[1], "-batch", "-", given=lines)
        await soon(lambda: pair.b.mtu, lambda mtu: mtu == 1000, "the picture is right")
        await house.handled_events()
    assert (most, under_way) == (1, 0)
    assert 0 < told < changes / 10
    with PacketSocket(two[0], pair.a.ifname) as a, PacketSocket(two[1], pair.b.ifname) as b:
        await assert_wire_has_mtu(a, b, 1000)  # the last change is known
