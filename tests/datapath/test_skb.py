"""skb.py: the buffer of an Skb, the pool it comes from, and the table of what crosses the wire."""

import pytest

from vethd.datapath.netdev import NetDevice
from vethd.datapath.skb import (
    BUFFER_SIZE,
    CHECKSUM_NONE,
    CHECKSUM_PARTIAL,
    ETH_HLEN,
    PACKET_BROADCAST,
    PACKET_HOST,
    PACKET_MULTICAST,
    PACKET_OTHERHOST,
    SCRUB,
    SLAB_BUFFERS,
    VIRTIO_NET_HDR_F_NEEDS_CSUM,
    VIRTIO_NET_HDR_GSO_ECN,
    VIRTIO_NET_HDR_GSO_NONE,
    VLAN_HLEN,
    Skb,
    SkbPool,
)

LARGEST_VIRTIO_HEADER = 24
LARGEST_MTU = 65521
LARGEST_GSO_FRAME = 65536


@pytest.mark.parametrize("frame_length", [LARGEST_MTU + ETH_HLEN + VLAN_HLEN, LARGEST_GSO_FRAME])
def test_a_buffer_holds_the_largest_frame_behind_the_largest_header(frame_length: int) -> None:
    assert LARGEST_VIRTIO_HEADER + frame_length <= BUFFER_SIZE
    assert len(SkbPool().alloc().data) == BUFFER_SIZE


@pytest.mark.parametrize(
    ("name", "value", "uapi"),
    [
        ("PACKET_HOST", PACKET_HOST, 0),
        ("PACKET_BROADCAST", PACKET_BROADCAST, 1),
        ("PACKET_MULTICAST", PACKET_MULTICAST, 2),
        ("PACKET_OTHERHOST", PACKET_OTHERHOST, 3),
        ("CHECKSUM_NONE", CHECKSUM_NONE, 0),
        ("CHECKSUM_PARTIAL", CHECKSUM_PARTIAL, 3),
        ("VIRTIO_NET_HDR_F_NEEDS_CSUM", VIRTIO_NET_HDR_F_NEEDS_CSUM, 1),
        ("VIRTIO_NET_HDR_GSO_NONE", VIRTIO_NET_HDR_GSO_NONE, 0),
        ("VIRTIO_NET_HDR_GSO_ECN", VIRTIO_NET_HDR_GSO_ECN, 0x80),
    ],
)
def test_a_constant_has_the_value_of_the_kernel_header(name: str, value: int, uapi: int) -> None:
    assert value == uapi, name


def test_the_vector_for_readv_is_the_buffer_itself() -> None:
    skb = SkbPool().alloc()
    assert len(skb.iov) == 1
    skb.iov[0][:3] = b"abc"
    assert bytes(skb.data[:3]) == b"abc"


def test_frame_is_a_copy_without_the_virtio_header() -> None:
    skb = SkbPool().alloc()
    skb.data[:16] = b"HEADERHEADframe!"
    skb.head, skb.len = 10, 5
    taken = skb.frame()
    skb.data[10:15] = b"XXXXX"
    assert taken == b"frame"


def test_a_fresh_skb_has_no_state() -> None:
    skb = Skb(memoryview(bytearray(64)))
    assert (skb.len, skb.dev, skb.skb_iif, skb.pkt_type) == (0, None, 0, PACKET_HOST)
    assert (skb.protocol, skb.ip_summed, skb.gso_type, skb.tstamp) == (0, CHECKSUM_NONE, VIRTIO_NET_HDR_GSO_NONE, 0)


def test_the_pool_hands_out_the_skb_that_came_back_last() -> None:
    pool = SkbPool()
    first, second = pool.alloc(), pool.alloc()
    pool.free(first)
    pool.free(second)
    assert pool.alloc() is second
    assert pool.alloc() is first


def test_the_pool_hands_out_the_last_of_a_batch_first() -> None:
    pool = SkbPool()
    batch = [pool.alloc() for _ in range(5)]
    pool.free_batch(batch)
    assert [pool.alloc() for _ in range(5)] == batch[::-1]


def test_a_freed_skb_forgets_its_device() -> None:
    pool = SkbPool()
    skb = pool.alloc()
    skb.dev = NetDevice(1)
    pool.free(skb)
    assert skb.dev is None


def test_the_pool_grows_by_one_slab_only_when_it_is_empty() -> None:
    pool = SkbPool()
    assert (pool.size, pool.in_use) == (0, 0)
    out = [pool.alloc() for _ in range(SLAB_BUFFERS)]
    assert (pool.size, pool.in_use) == (SLAB_BUFFERS, SLAB_BUFFERS)
    out.append(pool.alloc())
    assert (pool.size, pool.in_use) == (2 * SLAB_BUFFERS, SLAB_BUFFERS + 1)
    pool.free_batch(out)
    assert (pool.size, pool.in_use) == (2 * SLAB_BUFFERS, 0)


def test_no_skb_is_handed_out_twice_and_no_two_share_memory() -> None:
    pool = SkbPool()
    out = [pool.alloc() for _ in range(3 * SLAB_BUFFERS)]
    assert len({id(skb) for skb in out}) == len(out)
    for number, skb in enumerate(out):
        mark = number.to_bytes(4, "big")
        skb.data[:4] = mark
        skb.data[BUFFER_SIZE - 4 :] = mark
    for number, skb in enumerate(out):
        mark = number.to_bytes(4, "big")
        assert bytes(skb.data[:4]) == mark
        assert bytes(skb.data[BUFFER_SIZE - 4 :]) == mark


def scrub_fields() -> dict[str, bool]:
    """Each kernel field of the table and whether it is carried; rows that name several are taken apart."""
    return {field.strip(): row.carried for row in SCRUB for field in row.field.split("(")[0].split(",")}


def test_each_field_stands_in_the_scrub_table_once() -> None:
    named = [field.strip() for row in SCRUB for field in row.field.split("(")[0].split(",")]
    assert len(named) == len(set(named))


@pytest.mark.parametrize("field", ["dev", "skb_iif", "pkt_type", "protocol", "ip_summed", "gso_type", "tstamp"])
def test_each_state_field_of_an_skb_stands_in_the_scrub_table_as_carried(field: str) -> None:
    assert hasattr(SkbPool().alloc(), field)
    assert scrub_fields()[field] is True


def test_a_field_that_is_not_carried_is_no_field_of_an_skb() -> None:
    skb = SkbPool().alloc()
    assert [field for field, carried in scrub_fields().items() if not carried and hasattr(skb, field)] == []


@pytest.mark.parametrize("field", ["mark", "priority", "dst", "hash", "sk", "queue_mapping", "conntrack", "ignore_df"])
def test_the_scrub_table_says_what_becomes_of_a_field_that_a_tap_does_not_carry(field: str) -> None:
    assert scrub_fields()[field] is False


def test_each_row_of_the_scrub_table_says_what_both_wires_do() -> None:
    assert [row.field for row in SCRUB if not row.veth.strip() or not row.vethd.strip()] == []
