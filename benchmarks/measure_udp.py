"""Small UDP packets, one flow, the sender saturating: what the receiving application gets, and what CPU it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from benchmarks.cpu import spent_between
from benchmarks.generators import BenchmarkError, compile_source, figures, running, wait_for_line, window
from benchmarks.measure import Metric, Plan, Reading
from benchmarks.topology import Link

PAYLOAD: Final = 18  # bytes; with its headers the smallest Ethernet frame, 60 bytes
PORT: Final = "7000"
#: Bytes. The default of 212992 holds some 280 small packets, and would make the figure one of how soon the receiver is
#: scheduled; drops at the socket are shown all the same.
RECEIVE_BUFFER: Final = 4 << 20
LEAD: Final = 0.4  # seconds from the start of the receiver to the window; the sender's warm-up lies in it


class UdpFlood:
    """Saturating sender, ordinary receiver."""

    word = "udp"
    title = f"UDP, {PAYLOAD} bytes, one flow"
    metrics = (
        Metric("udp_received", "UDP 18 bytes, received", "k/s"),
        Metric("udp_sent", "UDP 18 bytes, sent", "k/s", is_charted=False),
        Metric("cpu_machine", "CPU of the machine", "s/M received", less_is_better=True),
        Metric("cpu_forwarder", "CPU of the forwarder", "s/M received", less_is_better=True),
    )

    def run(self, link: Link, plan: Plan, programs: Path) -> Reading:
        """One window; both sides count the packets of the same window, and the losses are those of the whole run."""
        program = str(compile_source("udp_flood.c", programs))
        before = link.drops()
        start, end = window(LEAD, plan.udp_seconds)
        at = (link.b.address, PORT)
        patience = plan.udp_seconds + 10
        with running(link.b.netns, program, "recv", *at, str(RECEIVE_BUFFER), start, end) as receiver:
            wait_for_line(receiver, "ready")
            with running(link.a.netns, program, "send", *at, str(PAYLOAD), start, end) as sender:
                spent = spent_between(int(start), int(end), link.forwarders)
                sent = figures(sender, patience)
            received = figures(receiver, patience)
        if not received["window"]:
            raise BenchmarkError("no packet arrived")
        places = link.drops_since(before)
        if received["socket_drops"]:
            places["receiver's socket"] = received["socket_drops"]
        losses = {"sent": sent["total"], "received": received["total"], **places}
        if unexplained := sent["total"] - received["total"] - sum(places.values()):
            losses["unexplained"] = unexplained
        millions = received["window"] / 1e6
        values = {
            "udp_received": received["window"] / plan.udp_seconds / 1000,
            "udp_sent": sent["window"] / plan.udp_seconds / 1000,
            "cpu_machine": spent.machine / millions,
        }
        if link.forwarders:
            values["cpu_forwarder"] = spent.forwarder / millions
        return Reading(values, losses)
