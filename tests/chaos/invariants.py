"""What holds after a chaos run, whatever has happened: each check returns one sentence per fault."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.chaos.world import WORKERS, Wire, World, batch
from tests.kit.books import imbalance
from tests.kit.commands import run
from tests.kit.links import LinkState, all_links
from tests.kit.netns import known_nsids, netns_inode
from tests.kit.processes import open_files, status_field
from tests.kit.waiting import settled

TUN = "/dev/net/tun"
#: MiB by which a process may have grown since it had the first pairs.
GROWTH = 24
#: Seconds for everything to come to rest: a worker that died often is replaced after a while.
REST = 20.0

#: Where a row of link.list says what the kernel says.
SAID: Mapping[str, Callable[[LinkState], Any]] = {
    "ifindex": lambda link: link.ifindex,
    "address": lambda link: link.address,
    "mtu": lambda link: link.mtu,
    "txqueuelen": lambda link: link.txqlen,
    "alias": lambda link: link.attributes.get("IFLA_IFALIAS", ""),
    "up": lambda link: link.up,
    "carrier": lambda link: link.carrier,
    "operstate": lambda link: link.operstate,
}

Kernel = Mapping[str, Mapping[str, LinkState]]


def untold(rows: Iterable[Mapping[str, Any]], kernel: Kernel, inodes: Mapping[str, int]) -> list[str]:
    """What link.list and the kernel say differently: of each end, and of which ends there are.

    kernel: the TAPs by namespace and name. inodes: of the namespaces.
    """
    faults = []
    told = set()
    for row in rows:
        for letter in "ab":
            end = row[letter]
            where = f"{end['netns']}/{end['ifname']}"
            link = kernel.get(end["netns"] or "", {}).get(end["ifname"])
            if link is None:
                faults.append(f"{where} is in link.list, and no device")
                continue
            told.add((end["netns"], end["ifname"]))
            said = {key: end[key] for key in SAID} | {"netns_inode": end["netns_inode"], "qdisc": "noqueue"}
            real = {key: read(link) for key, read in SAID.items()}
            real |= {"netns_inode": inodes[end["netns"]], "qdisc": link.qdisc}
            if link.carrier is not (row["a"]["up"] and row["b"]["up"]):
                faults.append(f"{where}: carrier is {link.carrier}, up are {row['a']['up']} and {row['b']['up']}")
            faults += [
                f"{where}: {key} is said to be {said[key]}, is {real[key]}" for key in said if said[key] != real[key]
            ]
    there = {(place, name) for place, links in kernel.items() for name in links}
    return faults + [f"{place}/{name} is a device, and not in link.list" for place, name in sorted(there - told)]


def astray(rows: Iterable[Mapping[str, Any]], wires: Collection[Wire]) -> list[str]:
    """What is not as the actions left it: which pairs there are, the names and places of their ends."""
    listed = {row["pair"]: row for row in rows}
    faults = [f"{wire}: not in link.list" for wire in wires if wire.uuid not in listed]
    for wire in wires:
        for letter, end in zip("ab", wire.ends, strict=True):
            row = listed.get(wire.uuid, {letter: {"netns": end.netns, "ifname": end.name}})[letter]
            if (row["netns"], row["ifname"]) != (end.netns, end.name):
                faults.append(f"{wire}: end {letter} is said to be {row['netns']}/{row['ifname']}")
    return faults + [f"pair {uuid} is there unasked" for uuid in listed.keys() - {wire.uuid for wire in wires}]


def descriptors(held: Mapping[str, Counter[str]], queues: int, before: Mapping[str, Counter[str]]) -> list[str]:
    """Descriptors too many or too few, by process: `supervisor`, `worker N`.

    held, before: how many of each kind, now and before anything happened. queues: of all ends.
    """
    faults = []
    if (taps := held["supervisor"][TUN]) != queues:
        faults.append(f"the supervisor holds {taps} TAP descriptors for {queues} queues")
    if (taps := sum(kinds[TUN] for who, kinds in held.items() if who != "supervisor")) != queues:
        faults.append(f"the workers hold {taps} TAP descriptors for {queues} queues")
    for who, kinds in held.items():
        more = {kind: count for kind, count in (kinds - before.get(who, Counter())).items() if kind != TUN}
        if more:
            faults.append(f"{who} holds more descriptors than before: {more}")
    return faults


def hoard(kept: Counter[str], queues: int) -> list[str]:
    """Descriptors that the service manager keeps too many or too few. kept: how many of each name."""
    faults = [f"{count} descriptors are kept as {name}" for name, count in kept.items() if count != 1]
    if len(kept) != queues + 2:  # counters, staging
        faults.append(f"{len(kept)} descriptors are kept for {queues} queues")
    return faults


def crowd(pids: Collection[int], serving: Collection[int], states: Mapping[int, str]) -> list[str]:
    """Processes too many or too few: there are the supervisor, the workers and one spare, and none is a zombie."""
    faults = []
    if len(serving) != WORKERS or len(pids) != WORKERS + 2:
        faults.append(f"{len(serving)} workers serve, and there are {len(pids)} processes: {states}")
    return faults + [f"process {pid} is {state}" for pid, state in states.items() if state[0] not in "SR"]


def growth(now: Mapping[str, int], before: Mapping[str, int]) -> list[str]:
    """Processes that have grown by more than GROWTH. now, before: resident memory in KiB, by process."""
    return [
        f"{who} has grown from {before[who]} to {size} KiB"
        for who, size in now.items()
        if who in before and size > before[who] + GROWTH * 1024
    ]


# -- looking ----------------------------------------------------------------------------------------------------------


def kind(target: str) -> str:
    """The kind of a descriptor: what /proc says it points at, without numbers."""
    return target.partition(":[")[0].partition(" (deleted)")[0]


class Inspector:
    """Checks a world again and again, and compares with how it was first."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._descriptors = self._held()
        self._memory: dict[str, int] = {}
        self.figures: list[str] = []

    def check(self) -> None:
        """Let everything come to rest, and insist that all is well."""
        world = self._world
        world.replaced()
        world.released()
        self.bring_up()
        faults = settled(self.silent, lambda found: not found, REST)
        assert not faults, _told("pairs do not forward", faults)
        world.traffic.rest()
        faults = settled(self.faults, lambda found: not found, REST)
        assert not faults, _told("invariants are broken", faults)
        memory = self._sizes()
        self._memory = self._memory or memory
        faults = growth(memory, self._memory)
        assert not faults, _told("memory", faults)
        self.figures.append(f"{len(world.wires)} pairs, {sum(memory.values()) // 1024} MiB")
        world.traffic.go()

    def bring_up(self) -> None:
        """Everything up, and large enough for a frame: so that every pair can forward."""
        lines: dict[str, list[str]] = {}
        for wire in self._world.wires.values():
            for end in wire.ends:
                lines.setdefault(end.netns, []).append(f"link set {end.name} up")
        for place, words in lines.items():
            batch(place, words)
        self._marks = {number: [way.sent[0] for way in line.ways] for number, line in self._world.traffic.lines.items()}

    def silent(self) -> list[str]:
        """Pairs through which nothing has come that was sent since they were brought up."""
        return [
            f"{self._world.wires[number]}: nothing arrives {way}, {way.arrived[0]} < {mark}"
            for number, line in self._world.traffic.lines.items()
            for way, mark in zip(line.ways, self._marks[number], strict=True)
            if way.arrived[0] <= mark
        ] + self._world.traffic.faults

    def faults(self) -> list[str]:
        """What is wrong, now that nothing moves."""
        world = self._world
        world.daemon.hang_up()  # from a program that is no more
        rows = world.daemon.call("link.list")
        faults = [*world.traffic.faults, *astray(rows, world.wires.values())]
        kernel = {
            place: {name: link for name, link in all_links(place).items() if link.kind == "tun"}
            for place in world.places
        }
        faults += untold(rows, kernel, {place: netns_inode(place) for place in world.places})
        if not world.daemon.workers_sleep():
            faults.append("a worker is busy")
        stats = world.daemon.call("stats.get")
        faults += imbalance(stats)
        for pair in stats["pairs"]:
            faults += [f"pair {pair['uuid']}: {end['queued']} queued" for end in pair["ends"].values() if end["queued"]]
        queues = 2 * sum(row["numqueues"] for row in rows)
        faults += descriptors(self._held(), queues, self._descriptors)
        faults += hoard(world.manager.kept(), queues)
        pids = [process.pid for process in world.daemon.family()]
        faults += crowd(
            pids,
            set(self._processes().values()) - {world.daemon.pid},
            {pid: status_field(pid, "State") for pid in pids},
        )
        undead = world.netns.undead(within=0)
        faults += [f"namespace {name} was deleted and lives" for name in undead]
        return faults + self._nsids()

    def _nsids(self) -> list[str]:
        """Nsids in the daemon's staging namespace: one per namespace that lives, at most."""
        world = self._world
        known = nsids_of(world.daemon.pid)
        most = len(world.places) + len(known_nsids()) + 2
        return [f"{known} nsids for {most} namespaces"] if known > most else []

    def _processes(self) -> dict[str, int]:
        world = self._world
        workers = {f"worker {row['worker']}": row["pid"] for row in world.daemon.worker_rows() if row["pid"]}
        return {"supervisor": world.daemon.pid, **workers}

    def _held(self) -> dict[str, Counter[str]]:
        return {who: Counter(map(kind, open_files(pid))) for who, pid in self._processes().items()}

    def _sizes(self) -> dict[str, int]:
        return {who: int(status_field(pid, "VmRSS").split()[0]) for who, pid in self._processes().items()}


def nsids_of(pid: int) -> int:
    """How many nsids are known in the namespaces that a process holds and is not in."""
    home = os.stat(f"/proc/{pid}/ns/net").st_ino
    count = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            target = os.readlink(entry)
            if target.startswith("net:[") and target != f"net:[{home}]":
                count += len(run("nsenter", f"--net={entry}", "ip", "netns", "list-id").out.splitlines())
    return count


def _told(what: str, faults: list[str]) -> str:
    return "\n".join([f"{what}:", *faults[:40]])
