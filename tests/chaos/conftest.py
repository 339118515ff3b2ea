"""The world of a chaos run: a daemon of its own, without any pair yet."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.chaos.world import SETTINGS, World
from tests.kit import netns as kit_netns
from tests.kit.daemon import Daemon
from tests.kit.manager import Manager
from tests.kit.netns import Namespaces

#: What a daemon may log at level error when its workers are killed and its files are broken.
EXPECTED = ("worker died", "configuration not valid, nothing was changed", "program not replaced")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """Keeps descriptors and socket of the daemon while there is none."""
    manager = Manager(tmp_path)
    yield manager
    manager.close()


@pytest.fixture
def world(
    request: pytest.FixtureRequest,
    manager: Manager,
    start_daemon: Callable[..., Daemon],
    netns: Namespaces,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[World]:
    """A daemon, and nothing in it; a parameter says the seed, and whether the steps are shown while they are taken."""
    monkeypatch.setattr(kit_netns, "PREFIX", f"vtc{os.getpid()}")
    seed, shown = getattr(request, "param", (1, False))
    daemon = start_daemon(config=SETTINGS, manager=manager)
    daemon.expected_errors += EXPECTED

    def tell(text: str) -> None:
        with capsys.disabled() if shown else nullcontext():
            print(text, flush=True)

    world = World(daemon, manager, netns, tell, seed)
    try:
        yield world
    finally:
        world.close()
