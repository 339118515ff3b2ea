"""`Follower`: whatever anybody does to an end, the picture of it, its carrier and its twin follow.

One rtnetlink socket in the staging namespace hears all namespaces that hold ends (NETLINK_LISTEN_ALL_NSID)::

    RTM_NEWLINK            the picture is brought up to date, the worker is told (mtu, address)
      IFF_UP changed       carrier of both ends := both are up (veth_open, veth_close)
      carrier changed      by somebody else: it is set again
      txqueuelen 0         a TAP's ring would hold nothing: it gets its length back
      renamed              the peer's default alias names it
      port of something    its name is looked up
    RTM_DELLINK            moved away: look where the fd says it is now.  deleted: the pair goes
    RTM_DELNSID            the namespace died: its ends are asked; those that are gone take their pair with them
    ENOBUFS                events were lost: every end is asked

Two ways lead to the picture, and both end in `_apply`: an event carries a snapshot (quick), `refresh` asks the fd
itself (complete, also after moves), and asks again when an event came meanwhile: either may have been the younger.
How the carrier follows stands in carrier.py. Only a creation sets the first carrier itself, in the call that sets the
ends up (`bring_up`).
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from structlog.typing import FilteringBoundLogger

from vethd.errors import LimitReached
from vethd.host import bridge, netns, rtnl, tap
from vethd.host.locate import Located, locate, restore_qdisc, restore_txqlen, set_alias
from vethd.host.rtnl import LinkInfo, LinkStats, Rtnl
from vethd.host.threads import HostThreads
from vethd.pairs.carrier import CarrierDriver
from vethd.pairs.delete import Deleter
from vethd.pairs.journal import Journal
from vethd.pairs.pair import End, Pair, default_alias, describe, has_old_alias
from vethd.pairs.registry import Registry
from vethd.pairs.spec import TXQUEUELEN_DEFAULT
from vethd.pairs.stats import charge_unread
from vethd.pairs.workers import Workers
from vethd.worker.counters import Counters

#: Events handled before the loop turns.
EVENTS_PER_TURN = 64
#: Seconds until what failed (no file descriptor or memory was free) is tried again.
RETRY = 1.0


class Follower:
    """Follows every end in the registry; one per daemon."""

    def __init__(
        self,
        threads: HostThreads,
        registry: Registry,
        workers: Workers,
        deleter: Deleter,
        counters: Counters,
        journal: Journal,
        log: FilteringBoundLogger,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._threads = threads
        self._registry = registry
        self._workers = workers
        self._deleter = deleter
        self._counters = counters
        self._journal = journal
        self._log = log
        self.on_bridge: Callable[[], None] | None = None  # called when something is said of a bridge
        self._events: socket.socket | None = None
        self._events_lost = False
        self._carrier = CarrierDriver(threads, workers, counters, journal, log)
        self._brought_up: dict[Pair, dict[End, bool]] = {}  # and what was heard of its ends' carrier meanwhile
        self._unreadable: set[Pair] = set()
        self._telling: dict[End, bool] = {}  # and whether it has changed since the message that is under way
        self._renewing: set[End] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Open the event socket in the staging namespace and listen. Raises OSError."""
        self._events = await self._threads.follow(rtnl.event_socket)
        self._loop.add_reader(self._events.fileno(), self._readable)

    def pause(self) -> None:
        """Listen no more for now; the socket keeps what happens meanwhile."""
        if self._events is not None:
            self._loop.remove_reader(self._events.fileno())

    def resume(self) -> None:
        """Listen again."""
        if self._events is not None:
            self._loop.add_reader(self._events.fileno(), self._readable)

    @property
    def busy(self) -> bool:
        """True while something that was heard is being followed."""
        return bool(self._tasks or self._carrier.tasks)

    async def settle(self) -> None:
        """Return when what is under way now is done."""
        if tasks := [*self._tasks, *self._carrier.tasks]:
            await asyncio.wait(tasks)

    async def stop(self) -> None:
        """Stop listening; what is under way is finished first."""
        self.pause()
        if self._events is not None:
            self._events.close()
        await self.settle()

    async def ask_all(self) -> None:
        """Ask every end, after a time in which nobody listened; return when the picture is right.

        An end that can't be asked is asked again until it can, but not waited for.
        """
        for pair in self._registry:
            for end in pair.ends:
                try:
                    await self.refresh(end)
                except OSError as error:
                    self._log.error("end not reached", **describe(pair), end=end.letter, error=repr(error))
                    self._start(self._ask(end))

    async def bring_up(self, pair: Pair, call: Awaitable[list[LinkStats]]) -> None:
        """Let `call` set both ends of a new pair up; return when the picture is right, and so is the carrier.

        call: changes something about each end. It sets the carrier as well when both are to be up, and then returns
        their counters from right after that; meanwhile the carrier is nobody else's. Raises what it raises, and OSError
        when the carrier has to be set once more and can't be.
        """
        heard = [end.heard for end in pair.ends]
        carriers: dict[End, bool] = {}
        self._brought_up[pair] = carriers
        try:
            counters = await call
            pair.carrier = bool(counters)
            for end, stats in zip(pair.ends, counters, strict=pair.carrier):
                charge_unread(end, stats.tx_dropped, False, self._counters)
            if pair.carrier:
                self._carrier.changed(pair)
            self._readable()  # an event says everything about an end, and each end has had one by now
        finally:
            del self._brought_up[pair]
        for end, before in zip(pair.ends, heard, strict=True):
            if end.heard == before:
                await self.refresh(end)
        if pair.wants_carrier != pair.carrier or not {pair.carrier}.issuperset(carriers.values()):
            self._carrier.set_again(pair)
            await self._carrier.settle(pair)

    async def catch_up(self, pair: Pair) -> None:
        """Return when the picture of a pair that was changed is right, workers know, and the carrier has settled.

        Raises OSError.
        """
        self._readable()  # what the kernel said by now is older than what it answers from now on
        for end in pair.ends:
            await self.refresh(end)
        for end in pair.ends:
            await self._name_master(end)
            await self._renew_alias(end)
            await self._workers.tell(end)
        self._carrier.retry(pair)  # if it failed meanwhile
        await self._carrier.settle(pair)

    async def refresh(self, end: End) -> None:
        """Ask the fd where the end is and how it is; return when the picture is right. A gone device ends the pair."""
        while end.pair.is_live():
            heard = end.heard
            found = await self._threads.follow_device(end.fd, locate)
            if not end.pair.is_live():  # deleted while we asked
                return
            if found is None:
                self._deleter.start(end.pair, f"device {end.label()} is gone")
                return
            if (found.nsid, found.info.ifindex) != end.key or found.netns != end.netns:
                # Enter the new place first, then look again: what happened in between would have gone unheard.
                await self._moved(end, found)
            elif end.heard == heard:
                self._apply(end, found.info)
                return

    async def _renew_alias(self, end: End) -> None:
        """Let the default alias of an end name its peer as that is called now; an alias of the user's stays.

        Returns when the picture is right. Raises OSError.
        """
        try:
            while end.pair.is_live() and has_old_alias(end):
                await self._correct(end, set_alias, default_alias(end), self._threads.staging)
                await self.refresh(end)
        finally:
            self._renewing.discard(end)

    async def _ask(self, end: End) -> None:
        """Refresh an end, and try again when that fails: a picture that is known to be stale must not stay."""
        while True:
            try:
                return await self.refresh(end)
            except OSError as error:
                self._log.error(
                    "end not reached, trying again", **describe(end.pair), end=end.letter, error=repr(error)
                )
            await asyncio.sleep(RETRY)

    async def _look_after(self, end: End) -> None:
        """Find out whether a device that its worker gave up is gone; if it is there, let the worker try again."""
        await self._ask(end)
        if not end.pair.is_live() or end.pair in self._unreadable:  # one of both ends is enough
            return
        self._log.error("end unreadable, its worker tries again", **describe(end.pair), end=end.letter)
        self._unreadable.add(end.pair)
        try:
            while not await self._take_again(end.pair):
                pass
        finally:
            self._unreadable.discard(end.pair)

    async def _take_again(self, pair: Pair) -> bool:
        """Let a worker try again after a while; False when it has no means for it."""
        await self._workers.release(pair)
        await asyncio.sleep(RETRY)
        try:
            if pair.is_live():
                await self._workers.take(pair)
        except LimitReached as error:
            self._log.error("pair not read, trying again", **describe(pair), why=error.message)
            return False
        return True

    def settled(self, pair: Pair) -> bool:
        """Whether both TAPs have been told the carrier that the picture of the pair shows."""
        return pair not in self._brought_up and self._carrier.settled(pair)

    # -- reports of workers (Reports) ---------------------------------------------------------------------------------

    def gone(self, end: End) -> None:
        """A worker found the device gone, or at least can't read it."""
        self._start(self._look_after(end))

    def hdr_invalid(self, end: End, frames: int) -> None:
        """The kernel keeps refusing headers from this end: let the sender's kernel do more of the work itself."""
        self._start(self._lower_offload(end, frames))

    # -- events -------------------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        assert self._events is not None
        for _ in range(EVENTS_PER_TURN):
            try:
                data, nsid = rtnl.receive_event(self._events)
            except BlockingIOError:
                if self._events_lost:
                    self._resync()
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._events_lost = True
                self._loop.call_soon(self._listen_again)
                continue
            if not self._events_lost:
                for message, kind, _sequence in rtnl.split(data):
                    self._event(message, kind, nsid)

    def _listen_again(self) -> None:
        """Once more add the reader: uvloop drops it after an error of the socket, which is what lost events are.

        Source: uv__poll_io in libuv's poll.c and UVPoll._fatal_error in uvloop's handles/poll.pyx.
        """
        if self._events is not None and self._events.fileno() >= 0:
            self._loop.remove_reader(self._events.fileno())
            self._loop.add_reader(self._events.fileno(), self._readable)

    def _resync(self) -> None:
        """Ask every end. Only once the socket is empty: until then the kernel drops all further events without a word,
        and what still stands in it is older than the answers would be (netlink_overrun, netlink_rcv_wake).
        """
        self._events_lost = False
        ends = 2 * len(self._registry)
        self._log.warning("link events lost, asking every end", ends=ends)
        self._journal.record("daemon", "resync", ends=ends)
        for pair in self._registry:
            for end in pair.ends:
                self._start(self._ask(end))

    def _event(self, message: bytes, kind: int, nsid: int | None) -> None:
        if kind == rtnl.RTM_DELNSID:
            for orphan in self._registry.in_nsid(rtnl.parse_nsid(message)):
                self._start(self._ask(orphan))
            return
        if nsid is None or kind not in (rtnl.RTM_NEWLINK, rtnl.RTM_DELLINK):
            return
        if rtnl.link_family(message) != socket.AF_UNSPEC:  # what it is as a port; that it is one no more is a DELLINK
            return
        ifindex = rtnl.link_index(message)
        end = self._registry.at(nsid, ifindex)
        if end is None and kind == rtnl.RTM_DELLINK and rtnl.parse_link(message).moved_to is None:
            self._deleter.heard(nsid, ifindex)
        if end is None and self.on_bridge is not None and rtnl.parse_link(message).kind == bridge.KIND:
            self.on_bridge()
        if end is None or not end.pair.is_live():
            return
        info = rtnl.parse_link(message)
        end.heard += 1
        if kind == rtnl.RTM_NEWLINK:
            self._apply(end, info)
        elif info.moved_to is not None:
            self._start(self._ask(end))
        else:
            self._deleter.start(end.pair, f"device {end.label()} was deleted")

    def _apply(self, end: End, info: LinkInfo) -> None:
        """Make the picture of an end that of a snapshot, and do what follows from the difference."""
        changed: dict[str, object] = {}
        before = end.ifname
        if before != info.ifname:
            self._registry.rename(end, info.ifname)
            changed["ifname"] = info.ifname
        for name in ("up", "mtu", "address", "txqlen", "alias"):
            value = getattr(info, name)
            if getattr(end, name) != value:
                setattr(end, name, value)
                changed[name] = value
        if changed:
            names = {"ifname": end.ifname, **({} if before == end.ifname else {"from_ifname": before})}
            self._log.info(
                "link changed", pair=str(end.pair.uuid), end=end.letter, netns=end.netns[1], **{**names, **changed}
            )
            changed = {("txqueuelen" if name == "txqlen" else name): value for name, value in changed.items()}
            self._journal.record("link", "changed", end.pair, end.letter, **changed)
        self._carrier.note_operstate(end, info)
        if end.master_index != info.master:
            end.master_index = info.master
            self._start(self._name_master(end))
        if "mtu" in changed or "address" in changed:
            self._tell(end)
        for other in (end, end.peer) if "ifname" in changed or "alias" in changed else ():
            if has_old_alias(other) and other not in self._renewing:
                self._renewing.add(other)
                self._start(self._renew_alias(other))
        if end.txqlen == 0:
            self._start(self._correct(end, restore_txqlen, TXQUEUELEN_DEFAULT, self._threads.staging))
        if info.qdisc == "noop":  # moved there and back before we looked
            self._start(self._correct(end, restore_qdisc, self._threads.staging))
        if end.pair in self._brought_up:
            self._brought_up[end.pair][end] = info.carrier
        elif end.pair.wants_carrier != end.pair.carrier:
            self._carrier.drive(end.pair)
        elif info.carrier != end.pair.carrier and not self._carrier.driven(end.pair):
            self._log.info("carrier set again", **describe(end.pair), end=end.letter, carrier=end.pair.carrier)
            self._carrier.set_again(end.pair)

    async def _name_master(self, end: End) -> None:
        """Find out what the device is called that an end is a port of."""
        name, index = "", end.master_index
        if index:
            try:
                name = await self._threads.follow(_name_of, end.nsid, index)
            except OSError as error:
                if error.errno != errno.ENODEV:  # the next event says that it is a port no more
                    raise
                return
        if end.master_index == index and end.master != name:
            end.master = name
            end.joined &= bool(name)
            self._journal.record("link", "changed", end.pair, end.letter, master=name or None)

    def _tell(self, end: End) -> None:
        """Tell the workers how an end is now; however fast somebody changes it, one message is under way at a time."""
        under_way = end in self._telling
        self._telling[end] = True
        if not under_way:
            self._start(self._tell_all(end))

    async def _tell_all(self, end: End) -> None:
        try:
            while self._telling[end]:
                self._telling[end] = False
                await self._workers.tell(end)
        finally:
            del self._telling[end]

    async def _moved(self, end: End, found: Located) -> None:
        before = end.netns
        self._registry.rekey(end, found.nsid, found.info.ifindex)
        end.netns = found.netns
        self._log.info(
            "link moved",
            pair=str(end.pair.uuid),
            end=end.letter,
            ifname=end.ifname,
            netns=found.netns[1],
            from_netns=before[1],
        )
        self._journal.record(
            "link",
            "moved",
            end.pair,
            end.letter,
            netns=netns.name_of(found.netns),
            netns_inode=found.netns[1],
            ifindex=found.info.ifindex,
            from_inode=before[1],
        )
        await self._workers.tell(end)
        await self._correct(end, restore_qdisc, self._threads.staging)

    # -- offloads -----------------------------------------------------------------------------------------------------

    async def _lower_offload(self, end: End, frames: int) -> None:
        lower = tap.lower_offload(end.offload)
        # Each queue's worker reports for itself, at 16 frames and each doubling: as many as one has told is no news.
        if not end.pair.is_live() or lower == end.offload or frames <= end.hdr_invalid_seen:
            return
        end.hdr_invalid_seen = frames
        await self._correct(end, tap.set_offload, lower)
        end.offload = lower
        end.offload_why = f"the kernel refused {frames} virtio headers (EINVAL)"
        self._log.warning(
            "offload lowered", **describe(end.pair), end=end.letter, frames=frames, on=tap.offload_names(lower)
        )
        self._journal.record(
            "link",
            "changed",
            end.pair,
            end.letter,
            offload=tap.offload_names(lower),
            offload_why=end.offload_why,
        )

    # -- tasks --------------------------------------------------------------------------------------------------------

    async def _correct(self, end: End, call: Any, *args: Any) -> None:
        """Run a correction on an end's device; that the device is gone meanwhile is not an error."""
        if not end.pair.is_live():
            return
        try:
            await self._threads.follow_device(end.fd, call, *args)
        except OSError as error:
            if error.errno not in (errno.EBADFD, errno.ENODEV):
                raise

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("following a link failed", error=repr(error))


def _name_of(nsid: int, ifindex: int) -> str:
    """The name of a device. Raises OSError."""
    with Rtnl() as requests:
        return requests.get_link(nsid=nsid, index=ifindex).ifname
