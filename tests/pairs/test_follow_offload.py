"""When the kernel keeps refusing headers from an end, that end's kernel is told to do more of the work itself."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.kit.commands import Answer, in_netns, run
from tests.kit.daemon import PROGRAMS
from tests.kit.ippackets import IPPROTO_TCP, offloaded, packet
from tests.kit.packets import PacketSocket
from tests.pairs.house import House
from vethd.host import tap
from vethd.pairs.pair import End

pytestmark = pytest.mark.asyncio(loop_scope="module")

SEGMENT, PAYLOAD, HEADERS = 1000, bytes(4000), 54


async def refuse_headers(house: House, end: End, frames: int = 0) -> None:
    """Report what a worker reports when the kernel refused so many headers of this end's frames; 0: as many again."""
    house.supervisor.follower.hdr_invalid(end, frames or max(16, 2 * end.hdr_invalid_seen))
    await house.handled_events()


def vethctl(house: House, *words: str) -> Answer:
    return run(str(PROGRAMS / "vethctl"), "-S", house.socket, *words)


async def shown(house: House, end: End) -> dict[str, Any]:
    """What `vethctl -j -d link show` says of an end."""
    rows = await asyncio.to_thread(lambda: vethctl(house, "-j", "-d", "link", "show").json())
    (row,) = [dict(row) for row in rows if row["ifname"] == end.ifname]
    return row


def features(netns: str, name: str) -> dict[str, bool]:
    """What `ethtool -k` says is on."""
    lines = in_netns(netns, "ethtool", "-k", name).out.splitlines()[1:]
    return {name.strip(): value.strip().startswith("on") for name, _, value in (line.partition(":") for line in lines)}


def crossing(source: tuple[str, str], target: tuple[str, str]) -> list[int]:
    """Send one TCP frame that is still to be cut in four; the lengths of what arrives."""
    macs = "ff:ff:ff:ff:ff:ff", "02:76:74:70:00:01"
    data = packet(*macs, "192.0.2.1", "192.0.2.2", protocol=IPPROTO_TCP, payload=PAYLOAD, partial=True)
    arrived: list[int] = []
    with PacketSocket(*source, vnet_hdr=True) as sender, PacketSocket(*target, vnet_hdr=True) as receiver:
        sender.send(data, offloaded(data, IPPROTO_TCP, SEGMENT))
        while sum(arrived) < len(PAYLOAD) and (arrival := receiver.receive(2.0)) is not None:
            arrived.append(len(arrival.data))
    return arrived


async def test_the_sender_is_lowered_step_by_step(house: House, two: tuple[str, str]) -> None:
    """Each step takes something from the features of the device, and the last one everything."""
    pair = await house.newlink(*two)
    values = [value for value, _hdr_len in tap.OFFLOADS]
    before, other = features(two[0], pair.a.ifname), features(two[1], pair.b.ifname)
    steps = values[values.index(pair.a.offload) + 1 :]
    assert steps[-1] == 0
    for lower in steps:
        await refuse_headers(house, pair.a)
        assert pair.a.offload == lower
        now = features(two[0], pair.a.ifname)
        assert {name for name, on in now.items() if on} < {name for name, on in before.items() if on}
        before = now
    assert not before["tx-checksumming"]
    assert not before["tcp-segmentation-offload"]
    await refuse_headers(house, pair.a)
    assert len(house.lines("offload lowered")) == len(steps), "less than nothing is not possible"
    assert features(two[1], pair.b.ifname) == other, "the receiver is left as it is"


async def test_link_show_says_what_is_on_and_why(house: House, two: tuple[str, str]) -> None:
    pair = await house.newlink(*two)
    assert (await shown(house, pair.a))["offload_why"] == ""
    await refuse_headers(house, pair.a, 32)
    row = await shown(house, pair.a)
    assert row["offload_why"] == "the kernel refused 32 virtio headers (EINVAL)"
    assert row["offload"] == tap.offload_names(pair.a.offload)
    assert (await shown(house, pair.b))["offload_why"] == ""
    text = await asyncio.to_thread(lambda: vethctl(house, "-d", "link", "show").out)
    assert f"    offload {' '.join(row['offload'])} (the kernel refused 32 virtio headers (EINVAL))\n" in text


async def test_the_wire_carries_on_with_what_is_left(house: House, two: tuple[str, str]) -> None:
    """The virtio header keeps its length, and a frame crosses whole until the sender's kernel has to cut it."""
    pair = await house.newlink(*two)
    a, b = (two[0], pair.a.ifname), (two[1], pair.b.ifname)
    while pair.a.offload:
        assert await asyncio.to_thread(crossing, a, b) == [HEADERS + len(PAYLOAD)]
        await refuse_headers(house, pair.a)
    assert await asyncio.to_thread(crossing, a, b) == [HEADERS + SEGMENT] * 4
    assert await asyncio.to_thread(crossing, b, a) == [HEADERS + len(PAYLOAD)]


async def test_the_word_comes_from_a_worker(house: House, two: tuple[str, str]) -> None:
    """A report of the worker that has the pair is believed; of another one, or of a number nobody has, it is not."""
    pair = await house.newlink(*two)
    before = pair.b.offload
    workers = house.supervisor.workers
    ((slot, _ready),) = workers.serving()
    assert slot.child is not None
    workers._on_report(slot.child, {"op": "hdr_invalid", "end": 7, "frames": 16})
    await house.handled_events()
    assert [end.offload for end in pair.ends] == [before, before]
    workers._on_report(slot.child, {"op": "hdr_invalid", "end": pair.b.number, "frames": 16})
    await house.handled_events()
    assert pair.a.offload == before
    assert pair.b.offload == tap.lower_offload(before)


async def test_what_each_queue_reports_lowers_it_once(house: House, two: tuple[str, str]) -> None:
    """The workers of an end's queues count for themselves; it is one and the same trouble."""
    pair = await house.newlink(*two, numqueues=3)
    before = pair.a.offload
    for _queue in range(3):
        await refuse_headers(house, pair.a, 16)
    assert pair.a.offload == tap.lower_offload(before)
    await refuse_headers(house, pair.a, 32)
    assert pair.a.offload == tap.lower_offload(tap.lower_offload(before))


async def test_a_report_about_a_pair_that_went_is_nothing(house: House, two: tuple[str, str]) -> None:
    pair = await house.newlink(*two)
    await house.dellink(pair)
    await refuse_headers(house, pair.a)
    assert house.lines("offload lowered") == []
