"""Waiting: what was accepted stays accepted."""

import pytest

from tests.kit.waiting import eventually, settled


def test_a_value_is_judged_once() -> None:
    """What a test waits for may be over when it is asked again, such as that all processes sleep."""
    judgements = iter([False, True, False])
    numbers = iter(range(9))
    assert eventually(lambda: next(numbers), lambda _number: next(judgements), "the second number") == 1


def test_what_is_never_accepted_fails_the_test_and_is_shown() -> None:
    with pytest.raises(AssertionError, match="not within 0 s: the sun rises; last seen: 'dark'"):
        eventually(lambda: "dark", lambda _value: False, "the sun rises", within=0)
    assert settled(lambda: "dark", lambda _value: False, within=0) == "dark"
