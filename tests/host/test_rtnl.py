"""rtnl.py: requests and their refusals, events of all namespaces on one socket, messages taken apart."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.host.conftest import HostThread, MakeTap
from tests.kit.commands import ip, run
from tests.kit.frames import frame
from tests.kit.links import link_exists, read_link
from tests.kit.netns import RUN_NETNS, Namespaces, known_nsids
from tests.kit.waiting import eventually
from vethd.host import rtnl, tap
from vethd.host.rtnl import IFF_UP, LinkInfo, Rtnl, RtnlError

HEADER = struct.Struct("=IHHII")


@contextmanager
def requests(host: HostThread) -> Iterator[Rtnl]:
    """Requests made in the staging namespace of the host thread."""
    made = host.do(Rtnl)
    try:
        yield made
    finally:
        made.close()


def nsid_of(made: Rtnl, name: str) -> int:
    """The id of a namespace where the requests are made."""
    fd = os.open(RUN_NETNS / name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return made.assign_nsid(fd)
    finally:
        os.close(fd)


@contextmanager
def events(host: HostThread) -> Iterator[socket.socket]:
    """The event socket, opened in the staging namespace."""
    made = host.do(rtnl.event_socket)
    try:
        yield made
    finally:
        made.close()


def heard(sock: socket.socket, kind: int, nsid: int | None, within: float = 5.0) -> bytes:
    """The first message of a kind from one namespace."""
    found: list[bytes] = []

    def look() -> list[bytes]:
        while True:
            try:
                data, sender = rtnl.receive_event(sock)
            except BlockingIOError:
                return found
            found.extend(m for m, what, _seq in rtnl.split(data) if what == kind and sender == nsid)

    return eventually(look, bool, f"an event of type {kind} from {nsid}", within)[0]


# -- requests ---------------------------------------------------------------------------------------------------------


def test_a_link_is_found_by_index_and_by_name(host: HostThread, netns: Namespaces, make_tap: MakeTap) -> None:
    where = netns.make()
    _fd, name = make_tap(where)
    expected = read_link(where, name)
    with requests(host) as made:
        nsid = nsid_of(made, where)
        by_name = made.get_link(nsid=nsid, name=name)
        by_index = made.get_link(nsid=nsid, index=expected.ifindex)
    for info in (by_name, by_index):
        assert (info.ifname, info.ifindex, info.mtu) == (name, expected.ifindex, 1500)
        assert (info.address, info.txqlen, info.up, info.carrier) == (expected.address, 1000, False, False)
        assert (info.operstate, info.qdisc, info.moved_to) == ("DOWN", "noop", None)
        assert info.stats is not None
        assert info.stats.tx_packets == 0


def test_a_link_that_is_not_there_is_told_by_the_errno(host: HostThread, netns: Namespaces) -> None:
    where = netns.make()
    with requests(host) as made:
        nsid = nsid_of(made, where)
        for question in ({"index": 4711}, {"name": "vtpnobody"}):
            with pytest.raises(RtnlError) as refused:
                made.get_link(nsid=nsid, **question)
            assert refused.value.errno == errno.ENODEV
        assert made.has_link("lo")
        assert not made.has_link("vtpnobody")


def test_address_and_counters_alone_are_those_of_the_whole_answer(
    host: HostThread, netns: Namespaces, make_tap: MakeTap
) -> None:
    where = netns.make()
    _fd, name = make_tap(where)
    ip(where, "link", "set", name, "up")
    with requests(host) as made:
        nsid = nsid_of(made, where)
        for device in (name, "lo"):
            whole = made.get_link(nsid=nsid, name=device)
            assert made.get_stats(nsid=nsid, index=whole.ifindex) == (whole.address, whole.stats)
        with pytest.raises(RtnlError) as refused:
            made.get_stats(nsid=nsid, index=4711)
        assert refused.value.errno == errno.ENODEV


def test_a_namespace_that_is_gone_has_no_links(host: HostThread, netns: Namespaces) -> None:
    """The kernel says EINVAL, for the id is no id any more; to whoever asks it is all the same as ENODEV."""
    where = netns.make()
    with requests(host) as made:
        nsid = nsid_of(made, where)
        netns.delete(where)
        assert netns.undead() == []
        for question in (
            lambda: made.get_link(nsid=nsid, index=1),
            lambda: made.get_stats(nsid=nsid, index=1),
            lambda: made.del_link("lo", nsid),
        ):
            with pytest.raises(RtnlError) as refused:
                question()
            assert refused.value.errno == errno.ENODEV


def test_counters_are_those_of_the_kernel(host: HostThread, netns: Namespaces, make_tap: MakeTap) -> None:
    where = netns.make()
    fd, name = make_tap(where)
    header = bytes(10)
    ip(where, "link", "set", name, "up")
    tap.set_carrier(fd, True)
    os.write(fd, header + frame(60))
    os.write(fd, header + frame(70))
    ip(where, "link", "set", name, "down")
    with pytest.raises(OSError, match="Input/output error"):
        os.write(fd, header + frame(80))
    with requests(host) as made:
        stats = made.get_link(nsid=nsid_of(made, where), name=name).stats
    assert stats is not None
    assert (stats.rx_packets, stats.rx_bytes) == (2, 130)
    assert stats.rx_dropped > 0
    by_pyroute2 = read_link(where, name).stats
    assert [getattr(stats, field) for field in stats.__slots__] == [by_pyroute2[field] for field in stats.__slots__]


def test_attributes_and_flags_are_set(host: HostThread, netns: Namespaces, make_tap: MakeTap) -> None:
    where = netns.make()
    _fd, name = make_tap(where)

    def change() -> None:
        with Rtnl() as made:
            index = made.get_link(name=name).ifindex
            made.set_link(index, mtu=1400, address="02:76:74:70:00:01", txqlen=64, ifalias="\udcff", ifname="vtpnew")
            made.set_link(index, flags=IFF_UP, change=IFF_UP)

    host.do_in(where, change)
    state = read_link(where, "vtpnew")
    assert (state.mtu, state.address, state.txqlen, state.up) == (1400, "02:76:74:70:00:01", 64, True)
    assert state.attributes["IFLA_IFALIAS"] == b"\xff"


def test_a_refusal_carries_the_words_of_the_kernel(host: HostThread, netns: Namespaces, make_tap: MakeTap) -> None:
    where = netns.make()
    _fd, name = make_tap(where)

    def change() -> None:
        with Rtnl() as made:
            made.set_link(made.get_link(name=name).ifindex, mtu=70000)

    with pytest.raises(RtnlError) as refused:
        host.do_in(where, change)
    assert refused.value.errno == errno.EINVAL
    assert refused.value.strerror == "Invalid argument: mtu greater than device maximum"


def test_a_link_is_deleted_from_outside_once(host: HostThread, netns: Namespaces, make_tap: MakeTap) -> None:
    where = netns.make()
    _fd, name = make_tap(where)
    with requests(host) as made:
        nsid = nsid_of(made, where)
        made.del_link(name, nsid)
        assert not link_exists(where, name)
        with pytest.raises(RtnlError) as refused:
            made.del_link(name, nsid)
    assert refused.value.errno == errno.ENODEV


def test_noqueue_becomes_the_root_qdisc(host: HostThread, netns: Namespaces, make_tap: MakeTap) -> None:
    where = netns.make()
    _fd, name = make_tap(where)
    index = read_link(where, name).ifindex

    def set_it() -> None:
        with Rtnl() as made:
            made.set_noqueue(index)

    host.do_in(where, set_it)
    assert read_link(where, name).qdisc == "noqueue"
    run("tc", "-n", where, "qdisc", "replace", "dev", name, "root", "pfifo")
    host.do_in(where, set_it)
    assert read_link(where, name).qdisc == "noqueue"


def test_a_namespace_keeps_the_id_it_got(host: HostThread, netns: Namespaces) -> None:
    one, other = netns.make(), netns.make()
    with requests(host) as made:
        ids = [nsid_of(made, name) for name in (one, other, one, other)]
        assert ids == [ids[0], ids[1]] * 2
        assert ids[0] != ids[1]
        assert host.do(known_nsids) == set(ids)


def test_requests_keep_the_namespace_of_their_thread_only_while_open(host: HostThread, netns: Namespaces) -> None:
    where = netns.make()
    made = host.do_in(where, Rtnl)
    netns.delete(where)
    assert netns.undead(within=0.1) == [where]
    made.close()
    assert netns.undead() == []


# -- events -----------------------------------------------------------------------------------------------------------


def test_events_of_every_known_namespace_are_heard(host: HostThread, netns: Namespaces) -> None:
    where, unknown = netns.make(), netns.make()
    with requests(host) as made, events(host) as sock:
        nsid = nsid_of(made, where)
        ip(unknown, "link", "set", "lo", "mtu", "1400")
        ip(where, "link", "set", "lo", "mtu", "1300")
        message = heard(sock, rtnl.RTM_NEWLINK, nsid)
        info = rtnl.parse_link(message)
        assert (info.ifname, info.mtu, info.ifindex) == ("lo", 1300, rtnl.link_index(message))
        host.do(lambda: run("ip", "link", "set", "lo", "up"))
        assert rtnl.parse_link(heard(sock, rtnl.RTM_NEWLINK, None)).ifname == "lo"


def test_a_namespace_is_not_kept_by_being_listened_to(host: HostThread, netns: Namespaces) -> None:
    where = netns.make()
    with requests(host) as made, events(host) as sock:
        nsid = nsid_of(made, where)
        netns.delete(where)
        assert netns.undead() == []
        assert rtnl.parse_nsid(heard(sock, rtnl.RTM_DELNSID, None)) == nsid


def test_a_move_is_told_from_a_deletion(host: HostThread, netns: Namespaces, make_tap: MakeTap) -> None:
    where, away = netns.make(), netns.make()
    _fd, moved = make_tap(where)
    _fd, deleted = make_tap(where)
    with requests(host) as made, events(host) as sock:
        nsid = nsid_of(made, where)
        ip(where, "link", "set", moved, "netns", away)
        gone = rtnl.parse_link(heard(sock, rtnl.RTM_DELLINK, nsid))
        assert gone.ifname == moved
        assert gone.moved_to is not None
        ip(where, "link", "del", deleted)
        gone = rtnl.parse_link(heard(sock, rtnl.RTM_DELLINK, nsid))
        assert (gone.ifname, gone.moved_to) == (deleted, None)


def test_lost_events_are_told(host: HostThread, netns: Namespaces) -> None:
    where = netns.make()
    with requests(host) as made, events(host) as sock:
        nsid_of(made, where)
        sock.setsockopt(socket.SOL_SOCKET, 33, 1)  # SO_RCVBUFFORCE
        run("ip", "-n", where, "-batch", "-", given="".join(f"link set lo mtu {1300 + n}\n" for n in range(50)))
        with pytest.raises(OSError, match="No buffer space") as lost:
            rtnl.receive_event(sock)
        assert lost.value.errno == errno.ENOBUFS


# -- messages ---------------------------------------------------------------------------------------------------------


@given(data=st.binary(max_size=200))
def test_no_datagram_is_too_strange_to_be_split(data: bytes) -> None:
    messages = list(rtnl.split(data))
    assert len(messages) <= len(data) // HEADER.size
    for message, _kind, _sequence in messages:
        assert message in data


MESSAGES = st.lists(st.tuples(st.integers(0, 65535), st.integers(0, 2**32 - 1), st.binary(max_size=20)), max_size=5)


@given(messages=MESSAGES)
def test_a_datagram_is_split_into_its_messages(messages: list[tuple[int, int, bytes]]) -> None:
    data = b""
    for kind, sequence, body in messages:
        data += HEADER.pack(HEADER.size + len(body), kind, 0, sequence, 0) + body + bytes(-len(body) % 4)
    assert [(kind, sequence, found[HEADER.size :]) for found, kind, sequence in rtnl.split(data)] == messages


def test_what_a_message_does_not_say_is_empty() -> None:
    body = struct.pack("=BBHiII", 0, 0, 1, 7, IFF_UP, 0)
    info = rtnl.parse_link(HEADER.pack(HEADER.size + len(body), rtnl.RTM_NEWLINK, 0, 1, 0) + body)
    assert info == LinkInfo(7, "", IFF_UP, 0, "", 0, False, "UNKNOWN", "", "", None, None, 0, "")
    assert info.up
