"""Round trips one at a time: an ICMP echo answered by the far kernel (ping), UDP and TCP answered by a far process."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from benchmarks.generators import Figures, compile_source, figures, running, wait_for_line
from benchmarks.measure import Metric, Plan, Reading
from benchmarks.topology import Link

PORT: Final = "7002"
WARM_UP: Final = "500"  # round trips not counted


class RoundTrip:
    """Ping, UDP, and TCP over one connection, a closed loop each."""

    word = "round-trip"
    title = "round trips"
    metrics = tuple(
        Metric(f"{key}_{point}", f"{name} round trip, {point}", "us", less_is_better=True, is_time=True)
        for key, name in (("ping", "ping"), ("udp_rtt", "UDP"), ("tcp_rtt", "TCP"))
        for point in ("p50", "p99")
    )

    def run(self, link: Link, plan: Plan, programs: Path) -> Reading:
        """`plan.round_trips` of each protocol; answers that never came are listed as losses."""
        program = str(compile_source("round_trip.c", programs))
        seen = {"ping": _client(link, program, "icmp", "0", plan)}
        for protocol in ("udp", "tcp"):
            with running(link.b.netns, program, f"echo-{protocol}", link.b.address, PORT) as server:
                wait_for_line(server, "ready")
                seen[f"{protocol}_rtt"] = _client(link, program, protocol, PORT, plan)
        values = {f"{key}_{point}": times[point] / 1000 for key, times in seen.items() for point in ("p50", "p99")}
        return Reading(values, {f"{key} without answer": times["lost"] for key, times in seen.items() if times["lost"]})


def _client(link: Link, program: str, protocol: str, port: str, plan: Plan) -> Figures:
    """Run the timing side in the namespace of A; its figures are in nanoseconds."""
    command = (program, protocol, link.b.address, port, WARM_UP, str(plan.round_trips))
    with running(link.a.netns, *command) as client:
        return figures(client, 30 + plan.round_trips / 1000)
