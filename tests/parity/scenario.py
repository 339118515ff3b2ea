"""The registry of scenarios: a scenario is a function that plays on either backend without knowing which."""

import importlib
from collections.abc import Callable
from pathlib import Path

from tests.parity.link import PairUnderTest
from tests.parity.outcome import Outcome

Scenario = Callable[[PairUnderTest, Outcome], None]

SCENARIOS: dict[str, Scenario] = {}


def scenario(function: Scenario) -> Scenario:
    """Register a scenario under its function's name."""
    name = function.__name__
    assert name not in SCENARIOS, f"two scenarios are called {name}"
    SCENARIOS[name] = function
    return function


def load_all() -> dict[str, Scenario]:
    """Import every module in `scenarios/` and return what they registered."""
    for path in sorted((Path(__file__).parent / "scenarios").glob("*.py")):
        importlib.import_module(f"tests.parity.scenarios.{path.stem}")
    return SCENARIOS
