"""A daemon whose program is replaced."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.reexec.successor import NextProgram
from tests.kit.daemon import Daemon
from tests.kit.netns import Namespaces


@pytest.fixture(scope="package")
def _started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, NextProgram]]:
    program = NextProgram(tmp_path_factory.mktemp("successor"))
    daemon = Daemon(tmp_path_factory.mktemp("vethd"), prefix=program.prefix, config="[worker]\ncount = 2\n")
    yield daemon, program
    if daemon.running:
        daemon.hang_up()  # in a long run it has been idle for too long
        daemon.stop()


@pytest.fixture
def next_program(_started: tuple[Daemon, NextProgram]) -> Iterator[NextProgram]:
    """What the next program of `daemon` does first; nothing, unless the test says so."""
    yield _started[1]
    _started[1].does_nothing()


@pytest.fixture
def config(_started: tuple[Daemon, NextProgram]) -> Iterator[Path]:
    """The configuration file of `daemon`, as it was again after the test."""
    file = _started[0].workdir / "vethd.toml"
    text = file.read_text()
    yield file
    file.write_text(text)


@pytest.fixture
def daemon(_started: tuple[Daemon, NextProgram], next_program: NextProgram, netns: Namespaces) -> Iterator[Daemon]:
    """A daemon with two workers that the tests share; it has no link when a test begins."""
    shared = _started[0]
    shared.expected_errors.clear()
    if not shared.running:
        shared.start()
    yield shared
    if shared.running:
        shared.hang_up()
        shared.check_books()
        shared.clear()
        shared.check_fds()
        shared.check_log()
