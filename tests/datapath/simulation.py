"""A worker in simulated time: senders, TAP rings, reads and passes as in worker/loop.py, but no device and no clock.

Each sender offers frames at a constant rate with random gaps around it; a ring that is full refuses the frame. One turn
of the loop reads up to `room()` frames from every end whose ring holds any, first those from which the backlog has not
taken a frame for longest, then makes one pass over the backlog.
Reading and delivering cost a fixed time per frame; when nothing waits, time jumps to the next arrival. All arithmetic
is on integers, so the same seed gives the same table everywhere.
"""

import random
from dataclasses import dataclass

from tests.datapath.ingress import make_pair, read_frame
from tests.kit.frames import number_of, numbered
from vethd.datapath.netdev import NetDevice
from vethd.datapath.skb import Skb
from vethd.datapath.softnet import SoftnetData
from vethd.datapath.veth import ingest
from vethd.drops import DropPoint

RING = 100  # frames; a TAP has 1000, which would swallow half of what is offered in so short a time
READ_COST = 1_500  # nanoseconds per frame: readv and veth_xmit
WRITE_COST = 2_500  # nanoseconds per frame: write, with the receiving stack inside
SECONDS = 1_000_000_000


@dataclass(frozen=True)
class Scenario:
    """One run. load: offered frames in percent of what reading and delivering at full speed can carry."""

    name: str
    pairs: int
    load: int
    backpressure: bool = False
    heavy: int = 1  # the first pair offers this many times what each other pair offers
    max_backlog: int = 1000
    budget: int = 300
    budget_usecs: int = 8000
    duration: int = SECONDS // 10


class Sender:
    """One pair: who sends, when the next frame comes, and what has become of the frames so far."""

    def __init__(self, number: int, gap: int, rng: random.Random) -> None:
        self.dev, self.receiver = make_pair(1 + 2 * number)
        self.gap = gap
        self.rng = rng
        self.due = self._jitter()
        self.waiting = 0
        self.offered = 0
        self.refused = 0
        self.sequence = 0
        self.delivered = 0
        self.last_seen = -1
        self.last_taken = 0

    def _jitter(self) -> int:
        return self.gap // 2 + self.rng.getrandbits(32) * self.gap // (1 << 32)

    def advance(self, now: int) -> None:
        """Put everything that was due by `now` into the ring."""
        while self.due <= now:
            self.offered += 1
            if self.waiting < RING:
                self.waiting += 1
            else:
                self.refused += 1
            self.due += self._jitter()


class Worker:
    """The loop of one worker over all senders of a scenario."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.scenario = scenario
        self.softnet = SoftnetData()
        self.softnet.netdev_max_backlog = scenario.max_backlog
        self.softnet.netdev_budget = scenario.budget
        self.softnet.netdev_budget_usecs = scenario.budget_usecs
        self.now = 0
        self.turns = 0
        self.peak_input = 0
        self.peak_process = 0
        shares = scenario.pairs - 1 + scenario.heavy
        gap = (READ_COST + WRITE_COST) * shares * 100 // scenario.load
        self.senders = [
            Sender(number, gap // scenario.heavy if number == 0 else gap, random.Random(seed * 1000 + number))
            for number in range(scenario.pairs)
        ]
        for sender in self.senders:
            sender.dev.backpressure = scenario.backpressure
        self.by_device: dict[NetDevice | None, Sender] = {sender.receiver: sender for sender in self.senders}

    def run(self) -> None:
        """Let time pass to the end of the scenario, then stop the senders and empty rings and backlog."""
        while self.now < self.scenario.duration:
            for sender in self.senders:
                sender.advance(self.now)
            if not self._turn():
                self.now = min(sender.due for sender in self.senders)
        while self._turn():
            pass

    def _turn(self) -> bool:
        softnet = self.softnet
        ready = [sender for sender in self.senders if sender.waiting]
        if not ready and not softnet.pending():
            return False
        self.turns += 1
        for sender in sorted(ready, key=lambda sender: sender.last_taken):
            count, sent = min(softnet.room(sender.dev), sender.waiting), sender.dev.tx_packets
            if count:
                self._read(sender, count)
            if sender.dev.tx_packets != sent:
                sender.last_taken = self.turns
        self._note_peaks()
        softnet.net_rx_action(self._deliver, lambda: self.now)
        return True

    def _read(self, sender: Sender, count: int) -> None:
        batch = [read_frame(self.softnet, numbered(sender.sequence + step)) for step in range(count)]
        sender.sequence += count
        sender.waiting -= count
        self.now += READ_COST * count
        ingest(sender.dev, batch, self.softnet, self.now)

    def _deliver(self, batch: list[Skb]) -> None:
        self._note_peaks()
        for skb in batch:
            sender = self.by_device[skb.dev]
            number = number_of(skb.frame())
            assert number > sender.last_seen, "frames of one sender changed their order"
            sender.last_seen = number
            sender.delivered += 1
        self.now += WRITE_COST * len(batch)
        self.softnet.pool.free_batch(batch)

    def _note_peaks(self) -> None:
        self.peak_input = max(self.peak_input, len(self.softnet.input_pkt_queue))
        self.peak_process = max(self.peak_process, len(self.softnet.process_queue))

    # -- what came of it ----------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Every frame is accounted for, per sender and in the softnet counters."""
        softnet = self.softnet
        for sender in self.senders:
            assert sender.offered == sender.refused + sender.dev.read
            assert sender.dev.read == sender.delivered + sum(sender.dev.drops)
            assert sender.dev.tx_packets == sender.delivered
        assert softnet.processed == sum(sender.delivered for sender in self.senders)
        assert softnet.dropped == sum(sender.dev.drops[DropPoint.CPU_BACKLOG] for sender in self.senders)
        assert softnet.pool.in_use == 0
        assert self.peak_input <= self.scenario.max_backlog

    def row(self) -> list[str]:
        """The line of the table for this run, in the order of `HEAD`."""
        delivered = [sender.delivered for sender in self.senders]
        dropped = [sender.dev.drops[DropPoint.CPU_BACKLOG] for sender in self.senders]
        refused = [sender.refused for sender in self.senders]
        return [
            self.scenario.name,
            str(sum(sender.offered for sender in self.senders)),
            f"{min(delivered)}..{max(delivered)}",
            f"{min(dropped)}..{max(dropped)}",
            f"{min(refused)}..{max(refused)}",
            f"{fairness(delivered):4d}",
            str(self.softnet.time_squeeze),
            str(self.peak_input),
            str(self.peak_process),
        ]


HEAD = ["scenario", "offered", "delivered", "backlog", "ring", "fair", "squeeze", "input", "process"]


def fairness(values: list[int]) -> int:
    """Jain's index in thousandths: 1000 when all have the same, 1000/n when one has everything."""
    squares = sum(value * value for value in values)
    return 1000 * sum(values) ** 2 // (len(values) * squares) if squares else 1000


def table(rows: list[list[str]]) -> str:
    """The rows under `HEAD` in columns, the first flush left."""
    lines = [HEAD, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    return "".join(
        "  ".join(cell.ljust(width) if column == 0 else cell.rjust(width) for column, (cell, width) in row) + "\n"
        for row in (list(enumerate(zip(line, widths, strict=True))) for line in lines)
    )
