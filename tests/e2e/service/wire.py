"""A pair in a machine that has a systemd, and what becomes of it there while vethd does not run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.e2e.service.unit import Unit
from tests.kit.machine import Machine
from tests.kit.netns import fresh_name, set_sysctl
from tests.kit.pairs import End
from tests.kit.waiting import eventually

STATE = "/run/vethd/state/state.json"
_FIFO = "/run/hold"


class Place:
    """A namespace of a machine."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.name = fresh_name()
        machine.run("ip", "netns", "add", self.name)
        for scope in ("all", "default"):
            set_sysctl(self.path, f"net.ipv6.conf.{scope}.disable_ipv6", 1)
        self.ip("link", "set", "lo", "up")

    @property
    def path(self) -> str:
        """How it is found from here."""
        return str(self._machine.path(f"/run/netns/{self.name}"))

    def ip(self, *words: str) -> None:
        """Run `ip -n NAME WORDS...`."""
        self._machine.run("ip", "-n", self.name, *words)

    def delete(self) -> None:
        """Take it away, if it is still there."""
        self._machine.run("ip", "netns", "delete", self.name, check=False)


@dataclass
class Wire:
    """A pair whose ends are up, each in a namespace of its own, which is given up with the test."""

    unit: Unit
    red: Place
    blue: Place
    a: End
    b: End
    uuid: str

    def row(self) -> dict[str, Any]:
        """How the daemon shows it."""
        found: dict[str, Any] = self.unit.call("link.get", pair=self.uuid)
        return found

    def read(self) -> int:
        """Frames that were read at both ends so far."""
        return sum(end["read"] for end in self._counters().values())

    def drops(self) -> int:
        """Frames that were sent to an end and never read."""
        drops = self._counters()["a"]["drops"]
        return int(drops["NO_CARRIER"] + drops["TAP_RING"])

    def wait_quiet(self, within: float = 5.0) -> dict[str, Any]:
        """Wait until nothing is on its way; the counters of both ends then."""

        def quiet(ends: dict[str, Any]) -> bool:
            return all(
                end["queued"] == 0 and end["read"] == end["kernel"]["tx_packets"] == end["delivered"] + end["dropped"]
                for end in ends.values()
            )

        return eventually(self._counters, quiet, "the pair is quiet", within)

    def _counters(self) -> dict[str, Any]:
        (found,) = self.unit.call("stats.get", pair=self.uuid)["pairs"]
        ends: dict[str, Any] = found["ends"]
        return ends


def make_wire(unit: Unit, **more: Any) -> Wire:
    """Make one. more: further parameters of link.add."""
    red, blue = Place(unit.machine), Place(unit.machine)
    names = fresh_name("a"), fresh_name("b")
    a, b = ({"ifname": name, "netns": place.name, "up": True} for name, place in zip(names, (red, blue), strict=True))
    made = unit.call("link.add", a=a, b=b, **more)
    wire = Wire(unit, red, blue, End(red.path, names[0]), End(blue.path, names[1]), made["pair"])
    for end in (wire.a, wire.b):
        eventually(lambda e=end: e.state().carrier, bool, f"{end} has a carrier")  # type: ignore[misc]
    return wire


@contextmanager
def meanwhile(unit: Unit) -> Iterator[None]:
    """The body runs after the daemon was killed, and before systemd starts the next one."""
    machine, pid = unit.machine, unit.pid
    machine.run("rm", "-f", _FIFO)
    machine.run("mkfifo", _FIFO)
    machine.drop_in("vethd.service", f"[Service]\nExecStartPre=+sh -c 'read line <{_FIFO} || true'\n")
    unit.ctl("kill", "--signal=KILL", "--kill-whom=main", "vethd.service")
    try:
        with machine.path(_FIFO).open("w"):  # returns when somebody reads
            yield
    finally:
        machine.drop_in("vethd.service", "")
    unit.until_replaced(pid)


def read_state(unit: Unit) -> Any:
    """What the daemon has written down."""
    return json.loads(unit.machine.path(STATE).read_text())
