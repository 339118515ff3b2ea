"""The tables: who has which number, where events come from, what a name means to whom."""

from __future__ import annotations

from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.pairs.made_up import paper_pair
from vethd.errors import AmbiguousName, LimitReached, NoSuchLink
from vethd.pairs.pair import Pair
from vethd.pairs.registry import Registry, describe_netns

HERE, THERE, ELSEWHERE = (4, 1), (4, 2), (4, 3)


def registered(*pairs: Pair) -> Registry:
    registry = Registry(100)
    for pair in pairs:
        registry.add(pair)
    return registry


def test_numbers_are_the_lowest_free_ones() -> None:
    registry = Registry(10)
    assert [registry.take_numbers() for _ in range(3)] == [(0, 1), (2, 3), (4, 5)]
    registry.give_numbers((2, 3))
    registry.give_numbers((1, 0))
    assert [registry.take_numbers() for _ in range(3)] == [(0, 1), (2, 3), (6, 7)]


def test_the_last_numbers_are_taken_and_no_more() -> None:
    registry = Registry(4)
    registry.take_numbers()
    registry.take_numbers()
    with pytest.raises(LimitReached, match="2 pairs exist already") as refused:
        registry.take_numbers()
    assert refused.value.hint
    registry.give_numbers((0, 1))
    assert registry.take_numbers() == (0, 1)


def test_a_pair_of_several_queues_has_two_numbers_for_each() -> None:
    registry = Registry(10)
    assert registry.take_numbers(2) == (0, 1, 2, 3)
    with pytest.raises(LimitReached, match="numqueues 4: 3 queues are left, of 5 for all pairs together") as refused:
        registry.take_numbers(4)
    assert refused.value.hint
    assert registry.take_numbers(3) == (4, 5, 6, 7, 8, 9)


def test_an_end_is_found_by_the_number_of_any_queue() -> None:
    pair = paper_pair((0, 1, 2, 3))
    registry = registered(pair)
    assert [registry.numbered(number) for number in range(5)] == [pair.a, pair.b, pair.a, pair.b, None]
    registry.remove(pair)
    assert [registry.numbered(number) for number in range(4)] == [None] * 4


