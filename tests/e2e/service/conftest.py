"""Fixtures for tests of the service: vethd as `make install` puts it in place, on a machine with a systemd."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.service.unit import CONFIG, Unit, as_root
from tests.e2e.service.wire import Wire, make_wire
from tests.kit.commands import run
from tests.kit.machine import Machine

CHECKOUT = Path(__file__).parents[3]


def make(*words: str) -> None:
    """Run make in the checkout; once at a time, since it makes files there."""
    lock = CHECKOUT / "build" / "lock"
    lock.parent.mkdir(exist_ok=True)
    run("flock", str(lock), "make", "-C", str(CHECKOUT), *words, within=600)


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with what `make install` puts in place."""
    tree = tmp_path_factory.mktemp("installed")
    make("install", f"DESTDIR={tree}")
    return tree


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory, installed: Path) -> Iterator[Machine]:
    """A machine on which vethd was installed, and has not been started."""
    machine = Machine(tmp_path_factory.mktemp("machine"), installed)
    try:
        machine.start()
        machine.run("systemd-sysusers")
        machine.run("systemd-tmpfiles", "--create", "/usr/local/lib/tmpfiles.d/vethd.conf")
        yield machine
    finally:
        machine.close()


@pytest.fixture(scope="session", params=["vethd", "root"])
def user(request: pytest.FixtureRequest, machine: Machine) -> Iterator[str]:
    """Who runs the daemon."""
    machine.drop_in("vethd.service", as_root() if request.param == "root" else "", name="user")
    yield request.param
    machine.run("systemctl", "stop", "vethd.service")


@pytest.fixture
def unit(user: str, machine: Machine) -> Iterator[Unit]:
    """vethd.service, running, without any pair; what a test configures is undone."""
    machine.run("systemctl", "start", "vethd.service")
    unit = Unit(machine)
    yield unit
    machine.path(CONFIG).unlink(missing_ok=True)
    if "/test.conf" in machine.show("vethd.service", "DropInPaths"):
        machine.drop_in("vethd.service", "")
        machine.run("systemctl", "restart", "vethd.service")
    elif unit.state == "active":
        machine.run("systemctl", "reload", "vethd.service")
        for pair in unit.call("link.list"):
            unit.call("link.del", pair=pair["pair"])


@pytest.fixture
def new_wire(unit: Unit) -> Iterator[Callable[..., Wire]]:
    """A function that makes a pair between two new namespaces; see make_wire."""
    made: list[Wire] = []

    def make_one(**more: Any) -> Wire:
        made.append(make_wire(unit, **more))
        return made[-1]

    yield make_one
    for wire in made:
        for place in (wire.red, wire.blue):
            place.delete()


@pytest.fixture
def wire(new_wire: Callable[..., Wire]) -> Wire:
    """A pair between two new namespaces, up."""
    return new_wire()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Add the end of the machine's journal to the report of a test that failed."""
    report = yield
    machine = getattr(item, "funcargs", {}).get("machine")
    if report.failed and machine is not None:
        text = machine.run("journalctl", "--no-pager", "--lines=60", check=False).out
        report.sections.append(("journal", text))
    return report
