"""What came between two looks at the counters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Of the counters of an end, those that say how much there is now.
_LEVELS = frozenset({"queued"})


def ends_since(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Counters of both ends of a pair, counted from `before` on. Both are `ends` of stats.get; {} as from creation.

    A counter that is less than before began anew.
    """
    return {letter: _since(before.get(letter, {}), now[letter]) for letter in ("a", "b")}


def _since(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    counted: dict[str, Any] = {}
    for name, value in now.items():
        if name == "drops":
            counted[name] = {
                point: grown(before.get(name, {}).get(point, 0), frames) for point, frames in value.items()
            }
        elif isinstance(value, int):
            counted[name] = value if name in _LEVELS else grown(before.get(name, 0), value)
    return counted


def grown(before: int, now: int) -> int:
    """By how much a counter grew."""
    return now - before if now >= before else now
