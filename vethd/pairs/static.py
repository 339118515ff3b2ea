"""`StaticPairs`: makes the pairs of origin config what they shall be, and leaves all others alone.

desired.py says what is to be done; here it is done, pair by pair: each as a whole or not at all, whatever became of the
others. Only one apply runs at a time, so that each finds what the one before it left.

A pair of which nothing but its descriptors outlived the last daemon has lost its name. It is the static pair that has
an end where one of its ends is, and of the same name: it is called so again, and is changed to what it shall be.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, get_args
from uuid import UUID

from structlog.typing import FilteringBoundLogger

from vethd.errors import ShuttingDown, VethdError
from vethd.host import netns
from vethd.host.threads import HostThreads
from vethd.pairs.attach import attachments
from vethd.pairs.attachment import attachment
from vethd.pairs.change import Changer
from vethd.pairs.create import Creator
from vethd.pairs.delete import Deleter
from vethd.pairs.desired import (
    LETTERS,
    Action,
    Place,
    State,
    Step,
    as_change,
    open_about,
    plan,
    present_state,
    wished_state,
    wrong,
)
from vethd.pairs.journal import Journal
from vethd.pairs.pair import Letter, Pair, describe
from vethd.pairs.places import Open, enter, to_be_made
from vethd.pairs.registry import Registry
from vethd.pairs.spec import MTU_DEFAULT, EndSpec, PairSpec
from vethd.pairs.static_bridges import StaticBridges
from vethd.rpc.schema.config import StaticBridge, StaticEnd, StaticPair


@dataclass(slots=True)
class Row:
    """What became of one pair, or bridge. pair: its uuid, None while there is none. error: why it failed, else None."""

    step: Step
    pair: UUID | None = None
    error: VethdError | None = None


class StaticPairs:
    """The pairs of origin config; one per daemon."""

    def __init__(
        self,
        threads: HostThreads,
        registry: Registry,
        creator: Creator,
        changer: Changer,
        deleter: Deleter,
        bridges: StaticBridges,
        journal: Journal,
        log: FilteringBoundLogger,
    ) -> None:
        self._threads = threads
        self._bridges = bridges
        self._registry = registry
        self._creator = creator
        self._changer = changer
        self._deleter = deleter
        self._journal = journal
        self._log = log
        self._lock = asyncio.Lock()
        self._stopping = False

    async def apply(
        self,
        wishes: Iterable[StaticPair],
        bridges: Iterable[StaticBridge],
        opened: Open,
        reason: str,
        *,
        prune: bool,
        dry_run: bool = False,
    ) -> list[Row]:
        """Make the pairs that are wished for, change those that differ, and with `prune` remove all others.

        wishes: with names that differ. bridges: that shall be there before. opened: see Open.
        reason: for the log; who or what wanted it.
        dry_run: only say what would be done.
        """
        async with self._lock:
            bridge_rows, unwanted = await self._bridges.apply(bridges, opened, reason, dry_run=dry_run)
            present = self._present()
            wished: dict[str, StaticPair] = {}
            wanted: dict[str, State] = {}
            refused: dict[str, VethdError] = {}
            for wish in wishes:
                wished[wish.name] = wish
                try:
                    wanted[wish.name] = self._wanted(wish, opened)
                except VethdError as error:
                    refused[wish.name] = error
            present |= self._nameless({name: state for name, state in wanted.items() if name not in present})
            for name in wanted.keys() & present.keys():
                wanted[name] = open_about(wanted[name], present[name])
            attached = await attachments(present.values(), self._threads)
            states = {name: present_state(pair, attached) for name, pair in present.items()}
            known = {name: state for name, state in states.items() if name not in refused}
            rows = [Row(step) for step in plan(known, wanted, prune)]
            rows += [
                Row(Step(name, "change" if name in present else "create"), None, refused[name]) for name in refused
            ]
            for row in rows:
                name = row.step.name
                pair = present.get(name)
                row.pair = None if pair is None else pair.uuid
                if not dry_run and row.error is None:
                    if pair is not None and pair.name is None:
                        self._name(pair, name)
                    await self._do(row, pair, wished.get(name), wanted.get(name, {}), opened, reason)
            if prune:
                bridge_rows += await self._bridges.prune(unwanted, reason, dry_run=dry_run)
            rows = [Row(row.step, None, row.error) for row in bridge_rows] + rows
            if not dry_run:
                self._tell(rows, reason)
            return rows

    def missing(self, wishes: Iterable[StaticPair]) -> list[StaticPair]:
        """Those of which there is no pair, whatever the others are like."""
        present = self._present()
        return [wish for wish in wishes if wish.name not in present]

    def interrupt(self) -> None:
        """Begin with no further pair, for good: the daemon stops."""
        self._stopping = True

    def _present(self) -> dict[str, Pair]:
        return {
            pair.name: pair
            for pair in self._registry
            if pair.origin == "config" and pair.name is not None and pair.is_live()
        }

    def _nameless(self, wanted: Mapping[str, State]) -> dict[str, Pair]:
        """Pairs that have lost their names, by the names of the static pairs that they are."""
        at = {
            _whereabouts(letter, present_state(pair, {})): pair
            for pair in self._registry
            if pair.recovered and pair.name is None and pair.is_live()
            for letter in LETTERS
        }
        found: dict[str, Pair] = {}
        taken: set[Pair | None] = {None}
        for both in (True, False):  # one end may have been moved or renamed since; but not if another pair fits better
            for name, state in wanted.items():
                a, b = (at.get(_whereabouts(letter, state)) for letter in LETTERS)
                pair = a or b
                if pair not in taken and (a is b or not both) and name not in found:
                    assert pair is not None
                    found[name] = pair
                    taken.add(pair)
        return found

    def _name(self, pair: Pair, name: str) -> None:
        """Let a pair that has lost its name have one again."""
        pair.name, pair.origin = name, "config"
        self._log.info("static pair recognised", **describe(pair), name=name)
        self._journal.record("link", "changed", pair, name=name, origin=pair.origin)

    def _wanted(self, wish: StaticPair, opened: Open) -> State:
        """How a pair shall be. Raises a VethdError that names the field."""
        for path, error in wrong(wish):
            raise type(error)(f"{'.'.join(map(str, path))}: {error.message}", hint=error.hint, errno=error.errno)
        places: dict[Letter, Place] = {letter: _place(letter, _end(wish, letter), opened) for letter in LETTERS}
        return wished_state(wish, places, self._creator.overload)

    async def _do(
        self, row: Row, pair: Pair | None, wish: StaticPair | None, wanted: State, opened: Open, reason: str
    ) -> None:
        """Take one step; what came of it stands in its row."""
        if self._stopping:
            row.error = ShuttingDown("the daemon is shutting down", hint="try again when it is back")
            return
        try:
            if row.step.action in ("remove", "replace"):
                assert pair is not None
                await self._deleter.dellink(pair, reason)
            if row.step.action in ("create", "replace"):
                assert wish is not None
                row.pair = None
                row.pair = (await self._create(wish, opened, reason)).uuid
            if row.step.action == "change":
                assert pair is not None
                assert wish is not None
                await self._change(row.step, pair, wish, wanted, opened, reason)
        except VethdError as error:
            row.error = error

    async def _create(self, wish: StaticPair, opened: Open, reason: str) -> Pair:
        with ExitStack() as fds:
            a, b = [await self._end_spec(letter, _end(wish, letter), opened, fds) for letter in LETTERS]
            return await self._creator.newlink(
                PairSpec(
                    a, b, wish.placement, "config", wish.numqueues, wish.overload, dict(wish.labels), wish.name, reason
                )
            )

    async def _end_spec(self, letter: Letter, end: StaticEnd, opened: Open, fds: ExitStack) -> EndSpec:
        return EndSpec(
            letter,
            end.ifname,
            await self._enter(letter, end, opened, fds),
            end.address,
            MTU_DEFAULT if end.mtu is None else end.mtu,
            end.txqueuelen or 0,
            end.alias or "",
            end.gro,
            end.up,
            attachment(end, f"end {letter}"),
        )

    async def _change(self, step: Step, pair: Pair, wish: StaticPair, wanted: State, opened: Open, reason: str) -> None:
        with ExitStack() as fds:
            places = {
                letter: await self._enter(letter, _end(wish, letter), opened, fds)
                for letter in LETTERS
                if f"{letter}.netns" in step.changes
            }
            await self._changer.setlink(pair, as_change(step, wanted, places), reason)

    async def _enter(self, letter: Letter, end: StaticEnd, opened: Open, fds: ExitStack) -> int:
        """An fd of the namespace where an end belongs, which is made if it has a name and is not there."""
        return await enter(end.netns, f"end {letter}: netns", opened, fds, self._log)

    def _tell(self, rows: list[Row], reason: str) -> None:
        done = Counter(row.step.action for row in rows if row.error is None)
        counts: dict[str, Any] = {action: done[action] for action in get_args(Action)}
        failed = []
        for row in rows:
            if row.error is not None:
                failed.append(row.step.name)
                if not self._stopping:
                    why = {"error": row.error.message, "hint": row.error.hint}
                    self._log.warning("static pair failed", name=row.step.name, action=row.step.action, **why)
        self._log.info("static pairs applied", **counts, failed=len(failed), reason=reason)
        self._journal.record("config", "applied", **counts, failed=failed, reason=reason)


def _whereabouts(letter: Letter, state: State) -> tuple[Any, ...]:
    """What tells an end from all others that are there: where it is, and what it is called there."""
    return letter, state[f"{letter}.netns"], state[f"{letter}.ifname"]


def _end(wish: StaticPair, letter: Letter) -> StaticEnd:
    return wish.a if letter == "a" else wish.b


def _place(letter: Letter, end: StaticEnd, opened: Open) -> Place:
    """Where an end belongs. Raises NoSuchNetns, InvalidParams."""
    name = to_be_made(end.netns)
    if name is not None:
        return name
    with opened(end.netns, f"end {letter}: netns") as fd:
        return netns.identity(fd)
