"""Fixtures for tests of the life of a pair: a supervisor within the test, and proof that each test leaves nothing."""

import os
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from tests.kit import netns as kit_netns
from tests.kit.daemon import Daemon
from tests.kit.netns import Namespaces
from tests.pairs.house import House, soon
from tests.pairs.killing import DIED, NO_DELAY


@pytest.fixture(autouse=True)
def _names_of_these_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices and namespaces made here can be told from those of other tests by their names."""
    monkeypatch.setattr(kit_netns, "PREFIX", f"vtp{os.getpid()}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def _house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    built = House(tmp_path_factory.mktemp("house"))
    try:
        await built.supervisor.start()
        yield built
    finally:
        await built.supervisor.stop()
    assert built.unheard == []


@pytest_asyncio.fixture(loop_scope="module")
async def house(_house: House, netns: Namespaces) -> AsyncIterator[House]:
    """The supervisor that the tests of a module share; it has no pair when a test begins, and logs no error."""
    _house.fresh_log()
    yield _house
    for pair in _house.supervisor.registry:
        await _house.dellink(pair)
    await soon(lambda: len(_house.supervisor.registry), lambda pairs: pairs == 0, "every pair is gone")
    troubles = _house.troubles()
    _house.fresh_log()
    assert not troubles, "\n".join(["the supervisor met trouble:", *troubles])


@pytest.fixture
def two(netns: Namespaces) -> tuple[str, str]:
    """The names of two fresh namespaces."""
    return netns.make(), netns.make()


@pytest.fixture
def killable(start_daemon: Callable[..., Daemon]) -> Callable[[int], Daemon]:
    """A function that starts a daemon with so many workers, whose death is expected and answered without delay."""

    def start(count: int) -> Daemon:
        daemon = start_daemon(config=NO_DELAY.format(count=count))
        daemon.expected_errors += DIED
        return daemon

    return start
