"""Where is the device behind an fd now, and what does the kernel say of it?

An end is identified by its fd and by nothing else: names, indices and namespaces are changed by others at any time.
These calls run on the host threads.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vethd.host import netns, tap
from vethd.host.rtnl import LinkInfo, Rtnl, RtnlError


@dataclass(frozen=True, slots=True)
class Located:
    """netns: identity of the namespace. nsid: its id in the staging namespace. info: the device there."""

    netns: tuple[int, int]
    nsid: int
    info: LinkInfo


def locate(fd: int) -> Located | None:
    """Ask the fd. None when the device is gone, or about to go with its namespace. Raises OSError."""
    while True:
        try:
            where = tap.current_netns(fd)
        except OSError as error:
            if error.errno in tap.GONE:
                return None
            raise
        try:
            with Rtnl() as rtnl:
                nsid = rtnl.assign_nsid(where)
                return Located(netns.identity(where), nsid, rtnl.get_link(nsid=nsid, name=tap.current_name(fd)))
        except RtnlError as error:
            if error.errno != errno.ENODEV:
                raise
            # Renamed, moved or deleted between the questions: ask again, the fd knows which.
        except OSError as error:
            if error.errno in tap.GONE:
                return None
            raise
        finally:
            os.close(where)


def delete(fd: int, *others: int, known: tuple[tuple[int, int], int] | None = None) -> None:
    """Delete the device behind fd, whoever else holds it open, then close fd. Nothing happens when it is gone.

    others: further queues of the device, to be closed with it. known: identity of a namespace, and its id in the
    staging namespace: a device that is there takes a request less, of which a stop with many pairs makes thousands.
    """
    try:
        while not _deleted(fd, known):
            known = None
    finally:
        for queue in (fd, *others):
            os.close(queue)


def _deleted(fd: int, known: tuple[tuple[int, int], int] | None) -> bool:
    """Ask the fd where its device is, and delete it there; False when it was not there any more. Raises OSError."""
    try:
        where = tap.current_netns(fd)
    except OSError as error:
        if error.errno in tap.GONE:
            return True
        raise
    try:
        with Rtnl() as rtnl:
            nsid = known[1] if known and known[0] == netns.identity(where) else rtnl.assign_nsid(where)
            rtnl.del_link(tap.current_name(fd), nsid)
            return True
    except RtnlError as error:
        if error.errno != errno.ENODEV:
            raise
        return False  # renamed, moved or deleted between the questions: ask again
    except OSError as error:
        if error.errno in tap.GONE:
            return True
        raise
    finally:
        os.close(where)


def restore_qdisc(fd: int, staging: int) -> None:
    """Make noqueue the root qdisc again: a move to another namespace resets it. Raises OSError (ENODEV: gone)."""
    with beside(fd, staging) as (rtnl, ifindex):
        rtnl.set_noqueue(ifindex)


def restore_txqlen(fd: int, txqlen: int, staging: int) -> None:
    """Give the TAP its ring back: a txqueuelen of 0 loses every frame. Raises OSError (ENODEV: gone)."""
    with beside(fd, staging) as (rtnl, ifindex):
        rtnl.set_link(ifindex, txqlen=txqlen)


def set_alias(fd: int, alias: str, staging: int) -> None:
    """Set the device's ifalias. Raises OSError (ENODEV: gone)."""
    with beside(fd, staging) as (rtnl, ifindex):
        rtnl.set_link(ifindex, ifalias=alias)


@contextmanager
def beside(fd: int, staging: int) -> Iterator[tuple[Rtnl, int]]:
    """Requests from within the device's own namespace, for what can't be asked from outside; with its ifindex there.

    Raises OSError (ENODEV: gone).
    """
    try:
        where = tap.current_netns(fd)
    except OSError as error:
        if error.errno in tap.GONE:
            raise OSError(errno.ENODEV, "the device is gone") from error
        raise
    try:
        with netns.inside(where, staging), Rtnl() as rtnl:
            yield rtnl, rtnl.index(tap.current_name(fd))
    finally:
        os.close(where)
