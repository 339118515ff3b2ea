"""What is to be done so that static pairs are as they shall be: for any pairs, and any wishes."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from vethd.pairs.change import EndChange, PairChange
from vethd.pairs.desired import FIXED, State, Step, as_change, plan, wished_state
from vethd.rpc.schema.config import StaticEnd, StaticPair

#: Few names and values, so that equal ones are common.
names = st.sampled_from("pqrs")
values = st.integers(0, 2)
FREE = "a.address"  # what a wish may leave open
KEYS = ("placement", "numqueues", "overload", "a.mtu", "b.netns", FREE)
present_states = st.fixed_dictionaries(dict.fromkeys(KEYS, values))
wished_states = st.fixed_dictionaries({key: values for key in KEYS if key != FREE}, optional={FREE: values})
presents = st.dictionaries(names, present_states)
wishes = st.dictionaries(names, wished_states)


def carried_out(present: dict[str, State], wished: dict[str, State], steps: list[Step]) -> dict[str, State]:
    """The pairs after these steps. One that is made anew has what a wish leaves open from somewhere else."""
    after = dict(present)
    for step in steps:
        if step.action in ("remove", "replace"):
            del after[step.name]
        if step.action in ("create", "replace"):
            assert step.name not in after
            after[step.name] = {FREE: "new", **wished[step.name]}
        if step.action == "change":
            after[step.name] = {**after[step.name], **{key: new for key, (_old, new) in step.changes.items()}}
    return after


@given(presents, wishes, st.booleans())
def test_afterwards_every_wish_has_come_true(present: dict[str, State], wished: dict[str, State], prune: bool) -> None:
    steps = plan(present, wished, prune)
    after = carried_out(present, wished, steps)
    assert after.keys() == wished.keys() | (set() if prune else present.keys())
    for name, state in wished.items():
        assert state.items() <= after[name].items()
    assert {step.action for step in plan(after, wished, prune)} <= {"keep"}


@given(presents, wishes, st.booleans())
def test_nothing_is_done_without_need(present: dict[str, State], wished: dict[str, State], prune: bool) -> None:
    steps = plan(present, wished, prune)
    assert len({step.name for step in steps}) == len(steps)
    after = carried_out(present, wished, steps)
    for step in steps:
        before, now = present.get(step.name, {}), after.get(step.name, {})
        differs = {key for key in step.changes if before[key] != now[key]}
        assert differs == step.changes.keys()
        assert (step.action == "keep") == (before == now and bool(before))
        assert (step.action == "replace") == bool(differs & FIXED)
        if step.action == "change":
            assert all(before[key] == now[key] for key in before.keys() - differs)
    untouched = present.keys() - {step.name for step in steps}
    assert not prune or not untouched
    assert all(after[name] is present[name] for name in untouched)


@given(presents, wishes)
def test_room_is_made_first_and_then_the_order_is_that_of_the_wishes(
    present: dict[str, State], wished: dict[str, State]
) -> None:
    steps = [step.name for step in plan(present, wished, prune=True)]
    assert steps == [name for name in present if name not in wished] + list(wished)


# -- wishes -----------------------------------------------------------------------------------------------------------


def state(**of_a: Any) -> State:
    pair = StaticPair(name="p", a=StaticEnd(ifname="x", **of_a), b=StaticEnd(ifname="y"))
    return wished_state(pair, {"a": (1, 2), "b": "new"}, "backpressure")


def test_what_is_left_out_is_the_default_and_an_address_is_open() -> None:
    end = {"mtu": 1500, "txqueuelen": 1000, "alias": "", "gro": False, "up": True}
    end |= {"bridge": None, "addresses": frozenset(), "routes": frozenset()}
    assert state() == {
        "placement": "move",
        "numqueues": 1,
        "overload": "backpressure",
        "labels": {},
        **{f"a.{key}": value for key, value in {**end, "ifname": "x", "netns": (1, 2)}.items()},
        **{f"b.{key}": value for key, value in {**end, "ifname": "y", "netns": "new"}.items()},
    }


def test_other_spellings_of_the_same_are_no_difference() -> None:
    assert state(txqueuelen=0, alias="") == state()
    assert state(address="02:00:00:00:00:0A") == state(address="02:00:00:00:00:0a")


def test_a_change_says_only_what_differs() -> None:
    changes = {
        "a.mtu": (1, 2),
        "a.gro": (False, True),
        "labels": ({"x": "1", "y": "2"}, {"y": "3", "z": "4"}),
        "overload": ("drop", "backpressure"),
    }
    assert as_change(Step("p", "change", changes), {}, {}) == PairChange(
        EndChange(mtu=2, gro=True), None, {"x": None, "y": "3", "z": "4"}, overload="backpressure"
    )


def test_an_end_that_moves_is_set_up_again_where_it_was_up() -> None:
    changes = {"b.netns": ((1, 1), (1, 2))}
    for up in (True, False):
        change = as_change(Step("p", "change", changes), {"b.up": up}, {"b": 7})
        assert change == PairChange(None, EndChange(netns=7, up=up))
