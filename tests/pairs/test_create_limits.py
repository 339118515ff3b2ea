"""newlink when the machine has no more to give: descriptors, /dev/net/tun. The error says what to do; nothing stays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.kit import daemon as kit_daemon
from tests.kit.commands import run
from tests.kit.daemon import Daemon
from tests.kit.limits import free_descriptors
from tests.kit.links import all_links
from tests.kit.processes import open_files
from tests.kit.rpc import RpcError

PLACEMENTS = ["move", "inside"]


def ask(daemon: Daemon, two: tuple[str, str], placement: str) -> dict[str, Any] | RpcError:
    """Ask for a pair, both ends up; the answer or the refusal."""
    a, b = ({"netns": name, "up": True} for name in two)
    try:
        made: dict[str, Any] = daemon.call("link.add", {"a": a, "b": b, "placement": placement})
    except RpcError as refused:
        return refused
    return made


def holds(daemon: Daemon, two: tuple[str, str]) -> dict[str, Any]:
    """What a failed newlink could leave behind, seen from outside."""
    return {
        "devices": [sorted(all_links(name)) for name in two],
        "descriptors": sorted(target.partition(":[")[0] for target in open_files(daemon.pid)),
        "pairs": daemon.pairs(),
        "pairs of workers": [worker["pairs"] for worker in daemon.call("daemon.info")["workers"]],
    }


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_descriptors_that_run_out_at_any_moment_are_a_clear_limit(
    daemon: Daemon, two: tuple[str, str], placement: str
) -> None:
    """With none free, with one, with two ... until there are enough; nothing stays, and then it works."""
    daemon.expected_errors.append("carrier not set, trying again")
    assert isinstance(ask(daemon, two, placement), dict)
    daemon.clear()
    daemon.check_fds()
    before = holds(daemon, two)
    refusals: list[RpcError] = []
    for count in range(60):
        with free_descriptors(daemon.pid, count):
            answer = ask(daemon, two, placement)
        if not isinstance(answer, RpcError):
            break
        refusals.append(answer)
        assert answer.kind == "limit_reached", answer
        assert answer.message.startswith(("end a: ", "end b: "))
        assert "LimitNOFILE" in answer.data["hint"]
        assert answer.data["errno"] == "EMFILE"
        assert holds(daemon, two) == before, f"{answer} left something behind"
    assert len(refusals) >= 5, "one for each step that opens something"
    assert len(daemon.pairs()) == 1, "with enough of them it works"


def test_a_deletion_needs_no_descriptor(daemon: Daemon, two: tuple[str, str]) -> None:
    made = ask(daemon, two, "move")
    assert isinstance(made, dict)
    with free_descriptors(daemon.pid, 0):
        daemon.call("link.del", {"pair": made["pair"]})
        assert [sorted(all_links(name)) for name in two] == [["lo"], ["lo"]]
        assert daemon.pairs() == []


@dataclass(frozen=True)
class Node:
    """What stands at /dev/net/tun: how to put it there, and what the daemon says of it."""

    make: str
    complaint: str
    hint: str


NODES = {
    "nothing": Node("true", "No such file or directory", "load the tun module"),
    "a device that no driver serves": Node("mknod /dev/net/tun c 10 254", "No such device", "modprobe tun"),
    "a file": Node("touch /dev/net/tun", "Inappropriate ioctl for device", "remove it, then mknod"),
}


@pytest.fixture
def start_without_tun(
    start_daemon: Callable[..., Daemon], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Daemon]:
    """A function that starts a daemon in a mount namespace of its own, with its own /dev/net."""

    def start(make: str) -> Daemon:
        program = tmp_path / "vethd"
        program.write_text(
            f"#!/bin/sh\nexec unshare --mount sh -ec 'mount -t tmpfs vtp /dev/net; {make}; exec \"$@\"' sh"
            f' "{kit_daemon.PROGRAMS}/vethd" "$@"\n'
        )
        program.chmod(0o755)
        monkeypatch.setattr(kit_daemon, "PROGRAMS", tmp_path)
        return start_daemon()

    return start


@pytest.mark.parametrize("what", NODES)
def test_without_the_tun_device_the_remedy_is_named(
    start_without_tun: Callable[[str], Daemon], two: tuple[str, str], what: str
) -> None:
    node = NODES[what]
    daemon = start_without_tun(node.make)
    assert daemon.pairs() == []
    before = holds(daemon, two)
    for placement in PLACEMENTS:
        refused = ask(daemon, two, placement)
        assert isinstance(refused, RpcError)
        assert refused.kind == "tun_missing"
        assert refused.message == f"end b: creating it: /dev/net/tun: {node.complaint}"
        assert node.hint in refused.data["hint"]
        assert holds(daemon, two) == before
    run("nsenter", "--mount", f"--target={daemon.pid}", "umount", "/dev/net")
    assert isinstance(ask(daemon, two, "move"), dict), "the daemon needs no restart once the device is there"
