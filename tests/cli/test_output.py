"""What is printed for answers of the daemon that never change."""

import io
import json
from typing import Any

import pytest

from vethd.cli.daemon import print_info
from vethd.cli.grammar import Words
from vethd.cli.options import Options
from vethd.cli.output import Output, columns
from vethd.cli.records import link_record, link_rows

A = {
    "ifname": "veth0",
    "ifindex": 7,
    "netns": "red",
    "netns_inode": 4026531001,
    "address": "02:00:00:00:00:01",
    "mtu": 1500,
    "txqueuelen": 1000,
    "alias": "vethd 11111111-2222-4333-8444-555555555555 peer veth1",
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
    "alias": "vethd 11111111-2222-4333-8444-555555555555 peer veth0",
    "offload": [],
    "offload_why": "the kernel refused 16 virtio headers (EINVAL)",
    "gro": True,
}
PAIR: dict[str, Any] = {
    "pair": "11111111-2222-4333-8444-555555555555",
    "name": None,
    "origin": "api",
    "generation": 12,
    "labels": {},
    "placement": "move",
    "numqueues": 1,
    "overload": "drop",
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


def options(line: str) -> Options:
    read = Options()
    read.read(Words(line.split()))
    return read


def shown(pair: dict[str, Any] = PAIR, line: str = "", *, tty: bool = False) -> str:
    """What `vethctl OPTIONS link show` prints of a pair; line: the options."""
    stream = Tty() if tty else io.StringIO()
    given = options(line)
    output = Output(given, stream)
    for row in link_rows([pair], STATS, given.statistics):
        output.record(link_record(row, output, given.details))
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
        shown(line="-s")
        == """\
7: veth0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 state UP qlen 1000 netns red
    link/ether 02:00:00:00:00:01 brd ff:ff:ff:ff:ff:ff peer veth1 netns net:[4026531002]
    RX:      bytes      packets  errors dropped  missed   mcast
               340            4       0       0       0       0
    TX:      bytes      packets  errors dropped carrier collsns
    98765432109876 123456789012       0      15       0       0
3: veth1: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 state UP qlen 1000 netns net:[4026531002]
    link/ether 02:00:00:00:00:02 brd ff:ff:ff:ff:ff:ff peer veth0 netns red
    RX:  bytes packets  errors dropped  missed   mcast
             0       0       0       0       0       0
    TX:  bytes packets  errors dropped carrier collsns
             0       0       0       0       0       0
"""
    )


def test_links_with_everything() -> None:
    assert (
        shown(line="-s -s -d")
        == """\
7: veth0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 state UP qlen 1000 netns red
    link/ether 02:00:00:00:00:01 brd ff:ff:ff:ff:ff:ff peer veth1 netns net:[4026531002]
    alias vethd 11111111-2222-4333-8444-555555555555 peer veth1
    vethd pair 11111111-2222-4333-8444-555555555555 end a generation 12 origin api
    placement move numqueues 1 workers 0 overload drop gro off
    offload tx-checksum tso4
    RX:      bytes      packets  errors dropped  missed   mcast
               340            4       0       0       0       0
    TX:      bytes      packets  errors dropped carrier collsns
    98765432109876 123456789012       0      15       0       0
    to veth1 netns net:[4026531002]
    wire:   read    delivered  merged dropped  queued
    123456789027 123456789012       0      15       0
    drops: PKT_TOO_BIG CPU_BACKLOG
                     3          12
3: veth1: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 state UP qlen 1000 netns net:[4026531002]
    link/ether 02:00:00:00:00:02 brd ff:ff:ff:ff:ff:ff peer veth0 netns red
    alias vethd 11111111-2222-4333-8444-555555555555 peer veth0
    vethd pair 11111111-2222-4333-8444-555555555555 end b generation 12 origin api
    placement move numqueues 1 workers 0 overload drop gro on
    offload none (the kernel refused 16 virtio headers (EINVAL))
    RX:  bytes packets  errors dropped  missed   mcast
             0       0       0       0       0       0
    TX:  bytes packets  errors dropped carrier collsns
             0       0       0       0       0       0
    to veth0 netns red
    wire: read delivered  merged dropped  queued
             0         0       0       0       0
    drops: none
"""
    )


@pytest.mark.parametrize("line", ["-s", "-s -s"])
def test_every_number_ends_under_its_name(line: str) -> None:
    lines = shown(line=line).splitlines()
    tables = [at for at, line in enumerate(lines) if line.endswith(("mcast", "collsns", "queued", "CPU_BACKLOG"))]
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
    assert shown(line="-c") == colored
    assert shown(line="-c=never", tty=True) == shown()
    assert "\033" not in shown(line="-j -c")


