"""Fixtures for tests of what vethd asks of Linux: a host thread, TAPs, and proof that no descriptor is leaked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

import pytest

from tests.kit import netns as kit_netns
from tests.kit.netns import RUN_NETNS, Namespaces, fresh_name
from vethd.host import netns as host_netns
from vethd.host import tap

P = ParamSpec("P")
T = TypeVar("T")


class HostThread:
    """A thread that lives in a namespace of its own, as the daemon's host threads do. staging: an fd of that."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, "host")
        self.staging = self._executor.submit(self._settle).result(10)

    @staticmethod
    def _settle() -> int:
        host_netns.unshare()
        return host_netns.current()

    def do(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a call in the thread; its result, or its exception."""
        return self._executor.submit(call, *args, **kwargs).result(10)

    def do_in(self, name: str, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a call in the thread while that is in the namespace `name`."""
        where = os.open(RUN_NETNS / name, os.O_RDONLY | os.O_CLOEXEC)

        def run() -> T:
            with host_netns.inside(where, self.staging):
                return call(*args, **kwargs)

        try:
            return self.do(run)
        finally:
            os.close(where)

    def close(self) -> None:
        self._executor.shutdown()
        os.close(self.staging)


@pytest.fixture(autouse=True)
def _names_of_these_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices and namespaces made here can be told from those of other tests by their names."""
    monkeypatch.setattr(kit_netns, "PREFIX", f"vtp{os.getpid()}")


@pytest.fixture(autouse=True)
def _no_descriptor_is_leaked() -> Iterator[None]:
    before = sorted(os.listdir("/proc/self/fd"))
    yield
    assert sorted(os.listdir("/proc/self/fd")) == before, "a file descriptor was left open"


@pytest.fixture
def host(_no_descriptor_is_leaked: None, netns: Namespaces) -> Iterator[HostThread]:
    """A host thread; it ends, and its namespace with it, before the test's namespaces do."""
    thread = HostThread()
    yield thread
    thread.close()


@pytest.fixture
def make_tap(host: HostThread) -> Iterator[Callable[[str], tuple[int, str]]]:
    """A function that makes a TAP in a namespace: its fd and name. It goes after the test at the latest."""
    made: list[int] = []

    def make(where: str) -> tuple[int, str]:
        name = fresh_name("t")
        fd = host.do_in(where, tap.open_queue, name)
        made.append(fd)
        return fd, name

    yield make
    for fd in made:
        try:
            os.close(fd)
        except OSError:  # what the test is about has closed it
            continue


MakeTap = Callable[[str], tuple[int, str]]
