"""netns.py: a thread goes in and comes back; nothing but a network namespace is ever opened."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from tests.host.conftest import HostThread
from tests.kit.netns import RUN_NETNS, Namespaces, fresh_name, netns_inode, socket_in
from tests.kit.waiting import eventually
from vethd.errors import LimitReached, NoSuchNetns
from vethd.host import netns as host_netns


def here() -> int:
    """The inode of the namespace that the calling thread is in."""
    return os.stat("/proc/thread-self/ns/net").st_ino


def opened(name: str) -> int:
    return os.open(RUN_NETNS / name, os.O_RDONLY | os.O_CLOEXEC)


def test_only_the_calling_thread_goes_in(host: HostThread, netns: Namespaces) -> None:
    where, home = netns.make(), here()
    assert host.do_in(where, here) == netns_inode(where)
    assert here() == home
    assert os.stat("/proc/self/ns/net").st_ino == home


def test_the_thread_comes_back_whatever_happens(host: HostThread, netns: Namespaces) -> None:
    where, staging = netns.make(), os.fstat(host.staging).st_ino

    def fail() -> None:
        assert here() == netns_inode(where)
        raise LookupError

    with pytest.raises(LookupError):
        host.do_in(where, fail)
    assert host.do(here) == staging


def test_a_thread_that_can_not_go_in_stays_where_it_is(host: HostThread) -> None:
    def try_to() -> int:
        with host_netns.inside(host.staging + 1000, host.staging):
            raise AssertionError("it went in")

    with pytest.raises(OSError, match=r"Bad file descriptor") as refused:
        host.do(try_to)
    assert refused.value.errno == errno.EBADF
    assert host.do(here) == os.fstat(host.staging).st_ino


def test_a_new_namespace_is_empty_and_the_threads_own(host: HostThread) -> None:
    links = host.do(lambda: [name for _index, name in socket.if_nameindex()])
    assert links == ["lo"]
    assert host.do(here) == os.fstat(host.staging).st_ino != here()


def test_an_identity_is_that_of_the_namespace(netns: Namespaces) -> None:
    one, other = netns.make(), netns.make()
    fds = [opened(one), opened(one), opened(other)]
    try:
        first, again, second = map(host_netns.identity, fds)
        assert first == again
        assert first != second
        assert first[1] == netns_inode(one)
    finally:
        for fd in fds:
            os.close(fd)


def test_a_socket_tells_where_it_belongs(netns: Namespaces) -> None:
    where = netns.make()
    with socket_in(where, socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        fd = host_netns.of_socket(sock.fileno())
    try:
        assert host_netns.identity(fd)[1] == netns_inode(where)
    finally:
        os.close(fd)


@pytest.mark.parametrize("way", ["name", "path", "pid"])
def test_a_namespace_is_opened_in_each_way(netns: Namespaces, way: str) -> None:
    where = netns.make()
    with subprocess.Popen(["nsenter", f"--net={RUN_NETNS / where}", "sleep", "60"]) as process:
        try:
            entered = Path(f"/proc/{process.pid}/ns/net")
            eventually(lambda: entered.stat().st_ino, lambda inode: inode == netns_inode(where), "it entered")
            fd = {
                "name": lambda: host_netns.open_name(where),
                "path": lambda: host_netns.open_path(str(RUN_NETNS / where)),
                "pid": lambda: host_netns.open_pid(process.pid),
            }[way]()
        finally:
            process.kill()
    try:
        assert host_netns.identity(fd)[1] == netns_inode(where)
        assert fcntl.fcntl(fd, fcntl.F_GETFD) == fcntl.FD_CLOEXEC
    finally:
        os.close(fd)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "../../proc/self/ns/net"])
def test_a_name_leads_nowhere_else(name: str) -> None:
    with pytest.raises(NoSuchNetns, match="is not a namespace name"):
        host_netns.open_name(name)


def test_a_name_that_is_missing_is_said_with_the_remedy() -> None:
    name = fresh_name()
    with pytest.raises(NoSuchNetns, match=f"netns '{name}': No such file") as refused:
        host_netns.open_name(name)
    assert (refused.value.hint, refused.value.errno) == (f"create it first: ip netns add {name}", errno.ENOENT)


def test_a_pid_that_is_gone_is_said_with_the_remedy() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    with pytest.raises(NoSuchNetns, match=f"the netns of pid {process.pid}") as refused:
        host_netns.open_pid(process.pid)
    assert refused.value.hint == "is the process still running?"


@pytest.mark.parametrize(
    "path", ["/proc/self/ns/mnt", "/proc/self/ns/user", "/etc/passwd", "/proc", "/dev/zero", "/dev/net/tun", "/"]
)
def test_what_is_no_network_namespace_is_refused(path: str) -> None:
    with pytest.raises(NoSuchNetns, match="is not a network namespace"):
        host_netns.open_path(path)


def test_a_fifo_is_never_opened(tmp_path: Path) -> None:
    """Opening one waits for a writer; the daemon would stand still."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    outcome: list[str] = []

    def try_to() -> None:
        try:
            host_netns.open_path(str(fifo))
        except NoSuchNetns as error:
            outcome.append(error.message)

    thread = threading.Thread(target=try_to, daemon=True)
    thread.start()
    thread.join(5)
    assert outcome == [f"netns path {str(fifo)!r} is not a network namespace"]


@pytest.mark.parametrize("path", ["/proc/self/ns/net\0", "/\ud800"])
def test_a_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(NoSuchNetns):
        host_netns.open_path(path)


def test_a_link_to_a_namespace_is_followed(netns: Namespaces, tmp_path: Path) -> None:
    """The path comes from a client who could open it himself; there is nothing to win by a trick."""
    where, link = netns.make(), tmp_path / "link"
    link.symlink_to(RUN_NETNS / where)
    fd = host_netns.open_path(str(link))
    try:
        assert host_netns.identity(fd)[1] == netns_inode(where)
    finally:
        os.close(fd)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
@pytest.mark.parametrize("nth", [1, 2])
def test_without_a_descriptor_it_is_a_limit(monkeypatch: pytest.MonkeyPatch, number: int, nth: int) -> None:
    opens = 0
    really = os.open

    def counted(*args: object, **kwargs: object) -> int:
        nonlocal opens
        opens += 1
        if opens == nth:
            raise OSError(number, os.strerror(number))
        return really(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", counted)
    with pytest.raises(LimitReached, match=r"netns path .*: no file descriptor is free") as refused:
        host_netns.open_path("/proc/self/ns/net")
    assert refused.value.errno == number


def test_names_are_found_by_identity(netns: Namespaces) -> None:
    made = {netns.make() for _ in range(2)}
    found = host_netns.names()
    for name in made:
        status = (RUN_NETNS / name).stat()
        assert found[status.st_dev, status.st_ino] == name


def test_names_that_go_meanwhile_are_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    monkeypatch.setattr(host_netns, "NETNS_DIR", tmp_path)
    assert list(host_netns.names().values()) == ["there"]


def test_without_a_directory_there_are_no_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(host_netns, "NETNS_DIR", tmp_path / "none")
    assert host_netns.names() == {}
