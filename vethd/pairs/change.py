"""setlink: change a pair, everything that is asked for or nothing.

The kernel's own do_setlink goes on until something fails, and what was done by then stays. Here everything is checked
first, with the rules of a new pair; then, on the `create` thread, each end gets what is its own wherever it is::

    address, mtu, ifalias, txqueuelen     of both ends
    netns and ifname                      of both ends; a move is one request, with the new name in it
    bridge, IP addresses                  of both ends, where they are now
    IFF_UP                                of both ends
    routes                                of both ends

That is the order of do_setlink but for the move, which stands first there: a device loses its IP addresses and routes
when it leaves its namespace or goes down, and no undoing brings them back. So what may fail without harm comes before.
When a step fails, what was done is undone in reverse order, whoever may have moved or renamed the device meanwhile: it
is found by its fd. Then the follower brings the picture up to date and lets the carrier follow, and what concerns
workers and labels alone is done; it can't fail any more.

Whoever changes a pair holds its lock; who else wants to waits. Its deletion waits for nobody: a change under way then
ends with NoSuchLink.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Final

from structlog.typing import FilteringBoundLogger

from vethd.errors import KernelRefused, NoSuchLink, StaleGeneration, VethdError, name_taken, no_fd_left
from vethd.host import netns, tap
from vethd.host.address import Address, Route
from vethd.host.bridge import Port
from vethd.host.locate import beside, restore_qdisc
from vethd.host.rtnl import IFF_UP, Rtnl
from vethd.host.threads import HostThreads
from vethd.pairs.attach import find_bridge, present, set_addresses, set_port, set_routes
from vethd.pairs.follow import Follower
from vethd.pairs.journal import Journal
from vethd.pairs.pair import End, Letter, Overload, Pair, default_alias, describe
from vethd.pairs.spec import (
    TXQUEUELEN_DEFAULT,
    Attachment,
    check_address,
    check_alias,
    check_attachment,
    check_mtu,
    check_name,
    check_txqueuelen,
    with_labels,
)
from vethd.pairs.workers import Workers

#: For EndChange.bridge: a port of none.
NO_BRIDGE: Final = Port("")
#: What requests call the attributes of rtnl.set_link that have another name there.
_WORDS: Final = {"ifalias": "alias", "txqlen": "txqueuelen"}


@dataclass(frozen=True, slots=True)
class EndChange:
    """What is to change of one end; None leaves it as it is. Units and rules are those of spec.EndSpec.

    ifname: a name, or a pattern with one `%d`. netns: an open fd; the caller closes it. The end is down there unless
    `up` says otherwise, as with `ip link set netns`. alias: "" for the default one.
    bridge: the end becomes a port of it; NO_BRIDGE: of none. addresses, routes: these are vethd's on it from then on.
    """

    ifname: str | None = None
    netns: int | None = None
    address: str | None = None
    mtu: int | None = None
    txqueuelen: int | None = None
    alias: str | None = None
    gro: bool | None = None
    up: bool | None = None
    bridge: Port | None = None
    addresses: tuple[Address, ...] | None = None
    routes: tuple[Route, ...] | None = None

    def validate(self, letter: Letter) -> None:
        """Raise the error of the first field that the kernel would refuse; names end, field and remedy."""
        if self.ifname is not None:
            check_name(self.ifname, f"end {letter}: name")
        if self.address is not None:
            check_address(self.address, f"end {letter}: address")
        if self.mtu is not None:
            check_mtu(self.mtu, f"end {letter}: mtu")
        if self.txqueuelen is not None:
            check_txqueuelen(self.txqueuelen, f"end {letter}: txqueuelen")
        if self.alias is not None:
            check_alias(self.alias, f"end {letter}: alias")
        port = None if self.bridge == NO_BRIDGE else self.bridge
        check_attachment(Attachment(port, self.addresses or ()), True, f"end {letter}")

    @property
    def concerns_device(self) -> bool:
        """True when the kernel has to do something."""
        return any(getattr(self, each.name) is not None for each in fields(self) if each.name != "gro")


@dataclass(frozen=True, slots=True)
class PairChange:
    """What is to change of a pair; None leaves it as it is.

    labels: to be set, or with None removed; others stay. worker: that forwards all its queues from then on.
    overload: see Pair.
    """

    a: EndChange | None = None
    b: EndChange | None = None
    labels: Mapping[str, str | None] | None = None
    worker: int | None = None
    overload: Overload | None = None

    def of(self, end: End) -> EndChange | None:
        """The part that concerns an end."""
        return self.a if end.letter == "a" else self.b


class Changer:
    """Changes pairs; one per daemon."""

    def __init__(
        self, threads: HostThreads, workers: Workers, follower: Follower, journal: Journal, log: FilteringBoundLogger
    ) -> None:
        self._threads = threads
        self._workers = workers
        self._follower = follower
        self._journal = journal
        self._log = log

    async def setlink(self, pair: Pair, change: PairChange, reason: str, generation: int | None = None) -> None:
        """Change a pair; returns when the picture is right, the workers know, and the carrier has settled.

        reason: for the log; who or what wanted it. generation: change it only if this is its generation still.
        Raises a VethdError that names end, field and remedy; nothing has changed then, but that a device which had
        been moved or set down by then has lost its IP addresses and routes. NoSuchLink when the pair is deleted
        meanwhile. Source: do_setlink in net/core/rtnetlink.c.
        """
        changes = [(end, of_end) for end in pair.ends if (of_end := change.of(end)) is not None]
        for end, of_end in changes:
            of_end.validate(end.letter)
        if change.worker is not None:
            self._workers.require(change.worker)
        async with pair.lock:
            require(pair, generation)
            labels = with_labels(pair.labels, change.labels or {})
            undo = _Undo(self._threads.staging)
            try:
                await self._change_devices(pair, changes, undo)
                await self._change_worker(pair, change.worker)
            except BaseException as error:
                await self._undo(pair, undo)
                if not pair.is_live():
                    raise _gone(pair) from error
                raise
            finally:
                if undo.begun:
                    await self._threads.create(undo.close)
            require(pair)
            await self._change_rest(pair, changes, change.overload, labels)
            require(pair)
        self._log.info("link set", **describe(pair), **_said(changes, change), reason=reason)

    async def _change_devices(self, pair: Pair, changes: list[tuple[End, EndChange]], undo: _Undo) -> None:
        """What the kernel has to do, and what follows from it. Raises a VethdError; `undo` undoes it."""
        wanted = [(end, of_end) for end, of_end in changes if of_end.concerns_device]
        if not wanted:
            return
        devices = [_device(end, of_end, undo) for end, of_end in wanted]
        await self._threads.create(_change, devices, undo)
        try:
            await self._follower.catch_up(pair)
        except OSError as error:
            raise KernelRefused(
                f"following the change: {error.strerror}", hint="nothing was changed; see the log", errno=error.errno
            ) from error

    async def _change_worker(self, pair: Pair, worker: int | None) -> None:
        """Let another worker forward the pair, if that is asked for. Raises WorkerFailed."""
        before = [queues.worker for queues in pair.queues]
        if worker is None or before == [worker] * pair.numqueues:
            return
        await self._workers.move(pair, worker)
        require(pair)
        self._journal.record("link", "changed", pair, workers=[queues.worker for queues in pair.queues])

    async def _change_rest(
        self, pair: Pair, changes: list[tuple[End, EndChange]], overload: Overload | None, labels: dict[str, str]
    ) -> None:
        """What only the supervisor and the workers know."""
        for end, of_end in changes:
            if of_end.bridge is not None:
                end.joined = of_end.bridge != NO_BRIDGE
            end.attached |= bool(of_end.addresses or of_end.routes)
            if of_end.gro is not None and of_end.gro != end.gro:
                end.gro = of_end.gro
                self._journal.record("link", "changed", pair, end.letter, gro=end.gro)
        changed: dict[str, Any] = {}
        if overload is not None and overload != pair.overload:
            pair.overload = changed["overload"] = overload
        if labels != pair.labels:
            pair.labels = changed["labels"] = labels
        if changed:
            self._journal.record("link", "changed", pair, **changed)
        for end in pair.ends:
            await self._workers.tell(end)

    async def _undo(self, pair: Pair, undo: _Undo) -> None:
        """Undo what was done of a change that failed; what can't be undone is logged."""
        if not undo.begun:
            return
        left = await self._threads.create(undo.run)
        for step, error in left if pair.is_live() else ():
            self._log.error("change not undone", **describe(pair), step=step, error=repr(error))
        try:
            await self._follower.catch_up(pair)
        except OSError as error:  # it goes on trying
            self._log.warning("change undone, but not followed yet", **describe(pair), error=repr(error))


