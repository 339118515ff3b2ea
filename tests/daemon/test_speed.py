"""Which datapath and which frame I/O run is chosen by the environment and told by daemon.info."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.daemon import program
from tests.frameio.ways import WAYS
from tests.kit.daemon import Daemon
from tests.kit.seccomp import without_io_uring
from vethd.datapath import compiled, speed
from vethd.worker import counters, loop


def test_the_workers_run_what_the_tests_run(shared_daemon: Daemon) -> None:
    """So a run of the whole suite at one speed really tests that speed."""
    assert {row["datapath"] for row in shared_daemon.call("daemon.info")["workers"]} == {speed()}


@pytest.mark.parametrize(
    ("variable", "datapath", "why"),
    [
        ("VETHD_NO_EXTENSIONS", "interpreted", "VETHD_NO_EXTENSIONS is set"),
        ("VETHD_REQUIRE_EXTENSIONS", "compiled", "extensions are built"),
    ],
)
def test_the_environment_chooses(
    start_daemon: Callable[..., Daemon], monkeypatch: pytest.MonkeyPatch, variable: str, datapath: str, why: str
) -> None:
    for name in ("VETHD_NO_EXTENSIONS", "VETHD_REQUIRE_EXTENSIONS", "VETHD_FRAMEIO"):
        monkeypatch.delenv(name, raising=False)
    daemon = start_daemon(env={variable: "1"})
    workers = daemon.call("daemon.info")["workers"]
    assert [(row["datapath"], row["why"].partition("; ")[0]) for row in workers] == [(datapath, why)]


def test_the_workers_read_and_write_as_the_tests_were_told(shared_daemon: Daemon) -> None:
    """So a run of the whole suite with one frame I/O really tests that one."""
    told = os.environ.get("VETHD_FRAMEIO", "auto")
    expected = told if told != "auto" else "uring" if "uring" in WAYS else "syscalls"
    assert {row["frameio"] for row in shared_daemon.call("daemon.info")["workers"]} == {expected}


@pytest.mark.parametrize("frameio", ["syscalls", "uring"] if "uring" in WAYS else ["syscalls"])
def test_the_environment_chooses_the_frame_io(start_daemon: Callable[..., Daemon], frameio: str) -> None:
    workers = start_daemon(env={"VETHD_FRAMEIO": frameio}).call("daemon.info")["workers"]
    assert [row["frameio"] for row in workers] == [frameio]


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS], ids=errno.errorcode.get)
def test_where_io_uring_is_forbidden_workers_say_why_they_use_system_calls(
    start_daemon: Callable[..., Daemon], error: int
) -> None:
    daemon = start_daemon(env={"VETHD_FRAMEIO": "auto"}, prefix=without_io_uring(error))
    (row,) = daemon.call("daemon.info")["workers"]
    assert (row["frameio"], "; no io_uring: " in row["why"]) == ("syscalls", True)
    (line,) = [line for line in daemon.log().splitlines() if "worker serves" in line]
    assert row["why"] in line


@pytest.mark.parametrize(
    ("prefix", "environment", "reason"),
    [
        ((), {"VETHD_NO_EXTENSIONS": "1"}, "the datapath is interpreted (unset VETHD_NO_EXTENSIONS"),
        (without_io_uring(errno.EPERM), {}, "forbidden by seccomp or a security module (let the seccomp profile allow"),
    ],
    ids=["interpreted", "seccomp"],
)
def test_a_frame_io_that_is_insisted_on_and_impossible_stops_the_daemon(
    tmp_path: Path, prefix: Sequence[str], environment: dict[str, str], reason: str
) -> None:
    if "uring" not in WAYS:
        reason = "the datapath is interpreted ("
    sets = [f"{name}={value}" for name, value in environment.items()]
    words = ["env", "VETHD_REQUIRE_EXTENSIONS=", "VETHD_FRAMEIO=uring", *sets, *prefix]
    answer = program.vethd("--socket", tmp_path / "sock", prefix=words)
    last = answer.err.splitlines()[-1]
    assert (answer.code, answer.out) == (1, "")
    assert last.startswith(f"vethd: worker 0 does not start: frameio is 'uring', but {reason}")
    assert last.endswith("; or set worker.frameio (or $VETHD_FRAMEIO) to 'auto')")
    assert "Traceback" not in answer.err


def test_the_loop_is_compiled_just_where_the_datapath_is() -> None:
    assert compiled(loop, counters) == (speed() == "compiled")
