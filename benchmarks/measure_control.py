"""`python -m benchmarks.measure_control`: what the control socket can answer, and what that does to traffic.

A private daemon has many pairs. One client asks, one request after the other and all at a time; the supervisor's CPU
time is that of all its threads. Then UDP is paced at half of what the link carries at most, with a round trip every
millisecond beside it, in turn without requests and with 1000 of them per second: the control socket must change neither
loss nor latency. No threshold is asserted: figures are printed. Everything is removed at the end, also after Ctrl-C.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

from benchmarks.daemon import private_daemon
from benchmarks.generators import BenchmarkError, compile_source, figures, running, wait_for_line, window
from benchmarks.measure_pairs import COUPLES, Client, Processes, couple, line, request, run
from benchmarks.topology import End, address, namespaces

PAYLOAD: Final = "18"  # bytes; with its headers the smallest Ethernet frame, 60 bytes
RECEIVE_BUFFER: Final = str(32 << 20)  # bytes: what is lost is lost by the link
PORT, ECHO_PORT = "7000", "7002"
RATE: Final = 1000  # requests per second beside the traffic
INTERVAL: Final = 1000  # microseconds between two round trips
LEAD: Final = 0.5  # seconds from the start of the receiver to the window
AT_A_TIME: Final = 1000  # the most pairs that one link.add takes


@dataclass(frozen=True)
class Plan:
    """How much is measured. pairs: that exist. requests: of each kind; lists: of link.list.

    seconds: length of a window of traffic. rounds: windows without and with requests, in turn.
    """

    pairs: int
    requests: int
    lists: int
    seconds: float
    rounds: int


FULL: Final = Plan(pairs=1000, requests=5000, lists=100, seconds=4.0, rounds=5)
QUICK: Final = Plan(pairs=100, requests=300, lists=10, seconds=0.5, rounds=1)


def main() -> int:
    """Parse the arguments, measure, print; the exit status is 0 unless something could not be done."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measure_control", description="What requests cost.")
    parser.add_argument("--quick", action="store_true", help="fewer pairs, short runs: a smoke test")
    arguments = parser.parse_args()
    return run(lambda: _measure(QUICK if arguments.quick else FULL))


def _measure(plan: Plan) -> None:
    with ExitStack() as stack:
        couples = [couple(stack, number) for number in range(COUPLES)]
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vethd-bench.")))
        a, b = stack.enter_context(namespaces(0))
        daemon = stack.enter_context(private_daemon(directory, {}))
        client = Client(daemon.path)
        stack.callback(client.close)
        supervisor = Processes([daemon.request("daemon.info")["pid"]])
        pairs: list[dict[str, Any]] = []
        requests = [request(couples, number, "inside") for number in range(plan.pairs)]
        for at in range(0, plan.pairs, AT_A_TIME):
            pairs += client.one_by_one("link.add", [{"pairs": requests[at : at + AT_A_TIME]}])[0]
        _requests(client, supervisor, pairs, plan)
        ends = {
            "a": {"ifname": a.netns, "netns": a.netns, "up": True},
            "b": {"ifname": b.netns, "netns": b.netns, "up": True},
        }
        client.one_by_one("link.add", [ends])
        address(a, b)
        _beside_traffic(Traffic(a, b, directory), Asker(daemon.path, pairs), supervisor, plan)


# -- what requests cost -----------------------------------------------------------------------------------------------


