"""Many pairs: each works, they cost little, an idle daemon is idle, and nothing of them is left."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.kit.commands import in_netns, run
from tests.kit.daemon import Daemon
from tests.kit.links import all_links
from tests.kit.netns import Namespaces, socket_in
from tests.kit.processes import cpu_seconds, open_files, tap_fds
from tests.kit.rpc import RpcClient
from tests.kit.waiting import eventually

PAIRS, MOVED = 200, 20
#: Pairs that one client makes and deletes, one after the other.
THOUSAND = 1000
#: Pairs are made between this many couples of namespaces.
COUPLES = 10
CLIENTS = 8
IDLE = 5.0  # seconds
#: Part of one CPU that all processes of an idle daemon together may use; the interpreter alone needs none.
IDLE_CPU = 0.02


@dataclass(frozen=True)
class Wire:
    """One pair: its couple of namespaces, the names of its ends, the addresses on them."""

    number: int
    couple: tuple[str, str]

    @property
    def names(self) -> tuple[str, str]:
        return f"vtpa{self.number}", f"vtpb{self.number}"

    @property
    def addresses(self) -> tuple[str, str]:
        third, fourth = divmod(self.number, 64)
        return f"10.99.{third}.{4 * fourth + 1}", f"10.99.{third}.{4 * fourth + 2}"

    @property
    def placement(self) -> str:
        return "move" if self.number < MOVED else "inside"


def request(wire: Wire) -> dict[str, Any]:
    """What link.add is asked for a wire, both ends up."""
    ends = zip("ab", wire.names, wire.couple, strict=True)
    made: dict[str, Any] = {end: {"ifname": name, "netns": where, "up": True} for end, name, where in ends}
    return made | {"placement": wire.placement}


def call_all(daemon: Daemon, method: str, requests: list[dict[str, Any]]) -> float:
    """Call a method many times, by several clients at once; seconds it took."""
    began = time.monotonic()
    done: list[Any] = []

    def call(mine: list[dict[str, Any]]) -> None:
        with RpcClient(daemon.socket, within=60) as client:
            done.extend(client.call(method, params) for params in mine)

    clients = [threading.Thread(target=call, args=(requests[first::CLIENTS],)) for first in range(CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join(60)
    assert len(done) == len(requests), f"{method} was not answered well"
    return time.monotonic() - began


def give_addresses(wires: list[Wire]) -> None:
    lines: dict[str, str] = {}
    for wire in wires:
        for where, name, address in zip(wire.couple, wire.names, wire.addresses, strict=True):
            lines[where] = lines.get(where, "") + f"address add {address}/30 dev {name}\n"
    for where, given in lines.items():
        run("ip", "-n", where, "-batch", "-", given=given)


def unanswered(wires: list[Wire]) -> list[int]:
    """Ping across every wire; the numbers of those that do not answer."""
    pings = {
        wire.number: (wire.couple[0], f"ping -q -n -c 1 -W 5 {wire.addresses[1]} >/dev/null && echo {wire.number}")
        for wire in wires
    }
    answered: set[int] = set()
    for where in {where for where, _ping in pings.values()}:
        script = "\n".join(f"({ping}) &" for place, ping in pings.values() if place == where) + "\nwait\n"
        answered |= {int(number) for number in in_netns(where, "sh", "-c", script).out.split()}
    return sorted(pings.keys() - answered)


def links_in(couples: list[tuple[str, str]]) -> list[str]:
    """All devices in the namespaces but the loopbacks."""
    return [name for couple in couples for where in couple for name in all_links(where) if name != "lo"]


def memory(pid: int) -> float:
    """Resident memory of a process, in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def idle_cpu(daemon: Daemon) -> float:
    """Part of one CPU that the processes use while nothing happens; none of them ends meanwhile."""
    pids = [process.pid for process in daemon.family()]
    pidfds = [os.pidfd_open(pid) for pid in pids]
    poll = select.poll()
    try:
        for pidfd in pidfds:
            poll.register(pidfd, select.POLLIN)
        before = sum(map(cpu_seconds, pids))
        assert poll.poll(IDLE * 1000) == [], "a process ended"
        return (sum(map(cpu_seconds, pids)) - before) / IDLE
    finally:
        for pidfd in pidfds:
            os.close(pidfd)


