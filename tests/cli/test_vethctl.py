"""vethctl with a real daemon: what it does, what it prints, and with which status it ends."""

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

import vethd
from tests.cli.outcome import refused
from tests.kit.commands import ip, run
from tests.kit.daemon import PROGRAMS, Daemon
from tests.kit.links import link_exists, read_link
from tests.kit.netns import Namespaces, fresh_name
from tests.kit.pairs import Pair, make_pair

VETHCTL = str(PROGRAMS / "vethctl")


@pytest.fixture
def quiet_pair(shared_daemon: Daemon, netns: Namespaces) -> Pair:
    """A pair that is down, so that nothing in it changes."""
    return make_pair(shared_daemon, netns.make(), netns.make(), up=False, placement="inside")


# -- doing ------------------------------------------------------------------------------------------------------------


def test_a_pair_is_added_shown_and_deleted(shared_daemon: Daemon, netns: Namespaces) -> None:
    red, blue = netns.make(), netns.make()
    a, b = fresh_name("a"), fresh_name("b")
    words = ["link", "add", a, "netns", red, "mtu", "1400", "up", "type", "veth"]
    words += ["peer", "name", b, "netns", blue, "address", "02:00:00:00:00:0b", "up"]
    added = shared_daemon.ctl(*words)
    assert (added.out, added.err) == ("", "")
    assert (read_link(red, a).mtu, read_link(blue, b).address) == (1400, "02:00:00:00:00:0b")
    assert read_link(red, a).carrier
    shown = shared_daemon.ctl("link", "show")
    assert shown.err == ""
    assert [line.split()[1] for line in shown.out.splitlines()[::2]] == [f"{a}:", f"{b}:"]
    assert f"netns {red}\n" in shown.out
    assert f"peer {b} netns {blue}\n" in shown.out
    deleted = shared_daemon.ctl("link", "del", b, "netns", blue)
    assert (deleted.out, deleted.err) == ("", "")
    assert not link_exists(red, a)
    assert shared_daemon.ctl("link", "show").out == ""


@pytest.mark.parametrize("words", [("link", "show"), ("l", "sh"), ("link", "list"), ("link", "lst"), ("link",), ("l",)])
def test_words_may_be_abbreviated_and_show_left_out(
    shared_daemon: Daemon, quiet_pair: Pair, words: tuple[str, ...]
) -> None:
    assert f": {quiet_pair.a.name}: <" in shared_daemon.ctl(*words).out


def test_left_out_the_namespace_is_the_callers(shared_daemon: Daemon, netns: Namespaces) -> None:
    red, name = netns.make(), fresh_name()
    shared_daemon.ctl("link", "add", name, "type", "veth", "placement", "inside", netns=red)
    (row,) = json.loads(shared_daemon.ctl("-j", "link", "show", name, netns=red).out)
    assert (row["netns"], row["peer"]["netns"], row["peer"]["ifname"]) == (red, red, "veth0")
    shared_daemon.ctl("link", "del", name, netns=red)


def test_option_n_is_as_being_there(shared_daemon: Daemon, netns: Namespaces) -> None:
    red, blue, name = netns.make(), netns.make(), fresh_name()
    words = ["link", "add", name, "type", "veth", "peer", "name", name, "netns", blue, "placement", "inside"]
    shared_daemon.ctl("-n", red, *words)
    assert link_exists(red, name)
    shown = shared_daemon.ctl("-n", red, "link", "show")
    assert [line.split()[1] for line in shown.out.splitlines()[::2]] == [f"{name}:"]  # only the end that is in it
    assert shared_daemon.ctl("link", "show", "netns", red).out == shown.out
    assert shared_daemon.ctl("-netns", red, "link", "show", name).out == shown.out
    (row,) = json.loads(shared_daemon.ctl("-j", "-n", blue, "link", "show", name).out)
    assert (row["netns"], row["end"]) == (blue, "b")
    shared_daemon.ctl("-n", blue, "link", "del", name)
    assert not link_exists(red, name)


def test_under_option_n_a_link_elsewhere_is_not_found(
    shared_daemon: Daemon, quiet_pair: Pair, netns: Namespaces
) -> None:
    green = netns.make()
    for command in ("show", "del"):
        refused(
            shared_daemon.ctl("-n", green, "link", command, quiet_pair.a.name, check=False),
            1,
            f'Error: Cannot find device "{quiet_pair.a.name}"',
            "hint: `vethctl link show` lists the links",
        )
    assert shared_daemon.ctl("-n", green, "link").out == ""


