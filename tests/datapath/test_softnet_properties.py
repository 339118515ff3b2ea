"""softnet.py, for any history: arrivals, polls, passes and changes of every limit, in whatever order.

A plain model runs beside the backlog: two lists and the rules of the module's docstring. After each step the two must
agree frame by frame, and every Skb must be in exactly one place: in one of the two queues, or in the pool.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.datapath.ingress import make_pair, read_frame
from tests.kit.frames import number_of, numbered
from vethd.datapath.netdev import NetDevice
from vethd.datapath.skb import Skb
from vethd.datapath.softnet import SoftnetData
from vethd.datapath.veth import ingest
from vethd.drops import DropPoint

PAIRS = 3


class BacklogMachine(RuleBasedStateMachine):
    """Three pairs on one backlog."""

    def __init__(self) -> None:
        super().__init__()
        self.softnet = SoftnetData()
        self.ends: list[NetDevice] = []
        self.next_number = 0
        self.input: list[int] = []  # numbers of the frames, as the model expects them in input_pkt_queue
        self.process: list[int] = []
        self.taken: list[int] = []
        self.accepted: list[int] = []
        self.refused = 0
        self.squeezes = 0

    @initialize()
    def start(self) -> None:
        self.ends = [make_pair(1 + 2 * pair)[0] for pair in range(PAIRS)]

    # -- what may happen ----------------------------------------------------------------------------------------------

    @rule(sender=st.integers(0, PAIRS - 1), count=st.integers(1, 40))
    def arrive(self, sender: int, count: int) -> None:
        batch: list[Skb] = []
        for _ in range(count):
            if len(self.input) < self.softnet.netdev_max_backlog:
                self.input.append(self.next_number)
                self.accepted.append(self.next_number)
            else:
                self.refused += 1
            batch.append(read_frame(self.softnet, numbered(self.next_number)))
            self.next_number += 1
        ingest(self.ends[sender], batch, self.softnet, now=self.next_number)

    @rule(quota=st.integers(0, 100))
    def poll(self, quota: int) -> None:
        expected = self._model_take(quota)
        batch = self.softnet.process_backlog(quota)
        assert [number_of(skb.frame()) for skb in batch] == expected
        assert len(batch) <= quota
        self._deliver(batch)

    @rule(step=st.sampled_from([0, 1_000, 100_000, 10_000_000]))
    def run_pass(self, step: int) -> None:
        """One net_rx_action; the clock goes on by `step` nanoseconds each time it is read."""
        softnet = self.softnet
        before, now = len(self.taken), 0
        readings = 0

        def clock() -> int:
            nonlocal now, readings
            readings += 1
            now += step
            return now

        def deliver(batch: list[Skb]) -> None:
            assert 0 < len(batch) <= min(softnet.dev_weight, softnet.netdev_budget)
            assert [number_of(skb.frame()) for skb in batch] == self._model_take(len(batch))
            self._deliver(batch)

        again = softnet.net_rx_action(deliver, clock)
        assert again == softnet.pending()
        worked = len(self.taken) - before
        assert worked <= softnet.netdev_budget
        if again:
            self.squeezes += 1
            late = step * (readings - 1) >= softnet.netdev_budget_usecs * 1000
            assert worked == softnet.netdev_budget or late, "the pass gave up with budget and time left"

    @rule(cap=st.integers(0, 120))
    def set_cap(self, cap: int) -> None:
        self.softnet.netdev_max_backlog = cap

    @rule(budget=st.integers(1, 200))
    def set_budget(self, budget: int) -> None:
        self.softnet.netdev_budget = budget

    @rule(weight=st.integers(1, 80))
    def set_weight(self, weight: int) -> None:
        self.softnet.dev_weight = weight

    @rule(usecs=st.integers(0, 2_000))
    def set_time_budget(self, usecs: int) -> None:
        self.softnet.netdev_budget_usecs = usecs

    @rule(sender=st.integers(0, PAIRS - 1), backpressure=st.booleans())
    def set_overload(self, sender: int, backpressure: bool) -> None:
        self.ends[sender].backpressure = backpressure

    # -- what must hold always ----------------------------------------------------------------------------------------

    @invariant()
    def queues_hold_what_the_model_says_in_order(self) -> None:
        assert [number_of(skb.frame()) for skb in self.softnet.input_pkt_queue] == self.input
        assert [number_of(skb.frame()) for skb in self.softnet.process_queue] == self.process

    @invariant()
    def frames_leave_in_the_order_of_their_arrival(self) -> None:
        assert self.taken == self.accepted[: len(self.taken)]
        assert self.taken + self.process + self.input == self.accepted

    @invariant()
    def every_skb_is_in_exactly_one_place(self) -> None:
        queued = [id(skb) for queue in (self.softnet.input_pkt_queue, self.softnet.process_queue) for skb in queue]
        assert len(queued) == len(set(queued))
        assert self.softnet.pool.in_use == len(queued)
        fresh = self.softnet.pool.alloc()
        assert id(fresh) not in queued
        self.softnet.pool.free(fresh)

    @invariant()
    def every_frame_is_counted_once(self) -> None:
        softnet = self.softnet
        assert sum(dev.read for dev in self.ends) == self.next_number
        assert sum(dev.tx_packets for dev in self.ends) == len(self.accepted)
        assert sum(dev.drops[DropPoint.CPU_BACKLOG] for dev in self.ends) == softnet.dropped == self.refused
        assert (softnet.processed, softnet.time_squeeze) == (len(self.taken), self.squeezes)

    @invariant()
    def room_never_leads_to_a_drop_under_backpressure(self) -> None:
        softnet = self.softnet
        for dev in self.ends:
            room = softnet.room(dev)
            assert 0 <= room <= softnet.dev_weight
            if dev.backpressure:
                assert room == 0 or len(self.input) + room <= softnet.netdev_max_backlog
            else:
                assert room == softnet.dev_weight

    # -- the model ----------------------------------------------------------------------------------------------------

    def _model_take(self, quota: int) -> list[int]:
        took: list[int] = []
        while len(took) < quota and (self.process or self.input):
            if not self.process:
                self.process, self.input = self.input, []
            count = quota - len(took)
            took += self.process[:count]
            self.process = self.process[count:]
        return took

    def _deliver(self, batch: list[Skb]) -> None:
        self.taken += [number_of(skb.frame()) for skb in batch]
        self.softnet.pool.free_batch(batch)


BacklogMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAnyHistoryOfTheBacklog = BacklogMachine.TestCase
