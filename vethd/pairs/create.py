"""newlink: make both ends of a pair, or none.

Order, as the kernel's veth_newlink has it: everything is checked; the peer (b) is made first, then a; each gets its
place, name, MAC, MTU, ring and root qdisc; both are entered in the tables; a worker takes them; each gets its alias,
bridge and addresses, and goes up when that is asked for; once both are up, carrier follows; routes come last. Whatever
fails, what was done before is undone
in reverse order. What the kernel is asked before the worker takes them, and what after, is one call each on the
`create` thread: every turn between thread and loop costs as much as three requests.

Placement `move`: the TAP is opened in the staging namespace and moved with its new name in one RTM_SETLINK, so its fd
does not keep the target alive and the pair dies with it, as veth does. `inside`: the TAP is opened in the target, a
hundred times faster, and keeps the target alive until the pair is deleted - with a bridge that the end is a port of:
that is looked for where the end belongs, with either placement.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from structlog.typing import FilteringBoundLogger

from vethd.errors import KernelRefused, LimitReached, LinkExists, ShuttingDown, VethdError, name_taken, no_fd_left
from vethd.host import limits, netns, steering, tap
from vethd.host.rtnl import IFF_UP, LinkStats, Rtnl
from vethd.host.threads import HostThreads
from vethd.pairs.attach import add_routes, attach, find_bridge
from vethd.pairs.delete import Deleter
from vethd.pairs.follow import Follower
from vethd.pairs.journal import Journal
from vethd.pairs.pair import End, Letter, Overload, Pair, PairState, Placement, Queue, default_alias, describe
from vethd.pairs.registry import Registry
from vethd.pairs.spec import Attachment, EndSpec, PairSpec
from vethd.pairs.workers import Workers
from vethd.worker.counters import Counters


@dataclass(frozen=True, slots=True)
class Made:
    """An end that exists: the fds of its queues, name and index, MAC, the id of its namespace, and its offloads.

    there: requests from within its namespace, for as long as the pair is being made.
    """

    there: Rtnl
    fds: list[int]
    ifname: str
    ifindex: int
    address: str
    nsid: int
    offload: int
    hdr_len: int


class Creator:
    """Makes pairs; one per daemon. overload: of pairs for which nothing else is asked."""

    def __init__(
        self,
        threads: HostThreads,
        registry: Registry,
        workers: Workers,
        follower: Follower,
        deleter: Deleter,
        counters: Counters,
        journal: Journal,
        log: FilteringBoundLogger,
        overload: Overload = "drop",
    ) -> None:
        self._threads = threads
        self._registry = registry
        self._workers = workers
        self._follower = follower
        self._deleter = deleter
        self._counters = counters
        self._journal = journal
        self._log = log
        self.overload = overload
        self._making: set[asyncio.Event] = set()
        self._stopping = False
        self._memory = limits.Memory()

    @property
    def busy(self) -> bool:
        """True while a pair is being made."""
        return bool(self._making)

    async def settle(self) -> None:
        """Return when the pairs that are being made now are there, or have failed."""
        await asyncio.gather(*(made.wait() for made in self._making))

    def check_room(self, queues: int) -> None:
        """Raise LimitReached when there is too little of the machine left for pairs with so many queues in all."""
        self._memory.take(queues)
        limits.check_descriptors(2 * queues)

    def interrupt(self) -> None:
        """Begin with no further pair, for good: the daemon stops."""
        self._stopping = True

    async def newlink(self, spec: PairSpec) -> Pair:
        """Make a pair.

        Raises a VethdError that names end, step and remedy; nothing of the pair is left then.
        Source: veth_newlink in drivers/net/veth.c.
        """
        spec.validate()
        self._memory.take(spec.numqueues)
        return await self.make(spec, await self.numbers(spec.numqueues))

    async def make(self, spec: PairSpec, numbers: tuple[int, ...]) -> Pair:
        """`newlink` of a valid spec, with numbers that were taken for it; they are free again when it fails."""
        if self._stopping:
            self._registry.give_numbers(numbers)
            raise ShuttingDown("the daemon is shutting down", hint="try again when it is back")
        done = asyncio.Event()
        self._making.add(done)
        try:
            return await self._make(spec, numbers)
        finally:
            self._making.discard(done)
            done.set()

    async def _make(self, spec: PairSpec, numbers: tuple[int, ...]) -> Pair:
        with ExitStack() as sockets:
            made: list[Made] = []
            async with AsyncExitStack() as undo:
                undo.callback(self._registry.give_numbers, numbers)
                for number in numbers:
                    self._counters.clear(number)
                undo.push_async_callback(self._close, made)
                await self._threads.create(_make_devices, spec, self._threads.staging, sockets, made)
                pair = Pair(spec.placement, spec.origin, spec.numqueues, name=spec.name)
                pair.overload = spec.overload or self.overload
                pair.labels = dict(spec.labels)
                pair.b = _end(spec.b, made[0], pair, numbers[1::2])
                pair.a = _end(spec.a, made[1], pair, numbers[0::2])
                for end, wanted in ((pair.a, spec.a), (pair.b, spec.b)):
                    end.alias = wanted.alias or default_alias(end)  # what it is going to be, as with `up`
                self._registry.add(pair)
                undo.callback(self._registry.remove, pair)
                undo.push_async_callback(self._workers.release, pair)
                await self._workers.take(pair)
                undo.pop_all()
            pair.state = PairState.LIVE
            self._journal.added(pair)  # before anything is said of its carrier
            try:
                async with pair.lock:
                    await self._finish(spec, pair, made)
            except BaseException:
                await self._deleter.dellink(pair, "its creation failed")
                await self._deleter.closed(pair)
                raise
        self._log.info(
            "link added",
            **describe(pair),
            placement=pair.placement,
            origin=pair.origin,
            numqueues=pair.numqueues,
            workers=sorted({queues.worker for queues in pair.queues}),
            reason=spec.reason,
        )
        return pair

    async def numbers(self, numqueues: int) -> tuple[int, ...]:
        """Two numbers per queue, those of a pair that is going if need be: who deleted it was told that there is room.

        Raises LimitReached.
        """
        while True:
            try:
                return self._registry.take_numbers(numqueues)
            except LimitReached:
                if not await self._deleter.one_closed():
                    raise

    async def _finish(self, spec: PairSpec, pair: Pair, made: list[Made]) -> None:
        """What is left to do when the pair is LIVE, and so may be deleted by others at any time."""
        ends = [_Rising(spec.b, pair.b, made[0].there), _Rising(spec.a, pair.a, made[1].there)]
        with ExitStack() as copies:  # of the fds: once the pair is deleted, their numbers may be others'
            for end in ends:
                with step(end.spec, "setting its alias"):
                    end.fd = fcntl.fcntl(end.end.fd, fcntl.F_DUPFD_CLOEXEC, 0)
                copies.callback(os.close, end.fd)
            rising = self._threads.create(_bring_up, ends, copies.pop_all())
        try:
            await self._follower.bring_up(pair, rising)
        except OSError:
            with step(spec.a, "bringing it up"):
                raise
        if not pair.is_live():
            raise deleted("one of the ends")

    async def _close(self, made: list[Made]) -> None:
        await asyncio.gather(*(self._threads.reap(os.close, fd) for one in made for fd in one.fds))


@dataclass(slots=True)
class _Rising:
    """An end on its way up. fd: a copy of the end's own. there: requests from within its namespace."""

    spec: EndSpec
    end: End
    there: Rtnl
    fd: int = -1


