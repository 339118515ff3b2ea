"""locate.py: an fd is asked where its device is, and what has to be corrected there is."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest

from tests.host.conftest import HostThread, MakeTap
from tests.kit.commands import ip, run
from tests.kit.links import link_exists, read_link
from tests.kit.netns import Namespaces, known_nsids, netns_inode
from vethd.host import tap
from vethd.host.locate import Located, delete, locate, restore_qdisc, restore_txqlen


def test_a_device_is_found_where_it_is(host: HostThread, netns: Namespaces, make_tap: MakeTap) -> None:
    where = netns.make()
    fd, name = make_tap(where)
    found = host.do(locate, fd)
    assert found is not None
    assert found.netns[1] == netns_inode(where)
    assert (found.info.ifname, found.info.ifindex) == (name, read_link(where, name).ifindex)
    assert host.do(known_nsids) == {found.nsid}


def test_a_device_is_found_where_it_went(host: HostThread, netns: Namespaces, make_tap: MakeTap) -> None:
    where, away = netns.make(), netns.make()
    fd, name = make_tap(where)
    host.do(locate, fd)
    ip(where, "link", "set", name, "netns", away, "name", "vtpaway")
    found = host.do(locate, fd)
    assert found is not None
    assert (found.netns[1], found.info.ifname) == (netns_inode(away), "vtpaway")


def test_asking_keeps_no_namespace_alive(host: HostThread, netns: Namespaces, make_tap: MakeTap) -> None:
    where, away = netns.make(), netns.make()
    fd, name = make_tap(where)
    ip(where, "link", "set", name, "netns", away)
    host.do(locate, fd)
    netns.delete(away)
    assert netns.undead() == []


@pytest.mark.parametrize("change", ["name", "netns"])
@pytest.mark.parametrize("question", [locate, delete])
def test_a_change_between_the_questions_is_seen(
    host: HostThread,
    netns: Namespaces,
    make_tap: MakeTap,
    monkeypatch: pytest.MonkeyPatch,
    question: Callable[[int], Located | None],
    change: str,
) -> None:
    """The fd said one thing, and it is another by the time the namespace is asked: the fd is asked again."""
    where, away = netns.make(), netns.make()
    fd, name = make_tap(where)
    copy = os.dup(fd)  # whose device goes with its last descriptor only
    really = tap.current_name
    done: list[str] = []

    def then_change(asked: int) -> str:
        answer = really(asked)
        if not done:
            done.append(change)
            ip(where, "link", "set", name, change, "vtpother" if change == "name" else away)
        return answer

    monkeypatch.setattr(tap, "current_name", then_change)
    found = host.do(question, copy)
    expected = ("vtpother", where) if change == "name" else (name, away)
    if found is not None:
        assert (found.info.ifname, found.netns[1]) == (expected[0], netns_inode(expected[1]))
        os.close(copy)
    assert link_exists(expected[1], expected[0]) is (question is locate)


def test_a_device_that_is_not_where_it_was_thought_to_be_is_deleted(
    host: HostThread, netns: Namespaces, make_tap: MakeTap
) -> None:
    where, away = netns.make(), netns.make()
    fd, name = make_tap(where)
    there = host.do(locate, fd)
    assert there is not None
    ip(where, "link", "set", name, "netns", away)
    host.do(delete, os.dup(fd), known=(there.netns, there.nsid))
    assert not link_exists(away, name)
    fd, name = make_tap(where)
    host.do(delete, os.dup(fd), known=(there.netns, 1_000_000))
    assert not link_exists(where, name)


@pytest.mark.parametrize("way", ["device", "namespace"])
def test_a_device_that_is_gone_is_nowhere(host: HostThread, netns: Namespaces, make_tap: MakeTap, way: str) -> None:
    where, grave = netns.make(), netns.make()
    fd, name = make_tap(where)
    if way == "device":
        ip(where, "link", "del", name)
    else:
        ip(where, "link", "set", name, "netns", grave)
        netns.delete(grave)
        assert netns.undead() == []
    assert host.do(locate, fd) is None


def test_a_descriptor_of_something_else_is_an_error(host: HostThread) -> None:
    with open("/dev/null") as other, pytest.raises(OSError, match="Inappropriate ioctl"):
        host.do(locate, other.fileno())


def test_a_device_is_deleted_though_others_hold_it(host: HostThread, netns: Namespaces, make_tap: MakeTap) -> None:
    where = netns.make()
    fd, name = make_tap(where)
    copy = os.dup(fd)
    try:
        host.do(delete, copy)
        assert not link_exists(where, name)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(copy)
    finally:
        os.close(fd)


def test_deleting_what_is_gone_closes_the_descriptor(host: HostThread, netns: Namespaces, make_tap: MakeTap) -> None:
    where = netns.make()
    fd, name = make_tap(where)
    ip(where, "link", "del", name)
    host.do(delete, fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_the_qdisc_is_restored_wherever_the_device_is(host: HostThread, netns: Namespaces, make_tap: MakeTap) -> None:
    where, away = netns.make(), netns.make()
    fd, name = make_tap(where)
    host.do(restore_qdisc, fd, host.staging)
    assert read_link(where, name).qdisc == "noqueue"
    ip(where, "link", "set", name, "netns", away)
    assert read_link(away, name).qdisc == "noop", "a move resets it: what this is for"
    host.do(restore_qdisc, fd, host.staging)
    assert read_link(away, name).qdisc == "noqueue"
    ip(away, "link", "set", name, "up")
    assert read_link(away, name).qdisc == "noqueue"


def test_the_ring_is_restored(host: HostThread, netns: Namespaces, make_tap: MakeTap) -> None:
    where = netns.make()
    fd, name = make_tap(where)
    ip(where, "link", "set", name, "txqueuelen", "0")
    host.do(restore_txqlen, fd, 1000, host.staging)
    assert read_link(where, name).txqlen == 1000


def test_the_thread_is_back_home_after_a_correction(host: HostThread, netns: Namespaces, make_tap: MakeTap) -> None:
    where = netns.make()
    fd, name = make_tap(where)
    run("tc", "-n", where, "qdisc", "replace", "dev", name, "root", "pfifo")
    host.do(restore_qdisc, fd, host.staging)
    ip(where, "link", "del", name)
    for correction in (restore_qdisc, lambda fd, home: restore_txqlen(fd, 1000, home)):
        with pytest.raises(OSError, match=r".") as gone:
            host.do(correction, fd, host.staging)
        assert gone.value.errno == errno.ENODEV
    assert host.do(lambda: os.stat("/proc/thread-self/ns/net").st_ino) == os.fstat(host.staging).st_ino
