"""vethctl top on a real terminal, with a real daemon."""

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.kit.commands import ip, start
from tests.kit.daemon import PROGRAMS, Daemon
from tests.kit.netns import Namespaces
from tests.kit.pairs import Pair, make_pair
from tests.kit.terminal import Terminal, on_terminal

LEAVES = "\033[?1049l"  # the alternate screen
SHOWS_CURSOR = "\033[?25h"


@contextmanager
def top(daemon: Daemon, *words: str, columns: int = 80, lines: int = 24) -> Iterator[Terminal]:
    """vethctl top, ten times a second, once it shows rates."""
    command = [str(PROGRAMS / "vethctl"), "-S", str(daemon.socket), "top", "interval", "0.1", *words]
    env = {"PATH": os.environ["PATH"], "TERM": "xterm", "LANG": "C.UTF-8"}
    with on_terminal(command, env, columns, lines) as terminal:
        terminal.see(lambda screen: screen[0].startswith("vethctl top ") and re.search("[▁-█]", str(screen)), "rates")
        yield terminal


def ended(terminal: Terminal, code: int) -> None:
    """It must have ended with this status and left the terminal as it was."""
    text = terminal.read_all()
    assert terminal.process.wait(10) == code
    assert LEAVES in text
    assert SHOWS_CURSOR in text[text.rindex("\033[?25l") :]
    assert "Traceback" not in text


def rows(screen: list[str]) -> list[str]:
    """The lines of links."""
    heads = [at for at, line in enumerate(screen) if line.startswith("netns/link")]
    return [line for line in screen[heads[0] + 1 : -1] if line] if heads else []


@contextmanager
def pinging(pair: Pair, *words: str) -> Iterator[None]:
    """A hundred frames a second from a to b."""
    with start(pair.a.netns, ["ping", "-q", "-i", "0.01", *words, "192.0.2.2"]) as process:
        try:
            yield
        finally:
            process.terminate()


@pytest.fixture
def many(shared_daemon: Daemon, netns: Namespaces) -> list[str]:
    """Twelve pairs, down; the labels of their ends, sorted."""
    red = netns.make()
    for number in range(12):
        name = {"ifname": f"vtp{number:02}a"}, {"ifname": f"vtp{number:02}b"}
        make_pair(shared_daemon, red, red, up=False, placement="inside", a=name[0], b=name[1])
    return [f"{red}/vtp{number:02}{letter}" for number in range(12) for letter in "ab"]


def test_rates_drops_and_history_of_a_pair_in_use(shared_daemon: Daemon, pair: Pair) -> None:
    for side, address in ((pair.a, "192.0.2.1/24"), (pair.b, "192.0.2.2/24")):
        ip(side.netns, "address", "add", address, "dev", side.name)
    ip(pair.b.netns, "link", "set", pair.b.name, "mtu", "1000")
    with pinging(pair), pinging(pair, "-s", "1200"), top(shared_daemon) as terminal:
        number = r" +\d\S*"
        end = re.escape(f"{pair.a.netns}/{pair.a.name}")
        busy = re.compile(rf"{end}{number * 5} +[▁-█]*█[▁-█]* [\d.]+k? PKT_TOO_BIG")
        screen = terminal.see(lambda lines: any(map(busy.match, lines)), "rates and the drop point")
        assert re.match(rf"worker 0  pid {shared_daemon.workers()[0]}  backlog \d+  \d", screen[1])
        assert screen[-1].startswith("1-2 of 2 links  q quit")
        terminal.type("q")
        ended(terminal, 0)


def test_more_links_than_fit(shared_daemon: Daemon, many: list[str]) -> None:
    with top(shared_daemon) as terminal:
        screen = terminal.see(lambda lines: lines[-1].startswith("1-20 of 24 links, 4 hidden"), "what is hidden")
        assert [line.split()[0] for line in rows(screen)] == many[:20]
        assert max(map(len, screen)) <= 80
        for keys, first in (("j", 2), ("\033[B\033[B", 4), ("jjjj", 5), ("k", 4), ("\033[A", 3), ("\033[5~", 1)):
            terminal.type(keys)
            seen = terminal.see(lambda lines, first=first: lines[-1].startswith(f"{first}-"), f"from {first}")  # type: ignore[misc]
            assert [line.split()[0] for line in rows(seen)] == many[first - 1 : first + 19]
        terminal.type("\033[6~")
        terminal.see(lambda lines: lines[-1].startswith("5-24 of 24 links, 4 hidden"), "the last page")
        terminal.resize(50, 10)
        terminal.see(lambda lines: len(rows(lines)) == 6 and "of 24 links, 18 hidden" in lines[-1], "a small terminal")
        terminal.resize(120, 40)
        terminal.see(lambda lines: lines[-1].startswith("1-24 of 24 links  q quit"), "a large terminal")
        terminal.type("q")
        ended(terminal, 0)


