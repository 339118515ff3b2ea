"""Each check of a chaos run finds what it is there for."""

from __future__ import annotations

import struct
from collections import Counter
from typing import Any

import pytest

from tests.chaos.invariants import GROWTH, TUN, Inspector, crowd, descriptors, growth, hoard
from tests.chaos.traffic import Way
from tests.chaos.world import World
from tests.kit.commands import ip
from tests.kit.netns import fresh_name, socket_in
from tests.kit.waiting import eventually

NUMBER = 50  # where the number of a frame stands


@pytest.fixture
def way() -> Way:
    """One direction of pair 7, through which five frames of each flow were sent."""
    way = Way(7, 0)
    way.sent = [5] * len(way.sent)
    return way


def frame(way: Way, number: int, flow: int = 0) -> bytes:
    data = bytearray(way.frames[flow])
    struct.pack_into("!I", data, NUMBER, number)
    return bytes(data)


def test_frames_that_are_missing_are_no_fault(way: Way) -> None:
    assert [way.take(frame(way, number)) for number in (0, 1, 4)] == [None] * 3
    assert way.take(frame(way, 2, flow=1)) is None


@pytest.mark.parametrize(
    ("numbers", "fault"),
    [
        ((1, 1), "pair 7 a->b flow 0: frame 1 after frame 1"),
        ((3, 2), "pair 7 a->b flow 0: frame 2 after frame 3"),
        ((5,), "pair 7 a->b flow 0: frame 5 arrived of 5 that were sent"),
    ],
)
def test_frames_that_come_twice_or_late_or_were_never_sent(way: Way, numbers: tuple[int, ...], fault: str) -> None:
    assert [way.take(frame(way, number)) for number in numbers][-1] == fault


def test_frames_of_others_and_changed_ones(way: Way) -> None:
    other = Way(7, 1)
    assert way.take(frame(other, 0)) == "pair 7 a->b: a frame of pair 7, direction 1 arrived"
    assert way.take(frame(Way(8, 0), 0)) == "pair 7 a->b: a frame of pair 8, direction 0 arrived"
    changed = frame(way, 3)[:-1] + b"?"
    assert str(way.take(changed)).startswith("pair 7 a->b flow 0: frame 3 is not as it was sent")
    assert str(way.take(frame(way, 3)[:-1])).startswith("pair 7 a->b flow 0: frame 3 is not as it was sent")
    assert str(way.take(bytes(20))).startswith("pair 7 a->b: a frame of 20 bytes that nobody sent")


def test_descriptors_that_are_missing_or_too_many() -> None:
    before = {"supervisor": Counter(socket=3), "worker 0": Counter(socket=1)}
    well = {"supervisor": Counter({TUN: 4, "socket": 3}), "worker 0": Counter({TUN: 4})}
    assert descriptors(well, 4, before) == []
    assert descriptors(well, 2, before) == [
        "the supervisor holds 4 TAP descriptors for 2 queues",
        "the workers hold 4 TAP descriptors for 2 queues",
    ]
    well["worker 0"]["net"] = 1
    assert descriptors(well, 4, before) == ["worker 0 holds more descriptors than before: {'net': 1}"]


def test_descriptors_that_are_kept_too_long_or_twice() -> None:
    kept = Counter(("staging", "counters", "one end", "the other"))
    assert hoard(kept, 2) == []
    assert hoard(kept, 1) == ["4 descriptors are kept for 1 queues"]
    kept["staging"] += 1
    assert hoard(kept, 2) == ["2 descriptors are kept as staging"]


def test_processes_that_are_missing_or_too_many_or_dead() -> None:
    states = dict.fromkeys(range(5), "S (sleeping)")
    assert crowd(range(5), range(3), states) == []
    assert len(crowd(range(6), range(3), states)) == 1
    assert len(crowd(range(5), range(2), states)) == 1
    assert crowd(range(5), range(3), states | {4: "Z (zombie)"}) == ["process 4 is Z (zombie)"]


def test_growth() -> None:
    before = {"supervisor": 40_000, "worker 0": 30_000}
    assert growth({"supervisor": 41_000, "worker 0": 30_000, "worker 1": 99_000}, before) == []
    size = 40_001 + GROWTH * 1024
    assert growth({"supervisor": size}, before) == [f"supervisor has grown from 40000 to {size} KiB"]


def test_a_world_that_is_not_as_it_should_be(world: World) -> None:
    """One thing after the other is done behind its back, and undone."""
    world.places += [world.netns.make(), world.netns.make()]
    red, blue = world.places
    wire, spoilt = (world.made(world.ask("link.add", **_between(red, blue))) for _ in range(2))
    inspector = Inspector(world)

    def found(*words: str) -> None:
        eventually(inspector.faults, lambda faults: all(any(w in f for f in faults) for w in words), str(words))

    def well() -> None:
        eventually(inspector.faults, lambda faults: not faults, "nothing is wrong", 10)

    well()
    ip(red, "tuntap", "add", "vtcmore", "mode", "tap")
    found(f"{red}/vtcmore is a device, and not in link.list")
    ip(red, "link", "delete", "vtcmore")
    wire.ends[0].name, name = "else", wire.ends[0].name
    found("end a is said to be")
    wire.ends[0].name = name
    del world.wires[wire.number]
    found("is there unasked")
    world.wires[wire.number] = wire
    doomed = world.netns.make()
    with socket_in(doomed, 2, 1):
        world.netns.delete(doomed)
        found(f"namespace {doomed} was deleted and lives")
    world.ask("link.del", pair=spoilt.uuid)
    found("not in link.list")
    world.gone(spoilt)
    world.traffic.faults.append("a frame came twice")
    found("a frame came twice")
    world.traffic.faults.clear()
    well()
    inspector.bring_up()
    assert inspector.silent() == [f"{wire}: nothing arrives {way}, 0 < 0" for way in world.traffic.lines[1].ways]
    world.traffic.go()
    inspector.check()


def _between(red: str, blue: str) -> dict[str, Any]:
    return {"a": {"ifname": fresh_name("a"), "netns": red, "up": True}, "b": {"ifname": fresh_name("b"), "netns": blue}}
