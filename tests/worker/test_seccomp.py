"""seccomp.py: the numbers are the kernel's, and the program says of each call what the tables say."""

from __future__ import annotations

import errno
import platform
import re
import struct
import subprocess
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worker.conftest import StartWorker
from vethd.worker import seccomp
from vethd.worker.seccomp import MACHINES, NUMBERS, REFUSED, Machine, guarded, program

KILL, ALLOW, ERRNO = 0x80000000, 0x7FFF0000, 0x00050000
PID = 4711
X86_64 = MACHINES["x86_64"]
#: How the C compiler is told of an architecture's numbers: those of aarch64 are the ones that all new ones have.
HEADERS = {
    "x86_64": ["-m64", "-include", "asm/unistd_64.h"],
    "aarch64": ["-D__ARCH_WANT_NEW_STAT", "-include", "asm-generic/unistd.h"],
}

machines = pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)


def verdict(code: bytes, machine: int, number: int, *arguments: int) -> int:
    """What a classic BPF program says of a call; the instructions that seccomp programs may have, and no others."""
    padded = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("=IIQ6Q", number, machine, 0, *padded)
    at, accumulator = 0, 0
    while True:
        operation, if_true, if_false, value = struct.unpack_from("=HBBI", code, at * 8)
        at += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif operation == 0x06:
            return int(value)
        else:
            tests: dict[int, Callable[[int, int], bool]] = {
                0x15: int.__eq__,
                0x35: int.__ge__,
                0x45: lambda one, other: bool(one & other),
            }
            at += if_true if tests[operation](accumulator, value) else if_false


def header_numbers(architecture: str) -> dict[str, int]:
    """The numbers of an architecture as the kernel's headers have them."""
    command = ["gcc", "-E", "-dM", "-x", "c", *HEADERS[architecture], "/dev/null"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    defined = dict(re.findall(r"#define (__NR\w+) (\w+)", text))

    def resolve(value: str) -> int:
        return resolve(defined[value]) if value in defined else int(value)

    return {name.removeprefix("__NR_"): resolve(value) for name, value in defined.items() if name.startswith("__NR_")}


@pytest.mark.parametrize("architecture", MACHINES)
def test_the_numbers_are_those_of_the_kernels_headers(architecture: str) -> None:
    kernel, column = header_numbers(architecture), MACHINES[architecture].column
    assert {name: kernel.get(name) for name in NUMBERS} == {name: row[column] for name, row in NUMBERS.items()}


@machines
def test_every_call_of_the_table_has_its_verdict(machine: Machine) -> None:
    code, guards = program(machine, PID), guarded(PID)
    for name, numbers in NUMBERS.items():
        if (number := numbers[machine.column]) is None or name in guards:
            continue
        expected = ERRNO | REFUSED[name] if name in REFUSED else ALLOW
        assert (name, verdict(code, machine.audit, number)) == (name, expected)


@machines
@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("mmap", (0, 4096, 3), ALLOW),
        ("mmap", (0, 4096, 4), KILL),
        ("mmap", (0, 4096, 7), KILL),
        ("mprotect", (0, 4096, 1), ALLOW),
        ("mprotect", (0, 4096, 5), KILL),
        ("fcntl", (1, 1), ALLOW),
        ("fcntl", (1, 3), ALLOW),
        ("fcntl", (1, 1030), ALLOW),
        ("fcntl", (1, 4), KILL),
        ("fcntl", (1, 8), KILL),
        ("tgkill", (PID, PID, 6), ALLOW),
        ("tgkill", (PID + 1, PID, 6), KILL),
        ("sched_setaffinity", (0,), ALLOW),
        ("sched_setaffinity", (PID,), KILL),
        ("prlimit64", (0, 7), ALLOW),
        ("prlimit64", (PID, 7), KILL),
        ("ioctl", (0, 0x5421), ERRNO),
        ("ioctl", (0, 0x5401), ERRNO | errno.ENOTTY),
        ("ioctl", (0, 0x400454CB), KILL),
    ],
)
def test_a_guarded_call_depends_on_its_argument(
    machine: Machine, name: str, arguments: tuple[int, ...], expected: int
) -> None:
    number = NUMBERS[name][machine.column]
    assert number is not None
    assert verdict(program(machine, PID), machine.audit, number, *arguments) == expected


@given(st.integers(0, 2**32 - 1) | st.integers(0, 600))
def test_every_other_number_is_the_end(number: int) -> None:
    for machine in MACHINES.values():
        said = verdict(program(machine, PID), machine.audit, number)
        if number in [row[machine.column] for row in NUMBERS.values()]:
            continue
        unknown = seccomp.NEWEST < number < 0x40000000
        assert said == (ERRNO | errno.ENOSYS if unknown else KILL)


@pytest.mark.parametrize("number", [row[0] for row in NUMBERS.values() if row[0] is not None])
def test_by_another_architectures_entry_no_call_is_allowed(number: int) -> None:
    """i386's int 0x80 and x32, where the same numbers mean other calls."""
    code = program(X86_64, PID)
    assert verdict(code, 0x40000003, number) == KILL
    assert verdict(code, X86_64.audit, number | 0x40000000) == KILL


def test_a_worker_says_that_it_has_the_filter_and_the_kernel_says_so_too(start_worker: StartWorker) -> None:
    worker = start_worker()
    assert "; seccomp filter; " in worker.hear_ready()["why"]
    assert worker.status("Seccomp") == "2"


def test_where_the_numbers_are_not_known_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "s390x")
    assert seccomp.install() == "no seccomp filter for s390x"
