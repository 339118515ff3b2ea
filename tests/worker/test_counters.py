"""counters.py: the seals of the memfd, and rows that keep apart what different writers write."""

import fcntl
import mmap
import os

import pytest

from vethd.datapath.netdev import NetDevice
from vethd.datapath.softnet import SoftnetData
from vethd.drops import N_POINTS
from vethd.worker.counters import ROW_SIZE, WORKER_SLOTS, Counters, EndCounters, SoftnetCounters

F_ADD_SEALS, F_GET_SEALS = 1033, 1034
F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE = 1, 2, 4, 8


def counted(number: int, start: int) -> NetDevice:
    """An end whose every counter has a value of its own, from `start` on."""
    dev = NetDevice(number)
    dev.read, dev.merged, dev.tx_packets, dev.tx_bytes, dev.rx_packets, dev.rx_bytes = range(start, start + 6)
    dev.drops = [0, *range(start + 6, start + 5 + N_POINTS)]
    return dev


def row_of(dev: NetDevice) -> EndCounters:
    return EndCounters(
        dev.read, dev.merged, dev.tx_packets, dev.tx_bytes, dev.rx_packets, dev.rx_bytes, list(dev.drops)
    )


@pytest.mark.parametrize("change", [-1, 1, -ROW_SIZE, ROW_SIZE], ids=lambda change: f"{change:+d}")
def test_the_memfd_can_neither_shrink_nor_grow(counters: Counters, change: int) -> None:
    with pytest.raises(PermissionError):
        os.ftruncate(counters.fd, os.fstat(counters.fd).st_size + change)


def test_the_memfd_takes_no_further_seal(counters: Counters) -> None:
    assert fcntl.fcntl(counters.fd, F_GET_SEALS) == F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW
    with pytest.raises(PermissionError):
        fcntl.fcntl(counters.fd, F_ADD_SEALS, F_SEAL_WRITE)


def test_the_memfd_is_not_inherited(counters: Counters) -> None:
    assert not os.get_inheritable(counters.fd)


def test_a_fresh_row_is_zero(counters: Counters) -> None:
    for number in (0, 1, counters.ends - 1):
        assert counters.load_end(number) == counters.load_correction(number) == EndCounters()
    assert counters.load_softnet(WORKER_SLOTS - 1) == SoftnetCounters(0, 0, 0, 0, 0)


def test_each_counter_of_an_end_is_read_back_as_it_was_published(counters: Counters) -> None:
    dev = counted(3, 1000)
    counters.publish(dev)
    assert counters.load_end(3) == row_of(dev)


@pytest.mark.parametrize("value", [0, 1, 2**32, 2**64 - 1])
def test_a_counter_has_64_bits(counters: Counters, value: int) -> None:
    dev = NetDevice(0)
    dev.rx_bytes = value
    counters.publish(dev)
    assert counters.load_end(0).rx_bytes == value


def test_rows_of_all_writers_lie_apart(counters: Counters) -> None:
    last = counters.ends - 1
    softnets = {slot: SoftnetData() for slot in (0, WORKER_SLOTS - 1)}
    for number in (0, 1, last):
        counters.publish(counted(number, 100 + number))
        counters.store_correction(number, row_of(counted(number, 5000 + number)))
    for slot, softnet in softnets.items():
        softnet.processed, softnet.dropped, softnet.time_squeeze = slot + 1, slot + 2, slot + 3
        counters.publish_softnet(slot, softnet)
    for number in (0, 1, last):
        assert counters.load_end(number) == row_of(counted(number, 100 + number))
        assert counters.load_correction(number) == row_of(counted(number, 5000 + number))
    for slot in softnets:
        assert counters.load_softnet(slot) == SoftnetCounters(slot + 1, slot + 2, slot + 3, 0, 0)


def test_a_successor_goes_on_from_the_row_of_an_end(counters: Counters) -> None:
    counters.publish(counted(2, 70))
    heir = NetDevice(2)
    counters.restore(heir)
    assert row_of(heir) == row_of(counted(2, 70))
    heir.drops[1] += 1
    assert counters.load_end(2) == row_of(counted(2, 70))


def test_a_successor_goes_on_from_the_softnet_row_with_empty_queues(counters: Counters) -> None:
    softnet = SoftnetData()
    softnet.processed, softnet.dropped, softnet.time_squeeze = 7, 8, 9
    softnet.input_pkt_queue.append(softnet.pool.alloc())
    softnet.process_queue.extend((softnet.pool.alloc(), softnet.pool.alloc()))
    counters.publish_softnet(1, softnet)
    assert counters.load_softnet(1) == SoftnetCounters(7, 8, 9, 1, 2)
    heir = SoftnetData()
    counters.restore_softnet(1, heir)
    assert (heir.processed, heir.dropped, heir.time_squeeze) == (7, 8, 9)
    assert counters.load_softnet(1) == SoftnetCounters(7, 8, 9, 0, 0)


def test_clear_makes_both_rows_of_one_end_zero(counters: Counters) -> None:
    for number in (4, 5):
        counters.publish(counted(number, 100))
        counters.store_correction(number, row_of(counted(number, 200)))
    counters.clear(4)
    assert counters.load_end(4) == counters.load_correction(4) == EndCounters()
    assert counters.load_end(5) == row_of(counted(5, 100))
    assert counters.load_correction(5) == row_of(counted(5, 200))


def test_the_worker_s_row_and_its_correction_add_up_field_by_field() -> None:
    one, other = row_of(counted(0, 10)), row_of(counted(0, 1000))
    total = one + other
    assert (total.read, total.rx_bytes) == (10 + 1000, 15 + 1005)
    assert total.drops == [mine + its for mine, its in zip(one.drops, other.drops, strict=True)]


def test_another_mapping_of_the_memfd_sees_the_same_rows(counters: Counters) -> None:
    counters.publish(counted(1, 40))
    other = Counters(os.dup(counters.fd), counters.ends)
    assert other.load_end(1) == row_of(counted(1, 40))
    other.close()


def test_pages_that_nobody_wrote_take_no_memory() -> None:
    large = Counters.create(100_000)
    assert os.fstat(large.fd).st_size > 50_000_000
    large.publish(counted(50_000, 1))
    assert os.fstat(large.fd).st_blocks * 512 <= 4 * mmap.PAGESIZE
    large.close()