def test_one_line_per_record_as_ip_does() -> None:
    one = shown(line="-s -s -d -o")
    assert one.count("\n") == 2
    assert one.replace("\\", "\n") == shown(line="-s -s -d")


def test_labels_and_an_alias_of_somebodys_own_are_shown() -> None:
    text = shown(PAIR | {"labels": {"role": "web", "site": "a\033b"}, "a": A | {"alias": "uplink\r"}})
    assert text.count("    label role=web site=a\\x1bb\n") == 2
    assert text.count("    alias ") == 1
    assert "    alias uplink\\r\n" in text
    assert "label" not in shown()


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
    text = shown(PAIR | {"numqueues": 2, "workers": [0, 3]}, "-s -s -d")
    assert " numqueues 2 workers 0 3 overload " in text
    assert (
        """\
  queue  worker         read delivered  merged dropped
      0       0            7         5       0       2
      1       3 123456789020         5       0       2
"""
        in text
    )
    assert "delivered  merged dropped\n" not in shown(PAIR, "-s -s -d")


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
        "ifalias": "vethd 11111111-2222-4333-8444-555555555555 peer veth1",
        "pair": "11111111-2222-4333-8444-555555555555",
        "end": "a",
        "peer": {"ifname": "veth1", "netns": None, "netns_inode": 4026531002},
        "name": None,
        "origin": "api",
        "generation": 12,
        "labels": {},
        "placement": "move",
        "numqueues": 1,
        "overload": "drop",
        "workers": [0],
        "offload": ["tx-checksum", "tso4"],
        "offload_why": "",
        "gro": False,
        "stats64": {
            "rx": {"bytes": 340, "packets": 4, "errors": 0, "dropped": 0, "over_errors": 0, "multicast": 0},
            "tx": {
                "bytes": 98765432109876,
                "packets": 123456789012,
                "errors": 0,
                "dropped": 15,
                "carrier_errors": 0,
                "collisions": 0,
            },
        },
        "wire": {"read": 123456789027, "delivered": 123456789012, "merged": 0, "dropped": 15, "queued": 0},
        "drops": {"NO_CARRIER": 0, "PKT_TOO_BIG": 3, "CPU_BACKLOG": 12},
        "queues": QUEUES,
    }
    assert second["peer"]["ifname"] == "veth0"
    assert "wire" not in next(link_rows([PAIR], STATS, 1))
    assert "stats64" not in next(link_rows([PAIR], {}, 0))


def test_json_is_one_line_unless_it_shall_be_pretty() -> None:
    for line, lines in (("-j", 1), ("-j -p", 6)):
        stream = io.StringIO()
        Output(options(line), stream).value([{"ifname": "a", "mtu": 5}])
        assert json.loads(stream.getvalue()) == [{"ifname": "a", "mtu": 5}]
        assert stream.getvalue().count("\n") == lines


def test_columns() -> None:
    assert columns(("name", "frames"), [("a", "12345678"), ("longest one", "1")], left=1) == [
        "name          frames",
        "a           12345678",
        "longest one        1",
    ]
    assert columns(("frames",), []) == [" frames"]


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
    info = {
        "version": "0.1.0",
        "pid": 4711,
        "server_id": "5f0c",
        "seq": 17,
        "uptime": 61.7,
        "config": ["/etc/vethd/vethd.toml"],
        "capabilities": ["CAP_NET_ADMIN", "CAP_SYS_ADMIN"],
        "kernel": {"release": "6.18.0", "features": {"io_uring": "yes", "bpf": "not permitted"}},
        "limits": {
            "pairs": 5,
            "max_pairs": 4096,
            "clients": 1,
            "max_clients": 256,
            "open_files": 40,
            "max_open_files": 1024,
        },
        "pairs": 5,
        "max_pairs": 4096,
        "workers": [worker, gone],
    }
    printed: list[str] = []
    for line in ("", "-d"):
        stream = io.StringIO()
        print_info(info, Output(options(line), stream), details=line == "-d")
        printed.append(stream.getvalue())
    assert (
        printed[0]
        == """\
vethd 0.1.0 pid 4711 pairs 5 of at most 4096
    worker 0 pid 4712 pairs 3 queues 5 datapath interpreted frameio syscalls (no extensions)
    worker 1 pairs 2 queues 2 is being replaced
"""
    )
    assert (
        printed[1].removeprefix(printed[0])
        == """\
    run 5f0c for 62 s, last event 17
    config /etc/vethd/vethd.toml
    clients 1 of at most 256, files 40 of at most 1024
    capabilities CAP_NET_ADMIN CAP_SYS_ADMIN
    kernel 6.18.0
        io_uring: yes
        bpf: not permitted
"""
    )
