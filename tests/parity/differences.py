"""Where vethd differs from kernel veth: every difference the scenarios see, and why.

`title` is the first column of the row in README's table "Where it differs from kernel veth" that explains the
difference; several items may share one row. A test fails when a difference appears that is not listed here, when a
listed one no longer occurs, and when README has no row of that title.
"""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    """One item of one scenario in which the two outcomes differ, on purpose."""

    scenario: str
    item: str
    veth: object
    vethd: object
    title: str


def _rows(scenario: str, title: str, items: dict[str, tuple[object, object]]) -> Iterator[Difference]:
    for item, (veth, vethd) in items.items():
        yield Difference(scenario, item, veth, vethd, title)


MADE, NOT_MADE = ("ok", 1, 1), ("EINVAL", 0, 0)
TAGGED = ("1518 with 802.1Q", "1514 with 802.1ad", "1514 with QinQ", "60 with QinQ")

DIFFERENCES: tuple[Difference, ...] = (
    # -- making and deleting ----------------------------------------------------------------------------------------
    *_rows(
        "up_at_creation",
        "peer up at creation",
        {"b up": (("ENOTCONN", 0, 0), MADE), "both up": (("ENOTCONN", 0, 0), MADE)},
    ),
    *_rows(
        "mtus_at_creation",
        "largest MTU",
        {f"{end}: {mtu}": (MADE, NOT_MADE) for end in "ab" for mtu in (65522, 65535)},
    ),
    *_rows("mtu_range", "largest MTU", {"largest": (65535, 65521), "mtu 65522": (True, False)}),
    *_rows(
        "delete_a_namespace_placed_inside",
        "`placement inside`",
        {"kept alive": (0, 1), "b exists": (False, True)},
    ),
    # -- looks ------------------------------------------------------------------------------------------------------
    *_rows("attributes_of_a_new_link", "kind", {"kind": ("veth", "tun"), "alias": (False, True)}),
    *_rows(
        "ethtool_answers",
        "kind",
        {
            "driver": ("veth", "tun"),
            "version": ("1.0", "1.6"),
            "bus": ("", "tap"),
            "has own statistics": ("yes", "no"),
            "names the peer": (True, False),
            "ethtool -c refused": (True, False),
        },
    ),
    *_rows(
        "attributes_of_a_new_link",
        "peer index",
        {"peer's ifindex shown": (True, False), "peer's namespace shown": (True, False)},
    ),
    *_rows("attributes_of_a_new_link", "own index", {"lowest free ifindex": (True, False)}),
    *_rows(
        "attributes_of_a_new_link",
        "assign types in sysfs",
        {"addr_assign_type": ("1", "3"), "name_assign_type": ("3", "4")},
    ),
    *_rows("attributes_of_a_new_link", "qdisc before the first up", {"qdisc": ("noop", "noqueue")}),
    *_rows(
        "attributes_of_a_new_link",
        "number of queues",
        {"a transmit queue per CPU": (True, False), "a receive queue per CPU": (True, False)},
    ),
    *_rows(
        "several_queues",
        "number of queues",
        {
            **{f"{end}: numtxqueues, numrxqueues": ((4, 4), (256, 256)) for end in "ab"},
            "ethtool -L": (True, False),
            "queues afterwards": (4, 8),
        },
    ),
    *_rows("attributes_of_a_new_link", "BIG TCP", {"tso_max_size": (524280, 65536)}),
    *_rows(
        "offload_features",
        "GRE, IPIP and SCTP GSO",
        dict.fromkeys(("tx-gre-segmentation", "tx-sctp-segmentation", "tx-checksum-sctp"), ("on", "off")),
    ),
    *_rows(
        "offload_features",
        "offload flags",
        {
            "generic-receive-offload": ("off", "on"),
            "rx-checksumming": ("on", "off"),
            "rx-vlan-offload": ("on", "off"),
            "highdma": ("on", "off"),
        },
    ),
    # -- state ------------------------------------------------------------------------------------------------------
    *_rows(
        "both_ends_in_one_namespace",
        "operstate beside a down peer",
        {"a up alone": ("LOWERLAYERDOWN", "DOWN"), "a with b down": ("LOWERLAYERDOWN", "DOWN")},
    ),
    *_rows(
        "carrier_set_by_a_user",
        "`ip link set … carrier off`",
        {"answer": ("RTNETLINK answers: Operation not supported", "ok")},
    ),
    *_rows("queue_length", "`txqueuelen 0`", {"zero": (0, 1000)}),
    *_rows(
        "effects_are_immediate",
        "when a change takes effect",
        {
            "1400 into mtu 1000: send": ("ENOBUFS", "ok"),
            "1400 into mtu 1000: arrives": ([], [1400]),
            "carrier of a, b down": (False, True),
        },
    ),
    *_rows("effects_are_immediate", "carrier change counters", {"every flip counts": ((10, 5, 5), (4, 2, 2))}),
    *_rows(
        "change_what_is_refused",
        "several changes at once",
        {"mtu, name taken: mtu": ([1400], [1500]), "move, name taken: moved": (True, False)},
    ),
    *_rows(
        "xdp_in_the_driver",
        "XDP",
        {
            "tso of the peer": ("off", "on"),
            "largest mtu of the peer": (3506, 65521),
            "b.rx_packets, rx_bytes": ((10, 860), (10, 1000)),
        },
    ),
    # -- frames -----------------------------------------------------------------------------------------------------
    *_rows(
        "mtu_of_the_receiver",
        "oversize, full backlog",
        {f"{frame}: send": ("ENOBUFS", "ok") for frame in ("1019", "1019 with a tag", "1514", "87 at mtu 68")},
    ),
    *_rows(
        "mtu_of_the_receiver",
        "`ip -s link`",
        {"kernel: a.tx_dropped": (3, 0), "kernel: a.tx_packets": (3, 6)},
    ),
    *_rows("oversize_drops_charge_the_receiver", "`ip -s link`", {"kernel: b.rx_dropped": (4, 0)}),
    *_rows("burst_of_three_thousand", "overload", {"every send succeeds": (True, False), "all arrive": (True, False)}),
    *_rows(
        "frame_sizes_with_tags",
        "what the receiver's stack drops",
        {f"{what}: charged to b: rx_dropped": (10, 0) for what in TAGGED},
    ),
    *_rows("jumbo_frames", "what the receiver's stack drops", {"9018 with 802.1Q: charged to b: rx_dropped": (10, 0)}),
    *_rows(
        "tag_beside_the_frame",
        "VLAN tag in metadata",
        {
            "lengths that arrive": ([200, 1014, 1018], [200, 1014]),
            "kernel: a.tx_bytes": (2232, 2244),
            "charged: a.tx_bytes": (2232, 1222),
            "charged: b.rx_bytes": (2232, 1222),
        },
    ),
    *_rows("mark_and_priority_within_a_namespace", "`mark`, in one namespace", {"mark at b": ((4, 0), (0, 4))}),
    *_rows("hash_and_queue", "flow hash, `tc_index`, EDT timestamp", {"has a hash": (1, 0)}),
    *_rows("sender_of_a_waiting_frame", "socket send buffer", {"charged to the sender": (True, False)}),
    *_rows("hash_and_queue", "receive queue", {"came in on another queue than the first": (0, 1)}),
)

#: Rows of README's table that a scenario cannot show on both backends, and the tests that pin them.
PINNED_ELSEWHERE = {
    "who is needed": "tests/parity/test_without_the_daemon.py",
    "GRO": "tests/pairs/test_gro.py",
    "backlog cap": "tests/datapath/test_softnet.py",
    "backlog belongs to": "tests/datapath/test_simulation.py",
    "polling": "tests/datapath/test_softnet.py",
    "fragments, with several queues": "tests/host/test_steering.py",
}

#: Rows that say how things are or how long they take, and claim nothing that a test could see differ.
PLAIN_FACTS = frozenset({"creation", "creating across namespaces", "`/proc/net/softnet_stat`"})
