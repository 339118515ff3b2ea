"""iproute2's grammar: which words mean what, without a daemon."""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.processes import open_files
from vethd.cli.grammar import UsageError, Words
from vethd.cli.link import read_add, read_set
from vethd.cli.options import Options
from vethd.cli.request import Request, filter_links, select_link

NS = "/proc/self/ns/net"


@pytest.fixture
def request_() -> Iterator[Request]:
    """A request whose namespaces are closed after the test."""
    made = Request()
    yield made
    made.close()


def added(line: str, request: Request) -> dict[str, Any]:
    read_add(Words(shlex.split(line)), request)
    return request.params


@pytest.mark.parametrize(
    ("line", "a", "b"),
    [
        # where the name stands
        ("veth0 type veth", {"ifname": "veth0"}, None),
        ("name veth0 type veth", {"ifname": "veth0"}, None),
        ("dev veth0 type veth", {"ifname": "veth0"}, None),
        ("mtu 1400 name veth0 type veth", {"ifname": "veth0", "mtu": 1400}, None),
        ("up name veth0 type veth", {"ifname": "veth0", "up": True}, None),
        ("type veth", {}, None),
        ("type veth peer", {}, {}),
        ("veth%d type veth peer veth%d", {"ifname": "veth%d"}, {"ifname": "veth%d"}),
        # the peer
        ("veth0 type veth peer veth1", {"ifname": "veth0"}, {"ifname": "veth1"}),
        ("veth0 type veth peer name veth1", {"ifname": "veth0"}, {"ifname": "veth1"}),
        ("veth0 type veth peer mtu 1300 name veth1", {"ifname": "veth0"}, {"ifname": "veth1", "mtu": 1300}),
        ("veth0 type veth peer up", {"ifname": "veth0"}, {"up": True}),
        # names that look like the beginning of a keyword, or are one
        ("a type veth peer a", {"ifname": "a"}, {"ifname": "a"}),
        ("u type veth peer n", {"ifname": "u"}, {"ifname": "n"}),
        ("n type veth peer u", {"ifname": "n"}, {"ifname": "u"}),
        ("t type veth peer p", {"ifname": "t"}, {"ifname": "p"}),
        ("p type veth peer t", {"ifname": "p"}, {"ifname": "t"}),
        ("m type veth peer pe", {"ifname": "m"}, {"ifname": "pe"}),
        ("name up type veth peer name netns", {"ifname": "up"}, {"ifname": "netns"}),
        ("name type type veth peer name type", {"ifname": "type"}, {"ifname": "type"}),
        ("dev dev type veth peer name name", {"ifname": "dev"}, {"ifname": "name"}),
        # attributes of each end
        (
            f"veth0 netns {NS} address 02:00:00:00:00:01 mtu 1400 txqueuelen 5 up type veth",
            {
                "ifname": "veth0",
                "netns": {"fd": 0},
                "address": "02:00:00:00:00:01",
                "mtu": 1400,
                "txqueuelen": 5,
                "up": True,
            },
            None,
        ),
        (
            f"v netns {NS} type veth peer name w netns {NS} address 02:00:00:00:00:02 mtu 68 qlen 0 down",
            {"ifname": "v", "netns": {"fd": 0}},
            {
                "ifname": "w",
                "netns": {"fd": 1},
                "address": "02:00:00:00:00:02",
                "mtu": 68,
                "txqueuelen": 0,
                "up": False,
            },
        ),
        (
            "v txqlen 7 type veth peer w txqueuelen 8",
            {"ifname": "v", "txqueuelen": 7},
            {"ifname": "w", "txqueuelen": 8},
        ),
        ("v gro on type veth peer w gro off", {"gro": True}, {"gro": False}),
        ("v master br0 type veth peer w", {"bridge": "br0"}, {"ifname": "w"}),
        ("v type veth peer w mtu 1400 gro on up", {"ifname": "v"}, {"gro": True, "mtu": 1400, "up": True}),
        ("v lladdr 02:00:00:00:00:01 type veth", {"ifname": "v", "address": "02:00:00:00:00:01"}, None),
        ("v type veth mtu 1200 up", {"ifname": "v", "mtu": 1200, "up": True}, None),
        ("v type veth mtu 1200 peer w mtu 1300", {"mtu": 1200}, {"mtu": 1300}),
        ("v alias 'to the lab' type veth peer w alias ''", {"alias": "to the lab"}, {"alias": ""}),
        # abbreviations
        ("v addr 02:00:00:00:00:01 m 68 txq 9 u t veth p w", {"address": "02:00:00:00:00:01", "mtu": 68}, {}),
        ("v n /proc/self/ns/net do ty veth pee w", {"netns": {"fd": 0}, "up": False}, {}),
        # numbers as C writes them
        ("v mtu 0x5dc type veth", {"mtu": 1500}, None),
        ("v mtu -1 type veth", {"mtu": -1}, None),
        ("v mtu 99999999999999999999 type veth", {"mtu": 99999999999999999999}, None),
    ],
)
def test_link_add(request_: Request, line: str, a: dict[str, Any], b: dict[str, Any] | None) -> None:
    params = added(line, request_)
    assert params["a"].items() >= a.items()
    assert params.get("b", {}).items() >= (b or {}).items()
    assert ("b" in params) == (b is not None)
    if "ifname" not in a and line.startswith("type"):
        assert params["a"] == {}


