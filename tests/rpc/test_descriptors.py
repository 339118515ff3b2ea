"""File descriptors sent along with requests: to which request they belong, and that none of them ever stays."""

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.kit.daemon import Daemon
from tests.kit.links import link_exists
from tests.kit.netns import RUN_NETNS, Namespaces, fresh_name
from tests.kit.processes import open_files
from tests.kit.waiting import eventually
from tests.rpc.talk import ANYTHING, Talk, refused, request, result

NOT_ONE = "give a name from `ip netns`, a path, or a pid"


@pytest.fixture
def opened() -> Iterator[Callable[[str | Path], int]]:
    """A function that opens a path for reading; all are closed after the test."""
    with ExitStack() as stack:

        def open_path(path: str | Path) -> int:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, fd)
            return fd

        yield open_path


Open = Callable[[str | Path], int]


def add(number: int, name: str, a: int = 0, b: int = 0) -> dict[str, object]:
    """A request for a pair called NAMEa and NAMEb in the namespaces that came as fds number `a` and `b`."""
    ends = ({"ifname": f"{name}{letter}", "netns": {"fd": fd}} for letter, fd in (("a", a), ("b", b)))
    return request(number, "link.add", **dict(zip("ab", ends, strict=True)), placement="inside")


def test_a_namespace_can_be_sent_along(talk: Talk, netns: Namespaces, opened: Open) -> None:
    red, blue, name = netns.make(), netns.make(), fresh_name()
    talk.say(add(1, name, a=1, b=0), [opened(RUN_NETNS / blue), opened(RUN_NETNS / red)])
    made = talk.hear(result(1))["result"]
    assert (made["a"]["netns"], made["b"]["netns"]) == (red, blue)
    assert link_exists(red, f"{name}a")
    assert link_exists(blue, f"{name}b")


@pytest.mark.parametrize("index", [0, 1, 15])
def test_an_index_beyond_what_was_sent_is_refused(talk: Talk, netns: Namespaces, opened: Open, index: int) -> None:
    fds = [opened(RUN_NETNS / netns.make())] if index == 1 else []
    talk.say(add(1, "vtr", a=index), fds)
    message = f"end a: netns: netns.fd {index}, but {len(fds)} file descriptors came with the request"
    hint = "send the descriptor with the last bytes of the request's line (SCM_RIGHTS)"
    talk.hear(refused(1, "invalid_params", message, hint=hint))


@pytest.mark.parametrize("index", [-1, 16, 1.0, "0", None])
def test_an_index_that_can_not_be_one_is_refused_by_its_name(talk: Talk, index: object) -> None:
    talk.say(request(1, "link.list", netns={"fd": index}))
    heard = talk.hear(refused(1, "invalid_params"))
    assert heard["error"]["message"].startswith("netns")


def test_a_descriptor_that_is_no_network_namespace_is_refused(talk: Talk, tmp_path: Path, opened: Open) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "fifo")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        fifo = os.open(tmp_path / "fifo", os.O_RDWR)
        try:
            others: list[str | Path] = [
                "/proc/self/ns/uts",
                "/proc/self/ns/mnt",
                "/proc/self/ns/pid",
                "/dev/null",
                "/",
                tmp_path / "file",
            ]
            for fd in (*map(opened, others), fifo, ours.fileno()):
                talk.say(request(1, "link.list", netns={"fd": 0}), [fd])
                message = "netns: the file descriptor sent along is not a network namespace"
                talk.hear(refused(1, "no_such_netns", message, hint=NOT_ONE))
        finally:
            os.close(fifo)


def test_a_namespace_opened_only_as_a_path_is_refused(talk: Talk, netns: Namespaces) -> None:
    fd = os.open(RUN_NETNS / netns.make(), os.O_PATH)
    try:
        talk.say(request(1, "link.list", netns={"fd": 0}), [fd])
        talk.hear(refused(1, "no_such_netns"))
    finally:
        os.close(fd)


def test_descriptors_belong_to_the_line_that_ends_with_them(talk: Talk, netns: Namespaces, opened: Open) -> None:
    places = [netns.make() for _ in range(3)]
    names = [fresh_name() for _ in places]
    for number, (place, name) in enumerate(zip(places, names, strict=True)):
        talk.say(add(number, name), [opened(RUN_NETNS / place)])
    for number, place in enumerate(places):
        made = talk.hear(result(number))["result"]
        assert made["a"]["netns"] == made["b"]["netns"] == place


def test_in_one_packet_of_two_lines_the_second_has_them(talk: Talk, netns: Namespaces, opened: Open) -> None:
    place = netns.make()
    first, second = (json.dumps(request(n, "link.list", netns={"fd": 0})).encode() + b"\n" for n in (1, 2))
    talk.send(first + second, [opened(RUN_NETNS / place)])
    talk.hear(refused(1, "invalid_params"))
    talk.hear(result(2, []))