def require(pair: Pair, generation: int | None = None) -> None:
    """Raise NoSuchLink unless the pair is there, StaleGeneration unless its generation is this one (None: any)."""
    if not pair.is_live():
        raise _gone(pair)
    if generation not in (None, pair.generation):
        raise StaleGeneration(
            f"pair {pair.uuid} has generation {pair.generation}, not {generation}",
            hint="it changed meanwhile: look at it again, then repeat the request with its present generation",
        )


def _gone(pair: Pair) -> NoSuchLink:
    return NoSuchLink(f"pair {pair.uuid} was deleted", hint="`vethctl link show` lists the pairs")


def _said(changes: list[tuple[End, EndChange]], change: PairChange) -> dict[str, Any]:
    """What was asked for, for the log."""
    said: dict[str, Any] = {
        f"set_{end.letter}_{each.name}": getattr(of_end, each.name)
        for end, of_end in changes
        for each in fields(of_end)
        if each.name != "netns" and getattr(of_end, each.name) is not None
    }
    for name in ("labels", "worker", "overload"):
        if getattr(change, name) is not None:
            said[f"set_{name}"] = getattr(change, name)
    return said


# -- on the `create` thread -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Device:
    """An end's device while it is changed. fd, netns: copies of the end's and of the request's own."""

    letter: Letter
    fd: int
    netns: int | None
    change: EndChange
    alias: str | None

    def moves(self) -> bool:
        """True when it is to leave the namespace in which it is now. Raises OSError."""
        if self.netns is None:
            return False
        here = tap.current_netns(self.fd)
        try:
            return netns.identity(here) != netns.identity(self.netns)
        finally:
            os.close(here)


