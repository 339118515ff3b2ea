"""Limits of the machine: what is asked for beyond them is refused, and what exists goes on as if nothing had been."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.kit.commands import ip
from tests.kit.daemon import Daemon
from tests.kit.limits import free_descriptors
from tests.kit.links import all_links
from tests.kit.netns import Namespaces
from tests.kit.pairs import make_pair, make_pair_between_fresh
from tests.kit.processes import open_files
from tests.kit.rpc import RpcClient, RpcError
from tests.kit.waiting import eventually
from tests.pairs.killing import DIED, kill_worker, wait_spare, wait_workers
from tests.pairs.watching import works
from tests.rpc.talk import ANYTHING, Talk, request
from vethd.errors import LimitReached
from vethd.host.limits import KEPT_MEMORY, Memory, MemoryGroup, memory_groups


def specs(count: int, *places: str) -> list[dict[str, Any]]:
    """Pairs to be made between two namespaces, as link.add takes several."""
    return [
        {end: {"ifname": f"vtl{end}{number}", "netns": place} for end, place in zip("ab", places, strict=True)}
        | {"placement": "inside"}
        for number in range(count)
    ]


def fill(daemon: Daemon, *places: str) -> RpcError:
    """Make pairs until that is refused; the refusal."""
    ends = {end: {"netns": place, "up": True} for end, place in zip("ab", places, strict=True)}
    for _ in range(500):
        try:
            daemon.call("link.add", ends | {"placement": "inside"})
        except RpcError as refused:
            return refused
    raise AssertionError("nothing was refused")


def devices(*places: str) -> int:
    """How many devices there are, the loopbacks aside."""
    return sum(len(all_links(place)) - 1 for place in places)


# -- file descriptors -------------------------------------------------------------------------------------------------


def test_the_soft_limit_is_raised_to_the_hard_one(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon(prefix=["prlimit", "--nofile=256:2048", "--"])
    assert daemon.call("daemon.info")["limits"]["max_open_files"] == 2048


def test_a_daemon_that_has_no_descriptor_for_more_pairs_still_looks_after_those_it_has(
    start_daemon: Callable[..., Daemon], netns: Namespaces
) -> None:
    """It is full, and replaces a worker, follows a carrier, serves a new client, and deletes."""
    daemon = start_daemon(prefix=["prlimit", "--nofile=256", "--"], config="[worker]\ncount = 1\n")
    daemon.expected_errors += DIED
    pair = make_pair_between_fresh(daemon, netns)
    red, blue = netns.make(), netns.make()
    refused = fill(daemon, red, blue)
    assert refused.kind == "limit_reached"
    assert refused.message[5:] == ": creating it: too few file descriptors are free, of 256 (RLIMIT_NOFILE)"
    assert "LimitNOFILE" in refused.data["hint"]
    assert devices(red, blue) == 2 * (len(daemon.pairs()) - 1)
    wait_spare(daemon)
    victim = kill_worker(daemon)
    wait_workers(daemon, 1, {victim})
    wait_spare(daemon)
    assert works(pair)
    ip(pair.b.netns, "link", "set", "dev", pair.b.name, "down")
    eventually(lambda: pair.a.state().carrier, lambda carrier: not carrier, "the carrier is off")
    with RpcClient(daemon.socket) as client:
        for each in daemon.pairs()[:3]:
            client.call("link.del", {"pair": each["pair"]})
    daemon.check_fds()
    assert make_pair(daemon, red, blue, placement="inside").uuid


def test_more_pairs_than_there_are_descriptors_for_are_refused_before_one_is_made(
    start_daemon: Callable[..., Daemon], netns: Namespaces
) -> None:
    daemon = start_daemon(prefix=["prlimit", "--nofile=256", "--"])
    pair = make_pair_between_fresh(daemon, netns)
    red, blue = netns.make(), netns.make()
    with pytest.raises(RpcError) as refused:
        daemon.call("link.add", {"pairs": specs(200, red, blue)})
    assert refused.value.kind == "limit_reached"
    assert refused.value.message == (
        "pairs: 400 more are needed, too few file descriptors are free, of 256 (RLIMIT_NOFILE)"
    )
    assert daemon.log().count('"link added"') == 1
    assert works(pair)


def test_clients_that_take_all_descriptors_but_the_last_are_told_so(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon(prefix=["prlimit", "--nofile=128", "--"])
    daemon.pairs()
    with ExitStack() as talks:
        for _ in range(128):
            talk = talks.enter_context(closing(Talk(daemon.socket)))
            talk.say(request(1, "daemon.info"))
            answer = talk.hear(ANYTHING)
            if "error" in answer:
                break
    assert answer["error"]["data"]["kind"] == "limit_reached"
    assert answer["error"]["message"] == "too few file descriptors are free, of 128 (RLIMIT_NOFILE)"
    assert len(open_files(daemon.pid)) < 128
    assert daemon.pairs() == []


def test_a_worker_without_descriptors_gets_no_more_pairs_and_forwards_those_it_has(
    start_daemon: Callable[..., Daemon], netns: Namespaces
) -> None:
    daemon = start_daemon(config="[worker]\ncount = 2\n")
    pairs = [make_pair_between_fresh(daemon, netns) for _ in range(2)]
    red, blue = netns.make(), netns.make()
    full, _other = daemon.workers()
    before = open_files(full)
    with free_descriptors(full, 1) as limit:
        with pytest.raises(RpcError) as refused:
            daemon.call("link.add", {"a": {"netns": red}, "b": {"netns": blue}, "numqueues": 2})
        message = f"worker 0: no file descriptor is free in the worker, of {limit} (RLIMIT_NOFILE)"
        assert (refused.value.kind, refused.value.message) == ("limit_reached", message)
        assert "LimitNOFILE" in refused.value.data["hint"]
        assert devices(red, blue) == 0
        with pytest.raises(RpcError) as refused:
            daemon.call("link.set", {"pair": pairs[1].uuid, "set": {"worker": 0}})
        assert (refused.value.kind, refused.value.message) == ("limit_reached", message)
        assert all(works(pair) for pair in pairs)
    assert open_files(full) == before
    assert [pair["workers"] for pair in daemon.pairs()] == [[0], [1]]
    daemon.call("link.set", {"pair": pairs[1].uuid, "set": {"worker": 0}})
    assert works(pairs[1])


# -- pairs ------------------------------------------------------------------------------------------------------------


def test_one_pair_more_than_the_limit_is_refused_before_one_is_made(
    start_daemon: Callable[..., Daemon], netns: Namespaces
) -> None:
    daemon = start_daemon(config="[limits]\nmax_pairs = 20\n")
    pair = make_pair_between_fresh(daemon, netns)
    red, blue = netns.make(), netns.make()
    with pytest.raises(RpcError) as refused:
        daemon.call("link.add", {"pairs": specs(20, red, blue)})
    assert refused.value.kind == "limit_reached"
    assert refused.value.message == "pairs: 20 pairs need 20 queues, 19 are left"
    assert "max_pairs" in refused.value.data["hint"]
    assert devices(red, blue) == 0
    daemon.call("link.add", {"pairs": specs(19, red, blue)})
    assert fill(daemon, red, blue).message == "20 pairs exist already"
    assert works(pair)


# -- memory -----------------------------------------------------------------------------------------------------------


class Cap:
    """A cgroup whose memory limit the test sets, of the version that the machine offers."""

    def __init__(self) -> None:
        innermost = memory_groups()[0]
        # Not fresh_name: machines that share cgroups need not share pids.
        self._here = Path(tempfile.mkdtemp(prefix="vtcap", dir=innermost.limit.parent))
        files = (innermost.usage, innermost.limit, innermost.stat)
        self.group = MemoryGroup("", *(self._here / file.name for file in files))
        self.prefix = ["sh", "-c", f'echo $$ > {self._here}/cgroup.procs && exec "$@"', "sh"]

    def leave(self, size: int) -> None:
        """Let the processes in it take so many bytes more."""
        self.group.limit.write_text(str(int(self.group.usage.read_text()) + size))

    def close(self) -> None:
        def removed() -> bool:
            with suppress(OSError):
                self._here.rmdir()
            return not self._here.exists()

        eventually(removed, bool, "the cgroup is empty")


@pytest.fixture
def cap() -> Iterator[Cap]:
    with closing(Cap()) as made:
        yield made


def test_a_daemon_without_memory_for_more_pairs_refuses_them_and_is_not_killed(
    cap: Cap, start_daemon: Callable[..., Daemon], netns: Namespaces
) -> None:
    daemon = start_daemon(prefix=cap.prefix, config="[worker]\ncount = 1\n")
    pair = make_pair_between_fresh(daemon, netns)
    wait_spare(daemon)
    red, blue = netns.make(), netns.make()
    cap.leave(KEPT_MEMORY + (4 << 20))
    refused = fill(daemon, red, blue)
    assert refused.kind == "limit_reached"
    assert refused.message.startswith("too little memory: ")
    assert refused.message.endswith(f"{cap.prefix[2].split('/')[-2]})")
    assert "MemoryMax" in refused.data["hint"]
    assert devices(red, blue) == 2 * (len(daemon.pairs()) - 1) > 0
    with pytest.raises(RpcError, match="pairs: too little memory"):
        daemon.call("link.add", {"pairs": specs(100, red, blue)})
    assert works(pair)
    daemon.expected_errors += DIED
    os.kill(wait_spare(daemon), signal.SIGKILL)
    wait_spare(daemon)
    cap.leave(KEPT_MEMORY + (64 << 20))
    assert make_pair(daemon, red, blue, placement="inside").uuid


def _group(at: Path, limit: str, used: int, cached: int = 0) -> MemoryGroup:
    at.mkdir(parents=True, exist_ok=True)
    for name, text in (("usage", str(used)), ("limit", limit), ("stat", f"anon 1\ninactive_file {cached}\nshmem 2\n")):
        (at / name).write_text(f"{text}\n")
    return MemoryGroup(f"/{at.name}", at / "usage", at / "limit", at / "stat")


MIB = 1 << 20


@pytest.mark.parametrize(
    ("groups", "complaint"),
    [
        ([], None),
        ([("max", 900 * MIB, 0)], None),
        ([(str(2**63 - 4096), 900 * MIB, 0)], None),
        ([(str(1000 * MIB), 900 * MIB, 0)], None),
        ([(str(1000 * MIB), 960 * MIB, 0)], "too little memory: 40 MiB of 1000 MiB are left (cgroup /0)"),
        ([(str(1000 * MIB), 960 * MIB, 100 * MIB)], None),
        ([(str(100 * MIB), 80 * MIB, 0)], None),
        ([(str(100 * MIB), 90 * MIB, 0)], "too little memory: 10 MiB of 100 MiB are left (cgroup /0)"),
        ([(str(100 * MIB), 120 * MIB, 0)], "too little memory: 0 MiB of 100 MiB are left (cgroup /0)"),
        ([("max", 0, 0), (str(64 * MIB), 64 * MIB, 0)], "too little memory: 0 MiB of 64 MiB are left (cgroup /1)"),
        ([("what?", 0, 0)], None),
    ],
)
def test_what_is_left_of_the_memory(tmp_path: Path, groups: list[tuple[str, int, int]], complaint: str | None) -> None:
    memory = Memory([_group(tmp_path / str(at), *group) for at, group in enumerate(groups)])
    said = None
    try:
        memory.take(1)
    except LimitReached as error:
        said = error.message
    assert said == complaint


def test_memory_that_was_promised_is_not_promised_again(tmp_path: Path) -> None:
    """Many pairs are asked for before the first of them has taken what it needs."""
    memory = Memory([_group(tmp_path / "group", str(1000 * MIB), 940 * MIB)])
    memory.take(32)  # 4 MiB, of 12 that are not kept
    memory.take(64)
    with pytest.raises(LimitReached):
        memory.take(1)


@pytest.mark.parametrize(
    ("cgroup", "mounts", "found"),
    [
        ("0::/a/b\n", "30 1 0:1 / {}/v2 rw - cgroup2 cgroup2 rw\n", ["/a/b", "/a"]),
        ("0::/\n", "30 1 0:1 / {}/v2 rw - cgroup2 cgroup2 rw\n", []),
        ("0::/x/a\n", "30 1 0:1 /x {}/v2 rw - cgroup2 cgroup2 rw\n", ["/a"]),
        ("0::/xa\n", "30 1 0:1 /x {}/v2 rw - cgroup2 cgroup2 rw\n", []),
        ("4:cpu,memory:/a\n0::/\n", "30 1 0:1 / {}/v1 rw - cgroup cgroup rw,memory\n", ["/a", "/"]),
        ("4:cpu:/a\n0::/\n", "30 1 0:1 / {}/v1 rw - cgroup cgroup rw,cpu\n", []),
        ("", "", []),
    ],
)
def test_the_groups_that_limit_memory_are_found(tmp_path: Path, cgroup: str, mounts: str, found: list[str]) -> None:
    for at in ("v2/a/b/memory.max", "v2/a/memory.max", "v1/a/memory.limit_in_bytes", "v1/memory.limit_in_bytes"):
        (tmp_path / at).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / at).touch()
    (tmp_path / "cgroup").write_text(cgroup)
    (tmp_path / "mountinfo").write_text(mounts.format(tmp_path))
    assert [group.name for group in memory_groups(tmp_path)] == found