def test_a_namespace_may_be_a_pid_or_a_path(shared_daemon: Daemon, quiet_pair: Pair) -> None:
    place = quiet_pair.a.netns
    with subprocess.Popen(
        ["ip", "netns", "exec", place, "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as inside:
        assert inside.stdin is not None
        assert inside.stdout is not None
        inside.stdin.write(b"here\n")
        inside.stdin.flush()
        assert inside.stdout.readline() == b"here\n"  # so it has entered
        for word in (str(inside.pid), f"/proc/{inside.pid}/ns/net", f"/run/netns/{place}"):
            (row,) = json.loads(shared_daemon.ctl("-j", "link", "show", "netns", word).out)
            assert row["ifname"] == quiet_pair.a.name
        inside.stdin.close()


# -- printing ---------------------------------------------------------------------------------------------------------


def test_one_end_is_shown_alone(shared_daemon: Daemon, quiet_pair: Pair) -> None:
    for end in (quiet_pair.a, quiet_pair.b):
        (row,) = json.loads(shared_daemon.ctl("-j", "link", "show", end.name).out)
        assert (row["ifname"], row["netns"]) == (end.name, end.netns)
        assert shared_daemon.ctl("link", "show", end.name).out.count(": <") == 1


def test_json_says_what_ip_says_of_the_same_link(shared_daemon: Daemon, pair: Pair) -> None:
    (row,) = json.loads(shared_daemon.ctl("-j", "-s", "link", "show", pair.a.name).out)
    (kernel,) = ip(pair.a.netns, "-j", "-s", "link", "show", pair.a.name).json()
    for name in ("ifindex", "ifname", "flags", "mtu", "operstate", "txqlen", "link_type", "address", "broadcast"):
        assert row[name] == kernel[name], name
    for way in ("rx", "tx"):
        assert row["stats64"][way].keys() == kernel["stats64"][way].keys()


def test_how_much_is_told(shared_daemon: Daemon, quiet_pair: Pair) -> None:
    def rows(*options: str) -> list[dict[str, object]]:
        decoded: list[dict[str, object]] = json.loads(shared_daemon.ctl("-j", *options, "link").out)
        return decoded

    assert all("stats64" not in row for row in rows())
    assert all("stats64" in row and "drops" not in row for row in rows("-s"))
    assert all("stats64" in row and "drops" in row and "wire" in row for row in rows("-s", "-s"))
    plain, details = (shared_daemon.ctl(*options, "link").out for options in ((), ("-d",)))
    assert "vethd pair" not in plain
    assert details.count(f"vethd pair {quiet_pair.uuid} end ") == 2
    counted = shared_daemon.ctl("-s", "link", "show", quiet_pair.a.name).out
    names, numbers = counted.splitlines()[2:4]
    assert names.split() == ["RX:", "bytes", "packets", "errors", "dropped", "missed", "mcast"]
    assert numbers.split() == ["0"] * 6
    assert "drops: none" in shared_daemon.ctl("-s", "-s", "link").out


@pytest.mark.parametrize(
    "options",
    [
        ("-j", "-s", "-d"),
        ("-json", "-statistics", "-details"),
        ("--json", "--stats", "--details"),
        ("-js", "-st", "-det"),
    ],
)
def test_options_may_be_written_in_every_way_of_ip(
    shared_daemon: Daemon, quiet_pair: Pair, options: tuple[str, ...]
) -> None:
    rows = json.loads(shared_daemon.ctl(*options, "link").out)
    assert all("stats64" in row for row in rows)


def test_pretty_json_is_indented_and_equal(shared_daemon: Daemon, quiet_pair: Pair) -> None:
    plain = shared_daemon.ctl("-j", "link").out
    pretty = shared_daemon.ctl("-j", "-p", "link").out
    assert plain.count("\n") == 1
    assert pretty.startswith('[\n    {\n        "ifindex": ')
    assert json.loads(plain) == json.loads(pretty)


def test_json_of_nothing_is_an_empty_list_and_text_of_nothing_is_nothing(shared_daemon: Daemon) -> None:
    assert shared_daemon.ctl("-j", "link", "show").out == "[]\n"
    assert shared_daemon.ctl("link", "show").out == ""


def test_json_of_adding_tells_the_names_that_were_chosen(shared_daemon: Daemon, netns: Namespaces) -> None:
    red = netns.make()
    words = ["link", "add", "vtr%d", "type", "veth", "peer", "name", "vtr%d", "placement", "inside"]
    first, second = json.loads(shared_daemon.ctl("-j", "-n", red, *words).out)
    assert {first["ifname"], second["ifname"]} == {"vtr0", "vtr1"}
    assert first["netns"] == second["netns"] == red
    assert shared_daemon.ctl("-j", "-n", red, "link", "del", "vtr0").out == ""


def test_softnet_and_daemon(shared_daemon: Daemon) -> None:
    (row,) = json.loads(shared_daemon.ctl("-j", "softnet").out)
    head, numbers = shared_daemon.ctl("soft", "sh").out.splitlines()
    assert dict(zip(head.split(), numbers.split(), strict=True)).keys() == row.keys()
    info = json.loads(shared_daemon.ctl("-j", "daemon", "info").out)
    assert info["pid"] == shared_daemon.pid
    assert shared_daemon.ctl("d").out.startswith(
        f"vethd {vethd.__version__} pid {shared_daemon.pid} pairs 0 of at most "
    )


# -- failing ----------------------------------------------------------------------------------------------------------


def test_an_ambiguous_name_is_refused_with_the_list(shared_daemon: Daemon, netns: Namespaces) -> None:
    red, blue, name = netns.make(), netns.make(), fresh_name()
    pair = make_pair(shared_daemon, red, blue, up=False, placement="inside", a={"ifname": name}, b={"ifname": name})
    for command in ("show", "del"):
        refused(
            shared_daemon.ctl("link", command, name, check=False),
            2,
            f'Error: "{name}" exists in several namespaces: {", ".join(sorted((red, blue)))}',
            "hint: say which one: netns NAME",
        )
    for words in (("-n", blue, "link", "show", name), ("link", "show", name, "netns", blue)):
        assert json.loads(shared_daemon.ctl("-j", *words).out)[0]["end"] == "b"
    (row,) = json.loads(shared_daemon.ctl("-j", "link", "show", name, netns=red).out)
    assert row["end"] == "a"
    pair.delete()


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (
            ("link", "add", "vtrx", "mtu", "5", "type", "veth"),
            ["Error: end a: mtu 5 is not in 68..65521: as with kernel veth [EINVAL]", "hint: use a value in 68..65521"],
        ),
        (
            ("link", "add", "vtrx", "type", "veth", "peer", "address", "01:00:00:00:00:00"),
            [
                "Error: end b: address 01:00:00:00:00:00 is not a unicast address [EADDRNOTAVAIL]",
                "hint: the lowest bit of the first byte must be 0, and not all bytes 0",
            ],
        ),
        (
            ("link", "add", "vtrx", "type", "veth", "label", "a b=c"),
            ["Error: labels.a b: must match pattern '^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$', not \"a b\""],
        ),
    ],
)
def test_what_the_daemon_refuses_ends_with_2_and_the_remedy(
    shared_daemon: Daemon, words: tuple[str, ...], lines: list[str]
) -> None:
    refused(shared_daemon.ctl(*words, check=False), 2, *lines)


