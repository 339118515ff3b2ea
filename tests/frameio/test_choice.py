"""choice.py: which frame I/O a worker gets on which kind of machine, and the reason it names."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.frameio.ways import WAYS
from vethd.datapath import speed
from vethd.datapath.softnet import SoftnetData
from vethd.frameio.choice import choose, refusal

CHOOSE = """
from vethd.datapath.softnet import SoftnetData
from vethd.frameio.choice import choose
frameio, why = choose("auto", SoftnetData())
print(f"{frameio.name}: {why}")
frameio.close()
"""


SPEEDS = "from vethd.datapath import speed; from vethd.frameio import syscalls; print(speed(), syscalls.compiled())"


def python(
    *arguments: str, before: Callable[[], None] | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """What a Python process of its own says; `before` runs in it first."""
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | dict(env or {}),
        preexec_fn=before,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("extensions", [True, False], ids=["with extensions", "without"])
def test_batches_are_compiled_just_where_the_datapath_is(extensions: bool) -> None:
    said = python("-c", SPEEDS, env={} if extensions else {"VETHD_NO_EXTENSIONS": "1"}).stdout
    assert ("cyfunction read_batch" in said) == said.startswith("compiled ")
    assert extensions or said == "interpreted None\n"


def test_syscalls_are_taken_when_asked_for() -> None:
    frameio, why = choose("syscalls", SoftnetData())
    assert (frameio.name, why) == ("syscalls", "syscalls as configured")


def test_an_interpreted_datapath_has_syscalls() -> None:
    said = python("-c", CHOOSE, env={"VETHD_NO_EXTENSIONS": "1"}).stdout
    assert said == "syscalls: no io_uring: the datapath is interpreted\n"


def test_io_uring_needs_no_locked_memory() -> None:
    """Workers are users without rights, and a service manager may allow them none."""

    def no_locked_memory() -> None:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))

    said = python("-c", CHOOSE, before=no_locked_memory)
    assert said.stdout == python("-c", CHOOSE).stdout
    assert said.stdout.startswith("uring: ") == ("uring" in WAYS)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (errno.EPERM, "forbidden by seccomp or a security module"),
        (errno.ENOSYS, "the kernel has none, or a seccomp filter says so"),
    ],
    ids=errno.errorcode.get,
)
def test_where_io_uring_is_forbidden_auto_is_syscalls_and_uring_fails(error: int, reason: str) -> None:
    if speed() == "interpreted" or "uring" not in WAYS:
        reason = choose("auto", SoftnetData())[1].removeprefix("no io_uring: ")
    auto, uring = (python("-m", "tests.frameio.without_io_uring", str(error), wanted) for wanted in ("auto", "uring"))
    assert (auto.stdout, auto.returncode) == (f"syscalls: no io_uring: {reason}\n", 0)
    assert (uring.stderr, uring.returncode) == (f"{reason}\n", 1)


@pytest.mark.parametrize(
    ("value", "reason"),
    [("0", "forbidden by seccomp or a security module"), ("1", "kernel.io_uring_disabled is 1")],
)
def test_the_sysctl_is_named_when_it_forbids(tmp_path: Path, value: str, reason: str) -> None:
    sysctl = tmp_path / "io_uring_disabled"
    sysctl.write_text(f"{value}\n")
    assert refusal(OSError(errno.EPERM, "no"), sysctl) == reason


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (errno.EINVAL, "the kernel is older than 5.19 (register: Invalid argument)"),
        (errno.ENOMEM, "register: Cannot allocate memory"),
    ],
    ids=errno.errorcode.get,
)
def test_other_refusals_are_shown_as_they_are(error: int, reason: str) -> None:
    assert refusal(OSError(error, f"register: {os.strerror(error)}")) == reason
