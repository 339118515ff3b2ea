"""`vethd doctor`: what it says where everything is there, and where something was taken away."""

from __future__ import annotations

import errno
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import program
from tests.frameio.ways import WAYS
from tests.kit.seccomp import without_io_uring
from vethd.daemon import doctor

NEEDED = ["kernel", "capabilities", "/dev/net/tun", "python-pytun", "worker"]
FASTER = ["compiled datapath", "frame I/O in C", "io_uring"]
ALL_OF_IT = {} if "uring" in WAYS else dict.fromkeys(FASTER, "unset VETHD_NO_EXTENSIONS")


def examine(prefix: Sequence[str] = (), **environment: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit status of `vethd doctor --json`, and its findings by feature."""
    sets = [f"{name}={value}" for name, value in environment.items()]
    answer = program.vethd("doctor", "--json", prefix=["env", *sets, *prefix])
    findings = json.loads(answer.out)
    assert [finding.pop("feature") for finding in findings] == NEEDED + FASTER
    assert [finding["needed"] for finding in findings] == [True] * len(NEEDED) + [False] * len(FASTER)
    assert all((finding["remedy"] is None) == finding["ok"] for finding in findings)
    return answer.code, dict(zip(NEEDED + FASTER, findings, strict=True))


def missing(findings: dict[str, dict[str, Any]]) -> dict[str, str]:
    """What is missing beyond what this run of the tests has taken away itself, and the remedy."""
    return {
        feature: finding["remedy"]
        for feature, finding in findings.items()
        if not finding["ok"] and finding["remedy"] != ALL_OF_IT.get(feature)
    }


def test_where_nothing_is_missing() -> None:
    code, findings = examine()
    assert (code, missing(findings)) == (0, {})
    assert findings["kernel"]["found"] == f"Linux {platform.release()}"
    assert findings["io_uring"]["found"] in ("io_uring with multishot reads", "the datapath is interpreted")


def test_for_people_it_is_one_line_per_feature() -> None:
    answer = program.vethd("doctor", VETHD_NO_EXTENSIONS="1", VETHD_REQUIRE_EXTENSIONS="")
    lines = answer.out.splitlines()
    assert (answer.code, answer.err) == (0, "")
    assert [line[8:27].rstrip() for line in lines] == NEEDED + FASTER
    assert [line.split()[0] for line in lines] == ["ok"] * len(NEEDED) + ["slower"] * len(FASTER)
    assert lines[-1].endswith("the datapath is interpreted (unset VETHD_NO_EXTENSIONS)")


def test_without_extensions_it_is_slower_not_broken() -> None:
    code, findings = examine(VETHD_NO_EXTENSIONS="1", VETHD_REQUIRE_EXTENSIONS="")
    assert code == 0
    assert {feature: finding["remedy"] for feature, finding in findings.items() if not finding["ok"]} == dict.fromkeys(
        FASTER, "unset VETHD_NO_EXTENSIONS"
    )


def test_where_io_uring_is_forbidden() -> None:
    code, findings = examine(without_io_uring(errno.EPERM))
    allow = "let the seccomp profile allow io_uring_setup, io_uring_enter and io_uring_register"
    assert (code, missing(findings)) == (0, {"io_uring": allow} if "uring" in WAYS else {})
    assert findings["worker"]["found"].endswith("reads and writes by syscalls")


@pytest.mark.parametrize("frameio", ["uring", "syscalls"])
def test_it_looks_at_the_machine_not_at_the_settings(frameio: str) -> None:
    assert examine(VETHD_FRAMEIO=frameio) == examine()


@pytest.mark.parametrize("name", ["net_broadcast", "net_admin", "sys_admin"])
def test_a_capability_is_missing(name: str) -> None:
    code, findings = examine(program.without_capability(name))
    assert code == 1
    assert findings["capabilities"]["found"] == f"without CAP_{name.upper()}"
    assert missing(findings) == {"capabilities": "run it as root, or with those"}


@pytest.mark.parametrize(
    ("mount", "found", "remedy"),
    [
        ("mount -t tmpfs tmpfs /dev/net", "No such file or directory", "load the tun module (modprobe tun)"),
        (
            "mount --bind /dev/null /dev/net/tun",
            "Inappropriate ioctl for device",
            "what is there is not the tun device",
        ),
    ],
    ids=["no node", "another device"],
)
def test_there_is_no_tun(mount: str, found: str, remedy: str) -> None:
    code, findings = examine(program.with_mount(mount))
    assert (code, findings["/dev/net/tun"]["found"]) == (1, found)
    (said,) = missing(findings).values()
    assert said.startswith(remedy)


def test_pytun_is_missing(tmp_path: Path) -> None:
    (tmp_path / "pytun.py").write_text("raise ImportError('libnothing.so.1: cannot open shared object file')")
    code, findings = examine(PYTHONPATH=str(tmp_path))
    assert (code, findings["python-pytun"]["found"]) == (1, "libnothing.so.1: cannot open shared object file")
    assert missing(findings).keys() == {"python-pytun"}


def test_workers_can_not_give_up_their_rights() -> None:
    code, findings = examine(program.without_capability("setuid", "setgid"))
    assert code == 1
    assert missing(findings).keys() == {"worker", "io_uring"}


@pytest.mark.parametrize(
    ("release", "ok"), [("5.2.21", False), ("4.19.0-27-amd64", False), ("5.3.0", True), ("?", False)]
)
def test_kernels(monkeypatch: pytest.MonkeyPatch, release: str, ok: bool) -> None:
    monkeypatch.setattr(platform, "release", lambda: release)
    finding = doctor.kernel()
    assert (finding.ok, finding.found) == (ok, f"Linux {release}")
    assert finding.remedy == (None if ok else "take Linux 5.3 or later")
