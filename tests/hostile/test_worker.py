"""A worker that was taken over by a frame says and writes what it likes: it is replaced, and all else goes on."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator

import pytest

from tests.hostile.puppet import taken_over
from tests.kit.daemon import Daemon
from tests.kit.netns import Namespaces
from tests.kit.pairs import Pair, make_pair_between_fresh
from tests.kit.processes import open_files
from tests.kit.waiting import eventually
from tests.pairs.killing import log_lines, wait_spare, wait_workers
from tests.pairs.watching import works
from vethd.worker.channel import PROTOCOL_VERSION

READY = {"op": "ready", "version": PROTOCOL_VERSION, "pid": 1, "frameio": "", "datapath": "", "why": ""}

_F_ADD_SEALS, _F_SEAL_WRITE = 1033, 8


@pytest.fixture(scope="module")
def _module_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    config = "[worker]\ncount = 2\nrestart_window = 0.0\n"
    daemon = Daemon(tmp_path_factory.mktemp("hostile"), config=config)
    daemon.start()
    daemon.expected_errors += ["worker died", "end unreadable, its worker tries again"]
    yield daemon
    daemon.stop()
    daemon.check_log()


@pytest.fixture
def daemon(_module_daemon: Daemon) -> Iterator[Daemon]:
    """A daemon of two workers, any number of which may die; with no pairs, as all tests here leave it."""
    yield _module_daemon
    _module_daemon.clear()
    _module_daemon.check_fds()


@pytest.fixture
def two_pairs(daemon: Daemon, netns: Namespaces) -> list[Pair]:
    """Two pairs, one on each worker, in their order."""
    pairs = [make_pair_between_fresh(daemon, netns) for _ in range(2)]
    assert [daemon.call("link.get", {"pair": pair.uuid})["workers"] for pair in pairs] == [[0], [1]]
    return pairs


def replaced(daemon: Daemon, victim: int, *, within: float = 10.0) -> str:
    """Wait until another process serves in a worker's place; why it died."""
    wait_workers(daemon, 2, {victim}, within)
    return next(str(line["why"]) for line in log_lines(daemon, "worker died") if line["pid"] == victim)


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ([b"\xff\x00nonsense"], "not a message"),
        ([b"[" * 60000], "not a message"),
        ([b'{"op": "gone", "end": 1' + b"0" * 65536], "not a message"),
        ([{"op": "drain"}], "unknown op 'drain'"),
        ([{"op": "ack", "seq": 999_999}], "ack, but of nothing"),
        ([READY], "an unexpected ready"),
        ([{"op": "unable", "why": "", "remedy": ""}], "an unexpected unable"),
        ([{"op": "refused", "seq": 999_999, "why": ""}], "refused, but of nothing"),
        ([{"op": "ping", "seq": 1}], "unknown op 'ping'"),
        ([{"op": "gone", "end": 2**62}], "there is no end"),
        ([{"op": "gone", "end": 2**64}], "out of range"),
        ([{"op": "gone", "end": 5}] * 2, "no news of end 5"),
        ([{"op": "hdr_invalid", "end": 0, "frames": frames} for frames in (16, 17)], "no news of end 0"),
        ([b""], "closed"),
    ],
)
def test_it_breaks_the_protocol_and_is_replaced(
    daemon: Daemon, two_pairs: list[Pair], messages: list[object], why: str
) -> None:
    wait_spare(daemon)
    victim = daemon.workers()[0]
    with taken_over(victim) as puppet:
        puppet.say(*messages)
        assert why in replaced(daemon, victim)
    assert all(works(pair) for pair in two_pairs)


def test_it_sends_descriptors_and_none_of_them_is_kept(daemon: Daemon, two_pairs: list[Pair]) -> None:
    wait_spare(daemon)
    before = len(open_files(daemon.pid))
    victim = daemon.workers()[0]
    with taken_over(victim) as puppet, socket.socket() as other:
        puppet.say({"op": "gone", "end": 0}, fds=[other.fileno()] * 16)
        assert "sends no file descriptors" in replaced(daemon, victim)
    wait_spare(daemon)
    eventually(lambda: len(open_files(daemon.pid)), lambda count: count == before, "as many descriptors as before")
    assert all(works(pair) for pair in two_pairs)


def test_it_says_that_ends_are_gone_which_are_not_its_own(daemon: Daemon, two_pairs: list[Pair]) -> None:
    """Nor is an end of its own gone because it says so: the descriptor is asked, and its worker tries again later."""
    victim = daemon.workers()[0]
    with taken_over(victim) as puppet:
        puppet.say(*({"op": "gone", "end": end} for end in range(16)))
        puppet.say(*({"op": "hdr_invalid", "end": end, "frames": 1 << 40} for end in range(16)))
        os.kill(victim, 9)
        replaced(daemon, victim)
    its_own, other = two_pairs
    assert works(other)
    eventually(lambda: works(its_own), bool, "its successor reads the pair that it gave up")
    assert len(daemon.pairs()) == 2
    offloads = [daemon.call("link.get", {"pair": two_pairs[1].uuid})[letter]["offload_why"] for letter in "ab"]
    assert not any("refused" in str(why) for why in offloads)


def test_it_floods_the_supervisor_with_reports_of_nothing(daemon: Daemon, two_pairs: list[Pair]) -> None:
    victim = daemon.workers()[0]
    with taken_over(victim) as puppet:
        puppet.say(*[{"op": "hdr_invalid", "end": 0, "frames": 1 << 62}] * 2000)
        assert "no news of end 0" in replaced(daemon, victim)
    assert all(works(pair) for pair in two_pairs)


@pytest.mark.parametrize("byte", [0xFF, 0x80, 0x00])
def test_it_writes_over_all_counters(daemon: Daemon, two_pairs: list[Pair], byte: int) -> None:
    """The figures are wrong then, of all pairs; nothing fails, neither in the supervisor nor in its successors."""
    wait_spare(daemon)
    victim = daemon.workers()[0]
    with taken_over(victim) as puppet:
        puppet.scribble(byte)
        for method in ("stats.get", "softnet.get", "daemon.info", "link.list"):
            daemon.call(method)
        os.kill(victim, 9)
        replaced(daemon, victim)
    wait_spare(daemon)
    survivor = daemon.workers()[1]
    os.kill(survivor, 9)
    replaced(daemon, survivor)
    daemon.call("stats.get")
    assert all(works(pair) for pair in two_pairs)
    assert "Traceback" not in daemon.log()


def test_it_can_neither_truncate_nor_seal_the_counters(daemon: Daemon, two_pairs: list[Pair]) -> None:
    victim = daemon.workers()[0]
    with taken_over(victim) as puppet:
        for size in (0, 1 << 30):
            with pytest.raises(PermissionError):
                os.ftruncate(puppet.counters, size)
        with pytest.raises(PermissionError):
            fcntl.fcntl(puppet.counters, _F_ADD_SEALS, _F_SEAL_WRITE)
        with pytest.raises(OSError, match="not permitted") as refused:
            os.posix_fallocate(puppet.counters, 0, 1 << 30)
        assert refused.value.errno == errno.EPERM
        os.kill(victim, 9)
        replaced(daemon, victim)
    assert all(works(pair) for pair in two_pairs)
