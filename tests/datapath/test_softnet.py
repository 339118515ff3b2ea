"""softnet.py, case by case: cap, splice, weight, budget, time limit, backpressure."""

from collections.abc import Callable

import pytest

from tests.datapath.ingress import make_pair, read_frame, take_all, to_b
from vethd.datapath.netdev import NetDevice
from vethd.datapath.skb import Skb
from vethd.datapath.softnet import SoftnetData


def fill(softnet: SoftnetData, count: int) -> list[Skb]:
    """Put `count` frames into the backlog, which must take them all; returns their Skbs in order."""
    skbs = [read_frame(softnet, to_b()) for _ in range(count)]
    for skb in skbs:
        assert softnet.enqueue_to_backlog(skb)
    return skbs


def stopped() -> int:
    """A clock that stands still."""
    return 0


def stepped(step: int) -> Callable[[], int]:
    """A clock that goes on by `step` nanoseconds each time it is read."""
    now = -step

    def read() -> int:
        nonlocal now
        now += step
        return now

    return read


class Receiver:
    """Takes batches as a frame I/O does, and remembers their sizes and the order of the Skbs."""

    def __init__(self, softnet: SoftnetData) -> None:
        self._softnet = softnet
        self.sizes: list[int] = []
        self.skbs: list[Skb] = []

    def __call__(self, batch: list[Skb]) -> None:
        self.sizes.append(len(batch))
        self.skbs += batch
        self._softnet.pool.free_batch(batch)


def test_the_limits_start_as_on_a_kernel() -> None:
    softnet = SoftnetData()
    assert (softnet.netdev_max_backlog, softnet.netdev_budget) == (1000, 300)
    assert (softnet.netdev_budget_usecs, softnet.dev_weight) == (8000, 64)


def test_the_cap_is_exact() -> None:
    softnet = SoftnetData()
    fill(softnet, 1000)
    extra = read_frame(softnet, to_b())
    assert not softnet.enqueue_to_backlog(extra)
    assert (len(softnet.input_pkt_queue), softnet.dropped) == (1000, 1)
    softnet.pool.free(extra)
    assert len(take_all(softnet)) == 1000


def test_the_cap_counts_the_input_queue_alone() -> None:
    softnet = SoftnetData()
    softnet.netdev_max_backlog = 10
    fill(softnet, 10)
    softnet.pool.free_batch(softnet.process_backlog(1))
    fill(softnet, 10)
    assert (len(softnet.process_queue), len(softnet.input_pkt_queue)) == (9, 10)
    assert len(take_all(softnet)) == 19


def test_a_lower_cap_drops_nothing_that_was_accepted() -> None:
    softnet = SoftnetData()
    fill(softnet, 20)
    softnet.netdev_max_backlog = 5
    late = read_frame(softnet, to_b())
    assert not softnet.enqueue_to_backlog(late)
    softnet.pool.free(late)
    assert len(take_all(softnet)) == 20


def test_the_splice_moves_the_queue_itself_not_its_frames() -> None:
    softnet = SoftnetData()
    fill(softnet, 1000)
    full, empty = softnet.input_pkt_queue, softnet.process_queue
    softnet.pool.free_batch(softnet.process_backlog(1))
    assert softnet.process_queue is full
    assert softnet.input_pkt_queue is empty
    take_all(softnet)


def test_the_input_queue_waits_until_the_process_queue_is_empty() -> None:
    softnet = SoftnetData()
    first = fill(softnet, 3)
    taken = softnet.process_backlog(2)
    second = fill(softnet, 2)
    process_queue = softnet.process_queue
    taken += softnet.process_backlog(1)
    assert softnet.process_queue is process_queue
    assert len(softnet.input_pkt_queue) == 2
    taken += softnet.process_backlog(5)
    assert taken == first + second
    softnet.pool.free_batch(taken)


@pytest.mark.parametrize(("quota", "taken"), [(0, 0), (1, 1), (4, 4), (5, 5), (6, 5)])
def test_process_backlog_takes_its_quota_or_what_is_there(quota: int, taken: int) -> None:
    softnet = SoftnetData()
    skbs = fill(softnet, 5)
    batch = softnet.process_backlog(quota)
    assert batch == skbs[:taken]
    assert softnet.processed == taken
    softnet.pool.free_batch(batch)
    take_all(softnet)


def test_an_empty_backlog_gives_an_empty_batch() -> None:
    softnet = SoftnetData()
    assert softnet.process_backlog(64) == []
    assert (softnet.processed, softnet.pending()) == (0, False)


@pytest.mark.parametrize("in_process_queue", [True, False])
def test_a_frame_in_either_queue_is_pending(in_process_queue: bool) -> None:
    softnet = SoftnetData()
    fill(softnet, 2 if in_process_queue else 1)
    if in_process_queue:
        softnet.pool.free_batch(softnet.process_backlog(1))
    assert (bool(softnet.process_queue), bool(softnet.input_pkt_queue)) == (in_process_queue, not in_process_queue)
    assert softnet.pending()
    take_all(softnet)
    assert not softnet.pending()