def _end(spec: EndSpec, made: Made, pair: Pair, numbers: tuple[int, ...]) -> End:
    return End(
        pair=pair,
        letter=spec.letter,
        queues=tuple(map(Queue, numbers, made.fds)),
        ifname=made.ifname,
        ifindex=made.ifindex,
        address=made.address,
        mtu=spec.mtu,
        txqlen=spec.txqueuelen,
        netns=netns.identity(spec.netns),
        nsid=made.nsid,
        offload=made.offload,
        hdr_len=made.hdr_len,
        gro=spec.gro,
        up=spec.up,  # what it is going to be, before anybody hears of it
        master="" if spec.attached.port is None else spec.attached.port.bridge,
        joined=spec.attached.port is not None,
        attached=spec.attached != Attachment(),
    )


def _make_devices(spec: PairSpec, staging: int, sockets: ExitStack, made: list[Made]) -> None:
    """Make both ends, the peer first; what was made stands in `made`, also when the other fails.

    sockets: keeps those in the ends' namespaces. Runs on the `create` thread.
    """
    there: dict[Letter, Rtnl] = {}
    for end in (spec.a, spec.b):  # the kernel's own check of the name comes too late to leave nothing behind
        with step(end, "looking for its name"):
            with netns.inside(end.netns, staging):
                there[end.letter] = sockets.enter_context(Rtnl())
            if "%" not in end.ifname and there[end.letter].has_link(end.ifname):
                raise name_taken(end.letter, end.ifname)
        if end.attached.port is not None:
            find_bridge(there[end.letter], end.attached.port, f"end {end.letter}")
    a, b = spec.a, spec.b
    if a.ifname == b.ifname and "%" not in a.ifname and netns.identity(a.netns) == netns.identity(b.netns):
        raise name_taken(b.letter, b.ifname)
    for end in (b, a):
        device = make_device(end, spec.placement, spec.numqueues, staging, there[end.letter])
        made.append(device)


def deleted(what: str) -> KernelRefused:
    """The error for a device that somebody else deleted. what: which."""
    return KernelRefused(
        f"{what} was deleted while the pair was made",
        hint="somebody deletes devices or their namespaces; nothing of the pair was kept",
        errno=errno.ENODEV,
    )


