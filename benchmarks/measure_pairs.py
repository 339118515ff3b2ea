"""`python -m benchmarks.measure_pairs`: what pairs cost - to make, to delete, to have.

Not a measurement of traffic over one link, so it is a program of its own beside `python -m benchmarks`. One client on
one connection asks a private daemon for many pairs between eight namespaces, once request by request and once all at a
time; kernel veth is made by `ip -batch`, moved pairs take turns with two bare TAPs that are moved by RTM_SETLINK.
No threshold is asserted: figures are printed. Everything is removed at the end, also after Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.__main__ import leave
from benchmarks.daemon import Daemon, private_daemon
from benchmarks.generators import BenchmarkError, call
from benchmarks.topology import PREFIX
from vethd.host import netns, tap
from vethd.host.rtnl import Rtnl

COUPLES: Final = 4
#: Kernel veth deletes 16 ms each, one after the other.
KERNEL_PAIRS: Final = 200
#: Seconds from the last link up until the daemon counts as idle: by then IPv6 has sent what it sends unasked.
SETTLE: Final = 30.0
IDLE: Final = 10.0  # seconds

Couple = tuple[str, str]
Report = Callable[[str, str], None]


class Client:
    """One connection to the control socket."""

    def __init__(self, path: Path) -> None:
        """`path`: the control socket."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(120)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile("rb")

    def close(self) -> None:
        """Disconnect."""
        self._lines.close()
        self._socket.close()

    def one_by_one(self, method: str, requests: list[dict[str, Any]]) -> list[Any]:
        """Each request is sent when the one before is answered; the results."""
        results: list[Any] = []
        for params in requests:
            self._socket.sendall(line(method, params))
            results.append(self._result(method))
        return results

    def ask(self, line: bytes) -> bytes:
        """Send one request; the line that answers it, as it came."""
        self._socket.sendall(line)
        return self._lines.readline()

    def pipelined(self, method: str, requests: list[dict[str, Any]]) -> list[Any]:
        """All requests are sent, whatever is answered meanwhile; the results."""
        text = b"".join(line(method, params) for params in requests)
        sender = threading.Thread(target=self._socket.sendall, args=(text,))
        sender.start()
        try:
            return [self._result(method) for _ in requests]
        finally:
            sender.join()

    def _result(self, method: str) -> Any:
        answer = json.loads(self._lines.readline() or b'{"error": "no answer"}')
        if "error" in answer:
            raise BenchmarkError(f"vethd: {method}: {answer['error']}")
        return answer["result"]


