"""newlink: make both ends of a pair, or none.

Order, as the kernel's veth_newlink has it: everything is checked; the peer (b) is made first, then a; each gets its
place, name, MAC, MTU, ring and root qdisc; both are entered in the tables; a worker takes them; each gets its alias,
and goes up when that is asked for; carrier follows once both are up. Whatever fails, what was done before is undone
in reverse order.

Placement `move`: the TAP is opened in the staging namespace and moved with its new name in one RTM_SETLINK, so its fd
does not keep the target alive and the pair dies with it, as veth does. `inside`: the TAP is opened in the target, a
hundred times faster, and keeps the target alive until the pair is deleted.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from structlog.typing import FilteringBoundLogger

from vethd.errors import KernelRefused, LinkExists, VethdError, no_fd_left
from vethd.host import netns, tap
from vethd.host.locate import locate, restore_qdisc
from vethd.host.rtnl import IFF_UP, LinkInfo, Rtnl
from vethd.host.threads import HostThreads
from vethd.pairs.delete import Deleter
from vethd.pairs.follow import Follower
from vethd.pairs.pair import End, Pair, PairState, Placement, describe
from vethd.pairs.registry import Registry
from vethd.pairs.spec import EndSpec, PairSpec
from vethd.pairs.workers import Workers
from vethd.worker.counters import Counters


@dataclass(frozen=True, slots=True)
class Made:
    """An end that exists: its fd, what the kernel says of it, where it is, and its offloads."""

    fd: int
    info: LinkInfo
    netns: tuple[int, int]
    nsid: int
    offload: int
    hdr_len: int


class Creator:
    """Makes pairs; one per daemon."""

    def __init__(
        self,
        threads: HostThreads,
        registry: Registry,
        workers: Workers,
        follower: Follower,
        deleter: Deleter,
        counters: Counters,
        log: FilteringBoundLogger,
    ) -> None:
        self._threads = threads
        self._registry = registry
        self._workers = workers
        self._follower = follower
        self._deleter = deleter
        self._counters = counters
        self._log = log

    async def newlink(self, spec: PairSpec) -> Pair:
        """Make a pair.

        Raises a VethdError that names end, step and remedy; nothing of the pair is left then.
        Source: veth_newlink in drivers/net/veth.c.
        """
        for end in (spec.a, spec.b):
            end.validate()
        threads = self._threads
        await threads.create(_check_names_free, spec, threads.staging)
        async with AsyncExitStack() as undo:
            numbers = self._registry.take_numbers()
            undo.callback(self._registry.give_numbers, numbers)
            for number in numbers:
                self._counters.clear(number)
            pair = Pair(placement=spec.placement, origin=spec.origin)
            pair.b = await self._make(spec.b, pair, numbers[1], undo)
            pair.a = await self._make(spec.a, pair, numbers[0], undo)
            self._registry.add(pair)
            undo.callback(self._registry.remove, pair)
            undo.push_async_callback(self._workers.release, pair)
            await self._workers.take(pair)
            undo.pop_all()
        pair.state = PairState.LIVE
        try:
            await self._finish(spec, pair)
        except BaseException:
            await self._deleter.dellink(pair, "its creation failed")
            raise
        self._log.info(
            "link added",
            **describe(pair),
            placement=pair.placement,
            origin=pair.origin,
            worker=pair.worker,
            reason=spec.reason,
        )
        return pair

    async def _finish(self, spec: PairSpec, pair: Pair) -> None:
        """What is left to do when the pair is LIVE, and so may be deleted by others at any time."""
        ends = ((spec.b, pair.b), (spec.a, pair.a))
        for wanted, made in ends:
            await self._threads.create(_set_alias_and_up, wanted, made, self._threads.staging)
        for wanted, made in ends:  # what happened to them before they were in the tables went unheard
            with _step(wanted, "looking where it is"):
                await self._follower.refresh(made)
        with _step(spec.a, "setting the carrier"):
            await self._follower.settle(pair)
        if not pair.is_live():
            raise _deleted("one of the ends")

    async def _make(self, spec: EndSpec, pair: Pair, number: int, undo: AsyncExitStack) -> End:
        made = await self._threads.create(make_device, spec, pair.placement, self._threads.staging)
        undo.push_async_callback(self._threads.reap, os.close, made.fd)
        return End(
            pair=pair,
            letter=spec.letter,
            number=number,
            fd=made.fd,
            ifname=made.info.ifname,
            ifindex=made.info.ifindex,
            address=made.info.address,
            mtu=made.info.mtu,
            txqlen=made.info.txqlen,
            netns=made.netns,
            nsid=made.nsid,
            offload=made.offload,
            hdr_len=made.hdr_len,
        )


def _check_names_free(spec: PairSpec, staging: int) -> None:
    """Raise LinkExists when a name is taken; the kernel's own check comes too late to leave nothing behind."""
    a, b = spec.a, spec.b
    for end in (a, b):
        if "%" not in end.ifname:
            with _step(end, "looking for its name"), netns.inside(end.netns, staging), Rtnl() as rtnl:
                if rtnl.has_link(end.ifname):
                    raise _name_taken(end)
    if a.ifname == b.ifname and "%" not in a.ifname and netns.identity(a.netns) == netns.identity(b.netns):
        raise _name_taken(b)


