"""bisection.py: the search for a rate, on links that are numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.bisection import Range, highest

SEARCH = Range(floor=1_000.0, ceiling=640_000.0, resolution=0.05)


class Wire:
    """Lets rates up to `limit` pass; the probe numbers in `hiccups` fail all the same."""

    def __init__(self, limit: float, hiccups: frozenset[int] = frozenset()) -> None:
        self.limit = limit
        self.hiccups = hiccups
        self.asked: list[tuple[float, bool]] = []

    def __call__(self, rate: float, confirm: bool) -> bool:
        self.asked.append((rate, confirm))
        return rate <= self.limit and len(self.asked) not in self.hiccups


@given(limit=st.floats(1_100, 600_000), guess=st.floats(1, 1_000_000))
def test_the_answer_is_just_below_the_limit_wherever_it_begins(limit: float, guess: float) -> None:
    wire = Wire(limit)
    found = highest(wire, SEARCH, guess)
    assert limit / 1.06 < found <= limit
    assert wire.asked[-1] == (found, True)
    assert len(wire.asked) < 60


@given(limit=st.floats(1_100, 600_000), hiccup=st.integers(1, 12))
def test_one_hiccup_of_the_machine_changes_nothing(limit: float, hiccup: int) -> None:
    assert highest(Wire(limit, frozenset({hiccup})), SEARCH, 50_000) == highest(Wire(limit), SEARCH, 50_000)


@pytest.mark.parametrize(("limit", "expected"), [(10.0, 0.0), (1e9, SEARCH.ceiling)])
def test_beyond_the_range_nothing_is_tried(limit: float, expected: float) -> None:
    wire = Wire(limit)
    assert highest(wire, SEARCH, 50_000) == expected
    assert all(SEARCH.floor <= rate <= SEARCH.ceiling for rate, _confirm in wire.asked)


def test_a_rate_that_the_long_probe_refuses_is_lowered() -> None:
    asked: list[float] = []

    def probe(rate: float, confirm: bool) -> bool:
        if confirm:
            asked.append(rate)
        return rate <= (90_000 if confirm else 100_000)

    found = highest(probe, SEARCH, 50_000)
    assert 80_000 < found <= 90_000
    assert asked[-1] == found
    assert asked == sorted(asked, reverse=True)