@contextmanager
def step(end: EndSpec, step: str) -> Iterator[None]:
    """Turn what the kernel refuses in the body into an error that names the end and the step."""
    what = f"end {end.letter}: {step}: "
    try:
        yield
    except LinkExists:
        raise
    except VethdError as error:
        if error.errno == errno.EBUSY:  # what the tun driver says to EEXIST
            raise name_taken(end.letter, end.ifname) from error
        raise type(error)(what + error.message, hint=error.hint, errno=error.errno) from error
    except OSError as error:
        if error.errno == errno.EEXIST:
            raise name_taken(end.letter, end.ifname) from error
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise no_fd_left(what, error.errno) from error
        raise KernelRefused(
            f"{what}{error.strerror}", hint="nothing of the pair was kept", errno=error.errno
        ) from error


def make_device(spec: EndSpec, placement: Placement, numqueues: int, staging: int, there: Rtnl) -> Made:
    """Make one end where it belongs, down and without carrier, all its queues open. Runs on the `create` thread.

    there: requests from within the namespace where it belongs. Raises a VethdError; nothing is left then.
    """
    moved = placement == "move" and netns.identity(spec.netns) != netns.home()
    # A moved TAP gets its name on arrival; so does one whose name is no text, because python-pytun takes nothing else.
    name = f"vethd{secrets.token_hex(5)}"
    if not moved and spec.ifname.isprintable():
        name = spec.ifname
    # Set explicitly even when random: udev then takes it for the user's wish and leaves it alone.
    address = spec.address or _random_address()
    attributes: dict[str, Any] = {
        "address": address,
        "mtu": spec.mtu,
        "txqlen": spec.txqueuelen,
    }
    if name != spec.ifname:
        attributes["ifname"] = spec.ifname
    with ExitStack() as undo:
        with step(spec, "creating it"), nullcontext() if moved else netns.inside(spec.netns, staging):
            fds = tap.open_queues(name, numqueues)
        for fd in fds:
            undo.callback(os.close, fd)
        with step(spec, "creating it"):
            limits.check_descriptor(max(fds), limits.KEPT_FROM_PAIRS)
        fd = fds[0]
        if not moved:  # at once, because udev may look already
            with step(spec, "setting its address"):
                there.set_link(there.index(tap.current_name(fd)), **attributes)
        with step(spec, "setting offloads"):
            offload, hdr_len = tap.probe_offload(fd)
        if numqueues > 1:
            with step(spec, "steering its queues"):
                steering.steer(fd)
        with step(spec, "placing it in its namespace"):
            with Rtnl() as here:
                nsid = here.assign_nsid(spec.netns)
                if moved:
                    here.set_link(here.index(tap.current_name(fd)), net_ns_fd=spec.netns, **attributes)
            ifname = tap.current_name(fd)
            ifindex = there.index(ifname)
        with step(spec, "setting its qdisc"):
            there.set_noqueue(ifindex)
        undo.pop_all()
    return Made(there, fds, ifname, ifindex, address, nsid, offload, hdr_len)


def _bring_up(ends: list[_Rising], copies: ExitStack) -> list[LinkStats]:
    """Set alias, bridge, addresses and IFF_UP, the peer first; the carrier once both are up; and the routes.

    Runs on the `create` thread.

    copies: closes the fds. Returns the counters of each end right after its carrier came on, a first; none when it did
    not.
    """
    with copies:
        for rising in ends:
            attach(rising.there, rising.end.ifindex, rising.spec.attached, f"end {rising.spec.letter}")
            _set_alias_and_up(rising)
        up = all(rising.spec.up for rising in ends)
        counters = [_set_carrier(rising) for rising in reversed(ends)] if up else []
        for rising in ends:
            add_routes(rising.there, rising.end.ifindex, rising.spec.attached.routes, f"end {rising.spec.letter}")
        return counters


def _set_alias_and_up(rising: _Rising) -> None:
    """Say in its alias who made it, and set it up when that is asked for."""
    end = rising.end
    flags = IFF_UP if rising.spec.up else 0
    with step(rising.spec, "setting it up" if flags else "setting its alias"):
        alias = rising.spec.alias or default_alias(end)
        rising.there.set_link(end.ifindex, flags=flags, change=flags, ifalias=alias)


def _set_carrier(rising: _Rising) -> LinkStats:
    with step(rising.spec, "setting the carrier"):
        try:
            tap.set_carrier(rising.fd, True)
            stats = rising.there.get_link(index=rising.end.ifindex).stats  # the answer brings the event as well
        except OSError as error:
            if error.errno in (errno.EBADFD, errno.ENODEV):
                raise deleted("it") from error
            raise
    assert stats is not None
    return stats


def _random_address() -> str:
    """A random unicast, locally administered MAC (kernel: eth_random_addr)."""
    raw = bytearray(secrets.token_bytes(6))
    raw[0] = raw[0] & 0xFE | 0x02
    return raw.hex(":")