def _deleted(what: str) -> KernelRefused:
    return KernelRefused(
        f"{what} was deleted while the pair was made",
        hint="somebody deletes devices or their namespaces; nothing of the pair was kept",
        errno=errno.ENODEV,
    )


def _name_taken(end: EndSpec) -> LinkExists:
    return LinkExists(
        f"end {end.letter}: name {end.ifname!r} exists in the namespace already",
        hint="choose another name, or one with %d for a free number",
        errno=errno.EEXIST,
    )


@contextmanager
def _step(end: EndSpec, step: str) -> Iterator[None]:
    """Turn what the kernel refuses in the body into an error that names the end and the step."""
    what = f"end {end.letter}: {step}: "
    try:
        yield
    except LinkExists:
        raise
    except VethdError as error:
        if error.errno == errno.EBUSY:  # what the tun driver says to EEXIST
            raise _name_taken(end) from error
        raise type(error)(what + error.message, hint=error.hint, errno=error.errno) from error
    except OSError as error:
        if error.errno == errno.EEXIST:
            raise _name_taken(end) from error
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise no_fd_left(what, error.errno) from error
        raise KernelRefused(
            f"{what}{error.strerror}", hint="nothing of the pair was kept", errno=error.errno
        ) from error


def make_device(spec: EndSpec, placement: Placement, staging: int) -> Made:
    """Make one end where it belongs, down and without carrier. Runs on the `create` thread.

    Raises a VethdError; nothing is left then.
    """
    # A moved TAP gets its name on arrival; so does one whose name is no text, because python-pytun takes nothing else.
    name = f"vethd{secrets.token_hex(5)}"
    if placement == "inside" and spec.ifname.isprintable():
        name = spec.ifname
    with ExitStack() as undo:
        with _step(spec, "creating it"):
            if placement == "inside":
                with netns.inside(spec.netns, staging):
                    fd = tap.open_queue(name)
            else:
                fd = tap.open_queue(name)
        undo.callback(os.close, fd)
        with _step(spec, "setting offloads"):
            offload, hdr_len = tap.probe_offload(fd)
        attributes: dict[str, Any] = {
            # Set explicitly even when random: udev then takes it for the user's wish and leaves it alone.
            "address": spec.address or _random_address(),
            "mtu": spec.mtu,
            "txqlen": spec.txqueuelen,
        }
        if name != spec.ifname:
            attributes["ifname"] = spec.ifname
        with _step(spec, "placing it in its namespace"):
            if placement == "inside":
                with netns.inside(spec.netns, staging), Rtnl() as rtnl:
                    rtnl.set_link(rtnl.get_link(name=tap.current_name(fd)).ifindex, **attributes)
            else:
                with Rtnl() as rtnl:
                    index = rtnl.get_link(name=tap.current_name(fd)).ifindex
                    rtnl.set_link(index, net_ns_fd=spec.netns, **attributes)
        with _step(spec, "setting its qdisc"):
            restore_qdisc(fd, staging)
        with _step(spec, "reading it back"):
            found = locate(fd)
        if found is None:
            raise _deleted(f"end {spec.letter}")
        undo.pop_all()
    return Made(fd, found.info, found.netns, found.nsid, offload, hdr_len)


def _set_alias_and_up(spec: EndSpec, end: End, staging: int) -> None:
    """Say in its alias who made it, and set it up when that is asked for."""
    flags = IFF_UP if spec.up else 0
    alias = f"vethd {end.pair.uuid} peer {end.peer.ifname}"
    step = "setting it up" if spec.up else "setting its alias"
    with _step(spec, step), netns.inside(spec.netns, staging), Rtnl() as rtnl:
        rtnl.set_link(end.ifindex, flags=flags, change=flags, ifalias=alias)


def _random_address() -> str:
    """A random unicast, locally administered MAC (kernel: eth_random_addr)."""
    raw = bytearray(secrets.token_bytes(6))
    raw[0] = raw[0] & 0xFE | 0x02
    return raw.hex(":")
