"""What is printed for answers of the daemon that never change."""

import io
import json
from typing import Any

import pytest

from vethd.cli.output import Output, link_rows, print_info, print_links, print_softnet

A = {
    "ifname": "veth0",
    "ifindex": 7,
    "netns": "red",
    "netns_inode": 4026531001,
    "address": "02:00:00:00:00:01",
    "mtu": 1500,
    "txqueuelen": 1000,
    "up": True,
    "carrier": True,
    "operstate": "UP",
    "offload": ["tx-checksum", "tso4"],
    "offload_why": "",
    "gro": False,
}
B = A | {
    "ifname": "veth1",
    "ifindex": 3,
    "netns": None,
    "netns_inode": 4026531002,
    "address": "02:00:00:00:00:02",
    "offload": [],
    "offload_why": "the kernel refused 16 virtio headers (EINVAL)",
    "gro": True,
}
PAIR: dict[str, Any] = {
    "pair": "11111111-2222-4333-8444-555555555555",
    "origin": "api",
    "placement": "move",
    "numqueues": 1,
    "workers": [0],
    "a": A,
    "b": B,
}
NOTHING = dict.fromkeys(("rx_packets", "rx_bytes", "rx_dropped", "tx_packets", "tx_bytes", "tx_dropped"), 0)
QUIET = dict.fromkeys(("read", "delivered", "merged", "dropped", "queued"), 0)
QUEUE = {"queue": 0, "worker": 0, "read": 7, "delivered": 5, "merged": 0, "drops": {"NO_CARRIER": 0, "PKT_TOO_BIG": 2}}
QUEUES = [QUEUE, QUEUE | {"queue": 1, "worker": 3, "read": 123456789020}]
STATS: dict[str, Any] = {
    PAIR["pair"]: {
        "a": {
            "rx_packets": 4,
            "rx_bytes": 340,
            "rx_dropped": 0,
            "tx_packets": 123456789012,
            "tx_bytes": 98765432109876,
            "tx_dropped": 15,
            "read": 123456789027,
            "delivered": 123456789012,
            "merged": 0,
            "dropped": 15,
            "queued": 0,
            "drops": {"NO_CARRIER": 0, "PKT_TOO_BIG": 3, "CPU_BACKLOG": 12},
            "queues": QUEUES,
        },
        "b": NOTHING | QUIET | {"drops": {"NO_CARRIER": 0, "PKT_TOO_BIG": 0}, "queues": QUEUES},
    }
}


