"""Attach an end's device to a bridge, addresses and routes, and look what it is attached to.

All of it happens in the namespace where the device is, whichever way it came there, and nowhere else. Before it is up:
the bridge and the addresses; after it: the routes. What is undone by deleting the device needs no undoing of its own.
These calls run on the host threads.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from vethd.errors import InvalidParams, KernelRefused, NoSuchBridge, no_fd_left
from vethd.host import bridge
from vethd.host.address import (
    Address,
    Route,
    add_address,
    add_route,
    addresses,
    del_address,
    del_route,
    in_order,
    routes,
)
from vethd.host.bridge import Bridge, NotABridge, Port
from vethd.host.locate import beside
from vethd.host.rtnl import Rtnl
from vethd.host.threads import HostThreads
from vethd.pairs.pair import End, Pair
from vethd.pairs.spec import Attachment

_NO_WAY: Final = "give the end an address in the network of gw first, or a route to gw before this one"
_HINTS: Final = {
    errno.ENETUNREACH: _NO_WAY,
    errno.EHOSTUNREACH: _NO_WAY,
    errno.EACCES: "IPv6 is off there: sysctl net.ipv6.conf.all.disable_ipv6=0, and the same of `default`",
    errno.EEXIST: "it is there already",
    errno.ENODEV: "somebody deletes devices or their namespaces",
}


def find_bridge(there: Rtnl, port: Port, what: str) -> Bridge:
    """The bridge that an end shall be a port of. what: which end. Raises NoSuchBridge, InvalidParams, KernelRefused."""
    try:
        with _step(what, f"looking for bridge {port.bridge!r}"):
            found = bridge.find(there, port.bridge)
    except NotABridge as other:
        raise NoSuchBridge(
            f"{what}: {port.bridge!r} is no bridge but {other.kind}", hint="`ip link show type bridge` lists bridges"
        ) from other
    if found is None:
        raise NoSuchBridge(
            f"{what}: there is no bridge {port.bridge!r} in its namespace",
            hint=f"make it there first: bridge.set, or ip link add {port.bridge} type bridge",
            errno=errno.ENODEV,
        )
    if port.vlan is not None and not found.vlan_filtering:
        raise InvalidParams(
            f"{what}: bridge.vlan {port.vlan}, but bridge {port.bridge!r} has no vlan_filtering",
            hint=f"switch it on: bridge.set, or ip link set {port.bridge} type bridge vlan_filtering 1",
        )
    return found


def attach(there: Rtnl, ifindex: int, attached: Attachment, what: str) -> None:
    """Give a device its bridge and addresses; its routes follow when it is up. Raises a VethdError."""
    if attached.port is not None:
        join(there, ifindex, attached.port, what)
    for address in attached.addresses:
        with _step(what, f"adding address {address}"):
            add_address(there, ifindex, address)


def join(there: Rtnl, ifindex: int, port: Port, what: str) -> None:
    """Make a device a port of a bridge. Raises a VethdError."""
    found = find_bridge(there, port, what)
    with _step(what, f"joining bridge {port.bridge!r}"):
        bridge.join(there, ifindex, found, port)


def add_routes(there: Rtnl, ifindex: int, wanted: Iterable[Route], what: str) -> None:
    """Make routes through a device that is up, in this order. Raises KernelRefused."""
    for route in wanted:
        with _step(what, f"adding route {route}"):
            add_route(there, ifindex, route)


def set_port(there: Rtnl, ifindex: int, port: Port | None, what: str) -> None:
    """Make a device a port of a bridge, or with None of none. Raises a VethdError."""
    if port is not None:
        join(there, ifindex, port, what)
        return
    with _step(what, "leaving its bridge"):
        there.set_link(ifindex, master=0)


def set_addresses(there: Rtnl, ifindex: int, wished: Sequence[Address], what: str) -> None:
    """Let a device have these addresses, and no others of vethd's. Raises KernelRefused, RtnlError."""
    _add_missing(there, ifindex, wished, what)
    for address, is_ours in list(addresses(there, ifindex)):
        if is_ours and address not in wished:
            with _step(what, f"removing address {address}"), _gone_already(errno.EADDRNOTAVAIL):
                del_address(there, ifindex, address)
    _add_missing(there, ifindex, wished, what)  # with the first of a network, IPv4 takes the others


def _add_missing(there: Rtnl, ifindex: int, wished: Sequence[Address], what: str) -> None:
    now = {address for address, is_ours in addresses(there, ifindex) if is_ours}
    for address in wished:
        if address not in now:
            with _step(what, f"adding address {address}"):
                add_address(there, ifindex, address, take_over=True)


def set_routes(there: Rtnl, ifindex: int, wished: Iterable[Route], what: str) -> None:
    """Let these be vethd's routes through a device, and no others. Raises KernelRefused, RtnlError."""
    now, wished = list(routes(there, ifindex)), list(wished)
    for route in now:
        if route not in wished:
            with _step(what, f"removing route {route}"), _gone_already(errno.ESRCH):
                del_route(there, ifindex, route)
    for route in in_order(wished):
        if route not in now:
            with _step(what, f"adding route {route}"), _gone_already(errno.EEXIST):
                add_route(there, ifindex, route)


def present(there: Rtnl, ifindex: int) -> Attachment:
    """What a device is attached to; of addresses and routes, those that vethd added. Raises RtnlError."""
    ours = (address for address, is_ours in addresses(there, ifindex) if is_ours)
    return Attachment(bridge.port_of(there, ifindex), tuple(ours), tuple(routes(there, ifindex)))


async def attachments(pairs: Iterable[Pair], threads: HostThreads) -> dict[End, Attachment]:
    """What the ends of pairs are attached to, of addresses and routes vethd's own; of one that is gone, nothing.

    Those that never were attached to anything are not asked: each takes half a millisecond.
    """
    found: dict[End, Attachment] = {}
    for pair in pairs:
        for end in pair.ends:
            if pair.is_live() and (end.attached or end.master_index):
                found[end] = await threads.follow_device(end.fd, _look, threads.staging)
    return found


def _look(fd: int, staging: int) -> Attachment:
    try:
        with beside(fd, staging) as (there, ifindex):
            return present(there, ifindex)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        return Attachment()


@contextmanager
def _gone_already(number: int) -> Iterator[None]:
    """That there is nothing to be done is no error. number: what the kernel calls it."""
    try:
        yield
    except OSError as error:
        if error.errno != number:
            raise


@contextmanager
def _step(what: str, step: str) -> Iterator[None]:
    """Turn what the kernel refuses in the body into an error that names the end and the step."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise no_fd_left(f"{what}: {step}: ", error.errno) from error
        hint = _HINTS.get(error.errno or 0, "nothing of it was kept")
        raise KernelRefused(f"{what}: {step}: {error.strerror}", hint=hint, errno=error.errno) from error
