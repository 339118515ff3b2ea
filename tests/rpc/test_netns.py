"""Which namespace: by name, path, pid or descriptor, or the caller's own; and paths that mean harm."""

import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.kit.commands import start
from tests.kit.daemon import Daemon
from tests.kit.links import link_exists
from tests.kit.netns import RUN_NETNS, Namespaces, fresh_name, inside, netns_inode
from tests.kit.waiting import eventually
from tests.rpc.talk import Talk, refused, request, result
from tests.rpc.watching import Watch


@pytest.fixture
def process_in() -> Iterator[Callable[[str], int]]:
    """A function that starts a process in a namespace and returns its pid; all are ended after the test."""
    with ExitStack() as stack:

        def begin(netns: str) -> int:
            process = stack.enter_context(start(netns, ["sleep", "60"]))
            stack.callback(process.kill)
            link = Path(f"/proc/{process.pid}/ns/net")
            eventually(lambda: link.stat().st_ino, lambda inode: inode == netns_inode(netns), "it entered")
            return process.pid

        yield begin


def add(talk: Talk, netns: Any, other: Any) -> dict[str, Any]:
    """Make a pair between two namespaces, however they are given; the two ends."""
    name = fresh_name()
    ends = {"a": {"ifname": f"{name}a", "netns": netns}, "b": {"ifname": f"{name}b", "netns": other}}
    talk.say(request(1, "link.add", **ends, placement="inside"))
    made: dict[str, Any] = talk.hear(result(1))["result"]
    return made


def test_by_name(talk: Talk, netns: Namespaces) -> None:
    red, blue = netns.make(), netns.make()
    made = add(talk, red, {"name": blue})
    assert (made["a"]["netns"], made["b"]["netns"]) == (red, blue)
    assert link_exists(red, made["a"]["ifname"])
    assert link_exists(blue, made["b"]["ifname"])


def test_by_absolute_path(talk: Talk, netns: Namespaces, process_in: Callable[[str], int]) -> None:
    red, blue = netns.make(), netns.make()
    made = add(talk, f"/proc/{process_in(red)}/ns/net", {"path": f"/run/../run/netns/{blue}"})
    assert (made["a"]["netns"], made["b"]["netns"]) == (red, blue)


def test_by_pid(talk: Talk, netns: Namespaces, process_in: Callable[[str], int]) -> None:
    red, blue = netns.make(), netns.make()
    made = add(talk, {"pid": process_in(red)}, {"pid": process_in(blue)})
    assert (made["a"]["netns"], made["b"]["netns"]) == (red, blue)


def test_through_a_symbolic_link(talk: Talk, netns: Namespaces, tmp_path: Path) -> None:
    red = netns.make()
    (tmp_path / "link").symlink_to(RUN_NETNS / red)
    made = add(talk, str(tmp_path / "link"), red)
    assert made["a"]["netns"] == red


def test_left_out_it_is_the_callers_own(shared_daemon: Daemon, netns: Namespaces) -> None:
    red, blue = netns.make(), netns.make()
    talk = inside(red, Talk, shared_daemon.socket)
    try:
        name = fresh_name()
        talk.say(request(1, "link.add", a={"ifname": f"{name}a"}, b={"ifname": f"{name}b", "netns": blue}))
        made = talk.hear(result(1))["result"]
        assert (made["a"]["netns"], made["b"]["netns"]) == (red, blue)
        talk.say(request(2, "link.add", placement="inside"))  # without b the peer is beside it
        made = talk.hear(result(2))["result"]
        assert (made["a"]["netns"], made["b"]["netns"]) == (red, red)
        assert {made["a"]["ifname"], made["b"]["ifname"]} == {"veth0", "veth1"}
    finally:
        talk.close()  # a connection keeps the caller's namespace alive


def test_one_without_a_name_has_an_inode(talk: Talk, netns: Namespaces, process_in: Callable[[str], int]) -> None:
    red, blue = netns.make(), netns.make()
    pid, inode = process_in(blue), netns_inode(blue)
    netns.delete(blue)  # the process keeps it
    made = add(talk, red, {"pid": pid})
    assert (made["b"]["netns"], made["b"]["netns_inode"]) == (None, inode)
    talk.say(request(2, "link.list", netns={"pid": pid}))
    assert talk.hear(result(2))["result"][0]["pair"] == made["pair"]