class Numbers(RuleBasedStateMachine):
    """Whatever is taken and given back: no number belongs to two, none is beyond the limit, none is lost."""

    MAX_ENDS = 8

    def __init__(self) -> None:
        super().__init__()
        self.registry = Registry(self.MAX_ENDS)
        self.taken: list[tuple[int, ...]] = []

    @precondition(lambda self: len(self.taken) < self.MAX_ENDS // 2)
    @rule()
    def take(self) -> None:
        numbers = self.registry.take_numbers()
        used = {number for pair in self.taken for number in pair}
        lowest_free = [number for number in range(self.MAX_ENDS) if number not in used][:2]
        assert list(numbers) == lowest_free
        self.taken.append(numbers)

    @precondition(lambda self: len(self.taken) == self.MAX_ENDS // 2)
    @rule()
    def take_too_many(self) -> None:
        with pytest.raises(LimitReached):
            self.registry.take_numbers()

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def give(self, data: st.DataObject) -> None:
        self.registry.give_numbers(self.taken.pop(data.draw(st.integers(0, len(self.taken) - 1))))

    @invariant()
    def each_belongs_to_one(self) -> None:
        used = [number for pair in self.taken for number in pair]
        assert len(set(used)) == len(used)


TestNumbers = Numbers.TestCase


def test_a_pair_is_found_in_every_way() -> None:
    pair = paper_pair((4, 7))
    registry = registered(pair, paper_pair((0, 1)))
    assert registry.by_uuid(pair.uuid) is pair
    assert registry.numbered(4) is pair.a
    assert registry.numbered(7) is pair.b
    assert registry.at(*pair.b.key) is pair.b
    assert registry.in_nsid(pair.a.nsid) == [pair.a]
    assert len(registry) == 2


def test_a_pair_that_was_removed_is_found_in_no_way() -> None:
    pair, other = paper_pair((4, 7)), paper_pair((0, 1))
    registry = registered(pair, other)
    registry.remove(pair)
    registry.remove(pair)  # also when it is removed by two
    with pytest.raises(NoSuchLink):
        registry.by_uuid(pair.uuid)
    assert (registry.numbered(4), registry.numbered(7), registry.at(*pair.a.key)) == (None, None, None)
    assert registry.in_nsid(pair.b.nsid) == []
    assert list(registry) == [other]


def test_pairs_may_go_while_they_are_walked_through() -> None:
    pairs = [paper_pair((number, number + 1)) for number in range(0, 10, 2)]
    registry = registered(*pairs)
    for pair in registry:
        registry.remove(pair)
    assert len(registry) == 0


def test_an_end_that_moved_is_found_at_its_new_place_only() -> None:
    pair = paper_pair((0, 1))
    registry = registered(pair)
    before = pair.a.key
    registry.rekey(pair.a, 77, 5)
    assert registry.at(*before) is None
    assert registry.at(77, 5) is pair.a
    assert registry.in_nsid(77) == [pair.a]


@given(order=st.permutations([0, 1]))
def test_ends_that_changed_places_are_both_found(order: list[int]) -> None:
    """Whichever move is heard first: for a moment both are believed to be at one place."""
    first, second = paper_pair((0, 1)), paper_pair((2, 3))
    registry = registered(first, second)
    moves = [(first.a, second.a.key), (second.a, first.a.key)]
    for index in order:
        end, key = moves[index]
        registry.rekey(end, *key)
    for end, key in moves:
        assert registry.at(*key) is end


def test_a_removed_end_does_not_take_away_the_place_of_its_successor() -> None:
    old, new = paper_pair((0, 1)), paper_pair((2, 3))
    registry = registered(old, new)
    registry.rekey(new.a, *old.a.key)
    registry.remove(old)
    assert registry.at(*new.a.key) is new.a


def test_a_name_means_the_end_in_the_callers_namespace_first() -> None:
    mine = paper_pair((0, 1), names=("eth0", "x"), places=(HERE, THERE))
    other = paper_pair((2, 3), names=("eth0", "y"), places=(THERE, THERE))
    registry = registered(mine, other)
    assert registry.named("eth0", None, HERE) is mine.a
    assert registry.named("eth0", None, THERE) is other.a
    assert registry.named("eth0", THERE, HERE) is other.a


def test_a_name_that_is_unique_is_found_from_anywhere() -> None:
    pair = paper_pair((0, 1), names=("eth0", "eth1"), places=(HERE, THERE))
    assert registered(pair).named("eth1", None, ELSEWHERE) is pair.b


def test_an_end_that_was_renamed_is_found_by_its_new_name_only() -> None:
    pair, twin = (paper_pair(numbers, names=("eth0", None), places=(HERE, THERE)) for numbers in ((0, 1), (2, 3)))
    registry = registered(pair, twin)
    registry.rename(pair.a, "lan")
    assert pair.a.ifname == "lan"
    assert registry.named("lan", None, HERE) is pair.a
    assert registry.named("eth0", HERE, HERE) is twin.a
    registry.rename(pair.a, "eth0")
    with pytest.raises(AmbiguousName):
        registry.named("eth0", HERE, HERE)
    registry.remove(twin)
    assert registry.named("eth0", HERE, HERE) is pair.a
    registry.remove(pair)
    for name in ("eth0", "lan"):
        with pytest.raises(NoSuchLink):
            registry.named(name, None, HERE)


def test_a_name_in_several_namespaces_is_refused_with_the_list() -> None:
    pair = paper_pair((0, 1), names=("eth0", "eth0"), places=(HERE, THERE))
    with pytest.raises(AmbiguousName, match=r"net:\[1\], net:\[2\]") as refused:
        registered(pair).named("eth0", None, ELSEWHERE)
    assert refused.value.hint == "say which one: netns NAME"


@pytest.mark.parametrize("where", [None, THERE])
def test_a_name_that_nobody_has_is_no_link(where: tuple[int, int] | None) -> None:
    pair = paper_pair((0, 1), names=("eth0", "eth1"), places=(HERE, HERE))
    with pytest.raises(NoSuchLink, match='Cannot find device "eth9"'):
        registered(pair).named("eth9", where, HERE)
    if where is not None:
        with pytest.raises(NoSuchLink):
            registered(pair).named("eth0", where, HERE)


def test_a_uuid_that_nobody_has_is_no_link() -> None:
    with pytest.raises(NoSuchLink) as refused:
        registered().by_uuid(uuid4())
    assert refused.value.hint


def test_a_namespace_has_its_name_or_its_inode() -> None:
    assert describe_netns((4, 42), {(4, 42): "red"}) == "red"
    assert describe_netns((4, 42), {(5, 42): "red"}) == "net:[42]"
