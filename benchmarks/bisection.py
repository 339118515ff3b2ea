"""The highest rate that passes, by bisection: which rate to try next, and when to stop. Knows nothing of packets.

Short probes search, a long one confirms: rates double in steps until one fails, then the gap between the highest that
passed and the lowest that failed is halved until it is small. A rate that fails once is tried once more, since one
hiccup of the machine fails any rate; two in a row are taken as the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import TypeAlias

#: Whether a rate passes; the second argument says that it is the long probe that confirms.
Probe: TypeAlias = Callable[[float, bool], bool]


@dataclass(frozen=True)
class Range:
    """Where to search.

    floor: below it nothing is tried, and the answer is 0.
    ceiling: more is never tried.
    resolution: the answer is within this share of the lowest rate that failed.
    """

    floor: float
    ceiling: float
    resolution: float


def highest(probe: Probe, search: Range, guess: float) -> float:
    """The highest rate that `probe` lets pass and confirms, starting at `guess`; 0 when none does."""
    rate = _search(probe, search, min(max(guess, search.floor), search.ceiling))
    step = search.resolution
    while rate >= search.floor:
        if _passes(probe, rate, confirm=True):
            return rate
        rate /= 1 + step
        step *= 2
    return 0.0


def _search(probe: Probe, search: Range, guess: float) -> float:
    """The same by short probes alone."""
    passed, failed = 0.0, 0.0  # the highest that passed, the lowest that failed; 0: none yet
    rate, step = guess, 1 + 4 * search.resolution
    while True:
        if _passes(probe, rate):
            passed = rate
        else:
            failed = rate
        if passed and failed:
            if failed <= passed * (1 + search.resolution):
                return passed
            rate = sqrt(passed * failed)
        elif (passed >= search.ceiling) or (failed and failed <= search.floor):
            return passed
        else:
            rate = min(passed * step, search.ceiling) if passed else max(failed / step, search.floor)
            step *= step


def _passes(probe: Probe, rate: float, *, confirm: bool = False) -> bool:
    return probe(rate, confirm) or probe(rate, confirm)
