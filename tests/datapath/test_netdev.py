"""netdev.py: an end as the datapath sees it; and the table of drop points that its counters follow."""

import pytest

from vethd.datapath.netdev import NetDevice, join, part
from vethd.drops import DROP_TABLE, N_POINTS, READ_DROPS, DropPoint

COUNTERS = ("read", "merged", "tx_packets", "tx_bytes", "rx_packets", "rx_bytes")


def test_a_new_end_is_alone_without_carrier_and_has_counted_nothing() -> None:
    dev = NetDevice(7)
    assert (dev.number, dev.peer, dev.carrier, dev.touched) == (7, None, False, False)
    assert {name: getattr(dev, name) for name in COUNTERS} == dict.fromkeys(COUNTERS, 0)
    assert list(dev.drops) == [0] * N_POINTS


def test_an_end_has_the_defaults_of_kernel_veth() -> None:
    assert NetDevice(7).mtu == 1500


def test_an_end_keeps_what_it_was_made_with() -> None:
    dev = NetDevice(3, 9, mtu=68, address=b"\x02abcde", netns=5, carrier=True, hdr_len=24)
    assert (dev.number, dev.fd, dev.mtu, dev.address) == (3, 9, 68, b"\x02abcde")
    assert (dev.netns, dev.carrier, dev.hdr_len) == (5, True, 24)


def test_two_ends_do_not_share_their_drop_counters() -> None:
    one, other = NetDevice(1), NetDevice(2)
    one.drops[DropPoint.PEER_GONE] += 1
    assert other.drops[DropPoint.PEER_GONE] == 0


def test_join_makes_two_ends_each_others_peer() -> None:
    a, b = NetDevice(1), NetDevice(2)
    join(a, b)
    assert a.peer is b
    assert b.peer is a


def test_part_takes_the_wire_from_both_ends() -> None:
    a, b = NetDevice(1), NetDevice(2)
    join(a, b)
    part(a, b)
    assert a.peer is None
    assert b.peer is None


def test_the_drop_table_has_one_row_per_point_in_the_order_of_the_journey() -> None:
    assert [row.point for row in DROP_TABLE] == list(DropPoint)
    assert [int(point) for point in DropPoint] == list(range(1, N_POINTS))


def test_all_points_but_the_ring_of_the_tap_stand_in_the_equation() -> None:
    assert set(DropPoint) - set(READ_DROPS) == {DropPoint.TAP_RING}


@pytest.mark.parametrize(
    ("point", "tx_dropped", "rx_dropped"),
    [
        (DropPoint.PEER_GONE, 1, 0),
        (DropPoint.NO_CARRIER, 1, 0),
        (DropPoint.PKT_TOO_SMALL, 1, 0),
        (DropPoint.PKT_TOO_BIG, 1, 1),
        (DropPoint.CPU_BACKLOG, 1, 1),
        (DropPoint.DEV_READY, 0, 1),
        (DropPoint.HDR_INVALID, 0, 1),
        (DropPoint.WRITE_FAILED, 0, 1),
        (DropPoint.WORKER_LOST, 0, 1),
        (DropPoint.TAP_RING, 1, 0),
    ],
)
def test_a_drop_is_charged_to_the_ends_that_kernel_veth_charges(
    point: DropPoint, tx_dropped: int, rx_dropped: int
) -> None:
    row = next(row for row in DROP_TABLE if row.point is point)
    assert (row.tx_dropped, row.rx_dropped) == (tx_dropped, rx_dropped)
