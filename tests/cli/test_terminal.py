"""vethctl on a terminal."""

import os
import socket
from collections.abc import Sequence
from pathlib import Path

from tests.kit.daemon import PROGRAMS, Daemon
from tests.kit.pairs import Pair
from tests.kit.terminal import on_terminal

VETHCTL = str(PROGRAMS / "vethctl")


def printed(daemon: Daemon, *words: str, **variables: str) -> str:
    """What vethctl prints on a terminal, with the line ends of a file."""
    env = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | variables
    with on_terminal([VETHCTL, "-S", str(daemon.socket), *words], env) as terminal:
        text = terminal.read_all()
        assert terminal.process.wait(10) == 0
    return text.replace("\r\n", "\n")


def without(text: str, colors: Sequence[int]) -> str:
    for color in colors:
        text = text.replace(f"\033[{color}m", "")
    return text


def test_colours_are_for_terminals(shared_daemon: Daemon, pair: Pair) -> None:
    plain = shared_daemon.ctl("link").out
    colored = printed(shared_daemon, "link")
    assert "\033" not in plain
    assert f"\033[36m{pair.a.name}\033[0m" in colored
    assert "\033[32mUP\033[0m" in colored
    assert without(colored, (0, 32, 33, 36)) == plain


def test_json_and_who_wants_no_colour_get_none(shared_daemon: Daemon, pair: Pair) -> None:
    assert printed(shared_daemon, "-j", "link") == shared_daemon.ctl("-j", "link").out
    assert printed(shared_daemon, "link", NO_COLOR="1") == shared_daemon.ctl("link").out


def test_an_interrupt_ends_it_without_a_traceback(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "sock"))
        silent.listen()
        with on_terminal([VETHCTL, "-S", str(tmp_path / "sock"), "link"]) as terminal:
            connection, _address = silent.accept()
            with connection:
                assert connection.recv(1 << 16)  # it has asked, and waits
                terminal.interrupt()
                text = terminal.read_all()
            assert terminal.process.wait(10) == 130
    assert text.replace("^C", "").strip() == ""
