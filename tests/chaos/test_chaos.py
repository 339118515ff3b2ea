"""A chaos run: random actions on a daemon with 50 pairs and checked traffic; then everything is as it should be.

The same seed leads to the same actions. `make chaos SEED=n MINUTES=m` runs longer, and other seeds.
"""

from __future__ import annotations

import os
import time

import pytest

from tests.chaos.actions import (
    ACTIONS,
    LEAST,
    add_several,
    hang_worker,
    kill_all_busy,
    kill_busy_worker,
    reload,
)
from tests.chaos.invariants import Inspector
from tests.chaos.world import World

SEED = int(os.environ.get("CHAOS_SEED", "1"))
MINUTES = float(os.environ.get("CHAOS_MINUTES", "0"))
#: Actions of a short run, and after how many everything is checked.
STEPS, CHECK = 50, 25
#: What is done right before a check, in turn: of these it has most to say, and their traces are still there.
LAST = ((kill_busy_worker, hang_worker), (kill_all_busy,))
PAIRS, PLACES, STATIC = 50, 12, 6


@pytest.mark.parametrize("world", [(SEED, bool(MINUTES))], indirect=True)
def test_chaos(world: World) -> None:
    world.begin("start")
    world.places += [world.netns.make() for _ in range(PLACES)]
    world.wishes += [world.new_wish() for _ in range(STATIC)]
    reload(world)
    for row in world.ask("link.add", pairs=[world.wanted_pair() for _ in range(PAIRS - STATIC)]):
        world.made(row)
    inspector = Inspector(world)
    world.traffic.go()
    names, weights = list(ACTIONS), list(ACTIONS.values())
    end, step = time.monotonic() + MINUTES * 60, 0
    while step < STEPS or time.monotonic() < end:
        step += 1
        world.begin(f"step {step}")
        random = world.random.choices(names, weights)
        for action in random if step % CHECK else LAST[step // CHECK % len(LAST)]:
            action(world)
        if len(world.wires) < LEAST:
            add_several(world)
        if step % CHECK == 0:
            inspector.check()
            world.say(f"all is well: {inspector.figures[-1]}")
