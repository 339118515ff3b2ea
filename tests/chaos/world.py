"""What a chaos run acts on: a daemon, namespaces, pairs as they should be, their traffic, a configuration file.

Everything here is a consequence of the actions taken, never of when something happened: so the same seed leads to the
same run. Pairs have numbers, in the order in which they were made.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.chaos.traffic import Traffic
from tests.kit.commands import run
from tests.kit.daemon import Daemon
from tests.kit.manager import Manager
from tests.kit.netns import Namespaces, fresh_name
from tests.kit.pairs import End
from tests.kit.static import Wish, as_toml, wish
from tests.kit.waiting import eventually

WORKERS = 3
#: Seconds; a worker that hangs is killed after a third of them.
WATCHDOG = 3
SETTINGS = f"[worker]\ncount = {WORKERS}\nrestart_window = 0.5\nwatchdog = {WATCHDOG}\n"
#: Seconds that a process stands still which is stopped.
PAUSES = (0.05, 0.1, 0.3)


@dataclass
class Wire:
    """A pair as it should be. ends: a and b, where they are. pinned: namespaces that live as long as it does."""

    number: int
    uuid: str
    ends: list[End]
    pinned: frozenset[str] = frozenset()
    name: str | None = None
    numqueues: int = 1

    def __str__(self) -> str:
        return f"pair {self.number} ({' - '.join(f'{end.netns}/{end.name}' for end in self.ends)})"


@dataclass
class World:
    """wires: by number. places: names of namespaces. wishes: what the configuration file says.

    alone: whether there is no daemon at the moment.
    """

    daemon: Daemon
    manager: Manager
    netns: Namespaces
    tell: Callable[[str], None]
    seed: int
    random: Random = field(default_factory=Random)
    traffic: Traffic = field(default_factory=Traffic)
    wires: dict[int, Wire] = field(default_factory=dict)
    places: list[str] = field(default_factory=list)
    wishes: list[Wish] = field(default_factory=list)
    alone: bool = False
    _step: str = ""
    _count: int = 0
    _program: str = ""
    _timers: list[threading.Timer] = field(default_factory=list)

    def begin(self, step: str) -> None:
        """A step begins, which depends on nothing but the seed and the steps before it."""
        self._step = step
        self.random.seed(f"{self.seed}/{step}")

    def say(self, text: str) -> None:
        """Tell what is going to be done in this step."""
        self.tell(f"seed {self.seed}, {self._step}: {text}")

    # -- choosing -----------------------------------------------------------------------------------------------------

    def wire(self) -> Wire:
        """Any pair."""
        return self.wires[self.random.choice(sorted(self.wires))]

    def end(self) -> tuple[Wire, int]:
        """Any end: its pair, and 0 for a or 1 for b."""
        return self.wire(), self.random.randrange(2)

    def place(self) -> str:
        """Any namespace."""
        return self.random.choice(self.places)

    def likes(self, probability: float = 0.5) -> bool:
        return self.random.random() < probability

    # -- pairs --------------------------------------------------------------------------------------------------------

    def wanted_pair(self) -> dict[str, Any]:
        """The parameters of link.add for any pair."""
        ends = {
            letter: {"ifname": fresh_name(letter), "netns": self.place(), "up": self.likes(0.9), "gro": self.likes(0.2)}
            for letter in "ab"
        }
        placement = "inside" if self.likes(0.4) else "move"
        return {**ends, "placement": placement, "numqueues": self.random.choice((1, 1, 1, 1, 2, 4))}

    def made(self, row: dict[str, Any]) -> Wire:
        """A pair is there now: what link.add or link.list said of it."""
        self._count += 1
        ends = [End(row[letter]["netns"], row[letter]["ifname"]) for letter in "ab"]
        pinned = frozenset(end.netns for end in ends) if row["placement"] == "inside" else frozenset()
        wire = Wire(self._count, row["pair"], ends, pinned, row["name"], row["numqueues"])
        self.wires[wire.number] = wire
        self.carry(wire)
        return wire

    def carry(self, wire: Wire) -> None:
        """Let traffic go on where the ends are now."""
        self.traffic.open(wire.number, *wire.ends)

    def gone(self, wire: Wire) -> None:
        """A pair is deleted."""
        del self.wires[wire.number]
        self.traffic.drop(wire.number)

    # -- configuration ------------------------------------------------------------------------------------------------

    @property
    def file(self) -> Path:
        return self.daemon.workdir / "vethd.toml"

    def text(self) -> str:
        """The configuration file, as it should be."""
        return SETTINGS + as_toml(*self.wishes)

    def new_wish(self) -> Wish:
        """Any static pair."""
        placement = "inside" if self.likes() else "move"
        ends = {letter: {"up": True, "mtu": self.random.choice((1400, 1500))} for letter in "ab"}
        return wish(self.place(), self.place(), placement=placement, **ends)

    def reloaded(self) -> None:
        """The daemon has done what the file says: its static pairs are these, where they belong."""
        self._adopt_places()
        for wire in [wire for wire in self.wires.values() if wire.name is not None]:
            self.gone(wire)
        rows = {row["name"]: row for row in self.daemon.ask("link.list", {"origin": "config"})}
        assert rows.keys() == {each["name"] for each in self.wishes}, f"static pairs are {sorted(rows)}"
        for each in self.wishes:
            row = rows[each["name"]]
            for letter in "ab":
                differs = {key: row[letter][key] for key, value in each[letter].items() if row[letter][key] != value}
                assert not differs, f"static pair {each['name']}, end {letter}: wanted {each[letter]}, got {differs}"
            self.made(row)

    def _adopt_places(self) -> None:
        """The daemon makes namespaces for its static pairs."""
        for place in sorted({each[letter]["netns"] for each in self.wishes for letter in "ab"} - set(self.places)):
            self.netns.adopt(place)
            self.places.append(place)

    def _complete(self) -> None:
        """A daemon that starts makes those static pairs that are missing, and leaves the others as they are."""
        missing = {each["name"] for each in self.wishes} - {wire.name for wire in self.wires.values()}
        if missing:
            self.replaced()
            self._adopt_places()
            rows = {row["name"]: row for row in self.ask("link.list", origin="config")}
            for name in sorted(missing):
                self.made(rows[name])

    # -- processes ----------------------------------------------------------------------------------------------------

    def ask(self, method: str, **params: Any) -> Any:
        """Call a method, on a connection of its own that outlives a change of the program."""
        return self.daemon.ask(method, params)

    def worker(self, number: int) -> int:
        """The pid of a worker, as soon as there is one."""
        rows = eventually(
            lambda: self.ask("softnet.get")["workers"], lambda rows: rows[number]["pid"], "the worker serves", 20
        )
        pid: int = rows[number]["pid"]
        return pid

    def send(self, pid: int, number: signal.Signals, back: signal.Signals | None = None) -> None:
        """Send a signal to a process, and another one a moment later."""
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        signal.pidfd_send_signal(pidfd, number)
        if back is None:
            os.close(pidfd)
            return
        timer = threading.Timer(self.random.choice(PAUSES), _release, (pidfd, back))
        self._timers.append(timer)
        timer.start()

    def released(self) -> None:
        """Return when no process stands still any more."""
        while self._timers:
            self._timers.pop().join()

    def replaced(self) -> None:
        """Return when the daemon's program has been replaced as often as it was asked to."""
        before, self._program = self._program, ""
        if before:
            eventually(
                lambda: self.ask("daemon.info")["server_id"], lambda now: now != before, "the program is replaced", 30
            )

    def will_be_replaced(self) -> None:
        """The daemon is going to be told by a signal to replace its program; nobody waits for that."""
        self.replaced()
        self._program = self.ask("daemon.info")["server_id"]
        self.daemon.hang_up()

    @contextmanager
    def without_daemon(self, number: signal.Signals) -> Iterator[None]:
        """The daemon is ended by a signal; after the body the next one is started, for which nobody waits."""
        self._program = self._program or self.ask("daemon.info")["server_id"]
        self.daemon.end(number)
        self.alone = True
        try:
            yield
        finally:
            self.alone = False
            self.daemon.start_next()
        self._complete()

    def logged(self, event: str) -> int:
        """How often the daemon has logged an event."""
        return self.daemon.log().count(json.dumps(event))

    def close(self) -> None:
        self.released()
        self.traffic.close()


def _release(pidfd: int, number: signal.Signals) -> None:
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)


def batch(netns: str, lines: Sequence[str]) -> None:
    """Run `ip -n NETNS -batch`."""
    run("ip", "-n", netns, "-batch", "-", given="\n".join(lines) + "\n")