@dataclass(frozen=True)
class Processes:
    """The daemon's processes: supervisor, workers, spare."""

    pids: list[int]

    def cpu(self) -> float:
        """CPU time that all their threads have used so far, in milliseconds."""
        tasks = [task for pid in self.pids for task in Path(f"/proc/{pid}/task").iterdir()]
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e6

    def pss(self) -> float:
        """Memory, shared pages divided among those who share them, in MB (10^6 bytes)."""
        lines = [line for pid in self.pids for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
        return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024 / 1e6


def main() -> int:
    """Parse the arguments, measure, print; the exit status is 0 unless something could not be done."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measure_pairs", description="What pairs cost.")
    parser.add_argument("--pairs", type=int, default=1000, help="how many at a time (default: 1000)")
    parser.add_argument("--moved", type=int, default=20, help="how many with placement move (default: 20)")
    arguments = parser.parse_args()
    return run(lambda: _measure(arguments.pairs, arguments.moved, _print))


def run(measure: Callable[[], None]) -> int:
    """Measure as root, so that every device and process is taken away whatever ends it; the exit status."""
    if os.geteuid():
        print("benchmarks: network namespaces and TAP devices need root", file=sys.stderr)
        return 1
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
    try:
        measure()
    except BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _print(what: str, figure: str) -> None:
    print(f"{what:<48}{figure}", flush=True)


def _measure(pairs: int, moved: int, report: Report) -> None:
    with ExitStack() as stack:
        couples = [couple(stack, number) for number in range(COUPLES)]
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vethd-bench.")))
        _kernel_veth(couples, min(pairs, KERNEL_PAIRS), report)
        daemon = stack.enter_context(private_daemon(directory, {}))
        client = Client(daemon.path)
        stack.callback(client.close)
        processes = _processes(daemon)
        report("memory without pairs, all processes", f"{processes.pss():.1f} MB")
        _moved(client, couples, moved, report)
        for how in (client.one_by_one, client.pipelined):
            name = how.__name__.replace("_", " ")
            took, made = _timed(how, "link.add", [request(couples, number, "inside") for number in range(pairs)])
            report(f"link.add, inside, {name}", _rate(took, pairs))
            if how == client.pipelined:
                _idle(processes, pairs, report)
            took, _ = _timed(how, "link.del", [{"pair": pair["pair"]} for pair in made])
            report(f"link.del, inside, {name}", _rate(took, pairs))


def couple(stack: ExitStack, number: int) -> Couple:
    """Two namespaces, deleted with what is in them when `stack` ends."""
    names = f"{PREFIX}-p{number}a", f"{PREFIX}-p{number}b"
    for name in names:
        call("ip", "netns", "add", name)
        stack.callback(call, "ip", "netns", "del", name)
    return names


def request(couples: list[Couple], number: int, placement: str) -> dict[str, Any]:
    """What link.add is asked for: both ends up."""
    a, b = couples[number % len(couples)]
    ends = {
        "a": {"ifname": f"va{number}", "netns": a, "up": True},
        "b": {"ifname": f"vb{number}", "netns": b, "up": True},
    }
    return {**ends, "placement": placement}


def _kernel_veth(couples: list[Couple], pairs: int, report: Report) -> None:
    """The reference: one `ip -batch` makes the pairs, another per namespace sets them up and deletes them."""
    adds = "".join(
        f"link add va{n} netns {a} type veth peer name vb{n} netns {b}\n"
        for n, (a, b) in ((n, couples[n % len(couples)]) for n in range(pairs))
    )
    began = time.monotonic()
    _batch(None, adds)
    for index, names in enumerate(couples):
        for letter, where in zip("ab", names, strict=True):
            _batch(where, "".join(f"link set v{letter}{n} up\n" for n in range(index, pairs, len(couples))))
    report("kernel veth, ip -batch: made and set up", _rate(time.monotonic() - began, pairs))
    began = time.monotonic()
    for index, (a, _b) in enumerate(couples):
        _batch(a, "".join(f"link del va{n}\n" for n in range(index, pairs, len(couples))))
    report("kernel veth, ip -batch: deleted", _rate(time.monotonic() - began, pairs))


def _batch(where: str | None, lines: str) -> None:
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(lines)
        file.flush()
        call("ip", *(["-n", where] if where else []), "-batch", file.name, timeout=300)


def _moved(client: Client, couples: list[Couple], pairs: int, report: Report) -> None:
    """Pairs that are moved, in turn with the least that a move of two devices can cost."""
    bare: list[float] = []
    asked: list[float] = []
    with _staging() as staging:
        for number in range(pairs):
            bare.append(staging.submit(_two_moves, couples[number % len(couples)], number).result())
            took, made = _timed(client.one_by_one, "link.add", [request(couples, number, "move")])
            asked.append(took)
            client.one_by_one("link.del", [{"pair": pair["pair"]} for pair in made])
    ratios = [its / least for its, least in zip(asked, bare, strict=True)]
    report("two bare TAPs, moved by RTM_SETLINK", f"{statistics.median(bare) * 1e3:8.2f} ms")
    report(
        "link.add, move",
        f"{statistics.median(asked) * 1e3:8.2f} ms, {statistics.median(ratios):.2f} times the two moves before it",
    )


@contextmanager
def _staging() -> Iterator[ThreadPoolExecutor]:
    """A thread in a network namespace of its own."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(netns.unshare).result()
        yield thread


def _two_moves(couple: Couple, number: int) -> float:
    """Make two TAPs, move one into each namespace, close them; seconds that the moves took."""
    fds = [tap.open_queue(f"vtbt{letter}{number}") for letter in "ab"]
    targets = [netns.open_name(name) for name in couple]
    try:
        with Rtnl() as rtnl:
            indices = [rtnl.index(tap.current_name(fd)) for fd in fds]
            began = time.monotonic()
            for index, target in zip(indices, targets, strict=True):
                rtnl.set_link(index, net_ns_fd=target)
            return time.monotonic() - began
    finally:
        for fd in (*fds, *targets):
            os.close(fd)


def _idle(processes: Processes, pairs: int, report: Report) -> None:
    """What the daemon uses while nothing happens, and the memory that it has with all pairs there."""
    time.sleep(SETTLE)
    before = processes.cpu()
    time.sleep(IDLE)
    report(f"idle with {pairs} pairs, CPU in {IDLE:.0f} s, all processes", f"{processes.cpu() - before:8.2f} ms")
    report(f"memory with {pairs} pairs, all processes", f"{processes.pss():.1f} MB")


def _processes(daemon: Daemon) -> Processes:
    """The daemon's processes, once every worker and the spare are there."""
    info = daemon.request("daemon.info")
    pids, expected = [info["pid"]], len(info["workers"]) + 2
    deadline = time.monotonic() + 10
    while len(pids) < expected:
        if time.monotonic() > deadline:
            raise BenchmarkError(f"vethd: {len(pids)} processes, {expected} were expected")
        children = Path(f"/proc/{info['pid']}/task/{info['pid']}/children").read_text().split()
        pids = [info["pid"], *map(int, children)]
    return Processes(pids)


def _timed(
    how: Callable[[str, list[dict[str, Any]]], list[Any]], method: str, requests: list[dict[str, Any]]
) -> tuple[float, list[Any]]:
    began = time.monotonic()
    results = how(method, requests)
    return time.monotonic() - began, results


def _rate(seconds: float, pairs: int) -> str:
    return f"{seconds / pairs * 1e3:8.2f} ms per pair, {seconds:.2f} s for {pairs}"


def line(method: str, params: dict[str, Any]) -> bytes:
    """A request as it goes over the socket."""
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode() + b"\n"


if __name__ == "__main__":
    sys.exit(main())