def silence_after_kill(daemon: Daemon, wire: Wire) -> float:
    """Kill the worker that has this wire; seconds until a datagram sent after that has crossed it."""
    with (
        socket_in(wire.couple[0], socket.AF_INET, socket.SOCK_DGRAM) as source,
        socket_in(wire.couple[1], socket.AF_INET, socket.SOCK_DGRAM) as target,
    ):
        target.bind((wire.addresses[1], 9))
        target.settimeout(10)
        (pair,) = daemon.call("link.list", {"ifname": wire.names[0]})
        (victim,) = [row["pid"] for row in daemon.worker_rows() if row["worker"] in pair["workers"]]
        began = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        source.sendto(b"still there?", (wire.addresses[1], 9))
        assert target.recv(100) == b"still there?"
        return time.monotonic() - began


@pytest.fixture
def couples(netns: Namespaces) -> list[tuple[str, str]]:
    return [(netns.make(), netns.make()) for _ in range(COUPLES)]


def test_two_hundred_pairs_at_once(
    start_daemon: Callable[..., Daemon], couples: list[tuple[str, str]], figures: Callable[[str], None]
) -> None:
    daemon = start_daemon(config="[worker]\ncount = 1\n")
    daemon.expected_errors.append("worker died")
    descriptors = len(open_files(daemon.pid))
    wires = [Wire(number, couples[number % COUPLES]) for number in range(PAIRS)]
    took = call_all(daemon, "link.add", [request(wire) for wire in wires])
    assert len(daemon.pairs()) == PAIRS
    give_addresses(wires)
    assert unanswered(wires) == []
    daemon.check_books()
    family = [process.pid for process in daemon.family()]
    found = {
        "pairs": f"{PAIRS}, {MOVED} of them moved, made in {took:.2f} s",
        "memory": " + ".join(f"{memory(pid):.0f}" for pid in family) + " MiB resident",
        "descriptors": " + ".join(str(len(open_files(pid))) for pid in family),
    }
    assert tap_fds(daemon.pid) == 2 * PAIRS
    idle = idle_cpu(daemon)
    found["idle"] = f"{idle:.2%} of a CPU over {IDLE:.0f} s"
    silence = silence_after_kill(daemon, wires[-1])
    found["killed worker"] = f"silent {silence * 1e3:.0f} ms"
    assert unanswered(wires) == []
    daemon.check_books()
    took = call_all(daemon, "link.del", [{"pair": pair["pair"]} for pair in daemon.pairs()])
    found["deleted"] = f"in {took:.2f} s"
    figures("\n".join(f"{name:>15}: {value}" for name, value in found.items()))
    assert idle <= IDLE_CPU
    assert links_in(couples) == []
    assert daemon.pairs() == []
    eventually(lambda: len(open_files(daemon.pid)), lambda count: count <= descriptors + 1, "no descriptor is left")


def test_a_thousand_pairs_of_one_client(start_daemon: Callable[..., Daemon], couples: list[tuple[str, str]]) -> None:
    daemon = start_daemon(config="[worker]\ncount = 1\n")
    processes = [daemon.pid, *daemon.workers()]
    descriptors = [len(open_files(pid)) for pid in processes]
    wires = [Wire(MOVED + number, couples[number % COUPLES]) for number in range(THOUSAND)]
    with RpcClient(daemon.socket, within=60) as client:
        made = [client.call("link.add", request(wire)) for wire in wires]
        assert [pair for pair in made if not pair["a"]["carrier"] or pair["b"]["operstate"] != "UP"] == []
        assert [pair["a"]["ifname"] for pair in made] == [wire.names[0] for wire in wires]
        assert len(links_in(couples)) == 2 * THOUSAND
        assert [tap_fds(pid) for pid in processes] == [2 * THOUSAND] * 2
        last = wires[-1]
        give_addresses([last])
        assert unanswered([last]) == []
        daemon.check_books()
        for pair in made:
            client.call("link.del", {"pair": pair["pair"]})
    assert links_in(couples) == []
    assert daemon.pairs() == []
    eventually(
        lambda: [len(open_files(pid)) for pid in processes],
        lambda counts: counts == descriptors,
        "no descriptor is left",
    )
