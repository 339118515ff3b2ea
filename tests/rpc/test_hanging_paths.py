"""Paths into a file system that does not answer: only who named one waits, and not for long."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from tests.kit.daemon import Daemon
from tests.kit.hang import hanging
from tests.kit.netns import RUN_NETNS, Namespaces, fresh_name
from tests.kit.processes import open_files
from tests.kit.waiting import eventually
from tests.pairs.house import readable
from tests.rpc.talk import ANYTHING, Talk, request
from vethd.host.opening import MOST, WITHIN


@pytest.fixture
def stuck(tmp_path: Path) -> Iterator[Path]:
    """A path that nobody comes back from before the test ends."""
    with hanging(tmp_path / "fuse") as path:
        yield path


def ask(talk: Talk, path: Path, other: str, number: int = 1) -> None:
    """Ask for a pair between the namespaces at a path and of a name."""
    ends = {"a": {"ifname": fresh_name(), "netns": {"path": str(path)}}, "b": {"ifname": fresh_name(), "netns": other}}
    talk.say(request(number, "link.add", **ends, placement="inside"))


def error_of(talk: Talk) -> dict[str, Any]:
    error: dict[str, Any] = talk.hear(ANYTHING)["error"]
    return error


def test_who_names_a_path_that_hangs_is_told_so_and_nobody_else_waits(
    shared_daemon: Daemon, netns: Namespaces, stuck: Path
) -> None:
    red, before = netns.make(), len(open_files(shared_daemon.pid))
    with closing(Talk(shared_daemon.socket)) as waiting, closing(Talk(shared_daemon.socket)) as other:
        ask(waiting, stuck, red)
        for number in range(3):
            ask(other, RUN_NETNS / red, red, number)
            assert "result" in other.hear(ANYTHING)
        assert not readable(waiting.socket), "the others were served while it waits"
        error = error_of(waiting)
    assert error["message"] == f"end a: netns path '{stuck}' did not open within {WITHIN:g} s"
    assert (error["data"]["kind"], error["data"]["errno"]) == ("no_such_netns", "ETIMEDOUT")
    assert "descriptor" in error["data"]["hint"]
    shared_daemon.clear()
    shared_daemon.check_fds()
    eventually(lambda: len(open_files(shared_daemon.pid)), lambda count: count <= before + 1, "nothing stays open")


def test_paths_are_refused_while_too_many_hang_and_taken_again_after_that(
    daemon: Daemon, netns: Namespaces, tmp_path: Path
) -> None:
    red = netns.make()
    with hanging(tmp_path / "fuse") as stuck, ExitStack() as talks:
        asking = [talks.enter_context(closing(Talk(daemon.socket))) for _ in range(MOST)]
        for talk in asking:
            ask(talk, stuck, red)
        assert {error_of(talk)["data"]["kind"] for talk in asking} == {"no_such_netns"}
        ask(asking[0], RUN_NETNS / red, red)
        error = error_of(asking[0])
        assert (error["data"]["kind"], error["message"]) == (
            "limit_reached",
            f"end a: {MOST} openings of paths hang already",
        )
        assert "descriptors" in error["data"]["hint"]
        daemon.call("link.add", {"a": {"netns": red}, "b": {"netns": red}})  # by name as ever

    def taken() -> bool:
        with closing(Talk(daemon.socket)) as talk:
            ask(talk, RUN_NETNS / red, red)
            return "result" in talk.hear(ANYTHING)

    eventually(taken, bool, "the file system has gone, and all threads are back")


def test_a_daemon_with_an_opening_that_hangs_stops_as_ever(daemon: Daemon, netns: Namespaces, stuck: Path) -> None:
    with closing(Talk(daemon.socket)) as talk:
        ask(talk, stuck, netns.make())
        daemon.pairs()  # it was read by then
        daemon.stop(within=5.0)


def test_a_static_pair_at_such_a_path_does_not_hold_up_the_others(
    start_daemon: Callable[..., Daemon], netns: Namespaces, stuck: Path
) -> None:
    red = netns.make()
    ends = '[pair.{end}]\nifname = "{name}"\nnetns = "{netns}"\n'
    config = "".join(
        f'[[pair]]\nname = "{name}"\nplacement = "inside"\n'
        + ends.format(end="a", name=fresh_name(), netns=place)
        + ends.format(end="b", name=fresh_name(), netns=red)
        for name, place in (("stuck", stuck), ("well", red))
    )
    daemon = start_daemon(config=config)
    assert [pair["name"] for pair in daemon.pairs()] == ["well"]
    assert "did not open within" in daemon.log()
    os.kill(daemon.pid, signal.SIGHUP)
    eventually(lambda: daemon.log().count("did not open within"), lambda count: count >= 2, "it is tried again")
    assert [pair["name"] for pair in daemon.pairs()] == ["well"]
