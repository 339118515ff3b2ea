"""Batches: what a file of commands means, and where it stops."""

import io
import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.cli.outcome import refused
from tests.kit.commands import Answer, run
from tests.kit.daemon import PROGRAMS, Daemon
from tests.kit.netns import Namespaces, fresh_name
from vethd.cli.batch import joined, split
from vethd.cli.grammar import UsageError

VETHCTL = str(PROGRAMS / "vethctl")


def batch(daemon: Daemon, text: str, *options: str) -> Answer:
    """Run the lines by `vethctl -b -`."""
    return run(VETHCTL, "-S", str(daemon.socket), *options, "-b", "-", given=text, check=False)


# -- lines and words --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "link show vtr1\nlink show vtr2\n",
        "# a comment\n\n  \t\nlink show vtr1 # and another\n#\nlink show vtr2#\n",
        "link \\\nshow \\\n\\\nvtr1\nlink show vtr2\\\nx",
        "link show vtr1\\ # no continuation\nlink show vtr2",
        "link show 'vtr 1'\nlink show \"vtr '2\"\nlink 'show'vtr3\n",
        "link show vtr1'\nlink show v\"tr2\"\nlink show vtr#'3'\n",
        "\tlink\tshow\rvtr1\r\nlink show vtr2\x0b3\n",
    ],
)
def test_a_file_means_what_it_means_to_ip(text: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(text.encode())
    told = run("ip", "-force", "-batch", str(path), check=False).err
    missing = re.findall(r'Device "(.*)" does not exist\.\nCommand failed .*:(\d+)', told)
    lines = [(number, split(line)) for number, line in joined(io.StringIO(text, newline="\n")) if line is not None]
    assert [(words[2], str(number)) for number, words in lines if words] == missing
    assert len(missing) > 1
    assert all(words[:2] == ["link", "show"] and len(words) == 3 for _number, words in lines if words)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", []),
        (" \t\r\n", []),
        ("a  b\tc\r\n", ["a", "b", "c"]),
        ("'a b' \"c 'd\" e", ["a b", "c 'd", "e"]),
        ("a'b c' ''", ["a'b", "c'", ""]),
        ("'a'b", ["a", "b"]),
        ("\u00a0a\x0bb", ["\u00a0a\x0bb"]),
    ],
)
def test_words(line: str, words: list[str]) -> None:
    assert split(line) == words


def test_a_quote_that_nothing_ends() -> None:
    with pytest.raises(UsageError, match="Unterminated quoted string"):
        split("link show 'a b")


def test_a_line_that_is_continued_by_nothing() -> None:
    assert list(joined(["a\n", "b\\\n"])) == [(1, "a\n"), (2, None)]


# -- with a daemon ----------------------------------------------------------------------------------------------------


def test_many_commands_over_one_connection(shared_daemon: Daemon, netns: Namespaces) -> None:
    red, name, other = netns.make(), fresh_name(), fresh_name()
    before = shared_daemon.log().count("uid 0, gid 0, pid")
    answer = batch(
        shared_daemon,
        f"""
        # two pairs
        link add {name} netns {red} type veth placement inside label 'site=lab 1' \\
            peer name {name}p netns {red}
        link add {other} netns {red} type veth placement inside peer name {other}p netns {red}
        link show netns {red}
        link del {name} netns {red}  # one of them
        """,
        "-j",
    )
    assert (answer.code, answer.err) == (0, "")
    *added, shown = map(json.loads, answer.out.splitlines())
    assert [row["ifname"] for row in shown] == [name, f"{name}p", other, f"{other}p"]
    assert [row["ifname"] for rows in added for row in rows] == [row["ifname"] for row in shown]
    assert shown[0]["labels"] == {"site": "lab 1"}
    logged = shared_daemon.log().split("uid 0, gid 0, pid")[before + 1 :]
    assert len({line.split('"')[0].strip() for line in logged}) == 1
    (pair,) = shared_daemon.pairs()
    assert pair["a"]["ifname"] == other


def test_the_first_error_ends_it_with_its_line(shared_daemon: Daemon) -> None:
    text = "softnet\n\nlink show vtr-none\nsoftnet\n"
    answer = batch(shared_daemon, text)
    assert answer.code == 1
    assert answer.out.count("time_squeeze") == 1
    assert answer.err.splitlines() == [
        'Error: Cannot find device "vtr-none"',
        "hint: `vethctl link show` lists the links",
        "Command failed -:3",
    ]


def test_with_force_it_goes_on_and_the_status_is_ips(shared_daemon: Daemon) -> None:
    text = "lunk\nlink show vtr-none\nlink show 'a\nsoftnet\nlink \\\n"
    answer = batch(shared_daemon, text, "-force")
    assert answer.code == 255
    assert answer.out.count("time_squeeze") == 1
    failed = [line for line in answer.err.splitlines() if line.startswith("Command failed")]
    assert failed == [f"Command failed -:{number}" for number in (1, 2, 3, 5)]
    for line, status in (("lunk", 1), ("link paint", 255), ("link add v mtu 5 type veth", 1)):
        assert batch(shared_daemon, f"{line}\nsoftnet\n", "-f").code == status, line
        assert batch(shared_daemon, f"{line}\nsoftnet\n").code == status, line


def test_option_n_holds_for_all_lines(shared_daemon: Daemon, netns: Namespaces) -> None:
    red, name = netns.make(), fresh_name()
    text = f"link add {name} type veth peer {name}p\nlink show\nlink del {name}\n"
    answer = batch(shared_daemon, text.replace("type veth", "type veth placement inside"), "-n", red)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.count(f" netns {red}\n    link/ether") == 2


def test_a_file_is_read_by_its_name(shared_daemon: Daemon, tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"link show \xff\xfe\n")
    refused(
        shared_daemon.ctl("-b", str(path), check=False),
        1,
        r'Error: Cannot find device "\udcff\udcfe"',
        "hint: `vethctl link show` lists the links",
        f"Command failed {path}:1",
    )
    refused(
        shared_daemon.ctl("-batch", f"{path}x", check=False),
        1,
        f'Cannot open file "{path}x" for reading: No such file or directory',
    )
    refused(
        shared_daemon.ctl("-b", str(path), "link", check=False),
        255,
        'Error: "link" is a garbage.',
        "hint: with -b, the commands stand in the file",
    )


def test_each_line_is_done_when_it_comes(shared_daemon: Daemon) -> None:
    """What a program behind a pipe asks for is answered before it asks for more."""
    with subprocess.Popen(
        [VETHCTL, "-S", str(shared_daemon.socket), "-j", "-b", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(2):
            process.stdin.write("link show\n")
            process.stdin.flush()
            assert process.stdout.readline() == "[]\n"
        process.stdin.close()
        assert process.wait(10) == 0
