"""One TCP stream by iperf3, from A to B and from B to A: what the receiving application gets per second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from benchmarks.generators import BenchmarkError, output, running, wait_for_line
from benchmarks.measure import Metric, Plan, Reading
from benchmarks.topology import Link

PORT: Final = "7001"


class TcpStream:
    """One stream, each way in turn."""

    title = "TCP, one stream each way"
    metrics = (
        Metric("tcp_a_to_b", "TCP one stream, A to B", "Gbit/s"),
        Metric("tcp_b_to_a", "TCP one stream, B to A", "Gbit/s"),
        Metric("tcp_retransmits", "TCP segments sent again", "/GB"),
    )

    def run(self, link: Link, plan: Plan, programs: Path) -> Reading:
        """Two transfers of `plan.tcp_seconds`; the retransmitted segments are per 10^9 bytes of both."""
        del programs
        before = link.drops()
        there, there_bytes, there_again = _iperf3(link, plan.tcp_seconds)
        back, back_bytes, back_again = _iperf3(link, plan.tcp_seconds, "--reverse")
        again = (there_again + back_again) / (there_bytes + back_bytes) * 1e9
        return Reading({"tcp_a_to_b": there, "tcp_b_to_a": back, "tcp_retransmits": again}, link.drops_since(before))


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