@pytest.mark.parametrize(
    "line",
    [
        "v placement inside type veth",
        "v type veth placement inside",
        "v type veth peer w placement inside",
        "v type veth peer placement inside",
        "v type veth pl inside",
    ],
)
def test_the_placement_may_stand_anywhere(request_: Request, line: str) -> None:
    assert added(line, request_)["placement"] == "inside"


@pytest.mark.parametrize(
    "line",
    [
        "v numqueues 4 type veth",
        "v mtu 1500 numqueues 4 type veth peer w",
        "v type veth numqueues 4",
        "v type veth peer w numqueues 4",
        "v type veth peer numqueues 4",
        "v type veth peer w netns {} numq 0x4 placement inside",
        "v type veth peer w placement inside nu 4 n {}",
    ],
)
def test_the_number_of_queues_may_stand_anywhere(request_: Request, line: str) -> None:
    """Shortened to at least `nu`: `n` is netns."""
    params = added(line.format(NS), request_)
    assert params["numqueues"] == 4
    assert len(request_.fds) == line.count("{}")


def test_n_is_netns_and_not_the_number_of_queues(request_: Request) -> None:
    params = added(f"v type veth peer w n {NS} numqueues 4", request_)
    assert "netns" in params["b"]
    assert "netns" not in params["a"]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("", 'Not enough information: "type" argument is required'),
        ("veth0", 'Not enough information: "type" argument is required'),
        ("veth0 type", "Command line is not complete."),
        ("veth0 mtu", "Command line is not complete."),
        ("veth0 netns", "Command line is not complete."),
        ("veth0 address", "Command line is not complete."),
        ("name", "Command line is not complete."),
        ("veth0 type veth peer name", "Command line is not complete."),
        ("veth0 type veth placement", "Command line is not complete."),
        ("veth0 type veth numqueues", "Command line is not complete."),
        ("veth0 numqueues 2 type veth peer veth1 numqueues 2", 'Error: duplicate "numqueues".'),
        ("veth0 numqueues four type veth", 'Error: argument "four" is wrong: Invalid "numqueues" value'),
        ("veth0 veth1 type veth", 'Error: "veth1" is a garbage.'),
        ("veth0 type veth veth1", 'Error: "veth1" is a garbage.'),
        ("veth0 type veth peer veth1 veth2", 'Error: "veth2" is a garbage.'),
        ("veth0 type veth peer veth1 type veth", 'Error: "type" is a garbage.'),
        ("veth0 '' type veth", 'Error: "" is a garbage.'),
        ("veth0 type veth peer veth1 ''", 'Error: "" is a garbage.'),
        ("veth0 type dummy", 'Error: Unknown device type "dummy".'),
        ("veth0 type veth type veth", 'Error: "type" is a garbage.'),
        ("veth0 type veth peer veth1 peer veth2", 'Error: "peer" is a garbage.'),
        (
            "veth0 placement outside type veth",
            'Error: argument of "placement" must be one of "move", "inside", not "outside"',
        ),
        (
            "veth0 overload wait type veth",
            'Error: argument of "overload" must be one of "drop", "backpressure", not "wait"',
        ),
        ("veth0 label role type veth", 'Error: argument "role" is wrong: Invalid "label" value'),
        ("veth0 label role=a label role=b type veth", 'Error: duplicate "label role".'),
        ("veth0 alias a alias b type veth", 'Error: duplicate "alias".'),
        ("veth0 mtu 1 mtu 2 type veth", 'Error: duplicate "mtu".'),
        ("veth0 up down type veth", 'Error: duplicate "up".'),
        ("veth0 name veth1 type veth", 'Error: duplicate "name".'),
        ("veth0 placement move type veth placement inside", 'Error: duplicate "placement".'),
        (f"veth0 netns {NS} netns {NS} type veth", 'Error: duplicate "netns".'),
        ("veth0 mtu many type veth", 'Error: argument "many" is wrong: Invalid "mtu" value'),
        ("veth0 mtu 1e3 type veth", 'Error: argument "1e3" is wrong: Invalid "mtu" value'),
        ("veth0 qlen 1.5 type veth", 'Error: argument "1.5" is wrong: Invalid "txqueuelen" value'),
        ("veth0 gro yes type veth", 'Error: argument of "gro" must be one of "on", "off", not "yes"'),
        ("veth0 gro type veth", 'Error: argument of "gro" must be one of "on", "off", not "type"'),
        ("veth0 gro", "Command line is not complete."),
        ("veth0 gro on gro on type veth", 'Error: duplicate "gro".'),
        ("veth0 mtu '' type veth", 'Error: argument "" is wrong: Invalid "mtu" value'),
    ],
)
def test_what_makes_no_sense_is_named(request_: Request, line: str, complaint: str) -> None:
    with pytest.raises(UsageError) as raised:
        added(line, request_)
    assert str(raised.value) == complaint