# -- what is not there, or is none ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("netns", "message", "hint"),
    [
        ("vtr-none", "netns 'vtr-none': No such file or directory", "create it first: ip netns add vtr-none"),
        ({"name": "../netns"}, "netns '../netns' is not a namespace name", "a path must be absolute"),
        ({"name": "a/b"}, "netns 'a/b' is not a namespace name", "a path must be absolute"),
        ("..", "netns '..' is not a namespace name", "a path must be absolute"),
        (".", "netns '.' is not a namespace name", "a path must be absolute"),
        (
            "/vtr/none",
            "netns path '/vtr/none': No such file or directory",
            "give the path of a namespace file, such as /proc/PID/ns/net",
        ),
        ({"pid": 4194304}, "the netns of pid 4194304: No such file or directory", "is the process still running?"),
    ],
)
def test_what_is_not_there(talk: Talk, netns: object, message: str, hint: str) -> None:
    talk.say(request(1, "link.list", netns=netns))
    errno = {"errno": "ENOENT"} if "No such" in message else {}
    talk.hear(refused(1, "no_such_netns", message, hint=hint, **errno))


@pytest.mark.parametrize(
    ("netns", "message"),
    [
        ({}, "netns: give exactly one of name, path, pid and fd"),
        ({"name": "a", "pid": 1}, "netns: give exactly one of name, path, pid and fd"),
        ({"path": "relative"}, "netns.path: must match pattern '^/', not \"relative\""),
        ({"pid": 0}, "netns.pid: must be greater than or equal to 1, not 0"),
        ({"pid": -1}, "netns.pid: must be greater than or equal to 1, not -1"),
        ({"pid": "1"}, 'netns.pid: must be a valid integer, not "1"'),
        ({"inode": 1}, "netns.inode: unknown"),
        ("", 'netns: must have at least 1 character, not ""'),
        (1, "netns: must be a name, an absolute path, or hold one of name, path, pid and fd, not 1"),
    ],
)
def test_what_can_not_be_one(talk: Talk, netns: object, message: str) -> None:
    talk.say(request(1, "link.list", netns=netns))
    talk.hear(refused(1, "invalid_params", message))


def fifo(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))


def block_device(path: Path) -> None:
    os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(7, 200))


def directory(path: Path) -> None:
    path.mkdir()


def regular_file(path: Path) -> None:
    path.write_text("text")


def listening_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize("make", [fifo, device, block_device, directory, regular_file, listening_socket])
@pytest.mark.parametrize("linked", [False, True], ids=["itself", "behind a symbolic link"])
def test_what_is_no_namespace_is_not_even_opened(
    talk: Talk, tmp_path: Path, make: Callable[[Path], None], linked: bool
) -> None:
    path = tmp_path / "it"
    make(path)
    asked = path
    if linked:
        asked = tmp_path / "link"
        asked.symlink_to(path)
    with Watch(path) as watch:
        talk.say(request(1, "link.list", netns=str(asked)))
        hint = "give the path of a namespace file, such as /proc/PID/ns/net"
        talk.hear(refused(1, "no_such_netns", f"netns path '{asked}' is not a network namespace", hint=hint))
        assert not watch.seen()


def test_the_watch_of_these_tests_sees_an_open_file(tmp_path: Path) -> None:
    fifo(tmp_path / "it")
    with Watch(tmp_path / "it") as watch:
        assert not watch.seen()
        os.close(os.open(tmp_path / "it", os.O_RDONLY | os.O_NONBLOCK))
        assert watch.seen()


def test_a_loop_of_symbolic_links_is_no_namespace(talk: Talk, tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to(tmp_path / "two")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    talk.say(request(1, "link.list", netns=str(tmp_path / "one")))
    talk.hear(refused(1, "no_such_netns", f"netns path '{tmp_path / 'one'}': Too many levels of symbolic links"))


@pytest.mark.parametrize("path", ["/proc/self/ns/mnt", "/proc/self/ns/user", "/proc/self/exe", "/proc/self/mem", "/"])
def test_other_files_of_proc_are_no_network_namespaces(talk: Talk, path: str) -> None:
    talk.say(request(1, "link.list", netns=path))
    talk.hear(refused(1, "no_such_netns"))


@pytest.mark.parametrize(
    ("length", "kind"), [(256, "no_such_netns"), (4095, "no_such_netns"), (4096, "invalid_params")]
)
def test_a_path_too_long_is_just_not_there(talk: Talk, length: int, kind: str) -> None:
    talk.say(request(1, "link.list", netns="/" + "x" * (length - 1)))
    talk.hear(refused(1, kind))


def test_a_namespace_that_was_asked_about_is_not_kept(talk: Talk, netns: Namespaces) -> None:
    red = netns.make()
    for way in (red, str(RUN_NETNS / red), {"name": red}, {"path": str(RUN_NETNS / red)}):
        talk.say(request(1, "link.list", netns=way))
        talk.hear(result(1, []))
        talk.say(request(2, "link.get", ifname="vtr-none", netns=way))
        talk.hear(refused(2, "no_such_link"))
    netns.delete(red)
    assert not netns.undead()
