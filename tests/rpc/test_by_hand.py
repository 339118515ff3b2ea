"""The control socket by hand: socat, and a person who types."""

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.kit.commands import run
from tests.kit.daemon import Daemon
from tests.rpc.talk import refused, request, result

LIST = '{"jsonrpc": "2.0", "id": 1, "method": "link.list"}'


def answers(daemon: Daemon, typed: str) -> list[object]:
    """What `socat - UNIX-CONNECT:SOCKET` prints when this is typed (or comes out of a pipe), and then nothing more."""
    out = run("socat", "-", f"UNIX-CONNECT:{daemon.socket}", given=typed).out
    assert out == "" or out.endswith("\n")
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n\n", " \n \t\n"], ids=repr)
def test_a_line_is_answered_whatever_comes_after_it(shared_daemon: Daemon, end: str) -> None:
    assert answers(shared_daemon, LIST + end) == [result(1, [])]


def test_blank_lines_are_nothing(shared_daemon: Daemon) -> None:
    assert answers(shared_daemon, f"\n\n  \n{LIST}\n\n\r\n{LIST}\n\n") == [result(1, []), result(1, [])]
    assert answers(shared_daemon, "\n") == []
    assert answers(shared_daemon, "") == []


def test_who_types_something_else_is_told_what_to_type(shared_daemon: Daemon) -> None:
    message = "not a JSON text: Expecting value: line 1 column 1 (char 0)"
    assert answers(shared_daemon, "help\n") == [
        refused(None, "parse_error", message, hint=f"one JSON text per line, in UTF-8: {LIST}")
    ]
    assert answers(shared_daemon, '"link.list"\n') == [
        refused(None, "invalid_request", "a request is an object", hint=LIST)
    ]


@pytest.fixture
def socat(shared_daemon: Daemon) -> Iterator["subprocess.Popen[str]"]:
    """socat between two pipes and the shared daemon."""
    command = ["socat", "-", f"UNIX-CONNECT:{shared_daemon.socket}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_each_line_is_answered_before_the_next_is_typed(socat: "subprocess.Popen[str]") -> None:
    assert socat.stdin is not None
    assert socat.stdout is not None
    for n in range(3):
        socat.stdin.write(json.dumps(request(n, "link.list")) + "\n")
        socat.stdin.flush()
        assert json.loads(socat.stdout.readline()) == result(n, [])
    socat.stdin.write("oops\n")
    socat.stdin.flush()
    assert json.loads(socat.stdout.readline()) == refused(None, "parse_error")
    socat.stdin.close()
    assert socat.wait(10) == 0