def test_a_namespace_that_is_none_is_found_out_by_the_daemon(shared_daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused(
        shared_daemon.ctl("link", "show", "netns", str(tmp_path / "file"), check=False),
        2,
        "Error: netns: the file descriptor sent along is not a network namespace",
        "hint: give a name from `ip netns`, a path, or a pid",
    )


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (("link", "paint"), ['Command "paint" is unknown.', "hint: vethctl link help lists them"]),
        (
            ("link", "set", "x"),
            ["Not enough information: nothing to change.", "hint: vethctl link set help lists what can be"],
        ),
        (("link", "s"), ['Not enough information: "dev" argument is required.', "hint: name one end"]),
        (("link", "del"), ['Not enough information: "dev" argument is required.', "hint: name one end"]),
        (
            ("link", "add", "x", "type"),
            ["Command line is not complete.", "hint: vethctl link add help shows the grammar"],
        ),
        (("l", "sh", "a", "b"), ['Error: "b" is a garbage.', "hint: vethctl link show help shows the grammar"]),
        (("softnet", "show", "x"), ['Error: "x" is a garbage.', "hint: vethctl softnet show help shows the grammar"]),
        (("daemon", "restart"), ['Command "restart" is unknown.', "hint: vethctl daemon help lists them"]),
        (("config",), ["Command line is not complete.", "hint: vethctl config help lists the commands"]),
        (("completion", "sh"), ['Error: argument of "completion" must be one of "bash", "zsh", "fish", not "sh"']),
        (
            ("stats", "interval", "soon"),
            ['Error: argument "soon" is wrong: Invalid "interval" value', "hint: seconds, from 0.1 to 86400"],
        ),
        (("-x", "link"), ['Option "-x" is unknown.', "hint: vethctl -help lists the options"]),
        (("-n",), ["Command line is not complete.", "hint: vethctl -help lists the options"]),
        (
            ("-n", "vtr-none", "link"),
            [
                'Error: argument "vtr-none" is wrong: Invalid "netns" value (No such file or directory)',
                "hint: create it first: ip netns add vtr-none",
            ],
        ),
    ],
)
def test_words_without_sense_end_with_255_and_the_remedy(
    shared_daemon: Daemon, words: tuple[str, ...], lines: list[str]
) -> None:
    refused(shared_daemon.ctl(*words, check=False), 255, *lines)


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (("lunk",), ['Object "lunk" is unknown.', "hint: vethctl help lists the objects"]),
        (("link", "add", "x"), ['Not enough information: "type" argument is required', "hint: add: type veth"]),
        (
            ("link", "show", "vtr-none"),
            ['Error: Cannot find device "vtr-none"', "hint: `vethctl link show` lists the links"],
        ),
        (("config", "apply", "/nowhere"), ['Cannot open file "/nowhere" for reading: No such file or directory']),
    ],
)
def test_what_is_not_there_ends_with_1_and_the_remedy(
    shared_daemon: Daemon, words: tuple[str, ...], lines: list[str]
) -> None:
    refused(shared_daemon.ctl(*words, check=False), 1, *lines)


