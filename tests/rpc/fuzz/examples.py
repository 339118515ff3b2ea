"""How many examples a property gets."""

from __future__ import annotations

from typing import Final

from hypothesis import HealthCheck, settings

_LONG: Final = settings.get_current_profile_name() == "long"


def hostile(examples: int) -> settings:
    """So many, the same each time; with the profile `long` as many as that says, others each time."""
    if _LONG:
        return settings()
    return settings(max_examples=examples, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