class _Undo:
    """How to undo what was done.

    staging: the namespace that the thread goes back to. begun: a device is about to be changed.
    """

    def __init__(self, staging: int) -> None:
        self.staging = staging
        self.begun = False
        self._steps: list[tuple[str, Callable[[], None]]] = []
        self._fds = ExitStack()

    def keep(self, fd: int) -> int:
        """Close this descriptor at the end, and no sooner."""
        self.begun = True
        self._fds.callback(os.close, fd)
        return fd

    def add(self, step: str, call: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        """A step was done, and this call undoes it."""
        self._steps.append((step, partial(call, *args, **kwargs)))

    def run(self) -> list[tuple[str, OSError | VethdError]]:
        """Undo everything, the last step first; what could not be undone, and why."""
        left: list[tuple[str, OSError | VethdError]] = []
        while self._steps:
            step, call = self._steps.pop()
            try:
                call()
            except (OSError, VethdError) as error:
                left.append((step, error))
        return left

    def close(self) -> None:
        """Close the descriptors; not on the loop, for the last one of a device that was deleted waits for RTNL."""
        self._fds.close()


def _device(end: End, change: EndChange, undo: _Undo) -> _Device:
    """An end as the thread gets it. Once pair or request are gone, the numbers of their fds may be others'."""
    with _step(end.letter, "reaching it"):
        fd, place = (
            None if each is None else undo.keep(fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, 0))
            for each in (end.fd, change.netns)
        )
    assert fd is not None
    return _Device(end.letter, fd, place, change, default_alias(end) if change.alias == "" else change.alias)


@contextmanager
def _step(letter: Letter, step: str, ifname: str | None = None) -> Iterator[None]:
    """Turn what the kernel refuses in the body into an error that names end and step. ifname: the name it then has."""
    what = f"end {letter}: {step}: "
    try:
        yield
    except OSError as error:
        if error.errno == errno.EEXIST and ifname is not None:
            raise name_taken(letter, ifname) from error
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise no_fd_left(what, error.errno) from error
        hint = "nothing was changed"
        if error.errno in (errno.EBADFD, errno.ENODEV):
            hint = "somebody moved, renamed or deleted it meanwhile; nothing was changed"
        raise KernelRefused(f"{what}{error.strerror}", hint=hint, errno=error.errno) from error


def _change(devices: list[_Device], undo: _Undo) -> None:
    """Change devices, step by step; each step that was done stands in `undo`, also when a later one fails."""
    for step in (_look_for_name, _look_for_bridge, _set_attributes, _set_place, _attach, _set_flags, _set_routes):
        for device in devices:
            step(device, undo)


def _look_for_name(device: _Device, undo: _Undo) -> None:
    """The kernel looks too late: it moves a device first, and renames it then."""
    with _step(device.letter, "looking for its name"):
        moves, own = device.moves(), tap.current_name(device.fd)
        wanted = device.change.ifname or own
        if "%" in wanted or (wanted == own and not moves):
            return
        with _at_its_place(device, undo.staging) as there:
            taken = there.has_link(wanted)
    if taken:
        raise name_taken(device.letter, wanted)


def _look_for_bridge(device: _Device, undo: _Undo) -> None:
    port = device.change.bridge
    if port in (None, NO_BRIDGE):
        return
    assert port is not None
    with _step(device.letter, "looking for its bridge"), _at_its_place(device, undo.staging) as there:
        find_bridge(there, port, f"end {device.letter}")


@contextmanager
def _at_its_place(device: _Device, staging: int) -> Iterator[Rtnl]:
    """Requests from within the namespace where the device shall be."""
    if device.netns is None:
        with beside(device.fd, staging) as (there, _ifindex):
            yield there
    else:
        with netns.inside(device.netns, staging), Rtnl() as there:
            yield there


