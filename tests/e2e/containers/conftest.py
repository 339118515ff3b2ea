"""Fixtures for tests with real container runtimes.

A test that asks for `host` is run twice: with the wire whole, and with one that drops every frame, when nothing but the
lack of an answer (`NoAnswer`) may make it fail. After both, nothing of it may be left on the host.

Two runs take twice as long. A test is run once if it asks for `whole_host`: it sends no frame, or sees for itself that
nothing passes while vethd drops all (`talk_by_vethd`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.kit.containers import NoAnswer, make_rootfs
from tests.kit.host import ContainerHost


class Hosts:
    """The host that all tests share; another takes its place when one could not be left as it was."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        self._factory = factory
        self._host: ContainerHost | None = None

    def get(self) -> ContainerHost:
        if self._host is None:
            self._host = ContainerHost(self._factory.mktemp("host"))
            self._host.start()
        return self._host

    def discard(self) -> None:
        if self._host is not None:
            host, self._host = self._host, None
            host.close()


@pytest.fixture(scope="package")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """Whoever needs the host for longer than a test asks this one."""
    hosts = Hosts(tmp_path_factory)
    yield hosts
    hosts.discard()


@pytest.fixture(params=["whole", "cut"])
def host(request: pytest.FixtureRequest, hosts: Hosts) -> Iterator[ContainerHost]:
    """A machine for containers with a vethd in it, at rest before and after the test."""
    with as_it_was(hosts) as host:
        host.cut_wire(request.param == "cut")
        yield host
        host.cut_wire(False)


@pytest.fixture
def whole_host(hosts: Hosts) -> Iterator[ContainerHost]:
    """The same, with the wire whole only."""
    with as_it_was(hosts) as host:
        yield host


@contextmanager
def as_it_was(hosts: Hosts) -> Iterator[ContainerHost]:
    """After the body the host is as it was before, or there will be another one."""
    host = hosts.get()
    before = host.inventory()
    try:
        yield host
        host.check_nothing_left(before)
        host.daemon.check_books()
        host.daemon.check_fds()
        host.daemon.check_log()
    except BaseException:
        hosts.discard()
        raise


@pytest.fixture(scope="package")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system that containers may share, of busybox."""
    return make_rootfs(tmp_path_factory.mktemp("rootfs") / "busybox")


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Any:
    """With the wire cut a test must fail, and for no other reason."""
    host = pyfuncitem.funcargs.get("host")
    if not (isinstance(host, ContainerHost) and host.cut):
        return (yield)
    try:
        yield
    except NoAnswer:
        return True
    raise AssertionError("no frame passed, and the test did not notice")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Add the end of the daemon's log to the report of a test that failed."""
    report = yield
    for host in getattr(item, "funcargs", {}).values():
        if report.failed and isinstance(host, ContainerHost):
            report.sections.append(("log of vethd", host.daemon.log()[-3000:]))
    return report
