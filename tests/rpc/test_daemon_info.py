"""daemon.info: what runs, what it may do, and how full it is, against what the machine itself says."""

from __future__ import annotations

import errno
import os
import resource
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.daemon import program
from tests.frameio.ways import WAYS
from tests.kit.commands import run
from tests.kit.daemon import Daemon
from tests.kit.netns import Namespaces
from tests.kit.seccomp import without, without_io_uring
from tests.kit.waiting import settled
from vethd.host import capabilities
from vethd.rpc.schema.daemon import KernelInfo, Limits

FEATURES = ["network namespaces", "events of all namespaces", "/dev/net/tun", "several queues", "io_uring"]


def info(daemon: Daemon) -> dict[str, Any]:
    """The answer."""
    found: dict[str, Any] = daemon.call("daemon.info")
    return found


def test_the_names_of_capabilities_are_those_of_setpriv() -> None:
    names = [f"CAP_{name.upper()}" for name in run("setpriv", "--list-caps").out.split()]
    assert list(capabilities.NAMES) == names


@pytest.mark.parametrize("taken", [(), ("sys_ptrace", "mknod")])
def test_capabilities_are_those_that_it_has(start_daemon: Callable[..., Daemon], taken: tuple[str, ...]) -> None:
    found = info(start_daemon(prefix=program.without_capability(*taken) if taken else []))["capabilities"]
    ours = capabilities.effective()
    assert {"CAP_NET_ADMIN", "CAP_SYS_PTRACE", "CAP_MKNOD"} <= set(ours)
    assert found == [name for name in ours if name.removeprefix("CAP_").lower() not in taken]


def test_limits_say_how_full_it_is(start_daemon: Callable[..., Daemon], netns: Namespaces) -> None:
    daemon = start_daemon(config="[limits]\nmax_pairs = 7\nclients = 9\n", prefix=["prlimit", "--nofile=500:600", "--"])
    red = netns.make()
    with daemon.connect() as one, daemon.connect() as other:
        one.call("link.add", {"a": {"netns": red}, "b": {"netns": red}, "placement": "inside"})

        def limits() -> dict[str, Any]:
            answer: dict[str, Any] = other.call("daemon.info")["limits"]
            return answer

        found = settled(limits, lambda now: now["clients"] == 2)  # that of the start is gone
    assert found.keys() == Limits.__annotations__.keys()
    assert {key: found[key] for key in found if key != "open_files"} == {
        "pairs": 1,
        "max_pairs": 7,
        "clients": 2,
        "max_clients": 9,
        "max_open_files": 600,
    }


def test_open_files_are_counted(daemon: Daemon, netns: Namespaces) -> None:
    def counted() -> int:
        number: int = info(daemon)["limits"]["open_files"]
        return number - len(os.listdir(f"/proc/{daemon.pid}/fd"))

    assert settled(counted, lambda more: more == 1) == 1  # the directory, while it is read
    before = info(daemon)["limits"]["open_files"]
    red = netns.make()
    daemon.call("link.add", {"a": {"netns": red}, "b": {"netns": red}, "placement": "inside"})
    assert settled(lambda: info(daemon)["limits"]["open_files"], lambda now: now == before + 2) == before + 2


def test_uptime_counts_from_the_start(start_daemon: Callable[..., Daemon]) -> None:
    before = time.monotonic()
    daemon = start_daemon()
    first, then = info(daemon)["uptime"], info(daemon)["uptime"]
    assert 0 < first < then < time.monotonic() - before


def test_where_it_reads_its_configuration(start_daemon: Callable[..., Daemon], shared_daemon: Daemon) -> None:
    daemon = start_daemon(config="")
    assert info(daemon)["config"] == [str(daemon.workdir / "vethd.toml")]
    assert info(shared_daemon)["config"] == []


def test_the_kernel_has_everything(shared_daemon: Daemon) -> None:
    kernel = info(shared_daemon)["kernel"]
    assert kernel.keys() == KernelInfo.__annotations__.keys()
    assert kernel["release"] == os.uname().release
    assert list(kernel["features"]) == FEATURES
    other = {name: answer for name, answer in kernel["features"].items() if answer != "yes"}
    assert other.keys() == (set() if info(shared_daemon)["workers"][0]["frameio"] == "uring" else {"io_uring"})


@pytest.mark.parametrize(
    ("prefix", "feature", "said"),
    [
        (without("bpf", errno.EPERM), "several queues", "bpf(BPF_PROG_LOAD): Operation not permitted (several queues "),
        (
            without_io_uring(errno.EPERM),
            "io_uring",
            "no io_uring: forbidden by seccomp or a security module" if "uring" in WAYS else "",
        ),
    ],
)
def test_the_kernel_lacks_something(
    start_daemon: Callable[..., Daemon], prefix: Sequence[str], feature: str, said: str
) -> None:
    daemon = start_daemon(prefix=prefix, env={"VETHD_FRAMEIO": ""})
    features = info(daemon)["kernel"]["features"]
    assert said in features[feature]
    assert features[feature] != "yes"


def test_files_may_be_as_many_as_allowed(shared_daemon: Daemon) -> None:
    _soft, hard = resource.prlimit(shared_daemon.pid, resource.RLIMIT_NOFILE)
    assert info(shared_daemon)["limits"]["max_open_files"] == hard