def _set_attributes(device: _Device, undo: _Undo) -> None:
    change = device.change
    txqueuelen = TXQUEUELEN_DEFAULT if change.txqueuelen == 0 else change.txqueuelen
    address = None if change.address is None else change.address.lower()
    wanted = {"address": address, "mtu": change.mtu, "ifalias": device.alias, "txqlen": txqueuelen}
    if not any(value is not None for value in wanted.values()):
        return
    with _step(device.letter, "looking at it"), beside(device.fd, undo.staging) as (rtnl, ifindex):
        info = rtnl.get_link(index=ifindex)
        before = {"address": info.address, "mtu": info.mtu, "ifalias": info.alias, "txqlen": info.txqlen}
        for name, value in wanted.items():
            if value is None or value == before[name]:
                continue
            with _step(device.letter, f"setting its {_WORDS.get(name, name)}"):
                rtnl.set_link(ifindex, **{name: value})  # type: ignore[arg-type]
            undo.add(f"end {device.letter}: {name}", _set, device.fd, undo.staging, **{name: before[name]})


def _set_place(device: _Device, undo: _Undo) -> None:
    ifname = device.change.ifname
    if device.netns is None and ifname is None:
        return
    with _step(device.letter, "looking where it is"):
        moves, own = device.moves(), tap.current_name(device.fd)
        home = undo.keep(tap.current_netns(device.fd))
    if not moves and ifname in (None, own):
        return
    with (
        _step(device.letter, "moving it" if moves else "renaming it", ifname or own),
        beside(device.fd, undo.staging) as (rtnl, ifindex),
    ):
        up = rtnl.get_link(index=ifindex).up
        # Noted before: a move may succeed, and the renaming after it fail.
        undo.add(f"end {device.letter}: place", _put_back, device.fd, home, own, up, undo.staging)
        rtnl.set_link(ifindex, net_ns_fd=device.netns if moves else None, ifname=ifname)
    if moves:
        with _step(device.letter, "setting its qdisc"):
            restore_qdisc(device.fd, undo.staging)  # before it is up, or it gets another one first


def _attach(device: _Device, undo: _Undo) -> None:
    change, what = device.change, f"end {device.letter}"
    if (change.bridge, change.addresses, change.routes) == (None, None, None):
        return
    with _step(device.letter, "looking at it"), beside(device.fd, undo.staging) as (rtnl, ifindex):
        before = present(rtnl, ifindex)
        # Noted before, since each is several requests; and together, for the routes need the addresses.
        undo.add(f"{what}: attachment", _put_attachment_back, device, before, undo.staging, what)
        if change.bridge is not None:
            set_port(rtnl, ifindex, change.bridge if change.bridge != NO_BRIDGE else None, what)
        if change.addresses is not None:
            set_addresses(rtnl, ifindex, change.addresses, what)


def _set_routes(device: _Device, undo: _Undo) -> None:
    if device.change.routes is None:
        return
    with _step(device.letter, "looking at its routes"), beside(device.fd, undo.staging) as (rtnl, ifindex):
        set_routes(rtnl, ifindex, device.change.routes, f"end {device.letter}")


def _set_flags(device: _Device, undo: _Undo) -> None:
    up = device.change.up
    if up is None:
        return
    with (
        _step(device.letter, f"setting it {'up' if up else 'down'}"),
        beside(device.fd, undo.staging) as (rtnl, ifindex),
    ):
        if rtnl.get_link(index=ifindex).up != up:
            rtnl.set_link(ifindex, flags=IFF_UP if up else 0, change=IFF_UP)
            undo.add(
                f"end {device.letter}: up", _set, device.fd, undo.staging, flags=0 if up else IFF_UP, change=IFF_UP
            )


def _set(fd: int, staging: int, **attributes: Any) -> None:
    """Set attributes of a device, wherever it is. Raises OSError."""
    with beside(fd, staging) as (rtnl, ifindex):
        rtnl.set_link(ifindex, **attributes)


def _put_attachment_back(device: _Device, before: Attachment, staging: int, what: str) -> None:
    """Attach a device to what it was attached to, wherever it is. Raises OSError, VethdError."""
    with beside(device.fd, staging) as (rtnl, ifindex):
        if device.change.bridge is not None:
            set_port(rtnl, ifindex, before.port, what)
        set_addresses(rtnl, ifindex, before.addresses, what)
        set_routes(rtnl, ifindex, before.routes, what)


def _put_back(fd: int, home: int, ifname: str, up: bool, staging: int) -> None:
    """Bring a device home under its old name, up if it was. Raises OSError."""
    here = tap.current_netns(fd)
    try:
        away = netns.identity(here) != netns.identity(home)
    finally:
        os.close(here)
    _set(fd, staging, net_ns_fd=home if away else None, ifname=ifname)
    if away:
        restore_qdisc(fd, staging)
    if away and up:
        _set(fd, staging, flags=IFF_UP, change=IFF_UP)