class Tty(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def shown(pair: dict[str, Any] = PAIR, *, detail: int = 0, details: bool = False, tty: bool = False) -> str:
    stream = Tty() if tty else io.StringIO()
    print_links(link_rows([pair], STATS if detail else {}, detail), Output(stream=stream), details)
    return stream.getvalue()


def test_links() -> None:
    assert (
        shown()
        == """\
7: veth0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 state UP qlen 1000 netns red
    link/ether 02:00:00:00:00:01 brd ff:ff:ff:ff:ff:ff peer veth1 netns net:[4026531002]
3: veth1: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 state UP qlen 1000 netns net:[4026531002]
    link/ether 02:00:00:00:00:02 brd ff:ff:ff:ff:ff:ff peer veth0 netns red
"""
    )


def test_links_with_counters_aligned_as_ip_does() -> None:
    assert (
        shown(detail=1)
        == """\
7: veth0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 state UP qlen 1000 netns red
    link/ether 02:00:00:00:00:01 brd ff:ff:ff:ff:ff:ff peer veth1 netns net:[4026531002]
    RX:      bytes      packets dropped
               340            4       0
    TX:      bytes      packets dropped
    98765432109876 123456789012      15
3: veth1: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 state UP qlen 1000 netns net:[4026531002]
    link/ether 02:00:00:00:00:02 brd ff:ff:ff:ff:ff:ff peer veth0 netns red
    RX:  bytes packets dropped
             0       0       0
    TX:  bytes packets dropped
             0       0       0
"""
    )


def test_links_with_everything() -> None:
    assert (
        shown(detail=2, details=True)
        == """\
7: veth0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 state UP qlen 1000 netns red
    link/ether 02:00:00:00:00:01 brd ff:ff:ff:ff:ff:ff peer veth1 netns net:[4026531002]
    vethd pair 11111111-2222-4333-8444-555555555555 end a placement move origin api numqueues 1 workers 0 gro off
    offload tx-checksum tso4
    RX:      bytes      packets dropped
               340            4       0
    TX:      bytes      packets dropped
    98765432109876 123456789012      15
    to veth1 netns net:[4026531002]
    wire:   read    delivered  merged dropped  queued
    123456789027 123456789012       0      15       0
    drops: PKT_TOO_BIG CPU_BACKLOG
                     3          12
3: veth1: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 state UP qlen 1000 netns net:[4026531002]
    link/ether 02:00:00:00:00:02 brd ff:ff:ff:ff:ff:ff peer veth0 netns red
    vethd pair 11111111-2222-4333-8444-555555555555 end b placement move origin api numqueues 1 workers 0 gro on
    offload none (the kernel refused 16 virtio headers (EINVAL))
    RX:  bytes packets dropped
             0       0       0
    TX:  bytes packets dropped
             0       0       0
    to veth0 netns red
    wire: read delivered  merged dropped  queued
             0         0       0       0       0
    drops: none
"""
    )


@pytest.mark.parametrize("detail", [1, 2])
def test_every_number_ends_under_its_name(detail: int) -> None:
    lines = shown(detail=detail).splitlines()
    tables = [at for at, line in enumerate(lines) if line.endswith(("dropped", "queued", "CPU_BACKLOG"))]
    assert tables
    for at in tables:
        names, numbers = lines[at], lines[at + 1]
        assert len(names) == len(numbers), (names, numbers)
        assert all(numbers[position - 1] != " " for position in _ends(names)), (names, numbers)


def _ends(names: str) -> list[int]:
    """Where each name ends, counted from 1; the title ends with a colon."""
    padded = names + " "
    return [at for at in range(1, len(padded)) if padded[at] == " " and padded[at - 1] not in " :"]


@pytest.mark.parametrize(
    ("state", "flags"),
    [
        ({"up": False, "carrier": False, "operstate": "DOWN"}, "<BROADCAST,MULTICAST>"),
        ({"up": True, "carrier": False, "operstate": "DOWN"}, "<NO-CARRIER,BROADCAST,MULTICAST,UP>"),
        ({"up": True, "carrier": True, "operstate": "UP"}, "<BROADCAST,MULTICAST,UP,LOWER_UP>"),
    ],
)
def test_flags(state: dict[str, Any], flags: str) -> None:
    assert f"{flags} mtu 1500 state {state['operstate']} " in shown(PAIR | {"a": A | state})


def test_of_a_pair_that_names_an_end_only_that_is_shown() -> None:
    assert shown(PAIR | {"end": "b"}).startswith("3: veth1: ")
    assert "7: " not in shown(PAIR | {"end": "b"})


def test_colours_are_for_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    colored = shown(tty=True)
    for text in ("\033[36mveth0\033[0m", "\033[33m02:00:00:00:00:01\033[0m", "\033[32mUP\033[0m"):
        assert text in colored
    assert "\033[31mDOWN\033[0m" in shown(PAIR | {"a": A | {"operstate": "DOWN"}}, tty=True)
    assert "\033" not in shown()
    monkeypatch.setenv("NO_COLOR", "1")
    assert shown(tty=True) == shown()


@pytest.mark.parametrize(
    ("name", "shown_as"),
    [
        ("\033[2Jx", r"\x1b[2Jx"),
        ("a\rb", r"a\rb"),
        ("\udcff", r"\udcff"),
        ("\u202ex", r"\u202ex"),
        ("\u00e9", "\u00e9"),
    ],
)
def test_a_name_can_not_give_the_terminal_orders(name: str, shown_as: str) -> None:
    text = shown(PAIR | {"a": A | {"ifname": name}})
    assert f"7: {shown_as}: <" in text
    assert f"peer {shown_as} netns" in text


def test_several_queues_have_a_line_each() -> None:
    text = shown(PAIR | {"numqueues": 2, "workers": [0, 3]}, detail=2, details=True)
    assert " numqueues 2 workers 0 3 gro " in text
    assert (
        """\
  queue  worker         read delivered  merged dropped
      0       0            7         5       0       2
      1       3 123456789020         5       0       2
"""
        in text
    )
    assert "delivered  merged dropped\n" not in shown(PAIR, detail=2, details=True)


def test_json_has_ips_names_and_more() -> None:
    first, second = link_rows([PAIR], STATS, 2)
    assert first == {
        "ifindex": 7,
        "ifname": "veth0",
        "netns": "red",
        "netns_inode": 4026531001,
        "flags": ["BROADCAST", "MULTICAST", "UP", "LOWER_UP"],
        "mtu": 1500,
        "operstate": "UP",
        "txqlen": 1000,
        "link_type": "ether",
        "address": "02:00:00:00:00:01",
        "broadcast": "ff:ff:ff:ff:ff:ff",
        "pair": "11111111-2222-4333-8444-555555555555",
        "end": "a",
        "peer": {"ifname": "veth1", "netns": None, "netns_inode": 4026531002},
        "origin": "api",
        "placement": "move",
        "numqueues": 1,
        "workers": [0],
        "offload": ["tx-checksum", "tso4"],
        "offload_why": "",
        "gro": False,
        "stats64": {
            "rx": {"bytes": 340, "packets": 4, "dropped": 0},
            "tx": {"bytes": 98765432109876, "packets": 123456789012, "dropped": 15},
        },
        "wire": {"read": 123456789027, "delivered": 123456789012, "merged": 0, "dropped": 15, "queued": 0},
        "drops": {"NO_CARRIER": 0, "PKT_TOO_BIG": 3, "CPU_BACKLOG": 12},
        "queues": QUEUES,
    }
    assert second["peer"]["ifname"] == "veth0"
    assert "wire" not in next(link_rows([PAIR], STATS, 1))
    assert "stats64" not in next(link_rows([PAIR], {}, 0))


def test_json_is_one_line_unless_it_shall_be_pretty() -> None:
    for pretty, expected in ((False, '[{"ifname": "a", "mtu": 5}]\n'), (True, None)):
        stream = io.StringIO()
        Output(json=True, pretty=pretty, stream=stream).value([{"ifname": "a", "mtu": 5}])
        assert stream.getvalue() == expected or pretty
        assert json.loads(stream.getvalue()) == [{"ifname": "a", "mtu": 5}]
        assert stream.getvalue().count("\n") == (6 if pretty else 1)


def test_softnet() -> None:
    row = {
        "worker": 0,
        "pid": 4711,
        "processed": 12345678901,
        "dropped": 2,
        "time_squeeze": 3,
        "input_queue_len": 4,
        "process_queue_len": 5,
    }
    stream = io.StringIO()
    print_softnet([row, row | {"worker": 1, "pid": None}], Output(stream=stream))
    assert (
        stream.getvalue()
        == """\
 worker     pid   processed dropped time_squeeze input_queue_len process_queue_len
      0    4711 12345678901       2            3               4                 5
      1       - 12345678901       2            3               4                 5
"""
    )


def test_info() -> None:
    worker = {
        "id": 0,
        "pid": 4712,
        "pairs": 3,
        "queues": 5,
        "datapath": "interpreted",
        "frameio": "syscalls",
        "why": "no extensions",
    }
    gone = {"id": 1, "pid": None, "pairs": 2, "queues": 2, "datapath": None, "frameio": None, "why": None}
    stream = io.StringIO()
    info = {"version": "0.1.0", "pid": 4711, "pairs": 5, "max_pairs": 4096, "workers": [worker, gone]}
    print_info(info, Output(stream=stream))
    assert (
        stream.getvalue()
        == """\
vethd 0.1.0 pid 4711 pairs 5 of at most 4096
    worker 0 pid 4712 pairs 3 queues 5 datapath interpreted frameio syscalls (no extensions)
    worker 1 pairs 2 queues 2 is being replaced
"""
    )
