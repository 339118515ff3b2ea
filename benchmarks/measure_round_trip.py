"""Round trips one at a time: an ICMP echo answered by the far kernel (ping), and UDP answered by a far process."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from benchmarks.generators import Figures, compile_source, figures, running, wait_for_line
from benchmarks.measure import Metric, Plan, Reading
from benchmarks.topology import Link

PORT: Final = "7002"
WARM_UP: Final = "500"  # round trips not counted


class RoundTrip:
    """Ping and UDP, a closed loop each."""

    title = "round trips, ping and UDP"
    metrics = (
        Metric("ping_p50", "ping round trip, p50", "us", is_time=True),
        Metric("ping_p99", "ping round trip, p99", "us", is_time=True),
        Metric("udp_rtt_p50", "UDP round trip, p50", "us", is_time=True),
        Metric("udp_rtt_p99", "UDP round trip, p99", "us", is_time=True),
    )

    def run(self, link: Link, plan: Plan, programs: Path) -> Reading:
        """`plan.round_trips` of each protocol; answers that never came are listed as losses."""
        program = str(compile_source("round_trip.c", programs))
        ping = _client(link, program, "icmp", "0", plan)
        with running(link.b.netns, program, "echo", link.b.address, PORT) as server:
            wait_for_line(server, "ready")
            udp = _client(link, program, "udp", PORT, plan)
        values = {
            "ping_p50": ping["p50"] / 1000,
            "ping_p99": ping["p99"] / 1000,
            "udp_rtt_p50": udp["p50"] / 1000,
            "udp_rtt_p99": udp["p99"] / 1000,
        }
        lost = {"ping without answer": ping["lost"], "UDP without answer": udp["lost"]}
        return Reading(values, {what: n for what, n in lost.items() if n})


def _client(link: Link, program: str, protocol: str, port: str, plan: Plan) -> Figures:
    """Run the timing side in the namespace of A; its figures are in nanoseconds."""
    command = (program, protocol, link.b.address, port, WARM_UP, str(plan.round_trips))
    with running(link.a.netns, *command) as client:
        return figures(client, 30 + plan.round_trips / 1000)
