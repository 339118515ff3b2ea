"""The worker's channel as a conversation: what each message does, and what the worker says to it."""

from collections.abc import Callable

import pytest

from tests.frameio.taps import Taps
from tests.kit.commands import ip
from tests.kit.frames import BROADCAST, frame, number_of, numbered
from tests.kit.netns import Namespaces
from tests.kit.waiting import eventually
from tests.worker.conftest import StartWorker
from tests.worker.conversation import at_least
from tests.worker.ends import PLAIN_HEADER, StandIn, ends_of, unread
from tests.worker.subject import Worker
from vethd.drops import DropPoint
from vethd.worker.channel import PROTOCOL_VERSION

MakeStandIn = Callable[..., StandIn]


def test_a_worker_says_ready_first_and_acknowledges_the_hello(start_worker: StartWorker) -> None:
    worker = start_worker()
    worker.hear_ready()
    seq = worker.talk.say("hello", [worker.counters.fd], version=PROTOCOL_VERSION, ends=worker.counters.ends, slot=3)
    worker.talk.hear("ack", seq=seq)


def test_messages_are_acknowledged_in_their_order_each_with_its_own_number(worker: Worker) -> None:
    said = [worker.talk.say("ping") for _ in range(20)]
    for seq in said:
        worker.talk.hear("ack", seq=seq)


def test_a_number_comes_back_as_it_was_sent(worker: Worker) -> None:
    worker.talk.say_raw(b'{"op": "ping", "seq": 123456789012}')
    worker.talk.hear("ack", seq=123456789012)


def test_after_the_ack_of_an_add_frames_flow_both_ways(worker: Worker, stand_in: MakeStandIn) -> None:
    a, b = stand_in(), stand_in()
    worker.add(a, b)
    a.send(frame(60), b"\1" * 10)
    b.send(frame(61), b"\2" * 10)
    assert b.receive() == (b"\1" * 10, frame(60))
    assert a.receive() == (b"\2" * 10, frame(61))


def test_frames_that_waited_before_the_add_are_forwarded_in_order(worker: Worker, stand_in: MakeStandIn) -> None:
    a, b = stand_in(), stand_in()
    for number in range(200):
        a.send(numbered(number))
    pair = worker.add(a, b)
    pair.wait_read(200)
    assert [number_of(data) for data in b.waiting()] == list(range(200))


def test_the_ends_of_an_add_are_the_descriptors_in_their_order(worker: Worker, stand_in: MakeStandIn) -> None:
    a, b = stand_in(), stand_in()
    pair = worker.add(a, b)
    a.send(frame(60))
    pair.wait_read(1)
    assert (pair.a.read, pair.b.read, pair.a.rx_packets, pair.b.rx_packets) == (1, 0, 0, 1)


def test_two_pairs_do_not_hear_each_other(worker: Worker, stand_in: MakeStandIn) -> None:
    a, c = stand_in(), stand_in()
    one, other = worker.add(a, stand_in()), worker.add(c, stand_in())
    a.send(frame(60))
    c.send(frame(61))
    one.wait_read(1)
    other.wait_read(1)
    assert (one.b.rx_bytes, other.b.rx_bytes) == (60, 61)


def test_carrier_off_drops_what_is_read_and_carrier_on_lets_it_pass(worker: Worker, stand_in: MakeStandIn) -> None:
    a, b = stand_in(), stand_in()
    pair = worker.add(a, b, carrier=False)
    a.send(numbered(0))
    pair.wait_read(1)
    for end in pair.numbers:
        worker.talk.ask("set", end=end, carrier=True)
    a.send(numbered(1))
    pair.wait_read(2)
    worker.talk.ask("set", end=pair.numbers[0], carrier=False)
    a.send(numbered(2))
    pair.wait_read(3)
    assert [number_of(data) for data in b.waiting()] == [1]
    assert pair.drops() == {DropPoint.NO_CARRIER: 2}


def test_a_new_mtu_of_the_receiver_counts_from_the_ack_on(worker: Worker, stand_in: MakeStandIn) -> None:
    a, b = stand_in(), stand_in()
    pair = worker.add(a, b, mtu=(1500, 1000))
    for size in (1018, 1019):
        a.send(frame(size))
    pair.wait_read(2)
    worker.talk.ask("set", end=pair.numbers[1], mtu=1500)
    for size in (1019, 1518, 1519):
        a.send(frame(size))
    pair.wait_read(5)
    worker.talk.ask("set", end=pair.numbers[0], mtu=9000)
    a.send(frame(1519))
    pair.wait_read(6)
    assert [len(data) for data in b.waiting()] == [1018, 1019, 1518]
    assert pair.drops() == {DropPoint.PKT_TOO_BIG: 3}


def test_several_fields_of_an_end_can_be_set_at_once(worker: Worker, stand_in: MakeStandIn) -> None:
    a, b = stand_in(), stand_in()
    pair = worker.add(a, b, mtu=(1500, 100), carrier=False)
    worker.talk.ask("set", end=pair.numbers[0], carrier=True, netns=7)
    worker.talk.ask("set", end=pair.numbers[1], mtu=1500, address="027674000009", netns=7, carrier=True)
    a.send(frame(1518))
    assert b.receive() == (PLAIN_HEADER, frame(1518))


def test_set_of_an_end_that_is_not_here_is_acknowledged_and_does_nothing(worker: Worker) -> None:
    worker.talk.ask("set", end=99, mtu=68)


