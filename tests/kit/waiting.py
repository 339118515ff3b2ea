"""Waiting for something to become true, with a deadline; tests never sleep and hope."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

FIRST_PAUSE = 0.0005  # seconds; most changes in the kernel are visible at once
LONGEST_PAUSE = 0.02


def settled(read: Callable[[], T], wanted: Callable[[T], bool], within: float = 5.0) -> T:
    """Read until `wanted` accepts the value or `within` seconds have passed; return the last value either way."""
    return _last(read, wanted, within)[0]


def eventually(read: Callable[[], T], wanted: Callable[[T], bool], what: str, within: float = 5.0) -> T:
    """Like `settled`, but a value that is never accepted fails the test and says what was waited for."""
    value, accepted = _last(read, wanted, within)
    assert accepted, f"not within {within} s: {what}; last seen: {value!r}"
    return value


def _last(read: Callable[[], T], wanted: Callable[[T], bool], within: float) -> tuple[T, bool]:
    """The last value, and whether it was accepted: that is asked once, for it may depend on more than the value."""
    deadline = time.monotonic() + within
    pause = FIRST_PAUSE
    while True:
        value = read()
        accepted = wanted(value)
        if accepted or time.monotonic() >= deadline:
            return value, accepted
        time.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE)