def _requests(client: Client, supervisor: Processes, pairs: list[dict[str, Any]], plan: Plan) -> None:
    """One request after the other; the latency is that of the answer's last byte. Short ones also all at a time."""
    by_uuid = [{"pair": pair["pair"]} for pair in pairs]
    by_name = [{"ifname": pair["a"]["ifname"], "netns": pair["a"]["netns"]} for pair in pairs]
    kinds: tuple[tuple[str, str, list[dict[str, Any]], int], ...] = (
        ("link.get by uuid", "link.get", by_uuid, plan.requests),
        ("link.get by name", "link.get", by_name, plan.requests),
        ("stats.get, one pair", "stats.get", by_uuid, plan.requests),
        ("link.list", "link.list", [{}], plan.lists),
        ("link.list with stats", "link.list", [{"stats": True}], plan.lists),
        ("stats.get, all pairs, with a cursor", "stats.get", [{"cursor": True}], plan.lists),
    )
    print(f"{f'{plan.pairs} pairs':<48}{'p50 ms':>9}{'p99 ms':>9}{'k/s':>9}{'supervisor CPU ms':>19}")
    for title, method, params, count in kinds:
        asked = list(islice(cycle(params), count))
        cpu = supervisor.cpu()
        times = sorted(_timed(client, line(method, each)) for each in asked)
        cpu = (supervisor.cpu() - cpu) / count
        p50, p99, rate = times[count // 2], times[count * 99 // 100], count / sum(times)
        print(f"{title:<48}{p50 * 1e3:9.3f}{p99 * 1e3:9.3f}{rate / 1e3:9.2f}{cpu:19.3f}", flush=True)
        if count == plan.requests:
            cpu, began = supervisor.cpu(), time.monotonic()
            client.pipelined(method, asked)
            rate, cpu = count / (time.monotonic() - began), (supervisor.cpu() - cpu) / count
            print(f"{title + ', all at a time':<66}{rate / 1e3:9.2f}{cpu:19.3f}", flush=True)


def _timed(client: Client, text: bytes) -> float:
    began = time.monotonic()
    answer = client.ask(text)
    took = time.monotonic() - began
    if b'"error"' in answer[:80] or not answer:
        raise BenchmarkError(f"vethd: {answer[:200]!r}")
    return took


# -- beside traffic ---------------------------------------------------------------------------------------------------


class Asker:
    """Asks for one pair after the other, RATE times a second. asked: requests answered so far."""

    def __init__(self, path: Path, pairs: list[dict[str, Any]]) -> None:
        self._path = path
        self._params = [{"pair": pair["pair"]} for pair in pairs]
        self._stop = threading.Event()
        self.asked = 0

    @contextmanager
    def asking(self) -> Iterator[None]:
        """While the body runs."""
        self._stop.clear()
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _run(self) -> None:
        client, due = Client(self._path), time.monotonic()
        try:
            for params in cycle(self._params):
                due += 1 / RATE
                if self._stop.wait(max(0.0, due - time.monotonic())):
                    return
                client.one_by_one("link.get", [params])
                self.asked += 1
        finally:
            client.close()


class Traffic:
    """UDP from a to b, and round trips beside it."""

    def __init__(self, a: End, b: End, directory: Path) -> None:
        self._a = a
        self._b = b
        self._flood = str(compile_source("udp_flood.c", directory))
        self._round_trip = str(compile_source("round_trip.c", directory))

    def most(self, seconds: float) -> float:
        """Packets per second that b gets of a sender that sends as many as it can."""
        start, end = window(LEAD, seconds)
        with self._receiver(start, end) as receiver, self._sender("send", start, end) as sender:
            figures(sender, seconds + 10)
            return figures(receiver, seconds + 10)["window"] / seconds

    def paced(self, rate: float, seconds: float) -> tuple[float, float]:
        """Share of packets lost at this rate, and the 99th percentile of the round trips, in microseconds."""
        start, end = window(LEAD, seconds)
        count = int(seconds * 1e6 / INTERVAL)
        trips = (self._b.address, ECHO_PORT, "0", str(count), str(INTERVAL))
        with (
            running(self._b.netns, self._round_trip, "echo-udp", self._b.address, ECHO_PORT) as echo,
            self._receiver(start, end) as receiver,
            self._sender("pace", start, end, str(int(rate))) as sender,
        ):
            wait_for_line(echo, "ready")
            time.sleep(max(0.0, int(start) - time.monotonic_ns()) / 1e9)
            with running(self._a.netns, self._round_trip, "udp", *trips) as client:
                sent = figures(sender, seconds + 10)["total"]
                p99 = figures(client, seconds + 10)["p99"]
            received = figures(receiver, seconds + 10)["total"]
        return (sent - received) / sent, p99 / 1e3

    @contextmanager
    def _receiver(self, start: str, end: str) -> Iterator[Any]:
        at = (self._b.address, PORT, RECEIVE_BUFFER, start, end)
        with running(self._b.netns, self._flood, "recv", *at) as process:
            wait_for_line(process, "ready")
            yield process

    @contextmanager
    def _sender(self, how: str, start: str, end: str, *rate: str) -> Iterator[Any]:
        at = (self._b.address, PORT, PAYLOAD, start, end, *rate)
        with running(self._a.netns, self._flood, how, *at) as process:
            yield process


def _beside_traffic(traffic: Traffic, asker: Asker, supervisor: Processes, plan: Plan) -> None:
    most = traffic.most(plan.seconds)
    traffic_is = f"UDP, {PAYLOAD} bytes, {most / 2e3:.1f} k/s, half of the most"
    print(f"\n{traffic_is:<48}{'loss':>9}{'p99 us of a round trip':>24}")
    alone: list[tuple[float, float]] = []
    beside: list[tuple[float, float]] = []
    cpu = asked = 0.0
    for _ in range(plan.rounds):
        alone.append(traffic.paced(most / 2, plan.seconds))
        cpu -= supervisor.cpu()
        began = time.monotonic()
        with asker.asking():
            beside.append(traffic.paced(most / 2, plan.seconds))
        asked += time.monotonic() - began
        cpu += supervisor.cpu()
    for title, seen in (("without requests", alone), (f"with {RATE} link.get per second", beside)):
        loss, p99 = (statistics.median(values) for values in zip(*seen, strict=True))
        rounds = " ".join(f"{each[1]:.0f}" for each in seen)
        print(f"{title:<48}{loss:9.3%}{p99:24.1f}  ({rounds})")
    print(f"{asker.asked / asked:.0f} requests per second, supervisor CPU {cpu / asker.asked:.3f} ms each")


if __name__ == "__main__":
    sys.exit(main())