def test_sysctl_takes_the_limits_of_the_backlog(worker: Worker, stand_in: MakeStandIn) -> None:
    a, b = stand_in(), stand_in()
    worker.sysctl(netdev_max_backlog=3, netdev_budget=2, netdev_budget_usecs=1, dev_weight=10)
    for number in range(10):
        a.send(numbered(number))
    pair = worker.add(a, b)
    pair.wait_read(10)
    assert [number_of(data) for data in b.waiting()] == [0, 1, 2]
    assert pair.drops() == {DropPoint.CPU_BACKLOG: 7}
    assert (worker.softnet.processed, worker.softnet.dropped) == (3, 7)


def test_after_the_ack_of_a_del_the_worker_has_let_go_of_the_ends(worker: Worker, stand_in: MakeStandIn) -> None:
    before = worker.open_fds()
    a, b = stand_in(), stand_in()
    pair = worker.add(a, b)
    assert len(worker.open_fds()) == len(before) + 2
    worker.remove(pair)
    assert worker.open_fds() == before
    a.send(frame(60))
    worker.talk.ask("ping")
    assert unread(a)
    assert pair.a.read == 0


def test_a_del_leaves_other_pairs_alone(worker: Worker, stand_in: MakeStandIn) -> None:
    a, b = stand_in(), stand_in()
    first = worker.add(stand_in(), stand_in())
    worker.add(a, b)
    worker.remove(first)
    a.send(frame(60))
    assert b.receive() == (PLAIN_HEADER, frame(60))


def test_a_del_of_what_is_not_here_is_acknowledged(worker: Worker, stand_in: MakeStandIn) -> None:
    pair = worker.add(stand_in(), stand_in())
    worker.remove(pair)
    worker.remove(pair)
    worker.talk.ask("del", ends=[100, 101])


def test_a_pair_can_come_back_and_goes_on_counting_from_its_rows(worker: Worker, stand_in: MakeStandIn) -> None:
    a, b = stand_in(), stand_in()
    pair = worker.add(a, b)
    a.send(frame(60))
    a.send(frame(13))
    pair.wait_read(2)
    worker.remove(pair)
    worker.talk.ask("add", ends_of(a, b), ends=worker.describe(pair, (1500, 1500), True))
    pair.removed = False
    a.send(frame(60))
    pair.wait_read(3)
    assert (pair.a.read, pair.a.tx_packets, pair.b.rx_packets) == (3, 2, 2)
    assert pair.drops() == {DropPoint.PKT_TOO_SMALL: 1}


def test_after_the_ack_of_a_drain_nothing_is_read_any_more(worker: Worker, stand_in: MakeStandIn) -> None:
    a, b = stand_in(), stand_in()
    pair = worker.add(a, b)
    a.send(frame(60))
    pair.wait_read(1)
    worker.talk.ask("drain")
    a.send(frame(61))
    b.send(frame(61))
    worker.talk.ask("ping")
    assert (unread(a), unread(b)) == (True, True)
    assert (pair.a.read, pair.b.read) == (1, 0)
    assert (worker.softnet.input_queue_len, worker.softnet.process_queue_len) == (0, 0)


def test_a_deleted_device_is_reported_and_frames_to_it_drop_as_peer_gone(
    worker: Worker, taps: Taps, stand_in: MakeStandIn
) -> None:
    a, b = stand_in(), taps.make()
    pair = worker.add(a, b)
    b.delete()
    worker.talk.hear("gone", end=pair.numbers[1])
    a.send(frame(60))
    pair.wait_read(1)
    assert pair.drops() == {DropPoint.PEER_GONE: 1}
    worker.remove(pair)


def test_the_death_of_a_namespace_is_reported_for_the_end_in_it(
    worker: Worker, taps: Taps, stand_in: MakeStandIn
) -> None:
    b = taps.make()
    pair = worker.add(stand_in(), b)
    doomed = Namespaces()
    try:
        ip(b.netns, "link", "set", b.name, "netns", doomed.make())
    finally:
        doomed.close()
    worker.talk.hear("gone", end=pair.numbers[1])


def test_refused_headers_are_reported_to_the_supervisor(worker: Worker, taps: Taps, stand_in: MakeStandIn) -> None:
    a = stand_in()
    pair = worker.add(a, taps.make())
    for _ in range(16):
        a.send(frame(60), b"\0\1" + PLAIN_HEADER[2:])
    worker.talk.hear("hdr_invalid", end=pair.numbers[0], frames=at_least(16))
    assert pair.drops() == {DropPoint.HDR_INVALID: 16}


def test_the_softnet_row_is_the_one_of_the_slot(start_worker: StartWorker, stand_in: MakeStandIn) -> None:
    worker = start_worker(slot=5)
    worker.greet()
    a, b = stand_in(), stand_in()
    pair = worker.add(a, b)
    a.send(frame(60, BROADCAST))
    pair.wait_read(1)
    assert [slot for slot in range(8) if worker.counters.load_softnet(slot).processed] == [5]


@pytest.mark.parametrize("pairs", [1, 40])
def test_many_pairs_are_added_forwarded_and_deleted(worker: Worker, stand_in: MakeStandIn, pairs: int) -> None:
    before = worker.open_fds()
    ends = [(stand_in(), stand_in()) for _ in range(pairs)]
    added = [worker.add(a, b) for a, b in ends]
    for a, _b in ends:
        a.send(frame(60))
    for _a, b in ends:
        assert b.receive() == (PLAIN_HEADER, frame(60))
    for pair in added:
        worker.remove(pair)
    eventually(worker.open_fds, lambda files: files == before, "the worker has closed all ends")
