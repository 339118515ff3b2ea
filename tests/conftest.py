"""Fixtures for every test: namespaces, a daemon (private or shared), a pair; and the checks that always run.

A test that used a daemon fixture fails if, once the workers are quiet, a frame is unaccounted for, a TAP descriptor of
a deleted link is still held, or a namespace, device or process of the test is left.
"""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.kit.daemon import Daemon
from tests.kit.netns import Namespaces
from tests.kit.pairs import Pair, make_pair_between_fresh
from tests.kit.shares import Shares

FIGURES = "figures"


def pytest_configure() -> None:
    """Coroutines of tests run on the loop that the daemon and its workers have."""
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    uvloop.new_event_loop().close()  # opens descriptors that stay: a test that counts them shall not meet the first


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Shares:
    """Which process runs which tests, if there are several."""
    return Shares(config, log)


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """A function that takes text which is shown when all tests have run, whichever process they ran in."""
    return partial(record_property, FIGURES)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what the tests measured."""
    for report in (each for outcome in ("passed", "failed") for each in terminalreporter.getreports(outcome)):
        for name, text in report.user_properties:
            if name == FIGURES:
                terminalreporter.write_line(str(text))


@pytest.fixture
def netns() -> Iterator[Namespaces]:
    """A factory of network namespaces; all of them are gone after the test, or the test fails."""
    namespaces = Namespaces()
    try:
        yield namespaces
    finally:
        namespaces.close()


@pytest.fixture
def start_daemon(tmp_path: Path, netns: Namespaces) -> Iterator[Callable[..., Daemon]]:
    """A function that starts a private daemon: `start_daemon("--flag", config="...", env={...})`."""
    started: list[Daemon] = []

    def start(*arguments: str, **keywords: Any) -> Daemon:
        workdir = tmp_path / f"vethd{len(started)}"
        workdir.mkdir()
        daemon = Daemon(workdir, *arguments, **keywords)
        started.append(daemon)
        daemon.start()
        return daemon

    yield start
    _in_turn(*(partial(_retire, daemon) for daemon in started))


@pytest.fixture
def daemon(start_daemon: Callable[..., Daemon]) -> Daemon:
    """A fresh daemon for this test alone, with default settings."""
    return start_daemon()


@pytest.fixture(scope="session")
def _session_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    shared = Daemon(tmp_path_factory.mktemp("shared-vethd"))
    yield shared
    shared.stop()
    shared.check_log()


@pytest.fixture
def shared_daemon(_session_daemon: Daemon, netns: Namespaces) -> Iterator[Daemon]:
    """The daemon that all tests share which do not disturb it; it has no links when a test begins."""
    if not _session_daemon.running:
        _session_daemon.start()
    yield _session_daemon
    _in_turn(_session_daemon.check_books, _session_daemon.clear, _session_daemon.check_fds, _session_daemon.check_log)


@pytest.fixture
def pair(request: pytest.FixtureRequest, netns: Namespaces) -> Iterator[Pair]:
    """A pair, up, between two fresh namespaces; of the test's own daemon if it asked for one, else the shared one."""
    owner = "daemon" if "daemon" in request.fixturenames else "shared_daemon"
    made = make_pair_between_fresh(request.getfixturevalue(owner), netns)
    yield made
    if made.daemon.running and made.a.exists:
        made.delete()


def _retire(daemon: Daemon) -> None:
    if daemon.started:  # else the test ended it, and looked for itself at what is left
        _in_turn(daemon.check_books, daemon.check_fds, daemon.stop, daemon.check_log)


def _in_turn(*steps: Callable[[], None]) -> None:
    """Take every step, also when one before it failed; then raise what was wrong."""
    errors: list[Exception] = []
    for step in steps:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - collected, and raised together below
            errors.append(error)
    if errors:
        raise ExceptionGroup("the daemon was not left as it should be", errors)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Add the end of the daemon's log to the report of a test that failed."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Daemon):
                report.sections.append((f"log of vethd in {value.workdir.name}", value.log()[-3000:]))
    return report
