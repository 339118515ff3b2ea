"""The table of drop points."""

import pytest

from tests.kit.daemon import Daemon
from tests.kit.netns import Namespaces
from tests.kit.pairs import make_pair
from vethd.drops import DROP_TABLE, N_POINTS, READ_DROPS, DropPoint, DropRow

# drivers/net/veth.c, net/core/dev.c: whose counter a drop moves: (the sender's tx_dropped, the receiver's rx_dropped).
# Up to the length test the sender's; a frame that dev_forward_skb or the backlog refuses is charged to both; what is
# lost behind the backlog was sent well, so only the receiver misses it.
CHARGES = {
    "PEER_GONE": (1, 0),
    "NO_CARRIER": (1, 0),
    "PKT_TOO_SMALL": (1, 0),
    "PKT_TOO_BIG": (1, 1),
    "CPU_BACKLOG": (1, 1),
    "DEV_READY": (0, 1),
    "HDR_INVALID": (0, 1),
    "WRITE_FAILED": (0, 1),
    "WORKER_LOST": (0, 1),
    "TAP_RING": (1, 0),
}


def test_the_points_are_numbered_from_one_in_the_order_of_the_journey() -> None:
    assert [(int(point), point.name) for point in DropPoint] == list(enumerate(CHARGES, 1))
    assert len(DropPoint) + 1 == N_POINTS


def test_every_point_has_one_row_in_that_order() -> None:
    assert [row.point for row in DROP_TABLE] == list(DropPoint)


@pytest.mark.parametrize("row", DROP_TABLE, ids=lambda row: row.point.name)
def test_a_drop_is_charged_as_veth_charges_it(row: DropRow) -> None:
    assert (row.tx_dropped, row.rx_dropped) == CHARGES[row.point.name]


@pytest.mark.parametrize("row", DROP_TABLE, ids=lambda row: row.point.name)
def test_a_row_says_where_and_when(row: DropRow) -> None:
    assert row.where
    assert row.condition
    assert not row.condition.endswith(".")


def test_a_frame_the_ring_refused_was_never_read() -> None:
    assert set(DropPoint) - set(READ_DROPS) == {DropPoint.TAP_RING}


def test_the_daemon_counts_every_point_of_the_table(shared_daemon: Daemon, netns: Namespaces) -> None:
    red = netns.make()
    pair = make_pair(shared_daemon, red, red, up=False, placement="inside")
    for end in pair.stats().values():
        assert list(end["drops"]) == [row.point.name for row in DROP_TABLE]