@pytest.mark.parametrize(
    ("line", "params"),
    [
        ("v label role=web type veth", {"labels": {"role": "web"}}),
        ("v label a= label b==c type veth peer w la 'd=e f'", {"labels": {"a": "", "b": "=c", "d": "e f"}}),
        ("v overload backpressure type veth", {"overload": "backpressure"}),
        ("v type veth peer w ov drop", {"overload": "drop"}),
    ],
)
def test_words_about_the_pair(request_: Request, line: str, params: dict[str, Any]) -> None:
    assert added(line, request_).items() >= params.items()


# -- link set ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "changes"),
    [
        ("v up", {"up": True}),
        ("dev v down", {"up": False}),
        ("up dev v", {"up": True}),
        ("mtu 9000 v", {"mtu": 9000}),
        ("v name w", {"ifname": "w"}),
        ("v n w", {"ifname": "w"}),
        ("v address 02:00:00:00:00:01 txqueuelen 0", {"address": "02:00:00:00:00:01", "txqueuelen": 0}),
        ("v lladdr 02:00:00:00:00:01 qlen 7", {"address": "02:00:00:00:00:01", "txqueuelen": 7}),
        (f"v netns {NS} up", {"netns": {"fd": 0}, "up": True}),
        ("v alias ''", {"alias": ""}),
        ("v gro on", {"gro": True}),
        ("v label a=b nolabel c", {"labels": {"a": "b", "c": None}}),
        ("v worker 0", {"worker": 0}),
        ("v overload drop", {"overload": "drop"}),
        ("v master br0", {"bridge": "br0"}),
        ("v nomaster up", {"bridge": None, "up": True}),
        ("v u", {"up": True}),
        ("v m 68 tx 5 g off w 1 o drop", {"mtu": 68, "txqueuelen": 5, "gro": False, "worker": 1, "overload": "drop"}),
    ],
)
def test_link_set(request_: Request, line: str, changes: dict[str, Any]) -> None:
    read_set(Words(shlex.split(line)), request_)
    assert request_.params == {"ifname": "v", "set": changes}


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("", 'Not enough information: "dev" argument is required.'),
        ("up", 'Not enough information: "dev" argument is required.'),
        ("v", "Not enough information: nothing to change."),
        ("v x up", 'Error: "x" is a garbage.'),
        ("v dev w up", 'Error: duplicate "dev".'),
        ("v up down", 'Error: duplicate "up".'),
        ("v label a=b nolabel a", 'Error: duplicate "label a".'),
        ("v worker first", 'Error: argument "first" is wrong: Invalid "worker" value'),
        ("v numqueues 2", 'Error: "numqueues" is a garbage.'),
        ("v mtu", "Command line is not complete."),
    ],
)
def test_setting_what_makes_no_sense(request_: Request, line: str, complaint: str) -> None:
    with pytest.raises(UsageError) as raised:
        read_set(Words(shlex.split(line)), request_)
    assert str(raised.value) == complaint


