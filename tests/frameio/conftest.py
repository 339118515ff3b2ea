"""Fixtures for tests of frame I/O: TAPs in namespaces of their own, and proof that nothing of them is left."""

import os
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.frameio.taps import Taps
from tests.frameio.ways import WAYS, MakeFrameIO
from tests.kit import netns as kit_netns
from tests.kit.netns import Namespaces
from tests.kit.processes import open_files


@pytest.fixture(autouse=True)
def _names_of_these_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices and namespaces made here can be told from those of other tests by their names."""
    monkeypatch.setattr(kit_netns, "PREFIX", f"vtw{os.getpid()}")


@pytest.fixture(autouse=True)
def _no_descriptor_is_leaked() -> Iterator[None]:
    before = Counter(open_files(os.getpid()))
    yield
    assert not Counter(open_files(os.getpid())) - before, "a file descriptor was left open"


@pytest.fixture
def taps(_no_descriptor_is_leaked: None, netns: Namespaces) -> Iterator[Taps]:
    """A factory of TAPs; they are gone after the test, before their namespaces."""
    made = Taps(netns)
    yield made
    made.close()


@pytest.fixture(params=list(WAYS))
def make_frameio(request: pytest.FixtureRequest) -> MakeFrameIO:
    """Each frame I/O in turn."""
    return WAYS[request.param]
