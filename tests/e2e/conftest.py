"""Fixtures for tests of the whole: names that tell whose the devices are."""

import os

import pytest

from tests.kit import netns as kit_netns


@pytest.fixture(autouse=True)
def _names_of_these_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices and namespaces made here can be told from those of other tests by their names."""
    monkeypatch.setattr(kit_netns, "PREFIX", f"vtp{os.getpid()}")
