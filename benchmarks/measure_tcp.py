"""TCP streams by iperf3: what the receiving application gets per second."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Final

from benchmarks.generators import BenchmarkError, call, output, running, wait_for_line
from benchmarks.measure import Metric, Plan, Reading
from benchmarks.topology import End, Link

PORT: Final = "7001"


class TcpStreams:
    """`streams` connections at once, from A to B and then from B to A."""

    def __init__(self, word: str, streams: int) -> None:
        """`word` chooses the measurement and begins the keys of its metrics."""
        some = "one stream" if streams == 1 else f"{streams} streams"
        self.word = word
        self.title = f"TCP, {some} each way"
        self.metrics = (
            Metric(f"{word}_a_to_b", f"TCP {some}, A to B", "Gbit/s"),
            Metric(f"{word}_b_to_a", f"TCP {some}, B to A", "Gbit/s"),
            Metric(f"{word}_retransmits", f"TCP {some}, sent again", "/GB", is_charted=False),
        )
        self._options = ("--parallel", str(streams))

    def run(self, link: Link, plan: Plan, programs: Path) -> Reading:
        """Two transfers of `plan.tcp_seconds`; the retransmitted segments are per 10^9 bytes of both."""
        del programs
        before = link.drops()
        there, there_bytes, there_again = _iperf3(link, plan.tcp_seconds, *self._options)
        back, back_bytes, back_again = _iperf3(link, plan.tcp_seconds, *self._options, "--reverse")
        again = (there_again + back_again) / (there_bytes + back_bytes) * 1e9
        a_to_b, b_to_a, retransmits = (metric.key for metric in self.metrics)
        return Reading({a_to_b: there, b_to_a: back, retransmits: again}, link.drops_since(before))


class TcpWithoutTso:
    """One stream from A, whose segmentation offload is off: frames of 1514 bytes on the wire."""

    word = "tcp-no-tso"
    title = "TCP, one stream without TSO"
    metrics = (Metric("tcp_no_tso", "TCP one stream, no TSO", "Gbit/s"),)

    def run(self, link: Link, plan: Plan, programs: Path) -> Reading:
        """One transfer of `plan.tcp_seconds`; the offload is as before afterwards."""
        del programs
        before = link.drops()
        with _tso_off(link.a) if _has_tso(link.a) else nullcontext():
            rate, _, _ = _iperf3(link, plan.tcp_seconds)
        return Reading({"tcp_no_tso": rate}, link.drops_since(before))


def _has_tso(end: End) -> bool:
    """Whether the device of `end` takes segments larger than its MTU; a TAP does when its reader asked for them."""
    features = call("ip", "netns", "exec", end.netns, "ethtool", "-k", end.netns)
    return "tcp-segmentation-offload: on" in features


@contextmanager
def _tso_off(end: End) -> Iterator[None]:
    command = ("ip", "netns", "exec", end.netns, "ethtool", "-K", end.netns, "tso")
    call(*command, "off")
    try:
        yield
    finally:
        call(*command, "on")


def _iperf3(link: Link, seconds: int, *options: str) -> tuple[float, float, int]:
    """One transfer: gigabits per second received, bytes received, segments sent again."""
    with running(link.b.netns, "iperf3", "-s", "-1", "-p", PORT, "--forceflush") as server:
        wait_for_line(server, "Server listening")
        command = ("iperf3", "-J", "-c", link.b.address, "-p", PORT, "-t", str(seconds), *options)
        with running(link.a.netns, *command) as client:
            result = json.loads(output(client, seconds + 15))
    if "error" in result:
        raise BenchmarkError(f"{' '.join(command)}: {result['error']}")
    received, sent = result["end"]["sum_received"], result["end"]["sum_sent"]
    return received["bits_per_second"] / 1e9, float(received["bytes"]), int(sent["retransmits"])