# -- which links ------------------------------------------------------------------------------------------------------

_ONE: list[tuple[str, dict[str, Any]]] = [
    ("veth0", {"ifname": "veth0"}),
    ("dev veth0", {"ifname": "veth0"}),
    (f"veth0 netns {NS}", {"ifname": "veth0", "netns": {"fd": 0}}),
    (f"netns {NS} veth0", {"ifname": "veth0", "netns": {"fd": 0}}),
    (f"veth0 n {NS}", {"ifname": "veth0", "netns": {"fd": 0}}),
    ("n", {"ifname": "n"}),
    ("dev netns", {"ifname": "netns"}),
    ("dev dev", {"ifname": "dev"}),
]


@pytest.mark.parametrize(("line", "params"), _ONE)
def test_selecting_a_link(request_: Request, line: str, params: dict[str, Any]) -> None:
    select_link(Words(shlex.split(line)), request_)
    assert request_.params == params


@pytest.mark.parametrize(
    ("line", "params"),
    [
        *_ONE,
        ("", {}),
        (f"netns {NS}", {"netns": {"fd": 0}}),
        ("label role=web", {"labels": {"role": "web"}}),
        ("label role", {"labels": {"role": None}}),
        ("label role= origin cni label tier=1", {"labels": {"role": "", "tier": "1"}, "origin": "cni"}),
        ("l", {"ifname": "l"}),
        ("o", {"ifname": "o"}),
        ("dev label", {"ifname": "label"}),
    ],
)
def test_filtering_links(request_: Request, line: str, params: dict[str, Any]) -> None:
    assert filter_links(Words(shlex.split(line)), request_) is None
    assert request_.params == params


_NONE = [
    ("dev", "Command line is not complete."),
    ("veth0 netns", "Command line is not complete."),
    ("veth0 veth1", 'Error: "veth1" is a garbage.'),
    ("veth0 dev veth1", 'Error: duplicate "dev".'),
    (f"netns {NS} veth0 netns {NS}", 'Error: duplicate "netns".'),
    ("veth0 ''", 'Error: "" is a garbage.'),
]


@pytest.mark.parametrize(("line", "complaint"), [*_NONE, ("", 'Not enough information: "dev" argument is required.')])
def test_selecting_what_makes_no_sense(request_: Request, line: str, complaint: str) -> None:
    with pytest.raises(UsageError) as raised:
        select_link(Words(shlex.split(line)), request_)
    assert str(raised.value) == complaint


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        *_NONE,
        ("label", "Command line is not complete."),
        ("label a label a=b", 'Error: duplicate "label a".'),
        ("origin nobody", 'Error: argument of "origin" must be one of '),
        ("veth0 label a", 'Error: "label" selects among all links, not of a NAME.'),
        ("veth0 origin api", 'Error: "origin" selects among all links, not of a NAME.'),
    ],
)
def test_filtering_what_makes_no_sense(request_: Request, line: str, complaint: str) -> None:
    with pytest.raises(UsageError) as raised:
        filter_links(Words(shlex.split(line)), request_)
    assert str(raised.value).startswith(complaint)


# -- namespaces -------------------------------------------------------------------------------------------------------