def test_sorting_and_pausing(shared_daemon: Daemon, many: list[str]) -> None:
    with top(shared_daemon) as terminal:
        for key in ("packets/s", "drops/s", "name", "bit/s"):
            terminal.type("s")
            terminal.see(lambda lines, key=key: lines[0].endswith(f"by {key}"), f"sorted by {key}")  # type: ignore[misc]
        terminal.type("p")
        terminal.see(lambda lines: lines[0].endswith("PAUSED"), "paused")
        shared_daemon.clear()
        terminal.type("j")  # it is drawn again
        screen = terminal.see(lambda lines: lines[-1].startswith("2-21 of 24"), "the links of before")
        assert "links 24" in screen[0]
        terminal.type("p")
        terminal.see(lambda lines: "links 0 " in lines[0] and lines[-1].startswith("no links"), "the present")
        terminal.type("\x1a?x\033[Zq")  # nothing but the q has a meaning
        ended(terminal, 0)


def test_one_namespace_or_end(shared_daemon: Daemon, netns: Namespaces) -> None:
    pair = make_pair(shared_daemon, netns.make(), netns.make(), up=False, placement="inside")
    for words in (["netns", pair.b.netns], [pair.b.name]):
        with top(shared_daemon, *words) as terminal:
            screen = terminal.see(lambda lines: lines[-1].startswith("1-1 of 1 links"), "one end")
            assert rows(screen)[0].startswith(f"{pair.b.netns}/{pair.b.name} ")
            terminal.type("q")
            ended(terminal, 0)


def control_c(terminal: Terminal) -> None:
    terminal.type("\x03")


def terminate(terminal: Terminal) -> None:
    terminal.process.terminate()


@pytest.mark.parametrize(("end", "code"), [(control_c, 130), (terminate, 143)])
def test_every_way_out_restores_the_terminal(
    shared_daemon: Daemon, many: list[str], end: Callable[[Terminal], None], code: int
) -> None:
    with top(shared_daemon) as terminal:
        end(terminal)
        ended(terminal, code)


def test_the_modes_of_the_terminal_come_back(shared_daemon: Daemon, many: list[str]) -> None:
    """A shell around it keeps the terminal open, so that its modes can be looked at."""
    command = f"{PROGRAMS}/vethctl -S {shared_daemon.socket} top interval 0.1; echo status $?; read line"
    with on_terminal(["sh", "-c", command]) as terminal:
        before = terminal.modes()
        terminal.see(lambda screen: screen[0].startswith("vethctl top "), "top")
        assert terminal.modes() != before
        terminal.type("q")
        terminal.read_until("status 0")
        assert terminal.modes() == before


def test_a_terminal_that_goes_away(shared_daemon: Daemon, many: list[str]) -> None:
    with top(shared_daemon) as terminal:
        terminal.hang_up()
        assert terminal.process.wait(10) != 0


def test_a_daemon_that_goes_away_and_comes_back(daemon: Daemon, netns: Namespaces) -> None:
    make_pair(daemon, netns.make(), netns.make(), up=False, placement="inside")
    with top(daemon) as terminal:
        daemon.stop()
        terminal.see(lambda lines: lines[-1].startswith("the daemon is gone, reconnecting"), "that it is gone")
        daemon.start()
        terminal.see(lambda lines: lines[-1].startswith("no links"), "the new daemon")
        os.kill(daemon.pid, signal.SIGSTOP)
        try:
            terminal.see(lambda lines: lines[-1].startswith("no answer for "), "that it does not answer")
            terminal.type("q")
            ended(terminal, 0)
        finally:
            os.kill(daemon.pid, signal.SIGCONT)


def test_what_is_wrong_is_said_before_the_screen_changes(shared_daemon: Daemon) -> None:
    command = [str(PROGRAMS / "vethctl"), "-S", str(shared_daemon.socket), "top", "vtr-none"]
    with on_terminal(command) as terminal:
        text = terminal.read_all()
        assert terminal.process.wait(10) == 1
    assert text.startswith('Error: Cannot find device "vtr-none"')


def test_without_a_terminal_it_prints_once(shared_daemon: Daemon, many: list[str]) -> None:
    worker, head, *lines = shared_daemon.ctl("top", "interval", "0.1").out.splitlines()
    assert worker.startswith("worker 0  pid ")
    assert head.split()[:2] == ["netns", "link"]
    assert ["/".join(line.split()[:2]) for line in lines] == many
    assert lines[0].split()[2:] == ["0", "0", "0", "0", "0", "-"]
    answer = json.loads(shared_daemon.ctl("-j", "top", "interval", "0.1").out)
    assert answer["interval"] >= 0.1
    assert len(answer["links"]) == 24
    assert answer["links"][0]["rx_packets"] == 0
    assert answer["workers"][0]["backlog"] == 0
