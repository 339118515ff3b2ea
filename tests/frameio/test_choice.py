"""choice.py: which frame I/O a worker gets on which kind of machine, and the reason it names."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from tests.frameio.ways import WAYS
from tests.kit.seccomp import without_io_uring
from vethd.datapath import speed
from vethd.datapath.softnet import SoftnetData
from vethd.frameio import choice
from vethd.frameio.base import FrameIO
from vethd.frameio.choice import FrameIOUnavailable, Wanted, build_remedy, choose, refusal
from vethd.frameio.syscalls import Syscalls

CHOOSE = """
import sys
from vethd.datapath.softnet import SoftnetData
from vethd.frameio.choice import FrameIOUnavailable, choose
try:
    frameio, why = choose(sys.argv[1], SoftnetData())
except FrameIOUnavailable as error:
    sys.exit(f"{error} ({error.remedy})")
print(f"{frameio.name}: {why}")
frameio.close()
"""
ALLOW = "let the seccomp profile allow io_uring_setup, io_uring_enter and io_uring_register"

SPEEDS = "from vethd.datapath import speed; from vethd.frameio import syscalls; print(speed(), syscalls.compiled())"


def python(
    *arguments: str,
    prefix: Sequence[str] = (),
    before: Callable[[], None] | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """What a Python process of its own says; `before` runs in it first."""
    return subprocess.run(
        [*prefix, sys.executable, *arguments],
        env=os.environ | {"VETHD_REQUIRE_EXTENSIONS": ""} | dict(env or {}),
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
    said = python("-c", CHOOSE, "auto", env={"VETHD_NO_EXTENSIONS": "1"}).stdout
    assert said == "syscalls: no io_uring: the datapath is interpreted\n"


def test_io_uring_needs_no_locked_memory() -> None:
    """Workers are users without rights, and a service manager may allow them none."""

    def no_locked_memory() -> None:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))

    said = python("-c", CHOOSE, "auto", before=no_locked_memory)
    assert said.stdout == python("-c", CHOOSE, "auto").stdout
    assert said.stdout.startswith("uring: ") == ("uring" in WAYS)


@pytest.mark.parametrize(
    ("error", "reason", "remedy"),
    [
        (errno.EPERM, "forbidden by seccomp or a security module", ALLOW),
        (
            errno.ENOSYS,
            "the kernel has none, or a seccomp filter says so",
            f"take a kernel with CONFIG_IO_URING, or {ALLOW}",
        ),
    ],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else "",
)
def test_where_io_uring_is_forbidden_auto_is_syscalls_and_uring_fails(error: int, reason: str, remedy: str) -> None:
    if "uring" not in WAYS:
        with pytest.raises(FrameIOUnavailable) as caught:
            choose("uring", SoftnetData())
        reason, remedy = str(caught.value), caught.value.remedy
    auto, uring = (python("-c", CHOOSE, wanted, prefix=without_io_uring(error)) for wanted in ("auto", "uring"))
    assert (auto.stdout, auto.returncode) == (f"syscalls: no io_uring: {reason}\n", 0)
    assert (uring.stderr, uring.returncode) == (f"{reason} ({remedy})\n", 1)


def test_a_module_that_does_not_load_is_no_error(tmp_path: Path) -> None:
    """Such as one whose liburing was removed."""
    load = f"import sys; sys.modules['vethd.frameio.uring'] = None{CHOOSE}"
    auto, uring = (python("-c", load, wanted) for wanted in ("auto", "uring"))
    reason = "the datapath is interpreted" if speed() == "interpreted" else "its module does not load ("
    assert auto.stdout.startswith(f"syscalls: no io_uring: {reason}")
    assert uring.stderr.startswith(reason)
    assert uring.stderr.endswith(f"({build_remedy()})\n")


class RingWithoutMultishot:
    """In place of the module, on a kernel before 6.7."""

    @staticmethod
    def Uring(softnet: SoftnetData) -> FrameIO:  # noqa: N802 - the name of the class that it stands for
        return WAYS.get("uring without multishot", _StandIn)(softnet)


class _StandIn(Syscalls):
    """Where there is no ring at all: what `choose` looks at."""

    multishot = False
    name = "uring"


@pytest.mark.parametrize(
    ("wanted", "name", "why"),
    [
        ("auto", "syscalls", "io_uring has no multishot reads before Linux 6.7, and without them is no faster"),
        ("uring", "uring", "io_uring with plain reads"),
    ],
)
def test_without_multishot_reads_io_uring_is_only_used_when_insisted_on(
    monkeypatch: pytest.MonkeyPatch, wanted: Wanted, name: str, why: str
) -> None:
    monkeypatch.setattr(choice, "_uring", RingWithoutMultishot)
    frameio, said = choose(wanted, SoftnetData())
    frameio.close()
    assert (frameio.name, said) == (name, why)


@pytest.mark.parametrize(
    ("error", "sysctl", "reason", "remedy"),
    [
        (errno.EPERM, "0\n", "forbidden by seccomp or a security module", ALLOW),
        (errno.EACCES, "0\n", "forbidden by seccomp or a security module", ALLOW),
        (errno.EPERM, None, "forbidden by seccomp or a security module", ALLOW),
        (errno.EPERM, "1\n", "kernel.io_uring_disabled is 1", "sysctl -w kernel.io_uring_disabled=0"),
        (errno.EPERM, "2\n", "kernel.io_uring_disabled is 2", "sysctl -w kernel.io_uring_disabled=0"),
        (errno.EINVAL, "0\n", "the kernel is older than 5.19 (register: Invalid argument)", "take a later kernel"),
        (
            errno.ENOMEM,
            "0\n",
            "register: Cannot allocate memory",
            "allow more locked memory (LimitMEMLOCK=, ulimit -l)",
        ),
        (errno.EMFILE, "0\n", "register: Too many open files", "see `dmesg`"),
    ],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else "",
)
def test_a_refusal_is_told_with_its_remedy(
    tmp_path: Path, error: int, sysctl: str | None, reason: str, remedy: str
) -> None:
    disabled = tmp_path / "io_uring_disabled"
    if sysctl is not None:
        disabled.write_text(sysctl)
    refused = refusal(OSError(error, f"register: {os.strerror(error)}"), disabled)
    assert (str(refused), refused.remedy) == (reason, remedy)


def test_a_kernel_that_refuses_the_best_ring_is_asked_for_the_next() -> None:
    unknown = 1 << 31  # a flag of io_uring_setup that no kernel knows
    if "uring" not in WAYS:
        assert choose("auto", SoftnetData())[0].name == "syscalls"
        return
    from vethd.frameio.ring import SETUPS
    from vethd.frameio.uring import Uring

    ring = Uring(SoftnetData(), setups=(unknown, *SETUPS[1:]))
    ring.close()
    with pytest.raises(OSError, match=r"io_uring_setup: Invalid argument") as caught:
        Uring(SoftnetData(), setups=(unknown,))
    assert caught.value.errno == errno.EINVAL