def test_a_line_in_parts_has_the_descriptors_of_all_its_parts(talk: Talk, netns: Namespaces, opened: Open) -> None:
    red, blue, name = netns.make(), netns.make(), fresh_name()
    line = json.dumps(add(1, name, a=0, b=1)).encode() + b"\n"
    talk.send(line[:20], [opened(RUN_NETNS / red)])
    talk.send(line[20:30])
    talk.send(line[30:], [opened(RUN_NETNS / blue)])
    made = talk.hear(result(1))["result"]
    assert (made["a"]["netns"], made["b"]["netns"]) == (red, blue)


def test_the_rest_of_a_packet_takes_its_descriptors_along_to_the_next_line(
    talk: Talk, netns: Namespaces, opened: Open
) -> None:
    first, second = (json.dumps(request(n, "link.list", netns={"fd": 0})).encode() + b"\n" for n in (1, 2))
    talk.send(first + second[:10], [opened(RUN_NETNS / netns.make())])
    talk.hear(refused(1, "invalid_params"))
    talk.send(second[10:])
    talk.hear(result(2, []))


def test_all_requests_of_a_batch_share_the_descriptors_of_its_line(talk: Talk, netns: Namespaces, opened: Open) -> None:
    place = netns.make()
    names = [fresh_name() for _ in range(3)]
    talk.say([add(n, name) for n, name in enumerate(names)], [opened(RUN_NETNS / place)])
    for answer in talk.hear([result(n) for n in range(3)]):
        assert answer["result"]["a"]["netns"] == place


def test_a_request_without_use_for_them_does_not_pass_them_on(talk: Talk, netns: Namespaces, opened: Open) -> None:
    fd = opened(RUN_NETNS / netns.make())
    talk.say(request(1, "link.list"), [fd])
    talk.hear(result(1, []))
    talk.say(request(2, "link.list", netns={"fd": 0}))
    talk.hear(refused(2, "invalid_params"))


def test_sixteen_descriptors_are_taken_and_more_are_refused(talk: Talk, netns: Namespaces, opened: Open) -> None:
    fd = opened(RUN_NETNS / netns.make())
    talk.say(request(1, "link.list", netns={"fd": 15}), [fd] * 16)
    talk.hear(result(1, []))
    for many in (17, 18, 253):
        talk.say(request(2, "link.list", netns={"fd": 0}), [fd] * many)
        talk.hear(refused(2, "invalid_params", "too many file descriptors for one request", hint="send at most 16"))
    talk.say(request(3, "link.list", netns={"fd": 0}), [fd])
    talk.hear(result(3, []))


def test_descriptors_gathered_for_a_line_that_never_ends_are_let_go(
    talk: Talk, opened: Open, shared_daemon: Daemon
) -> None:
    before = len(open_files(shared_daemon.pid))
    for _ in range(2):
        talk.send(b" ", [opened("/dev/null")] * 16)
    talk.hear(refused(None, "invalid_params", "too many file descriptors for one request"))
    talk.hear_hanging_up()
    eventually(lambda: len(open_files(shared_daemon.pid)), lambda count: count <= before, "all are closed")


@pytest.mark.parametrize("ending", ["complete", "half a line", "queued"])
def test_descriptors_of_a_client_that_leaves_are_let_go(
    talk: Talk, opened: Open, shared_daemon: Daemon, ending: str
) -> None:
    talk.hear_nothing()  # but it is connected by now
    before = len(open_files(shared_daemon.pid))
    line = json.dumps(request(1, "stats.get")).encode()
    for _ in range(50 if ending == "queued" else 1):
        talk.send(line + (b"" if ending == "half a line" else b"\n"), [opened("/dev/null")] * 10)
    talk.close()
    eventually(lambda: len(open_files(shared_daemon.pid)), lambda count: count < before, "all are closed")


def test_a_refused_pair_leaves_no_descriptor_and_does_not_pin_the_namespace(
    talk: Talk, netns: Namespaces, shared_daemon: Daemon
) -> None:
    place = netns.make()
    fd = os.open(RUN_NETNS / place, os.O_RDONLY)
    before = len(open_files(shared_daemon.pid))
    for params in ({"mtu": 1}, {"address": "ff:ff:ff:ff:ff:ff"}, {"ifname": "lo"}, {"ifname": "a/b"}, {"colour": 1}):
        talk.say(request(1, "link.add", a={"netns": {"fd": 0}, **params}, b={"netns": {"fd": 1}}), [fd, fd])
        talk.hear({"jsonrpc": "2.0", "id": 1, "error": ANYTHING})
    os.close(fd)
    assert len(open_files(shared_daemon.pid)) == before
    netns.delete(place)
    assert not netns.undead()