@pytest.mark.parametrize("option", ["-V", "-Version", "--Version"])
def test_version(option: str) -> None:
    assert run(VETHCTL, option).out == f"vethctl {vethd.__version__}\n"


# -- the socket -------------------------------------------------------------------------------------------------------


def test_the_socket_is_an_option_or_a_variable(shared_daemon: Daemon, tmp_path: Path) -> None:
    good, bad = str(shared_daemon.socket), str(tmp_path / "none")
    assert run("env", f"VETHD_SOCKET={good}", VETHCTL, "-j", "link").out == "[]\n"
    assert run("env", f"VETHD_SOCKET={bad}", VETHCTL, "-S", good, "-j", "link").out == "[]\n"
    answer = run("env", f"VETHD_SOCKET={good}", VETHCTL, "-S", bad, "link", check=False)
    refused(answer, 1, f"vethctl: {bad}: No such file or directory. Is vethd running, and is this its socket?")


def test_a_daemon_that_does_not_run(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    answer = run(VETHCTL, "-S", str(path), "link", check=False)
    refused(answer, 1, f"vethctl: {path}: Connection refused. Is vethd running, and is this its socket?")


def test_a_socket_that_is_out_of_reach(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    tmp_path.chmod(0o700)
    mortal = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
    answer = run(*mortal, VETHCTL, "-S", str(tmp_path / "sock"), "link", check=False)
    refused(answer, 1, f"vethctl: {tmp_path}/sock: Permission denied. May you enter its directory?")


# -- where the output goes --------------------------------------------------------------------------------------------


def test_a_reader_that_leaves_early_is_no_error_worth_a_word(shared_daemon: Daemon, quiet_pair: Pair) -> None:
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    for words in (["link"], ["-j", "link"], ["help"], ["-V"]):
        readable, writable = os.pipe()
        os.close(readable)
        try:
            done = subprocess.run(
                [VETHCTL, "-S", str(shared_daemon.socket), *words],
                stdout=writable,
                env=buffered,
                stderr=subprocess.PIPE,
                timeout=30,
                check=False,
            )
        finally:
            os.close(writable)
        assert (done.returncode, done.stderr) == (1, b""), words


def test_output_that_can_not_be_written_is_an_error(shared_daemon: Daemon, quiet_pair: Pair) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [VETHCTL, "-S", str(shared_daemon.socket), "link"],
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=30,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, b"vethctl: write error: No space left on device\n")
