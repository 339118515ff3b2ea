"""The highest rate of small UDP packets that gets through with at most one in 10 000 lost, found by bisection."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from benchmarks.bisection import Range, highest
from benchmarks.generators import compile_source, figures, running, wait_for_line, window
from benchmarks.measure import Metric, Plan, Reading
from benchmarks.topology import Link

PAYLOAD: Final = 18  # bytes, as in measure_udp
PORT: Final = "7003"
RECEIVE_BUFFER: Final = 32 << 20  # bytes: what is lost is lost by the link, and not by a receiver that has to wait
LOSS: Final = 1e-4  # share of the packets sent
SHORTFALL: Final = 0.01  # a sender that offered less than the rate by more than this share did not offer that rate
FIRST_GUESS: Final = 50_000.0  # packets per second
FLOOR: Final = 1_000.0
CEILING: Final = 640_000.0  # what the generator can offer
LEAD: Final = 0.15  # seconds from the start of the receiver to the window


class LossFreeRate:
    """A paced sender. Each search begins where the last one on that link ended."""

    word = "loss"
    title = f"UDP, {PAYLOAD} bytes, rate with at most {LOSS:.2%} lost"
    metrics = (Metric("udp_loss_free", "UDP 18 bytes, loss <= 1e-4", "k/s"),)

    def __init__(self) -> None:
        self._guesses: dict[str, float] = {}

    def run(self, link: Link, plan: Plan, programs: Path) -> Reading:
        """One search; the value is what the sender offered in the confirming window of `plan.confirm_seconds`."""
        program = str(compile_source("udp_flood.c", programs))
        offered = 0.0

        def probe(rate: float, confirm: bool) -> bool:
            nonlocal offered
            seconds = plan.confirm_seconds if confirm else plan.probe_seconds
            sent, received = _offer(link, program, rate, seconds)
            offered = sent / seconds
            return offered >= rate * (1 - SHORTFALL) and sent - received <= sent * LOSS

        search = Range(FLOOR, CEILING, plan.resolution)
        rate = highest(probe, search, self._guesses.get(link.name, FIRST_GUESS))
        self._guesses[link.name] = rate
        return Reading({"udp_loss_free": offered / 1000 if rate else 0.0})


def _offer(link: Link, program: str, rate: float, seconds: float) -> tuple[int, int]:
    """Packets sent and packets received when `rate` per second are offered for `seconds`."""
    start, end = window(LEAD, seconds)
    at = (link.b.address, PORT)
    with running(link.b.netns, program, "recv", *at, str(RECEIVE_BUFFER), start, end) as receiver:
        wait_for_line(receiver, "ready")
        with running(link.a.netns, program, "pace", *at, str(PAYLOAD), start, end, str(int(rate))) as sender:
            sent = figures(sender, seconds + 10)["total"]
        return sent, figures(receiver, seconds + 10)["total"]