def test_a_pass_hands_over_batches_of_the_weight_in_order() -> None:
    softnet = SoftnetData()
    skbs = fill(softnet, 150)
    receiver = Receiver(softnet)
    assert not softnet.net_rx_action(receiver, stopped)
    assert receiver.sizes == [64, 64, 22]
    assert receiver.skbs == skbs
    assert (softnet.processed, softnet.time_squeeze) == (150, 0)


def test_a_pass_ends_with_its_budget_and_counts_the_squeeze() -> None:
    softnet = SoftnetData()
    skbs = fill(softnet, 301)
    receiver = Receiver(softnet)
    assert softnet.net_rx_action(receiver, stopped)
    assert receiver.sizes == [64, 64, 64, 64, 44]
    assert softnet.time_squeeze == 1
    assert not softnet.net_rx_action(receiver, stopped)
    assert receiver.sizes[5:] == [1]
    assert receiver.skbs == skbs
    assert softnet.time_squeeze == 1


def test_a_budget_that_is_just_enough_is_no_squeeze() -> None:
    softnet = SoftnetData()
    fill(softnet, 300)
    assert not softnet.net_rx_action(Receiver(softnet), stopped)
    assert softnet.time_squeeze == 0


def test_a_pass_over_nothing_is_no_squeeze_and_delivers_nothing() -> None:
    softnet = SoftnetData()
    receiver = Receiver(softnet)
    assert not softnet.net_rx_action(receiver, stepped(10**12))
    assert (receiver.sizes, softnet.time_squeeze, softnet.processed) == ([], 0, 0)


def test_a_pass_ends_at_the_time_limit_and_counts_the_squeeze() -> None:
    softnet = SoftnetData()
    softnet.netdev_budget_usecs = 1000
    fill(softnet, 300)
    receiver = Receiver(softnet)
    assert softnet.net_rx_action(receiver, stepped(500_000))
    assert receiver.sizes == [64, 64]
    assert softnet.time_squeeze == 1
    take_all(softnet)


def test_the_time_limit_is_reached_at_the_microsecond_not_before() -> None:
    softnet = SoftnetData()
    softnet.netdev_budget_usecs = 1000
    fill(softnet, 300)
    receiver = Receiver(softnet)
    assert not softnet.net_rx_action(receiver, stepped(249_999))
    assert receiver.sizes == [64, 64, 64, 64, 44]
    assert softnet.time_squeeze == 0


def test_a_pass_without_time_still_delivers_one_batch() -> None:
    softnet = SoftnetData()
    softnet.netdev_budget_usecs = 0
    fill(softnet, 130)
    receiver = Receiver(softnet)
    passes = 1
    while softnet.net_rx_action(receiver, stopped):
        passes += 1
    assert (passes, receiver.sizes, softnet.time_squeeze) == (3, [64, 64, 2], 2)


def test_frames_that_come_during_a_pass_are_delivered_in_it_within_the_budget() -> None:
    softnet = SoftnetData()
    softnet.netdev_budget, softnet.dev_weight = 10, 4
    fill(softnet, 4)
    receiver = Receiver(softnet)

    def deliver_and_receive(batch: list[Skb]) -> None:
        receiver(batch)
        fill(softnet, 4)

    assert softnet.net_rx_action(deliver_and_receive, stopped)
    assert receiver.sizes == [4, 4, 2]
    take_all(softnet)


@pytest.mark.parametrize(
    ("queued", "cap", "backpressure", "room"),
    [
        (0, 1000, False, 64),
        (1000, 1000, False, 64),
        (0, 1000, True, 64),
        (936, 1000, True, 64),
        (937, 1000, True, 63),
        (999, 1000, True, 1),
        (1000, 1000, True, 0),
        (20, 5, True, 0),
    ],
)
def test_room_is_the_weight_or_under_backpressure_what_is_free(
    queued: int, cap: int, backpressure: bool, room: int
) -> None:
    softnet = SoftnetData()
    fill(softnet, queued)
    softnet.netdev_max_backlog = cap
    assert softnet.room(NetDevice(9, backpressure=backpressure)) == room
    take_all(softnet)


def test_a_device_is_remembered_once_until_it_is_published() -> None:
    softnet = SoftnetData()
    a, b = make_pair()
    for dev in (a, b, a, a, b):
        softnet.touch(dev)
    assert softnet.touched == [a, b]
    assert (a.touched, b.touched, NetDevice(9).touched) == (True, True, False)


def test_two_softnets_share_a_pool_only_when_they_are_given_one() -> None:
    one = SoftnetData()
    assert SoftnetData().pool is not one.pool
    assert SoftnetData(one.pool).pool is one.pool