def test_a_namespace_is_opened_by_path_pid_or_relative_path_and_closed_again(
    request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(NS)
    monkeypatch.chdir(tmp_path)
    before = len(open_files(os.getpid()))
    words = (NS, str(os.getpid()), "./link")
    assert [request_.netns(word) for word in words] == [{"fd": 0}, {"fd": 1}, {"fd": 2}]
    assert {os.fstat(fd).st_ino for fd in request_.fds} == {Path(NS).stat().st_ino}
    request_.close()
    assert len(open_files(os.getpid())) == before


@pytest.mark.parametrize(
    ("word", "reason", "hint"),
    [
        ("vtr-none", "No such file or directory", "create it first: ip netns add vtr-none"),
        ("4194304", "No such file or directory", "is that process still running?"),
        ("/vtr/none", "No such file or directory", None),
        ("vtr/none", "No such file or directory", None),
        ("x" * 300, "File name too long", f"create it first: ip netns add {'x' * 300}"),
    ],
)
def test_a_namespace_that_can_not_be_opened(request_: Request, word: str, reason: str, hint: str | None) -> None:
    with pytest.raises(UsageError) as raised:
        request_.netns(word)
    assert str(raised.value) == f'Error: argument "{word}" is wrong: Invalid "netns" value ({reason})'
    assert raised.value.hint == hint


def test_a_fifo_in_the_place_of_a_namespace_does_not_hang(request_: Request, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert request_.netns(str(tmp_path / "fifo")) == {"fd": 0}


# -- words ------------------------------------------------------------------------------------------------------------


def test_the_first_keyword_that_begins_so_wins() -> None:
    for word, keyword in (("s", "set"), ("sh", "show"), ("set", "set"), ("show", "show"), ("x", None), ("", None)):
        words = Words([word])
        assert words.keyword("set", "show") == keyword
        assert bool(words) == (keyword is None)


def test_a_word_too_long_is_no_abbreviation() -> None:
    assert Words(["shows"]).keyword("set", "show") is None


def test_where_a_name_may_stand_a_keyword_is_written_in_full() -> None:
    words = Words(["sh", "show"])
    assert words.exact("set", "show") is None
    assert words.take() == "sh"
    assert words.exact("set", "show") == "show"
    assert words.exact("") is None


# -- options ----------------------------------------------------------------------------------------------------------


def read(line: str) -> dict[str, Any]:
    """The options of a line that differ from what holds without any."""
    options, without = Options(), vars(Options())
    options.read(Words(shlex.split(line)))
    return {name: value for name, value in vars(options).items() if value != without[name]}


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("", {}),
        ("link -j", {}),
        ("-- -j", {}),
        ("-s -s -d", {"statistics": 2, "details": True}),
        ("-stats --statistics -st", {"statistics": 3}),
        ("-j -p -o", {"json": True, "pretty": True, "oneline": True}),
        ("-n red -netns blue", {"netns": "blue"}),
        ("-S /s -b f", {"socket": "/s", "batch": "f"}),
        ("-batch -", {"batch": "-"}),
        ("-f -force", {"force": True}),
        ("-t -timestamp -ts -tshort", {"timestamp": True, "tshort": True}),
        ("-V -h", {"version": True, "help": True}),
        ("-c", {"color": "always"}),
        ("-color=never", {"color": "never"}),
        ("-c -c=auto", {}),
    ],
)
def test_options(line: str, options: dict[str, Any]) -> None:
    assert read(line) == options


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("-x", 'Option "-x" is unknown.'),
        ("-", 'Option "-" is unknown.'),
        ("---j", 'Option "---j" is unknown.'),
        ("-j=1", 'Option "-j=1" is unknown.'),
        ("-s=2", 'Option "-s=2" is unknown.'),
        ("-jp", 'Option "-jp" is unknown.'),
        ("-c=red", 'Error: argument "red" is wrong: Invalid "color" value'),
        ("-c=", 'Error: argument "" is wrong: Invalid "color" value'),
        ("-n", "Command line is not complete."),
        ("-S", "Command line is not complete."),
        ("-b", "Command line is not complete."),
    ],
)
def test_options_without_sense(line: str, complaint: str) -> None:
    with pytest.raises(UsageError) as raised:
        read(line)
    assert str(raised.value) == complaint
