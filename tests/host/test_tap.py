"""tap.py: TAPs as the daemon opens them, and what an fd tells of its device."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable

import pytest
import pytun

from tests.host.conftest import HostThread, MakeTap
from tests.kit.commands import ip
from tests.kit.links import link_exists, read_link
from tests.kit.netns import Namespaces, fresh_name, netns_inode
from tests.kit.processes import tap_fds
from tests.kit.waiting import eventually
from vethd.errors import KernelRefused, LimitReached, TunMissing
from vethd.host import tap

TUNGETIFF, TUNGETVNETHDRSZ = 0x800454D2, 0x800454D7
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR, IFF_MULTI_QUEUE, IFF_PERSIST = 0x2, 0x1000, 0x4000, 0x100, 0x800


def flags(fd: int) -> int:
    return int(struct.unpack_from("=H", fcntl.ioctl(fd, TUNGETIFF, bytes(40)), 16)[0])


def header_size(fd: int) -> int:
    return int(struct.unpack("i", fcntl.ioctl(fd, TUNGETVNETHDRSZ, bytes(4)))[0])


def test_a_new_tap_is_down_without_carrier_and_has_a_header(netns: Namespaces, make_tap: MakeTap) -> None:
    where = netns.make()
    fd, name = make_tap(where)
    state = read_link(where, name)
    assert (state.kind, state.up, state.carrier, state.mtu, state.txqlen) == ("tun", False, False, 1500, 1000)
    assert flags(fd) & (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE | IFF_PERSIST) == (
        IFF_TAP | IFF_NO_PI | IFF_VNET_HDR
    )


def test_its_descriptor_neither_blocks_nor_leaks(netns: Namespaces, make_tap: MakeTap) -> None:
    """A descriptor that a worker inherits by accident would keep the device alive."""
    fd, _name = make_tap(netns.make())
    assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK
    assert fcntl.fcntl(fd, fcntl.F_GETFD) == fcntl.FD_CLOEXEC
    assert tap_fds(os.getpid()) == 1, "python-pytun's own descriptor is closed"


def test_it_goes_with_its_last_descriptor(netns: Namespaces, make_tap: MakeTap) -> None:
    where = netns.make()
    fd, name = make_tap(where)
    copy = os.dup(fd)
    os.close(fd)
    assert link_exists(where, name)
    os.close(copy)
    assert not link_exists(where, name)


def test_a_pattern_gets_a_number(host: HostThread, netns: Namespaces) -> None:
    where = netns.make()
    fds = [host.do_in(where, tap.open_queue, "vtp%d") for _ in range(2)]
    try:
        assert [tap.current_name(fd) for fd in fds] == ["vtp0", "vtp1"]
    finally:
        for fd in fds:
            os.close(fd)


@pytest.mark.parametrize("by", ["tuntap add dev vtptaken mode tap", "link add name vtptaken type bridge"])
def test_a_name_that_is_taken_is_refused(host: HostThread, netns: Namespaces, by: str) -> None:
    """Also by a TAP that nobody has open: to attach to it would be to steal it."""
    where = netns.make()
    ip(where, *by.split())
    with pytest.raises(KernelRefused, match="vtptaken") as refused:
        host.do_in(where, tap.open_queue, "vtptaken")
    assert refused.value.errno == errno.EBUSY
    assert refused.value.hint


@pytest.mark.parametrize(
    ("number", "kind", "remedy"),
    [
        (errno.ENOENT, TunMissing, "load the tun module"),
        (errno.ENODEV, TunMissing, "modprobe tun"),
        (errno.ENXIO, TunMissing, "modprobe tun"),
        (errno.ENOTTY, TunMissing, "is not the tun device"),
        (errno.EACCES, TunMissing, "chmod 0666 /dev/net/tun"),
        (errno.EPERM, TunMissing, "CAP_NET_ADMIN"),
        (errno.ENOMEM, TunMissing, "dmesg"),
        (errno.EMFILE, LimitReached, "LimitNOFILE"),
        (errno.ENFILE, LimitReached, "fs.file-max"),
        (errno.EBUSY, KernelRefused, "exist already"),
        (errno.EINVAL, KernelRefused, "exist already"),
    ],
)
def test_what_pytun_reports_becomes_an_error_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, number: int, kind: type[TunMissing | LimitReached | KernelRefused], remedy: str
) -> None:
    def refuse(*, name: str, flags: int) -> None:
        raise pytun.Error(number, os.strerror(number))

    monkeypatch.setattr(pytun, "TunTapDevice", refuse)
    with pytest.raises(kind) as refused:
        tap.open_queue("vtp")
    assert refused.value.errno == number
    assert refused.value.hint is not None
    assert remedy in refused.value.hint


def test_without_a_second_descriptor_the_device_goes_again(
    host: HostThread, netns: Namespaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, command: int, *_args: int) -> None:
        assert command == fcntl.F_DUPFD_CLOEXEC
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    where, name = netns.make(), fresh_name("t")
    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "fcntl", refuse)
        with pytest.raises(LimitReached):
            host.do_in(where, tap.open_queue, name)
    eventually(lambda: link_exists(where, name), lambda there: not there, "it is gone")
    assert tap_fds(os.getpid()) == 0


def test_the_most_offloads_are_found_and_the_header_fits(netns: Namespaces, make_tap: MakeTap) -> None:
    fd, _name = make_tap(netns.make())
    offload, hdr_len = tap.probe_offload(fd)
    assert (offload, hdr_len) in tap.OFFLOADS
    assert header_size(fd) == hdr_len
    better = [value for value, _size in tap.OFFLOADS[: tap.OFFLOADS.index((offload, hdr_len))]]
    for value in better:
        with pytest.raises(OSError, match="Invalid argument"):
            tap.set_offload(fd, value)


@pytest.mark.parametrize("refused", range(len(tap.OFFLOADS)))
def test_an_older_kernel_gets_less(
    netns: Namespaces, make_tap: MakeTap, monkeypatch: pytest.MonkeyPatch, refused: int
) -> None:
    fd, _name = make_tap(netns.make())
    monkeypatch.setattr(tap, "set_offload", refusing(tap.set_offload, refused, errno.EINVAL))
    assert tap.probe_offload(fd) == tap.OFFLOADS[refused]
    assert header_size(fd) == tap.OFFLOADS[refused][1]


@pytest.mark.parametrize(("first", "number"), [(1, errno.EBADFD), (1, errno.ENOMEM), (len(tap.OFFLOADS), errno.EINVAL)])
def test_other_trouble_is_not_taken_for_an_older_kernel(
    netns: Namespaces, make_tap: MakeTap, monkeypatch: pytest.MonkeyPatch, first: int, number: int
) -> None:
    fd, _name = make_tap(netns.make())
    monkeypatch.setattr(tap, "set_offload", refusing(tap.set_offload, first, number))
    with pytest.raises(OSError, match=r".") as trouble:
        tap.probe_offload(fd)
    assert trouble.value.errno == number


def refusing(call: Callable[[int, int], None], first: int, number: int) -> Callable[[int, int], None]:
    """The call, but the first so many times it fails."""
    left = first

    def sometimes(fd: int, offload: int) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            raise OSError(number, os.strerror(number))
        call(fd, offload)

    return sometimes


def test_offloads_are_named() -> None:
    assert tap.offload_names(0) == []
    assert tap.offload_names(0x0F) == ["tx-checksum", "tso4", "tso6", "tso-ecn"]
    assert tap.offload_names(0x6F) == [*tap.offload_names(0x0F), "uso4", "uso6"]
    assert tap.offload_names(0x1EF) == [*tap.offload_names(0x6F), "udp-tunnel", "udp-tunnel-csum"]


def test_lowering_goes_step_by_step_and_ends_at_nothing() -> None:
    steps = [tap.OFFLOADS[0][0]]
    while steps[-1]:
        steps.append(tap.lower_offload(steps[-1]))
    assert steps == [value for value, _size in tap.OFFLOADS]
    assert tap.lower_offload(0) == 0


def test_the_carrier_is_as_it_was_set(netns: Namespaces, make_tap: MakeTap) -> None:
    where = netns.make()
    fd, name = make_tap(where)
    for on in (True, False, True):
        tap.set_carrier(fd, on)
        assert read_link(where, name).carrier is on


def test_the_descriptor_knows_the_name_after_a_rename(netns: Namespaces, make_tap: MakeTap) -> None:
    where = netns.make()
    fd, name = make_tap(where)
    assert tap.current_name(fd) == name
    ip(where, "link", "set", name, "name", "vtpotherwise")
    assert tap.current_name(fd) == "vtpotherwise"


def test_the_descriptor_knows_the_namespace_after_a_move(netns: Namespaces, make_tap: MakeTap) -> None:
    where, away = netns.make(), netns.make()
    fd, name = make_tap(where)
    for target in (away, where):
        ip(away if target == where else where, "link", "set", name, "netns", target)
        found = tap.current_netns(fd)
        try:
            assert os.fstat(found).st_ino == netns_inode(target)
        finally:
            os.close(found)


@pytest.mark.parametrize("question", [tap.current_name, tap.current_netns, lambda fd: tap.set_carrier(fd, True)])
def test_a_deleted_device_is_told_by_every_question(
    netns: Namespaces, make_tap: MakeTap, question: Callable[[int], object]
) -> None:
    where = netns.make()
    fd, name = make_tap(where)
    ip(where, "link", "del", name)
    with pytest.raises(OSError, match="File descriptor in bad state") as told:
        question(fd)
    assert told.value.errno in tap.GONE


def test_all_queues_are_of_one_device(host: HostThread, netns: Namespaces) -> None:
    where = netns.make()
    fds = host.do_in(where, tap.open_queues, "vtq%d", 4)
    try:
        assert {tap.current_name(fd) for fd in fds} == {"vtq0"}
        assert all(flags(fd) & IFF_MULTI_QUEUE for fd in fds)
        state = read_link(where, "vtq0")
        assert (state.up, state.carrier) == (False, False), "a further queue switches no carrier on"
        assert all(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK for fd in fds)
        assert all(fcntl.fcntl(fd, fcntl.F_GETFD) == fcntl.FD_CLOEXEC for fd in fds)
    finally:
        for fd in fds:
            os.close(fd)
    assert not link_exists(where, "vtq0")


def test_one_queue_is_no_multi_queue_device(host: HostThread, netns: Namespaces) -> None:
    (fd,) = host.do_in(netns.make(), tap.open_queues, "vtq", 1)
    try:
        assert not flags(fd) & IFF_MULTI_QUEUE
    finally:
        os.close(fd)


@pytest.mark.parametrize("by", ["tuntap add dev vtptaken mode tap multi_queue", "link add name vtptaken type bridge"])
def test_several_queues_of_a_name_that_is_taken_are_refused(host: HostThread, netns: Namespaces, by: str) -> None:
    """Also by a device that would take further queues: they would carry somebody else's frames."""
    where = netns.make()
    ip(where, *by.split())
    with pytest.raises(KernelRefused, match="vtptaken") as refused:
        host.do_in(where, tap.open_queues, "vtptaken", 2)
    assert refused.value.errno == errno.EBUSY


def test_more_queues_than_the_driver_has_leave_none(host: HostThread, netns: Namespaces) -> None:
    where = netns.make()
    with pytest.raises((TunMissing, KernelRefused)) as refused:
        host.do_in(where, tap.open_queues, "vtq", tap.QUEUES_MAX + 1)
    assert refused.value.errno == errno.E2BIG
    assert not link_exists(where, "vtq")
