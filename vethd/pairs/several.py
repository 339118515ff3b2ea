"""newlink of several pairs: all of them, or none.

What all of them shall be is checked first, that no name is there already or asked for twice, and that there is room.
Then a few are made at a time, so that the `create` thread need not wait for a worker or for the event loop; others get
their turn in between. When one fails, those that are there are deleted again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import Final

from vethd.errors import LimitReached, LinkExists, VethdError, name_taken
from vethd.host import netns
from vethd.host.rtnl import Rtnl
from vethd.host.threads import HostThreads
from vethd.pairs.attach import find_bridge
from vethd.pairs.create import Creator, deleted, step
from vethd.pairs.delete import Deleter
from vethd.pairs.pair import Pair
from vethd.pairs.registry import Registry
from vethd.pairs.spec import PairSpec

#: Pairs that are made at a time.
AT_ONCE: Final = 4


async def newlinks(
    specs: list[PairSpec], creator: Creator, deleter: Deleter, registry: Registry, threads: HostThreads
) -> list[Pair]:
    """Make several pairs; they are in the order of the specs.

    Raises the VethdError of the first one that failed, see `of_pair`; nothing of any pair is left then.
    """
    for index, spec in enumerate(specs):
        with of_pair(index):
            spec.validate()
    _check_twice(specs)
    await threads.create(_check_names, specs, threads.staging)
    needed = sum(spec.numqueues for spec in specs)
    try:
        creator.check_room(needed)
    except LimitReached as error:
        raise LimitReached(f"pairs: {error.message}", hint=error.hint, errno=error.errno) from error
    try:
        numbers = iter(await creator.numbers(needed))
    except LimitReached as error:
        raise LimitReached(
            f"pairs: {len(specs)} pairs need {needed} queues, {registry.free} are left", hint=error.hint
        ) from error
    made: dict[int, Pair] = {}
    errors: dict[int, Exception] = {}
    waiting = ((index, spec, tuple(islice(numbers, 2 * spec.numqueues))) for index, spec in enumerate(specs))

    async def make() -> None:
        for index, spec, mine in waiting:
            if errors:
                registry.give_numbers(mine)
                continue
            try:
                made[index] = await creator.make(spec, mine)
            except Exception as error:  # noqa: BLE001 - raised below, when nothing is left of the others
                errors[index] = error

    await asyncio.gather(*(make() for _ in range(AT_ONCE)))
    for index, pair in made.items():
        if not pair.is_live():
            errors[index] = deleted("one of the ends")
    if errors:
        await asyncio.gather(*(_undo(pair, deleter) for pair in made.values()))
        first = min(errors)
        with of_pair(first):
            raise errors[first]
    return [made[index] for index in range(len(specs))]


@contextmanager
def of_pair(index: int) -> Iterator[None]:
    """Let a VethdError of the body say which pair of the request it is about."""
    try:
        yield
    except VethdError as error:
        raise type(error)(f"pairs.{index}: {error.message}", hint=error.hint, errno=error.errno) from error


def _check_twice(specs: list[PairSpec]) -> None:
    """Raise LinkExists when two ends shall have one name in one namespace; a pattern finds a free one."""
    seen: dict[tuple[tuple[int, int], str], str] = {}
    for index, spec in enumerate(specs):
        for end in (spec.a, spec.b):
            if "%" in end.ifname:
                continue
            where = f"pairs.{index}: end {end.letter}"
            first = seen.setdefault((netns.identity(end.netns), end.ifname), where)
            if first is not where:
                error = name_taken(end.letter, end.ifname)
                raise LinkExists(f"{where}: name {end.ifname!r} is that of {first}", hint=error.hint, errno=error.errno)


def _check_names(specs: list[PairSpec], staging: int) -> None:
    """Raise LinkExists when a name is there already. Runs on the `create` thread."""
    there: dict[tuple[int, int], Rtnl] = {}
    with ExitStack() as sockets:
        for index, spec in enumerate(specs):
            for end in (spec.a, spec.b):
                with of_pair(index), step(end, "looking for its name"):
                    place = netns.identity(end.netns)
                    if place not in there:
                        with netns.inside(end.netns, staging):
                            there[place] = sockets.enter_context(Rtnl())
                    if "%" not in end.ifname and there[place].has_link(end.ifname):
                        raise name_taken(end.letter, end.ifname)
                if end.attached.port is not None:
                    with of_pair(index):
                        find_bridge(there[place], end.attached.port, f"end {end.letter}")


async def _undo(pair: Pair, deleter: Deleter) -> None:
    await deleter.dellink(pair, "the creation of another one failed")
    await deleter.closed(pair)
