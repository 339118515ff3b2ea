"""`vethd doctor`: what it says where everything is there, and where something was taken away."""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import shlex
import shutil
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import program
from tests.frameio.ways import WAYS
from tests.kit.seccomp import without, without_io_uring
from vethd.daemon import doctor
from vethd.host import tap

PACKAGES = ["pydantic", "python-pytun", "structlog", "tomli-w", "uvloop"]
FASTER = ["compiled datapath", "frame I/O in C", "io_uring"]
OPTIONAL = ["offloads", "several queues", "open files", *FASTER]
FEATURES = [
    "kernel",
    "capabilities",
    *PACKAGES,
    "network namespaces",
    "events of all namespaces",
    "/dev/net/tun",
    "TAP",
    "offloads",
    "several queues",
    "worker user",
    "worker",
    "configuration",
    "control socket",
    "open files",
    *FASTER,
]
ALL_OF_IT = {} if "uring" in WAYS else dict.fromkeys(FASTER, "unset VETHD_NO_EXTENSIONS")


def examine(
    prefix: Sequence[str] = (), *words: str | Path, **environment: str
) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit status of `vethd doctor --json`, and its findings by feature."""
    sets = [f"{name}={value}" for name, value in environment.items()]
    answer = program.vethd(*words, "doctor", "--json", prefix=["env", *sets, *prefix])
    findings = json.loads(answer.out)
    assert [finding.pop("feature") for finding in findings] == FEATURES
    assert [finding["needed"] for finding in findings] == [feature not in OPTIONAL for feature in FEATURES]
    assert all((finding["remedy"] is None) == finding["ok"] for finding in findings)
    return answer.code, dict(zip(FEATURES, findings, strict=True))


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
    assert [line[8:33].rstrip() for line in lines] == FEATURES
    assert [line.split()[0] for line in lines] == ["warning" if feature in FASTER else "ok" for feature in FEATURES]
    assert lines[-1].endswith("the datapath is interpreted (unset VETHD_NO_EXTENSIONS)")


def test_without_extensions_it_is_slower_not_broken() -> None:
    code, findings = examine(VETHD_NO_EXTENSIONS="1", VETHD_REQUIRE_EXTENSIONS="")
    assert code == 0
    assert {feature: finding["remedy"] for feature, finding in findings.items() if not finding["ok"]} == dict.fromkeys(
        FASTER, "unset VETHD_NO_EXTENSIONS"
    )


def test_where_nothing_was_compiled(tmp_path: Path) -> None:
    package = Path(doctor.__file__).parents[1]
    shutil.copytree(package, tmp_path / "vethd", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    prefix = program.with_mount(f"mount --bind $1 {shlex.quote(str(package))}", tmp_path / "vethd")
    code, findings = examine(prefix, VETHD_NO_EXTENSIONS="", VETHD_REQUIRE_EXTENSIONS="")
    assert (code, missing(findings)) == (
        0,
        dict.fromkeys(FASTER, "install vethd again where there are a C compiler, python3-dev and liburing-dev"),
    )


def test_where_io_uring_is_forbidden() -> None:
    code, findings = examine(without_io_uring(errno.EPERM))
    allow = "let the seccomp profile allow io_uring_setup, io_uring_enter and io_uring_register"
    assert (code, missing(findings)) == (0, {"io_uring": allow} if "uring" in WAYS else {})
    assert findings["worker"]["found"].endswith("reads and writes by syscalls")


def test_where_a_sysctl_switches_io_uring_off(tmp_path: Path) -> None:
    (tmp_path / "value").write_text("2\n")  # seen by this program alone; the real one is everybody's
    prefix = program.with_mount("mount --bind $1 /proc/sys/kernel/io_uring_disabled", tmp_path / "value")
    code, findings = examine([*prefix, *without_io_uring(errno.EPERM)])
    remedy = "sysctl -w kernel.io_uring_disabled=0"
    assert (code, missing(findings)) == (0, {"io_uring": remedy} if "uring" in WAYS else {})
    assert "uring" not in WAYS or findings["io_uring"]["found"] == "kernel.io_uring_disabled is 2"


def test_it_looks_at_the_machine_not_at_the_settings() -> None:
    assert examine(VETHD_FRAMEIO="uring") == examine(VETHD_FRAMEIO="syscalls") == examine(VETHD_FRAMEIO="")


ROOT = "run it as root, or with "


@pytest.mark.parametrize(
    ("name", "use", "others"),
    [
        ("net_broadcast", "to hear of all namespaces", {"events of all namespaces": ROOT + "CAP_NET_BROADCAST"}),
        (
            "net_admin",
            "to make devices",
            {
                "events of all namespaces": ROOT + "CAP_NET_ADMIN",
                "TAP": "CAP_NET_ADMIN in the namespace, and a device cgroup that allows char 10:200, are needed",
                "offloads": "see TAP",
            },
        ),
        (
            "sys_admin",
            "to enter namespaces",
            {
                "network namespaces": ROOT + "CAP_SYS_ADMIN",
                "TAP": "see network namespaces",
                "offloads": "see TAP",
            },
        ),
    ],
)
def test_a_capability_is_missing(name: str, use: str, others: dict[str, str]) -> None:
    code, findings = examine(program.without_capability(name))
    assert code == 1
    assert findings["capabilities"]["found"] == f"without CAP_{name.upper()} ({use})"
    assert missing(findings) == {"capabilities": ROOT + "those", **others}


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
    said = missing(findings)
    assert said.keys() == {"/dev/net/tun", "TAP", "offloads"}
    assert said["/dev/net/tun"].startswith(remedy)


@pytest.mark.parametrize(
    ("module", "name", "others"),
    [
        ("pytun", "python-pytun", {"TAP", "offloads"}),
        ("pydantic", "pydantic", {"configuration", "control socket", "open files"}),
        ("uvloop", "uvloop", set()),  # a worker does not look at PYTHONPATH
        ("structlog", "structlog", {"control socket"}),
        ("tomli_w", "tomli-w", set()),
    ],
)
def test_a_package_is_missing(tmp_path: Path, module: str, name: str, others: set[str]) -> None:
    why = "libnothing.so.1: cannot open shared object file"
    (tmp_path / f"{module}.py").write_text(f"raise ImportError({why!r}, name={module!r})")
    code, findings = examine(PYTHONPATH=str(tmp_path))
    assert (code, findings[name]["found"]) == (1, why)
    said = missing(findings)
    assert said.keys() == {name, *others}
    assert said[name] == f"pip install {name}, where there are a C compiler and python3-dev"
    assert all(said.get(feature) in (None, f"see {module}") for feature in ("configuration", "control socket"))


def test_the_packages_are_those_that_vethd_depends_on() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    named = {re.split("[<>=]", requirement)[0] for requirement in project["dependencies"]}
    assert set(doctor.PACKAGES.values()) == named - {"aiohttp", "rich"}  # vethd-docker's and vethctl's


@pytest.mark.parametrize(
    ("call", "error", "remedies"),
    [
        (
            "unshare",
            errno.EPERM,
            {
                "network namespaces": "let the seccomp profile, or the security module, allow unshare and setns"
                " (RestrictNamespaces=net)",
                "TAP": "see network namespaces",
                "offloads": "see TAP",
            },
        ),
        (
            "unshare",
            errno.ENOSPC,
            {
                "network namespaces": "raise sysctl user.max_net_namespaces",
                "TAP": "see network namespaces",
                "offloads": "see TAP",
            },
        ),
        ("setsockopt", errno.EPERM, {"events of all namespaces": "let the seccomp profile, or the security module, "}),
        ("bpf", errno.EPERM, {"several queues": "several queues need a program that keeps each flow in one: "}),
    ],
)
def test_seccomp_forbids_something(call: str, error: int, remedies: dict[str, str]) -> None:
    code, findings = examine(without(call, error))
    said = missing(findings)
    assert said.keys() == remedies.keys()
    assert all(said[feature].startswith(remedy) for feature, remedy in remedies.items())
    assert code == (0 if call == "bpf" else 1)


def test_few_files_may_be_open() -> None:
    code, findings = examine(["prlimit", "--nofile=1000:1000", "--"])
    assert (code, findings["open files"]["found"]) == (0, "1000: enough for 340 pairs of one queue, and 256 clients")
    assert missing(findings) == {"open files": "LimitNOFILE=8512 (ulimit -Hn) for 4096, or a lower max_pairs"}


@pytest.mark.parametrize(
    ("owner", "mode", "remedy"),
    [(0, 0o777, "chmod go-w {}, or choose another path"), (1, 0o755, "chown root {}, or choose another path")],
)
def test_the_control_socket_is_not_safe(tmp_path: Path, owner: int, mode: int, remedy: str) -> None:
    place = tmp_path / "place"
    place.mkdir()
    os.chown(place, owner, 0)
    place.chmod(mode)
    code, findings = examine(VETHD_SOCKET=str(place / "sock"))
    assert (code, missing(findings)) == (1, {"control socket": remedy.format(place)})


@pytest.mark.parametrize("where", ["option", "variable", "file"])
def test_the_directory_of_the_control_socket_is_missing(tmp_path: Path, where: str) -> None:
    path, file = str(tmp_path / "none" / "sock"), tmp_path / "vethd.toml"
    file.write_text(f"socket = '{path if where == 'file' else '/elsewhere/sock'}'")
    option = ["--socket", path] if where == "option" else []
    variable = {"file": "", "variable": path, "option": "/elsewhere/sock"}[where]
    code, findings = examine([], "--config", file, *option, VETHD_SOCKET=variable)
    assert (code, missing(findings)) == (1, {"control socket": f"mkdir {tmp_path}/none"})


def test_the_configuration_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "vethd.toml"
    file.write_text("x = 1\n[limits]\nmax_pairs = 0\n")
    code, findings = examine([], "--config", file)
    assert (code, missing(findings)) == (1, {"configuration": "`vethd check-config` says all that is wrong with it"})
    known = "known: socket, log, worker, sysctl, limits, bridge, pair"
    assert findings["configuration"]["found"] == f"{file}:1: x: unknown ({known}), and 1 more"


def test_the_configuration_counts(tmp_path: Path) -> None:
    file = tmp_path / "vethd.toml"
    file.write_text("[limits]\nmax_pairs = 700\nclients = 36\n")
    code, findings = examine(["prlimit", "--nofile=1000:1000", "--"], "--config", file)
    assert (code, findings["configuration"]["found"]) == (0, str(file))
    assert findings["open files"]["found"] == "1000: enough for 450 pairs of one queue, and 36 clients"
    assert missing(findings) == {"open files": "LimitNOFILE=1500 (ulimit -Hn) for 700, or a lower max_pairs"}


def test_there_is_no_user_for_workers(tmp_path: Path) -> None:
    code, findings = examine(program.without_worker_user(tmp_path))
    assert (code, missing(findings)) == (
        1,
        {
            "worker user": "useradd --system --no-create-home vethd-worker",
            "worker": "see worker user",
            "io_uring": "see worker user",
        },
    )


def test_workers_can_not_give_up_their_rights() -> None:
    code, findings = examine(program.without_capability("setuid", "setgid"))
    assert code == 1
    assert missing(findings).keys() == {"worker", "io_uring"}


def test_a_kernel_that_takes_fewer_offloads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tap, "set_offload", refuses_uso)
    finding = doctor.offloads()
    assert (finding.ok, finding.found) == (False, "without uso4, uso6, udp-tunnel, udp-tunnel-csum")
    assert finding.remedy is not None
    assert finding.remedy.startswith("take Linux 6.2 or later for uso, 6.17 for udp-tunnel; ")


def refuses_uso(_fd: int, offload: int) -> None:
    """What TUNSETOFFLOAD does before Linux 6.2."""
    if tap.takes_uso(offload):
        raise OSError(errno.EINVAL, "Invalid argument")


@pytest.mark.parametrize(
    ("release", "ok"), [("5.2.21", False), ("4.19.0-27-amd64", False), ("5.3.0", True), ("?", False)]
)
def test_kernels(monkeypatch: pytest.MonkeyPatch, release: str, ok: bool) -> None:
    monkeypatch.setattr(platform, "release", lambda: release)
    finding = doctor.kernel()
    assert (finding.ok, finding.found) == (ok, f"Linux {release}")
    assert finding.remedy == (None if ok else "take Linux 5.3 or later")
