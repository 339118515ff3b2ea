# cython: language_level=3, annotation_typing=False
"""`SoftnetData`: the receive backlog of one worker, as the kernel's softnet_data is the backlog of one CPU.

All ends of a worker share one FIFO. It is kept in two queues: frames are appended to `input_pkt_queue` and taken from
`process_queue`; when the latter is empty the two change places, which costs the same for one frame and for a thousand::

    enqueue_to_backlog --> input_pkt_queue --(splice when process_queue is empty)--> process_queue --> process_backlog
         (5) CPU_BACKLOG when input_pkt_queue holds netdev_max_backlog                                     v
                                                                              net_rx_action: <= 64 frames at a time,
                                                                              <= netdev_budget and
                                                                              <= netdev_budget_usecs per pass

Two differences from the kernel, both on purpose: the cap is exact (the kernel admits one frame more), and one backlog
may use the whole budget in a pass (the kernel polls each backlog once a pass, for 64 frames).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from vethd.datapath.netdev import NetDevice
from vethd.datapath.skb import Skb, SkbPool


class SoftnetData:
    """The backlog, its limits and its counters.

    netdev_max_backlog: frames that input_pkt_queue holds at most; frames.
    netdev_budget: frames per net_rx_action pass.
    netdev_budget_usecs: time per net_rx_action pass; microseconds.
    dev_weight: frames handed over at once, and read from one end at once.
    busy_poll: time for which the frame I/O looks for more after the last frame before it sleeps; microseconds.
    processed, dropped, time_squeeze: as in /proc/net/softnet_stat.
    touched: devices whose counters changed since the worker last published them.
    """

    __slots__ = (
        "busy_poll",
        "dev_weight",
        "dropped",
        "input_pkt_queue",
        "netdev_budget",
        "netdev_budget_usecs",
        "netdev_max_backlog",
        "pool",
        "process_queue",
        "processed",
        "time_squeeze",
        "touched",
    )

    def __init__(self, pool: SkbPool | None = None) -> None:
        self.pool = pool if pool is not None else SkbPool()
        self.input_pkt_queue: deque[Skb] = deque()
        self.process_queue: deque[Skb] = deque()
        self.netdev_max_backlog = 1000
        self.netdev_budget = 300
        self.netdev_budget_usecs = 8000
        self.dev_weight = 64
        self.busy_poll = 0
        self.processed = 0
        self.dropped = 0
        self.time_squeeze = 0
        self.touched: list[NetDevice] = []

    def touch(self, dev: NetDevice) -> None:
        """Remember that the counters of `dev` are to be published."""
        if not dev.touched:
            dev.touched = True
            self.touched.append(dev)

    def enqueue_to_backlog(self, skb: Skb) -> bool:
        """Append a frame; False (and `dropped` counted) when input_pkt_queue is full.

        Source: enqueue_to_backlog in net/core/dev.c.
        """
        queue = self.input_pkt_queue
        if len(queue) >= self.netdev_max_backlog:
            self.dropped += 1
            return False
        queue.append(skb)
        return True

    def room(self, dev: NetDevice) -> int:
        """Frames that may be read from this end now: dev_weight, or what is free if it has backpressure."""
        if dev.backpressure:
            return max(0, min(self.dev_weight, self.netdev_max_backlog - len(self.input_pkt_queue)))
        return self.dev_weight

    def pending(self) -> bool:
        """True when a frame waits for net_rx_action."""
        return bool(self.process_queue or self.input_pkt_queue)

    def process_backlog(self, quota: int) -> list[Skb]:
        """Take up to `quota` frames off the backlog, oldest first; `processed` counts them.

        An empty list means that the backlog is empty. Source: process_backlog in net/core/dev.c.
        """
        batch: list[Skb] = []
        while len(batch) < quota:
            queue = self.process_queue
            if not queue:
                if not self.input_pkt_queue:
                    break
                self.process_queue, self.input_pkt_queue = self.input_pkt_queue, queue
                queue = self.process_queue
            take = min(quota - len(batch), len(queue))
            if take == len(queue):
                batch.extend(queue)
                queue.clear()
            else:
                popleft = queue.popleft
                batch.extend([popleft() for _ in range(take)])
        self.processed += len(batch)
        return batch

    def net_rx_action(self, deliver: Callable[[list[Skb]], None], clock: Callable[[], int]) -> bool:
        """One pass over the backlog within budget and time.

        deliver: takes a batch, in order, and gives every Skb back to the pool. clock: nanoseconds.
        Returns True when work is left, counted as time_squeeze: the caller lets its loop turn and comes back.
        Source: net_rx_action in net/core/dev.c.
        """
        budget = self.netdev_budget
        deadline = clock() + self.netdev_budget_usecs * 1000
        while True:
            batch = self.process_backlog(min(self.dev_weight, budget))
            if not batch:
                return False
            deliver(batch)
            if not self.pending():
                return False
            budget -= len(batch)
            if budget <= 0 or clock() >= deadline:
                self.time_squeeze += 1
                return True
