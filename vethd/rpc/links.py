"""The methods link.*."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from vethd.errors import (
    AmbiguousName,
    InvalidAddress,
    InvalidName,
    KernelRefused,
    LimitReached,
    LinkExists,
    MtuOutOfRange,
    NoSuchBridge,
    NoSuchLink,
    NoSuchNetns,
    StaleGeneration,
    TokenReused,
    TunMissing,
    WorkerFailed,
)
from vethd.host import netns
from vethd.host.bridge import Port
from vethd.host.threads import HostThreads
from vethd.pairs.attachment import as_port, attachment
from vethd.pairs.change import NO_BRIDGE, Changer, EndChange, PairChange, require
from vethd.pairs.create import Creator
from vethd.pairs.delete import Deleter
from vethd.pairs.pair import Letter, Pair, PairState
from vethd.pairs.registry import Registry
from vethd.pairs.several import newlinks, of_pair
from vethd.pairs.spec import TXQUEUELEN_DEFAULT, EndSpec, PairSpec
from vethd.pairs.stats import look
from vethd.rpc.access import Role
from vethd.rpc.call import Call, Method
from vethd.rpc.results import in_turns, pair_result, stats_result
from vethd.rpc.schema.base import NetnsRef
from vethd.rpc.schema.link import (
    DeletedResult,
    EndParams,
    LinkAddParams,
    LinkChanges,
    LinkDelParams,
    LinkListParams,
    LinkSelector,
    LinkSetParams,
    PairParams,
    PairResult,
    SelectedResult,
)
from vethd.rpc.select import matching, select
from vethd.worker.counters import Counters

_WHICH = (NoSuchLink, AmbiguousName, NoSuchNetns)
_NEW_VALUES = (InvalidName, InvalidAddress, MtuOutOfRange, LinkExists, NoSuchNetns, KernelRefused)


#: Open fds of namespaces, by how a request names them; None is the caller's own.
Places = dict[str | NetnsRef | None, int]


class LinkMethods:
    """link.add, link.set, link.del, link.get, link.list. settled: see `look`."""

    def __init__(
        self,
        threads: HostThreads,
        registry: Registry,
        creator: Creator,
        changer: Changer,
        deleter: Deleter,
        counters: Counters,
        settled: Callable[[Pair], bool],
    ) -> None:
        self._threads = threads
        self._registry = registry
        self._creator = creator
        self._changer = changer
        self._deleter = deleter
        self._counters = counters
        self._settled = settled
        self.table = (
            Method(
                "link.add",
                LinkAddParams,
                PairResult | list[PairResult],
                Role.CHANGE,
                self.link_add,
                (*_NEW_VALUES, NoSuchBridge, LimitReached, TunMissing, WorkerFailed, TokenReused),
                {"a": {"ifname": "lab0", "mtu": 9000, "up": True}, "b": {"ifname": "lab1", "up": True}},
            ),
            Method(
                "link.set",
                LinkSetParams,
                SelectedResult,
                Role.CHANGE,
                self.link_set,
                (*_WHICH, *_NEW_VALUES, NoSuchBridge, StaleGeneration, LimitReached, WorkerFailed, TokenReused),
                {"ifname": "veth0", "set": {"mtu": 9000, "up": True, "labels": {"rack": "7"}}},
            ),
            Method(
                "link.del",
                LinkDelParams,
                DeletedResult,
                Role.CHANGE,
                self.link_del,
                (*_WHICH, StaleGeneration, TokenReused),
                {"ifname": "veth0"},
            ),
            Method("link.get", LinkSelector, SelectedResult, Role.LOOK, self.link_get, _WHICH, {"ifname": "veth0"}),
            Method("link.list", LinkListParams, list[PairResult], Role.LOOK, self.link_list, (NoSuchLink, NoSuchNetns)),
        )

    async def link_add(self, params: LinkAddParams, call: Call) -> PairResult | list[PairResult]:
        """Make a pair, or several at once."""
        with ExitStack() as opened:
            if params.pairs is None:
                return pair_result(await self._creator.newlink(_pair_spec(params, call, opened, {})))
            specs: list[PairSpec] = []
            places: Places = {}
            for index, each in enumerate(params.pairs):
                with of_pair(index):
                    specs.append(_pair_spec(each, call, opened, places))
            pairs = await newlinks(specs, self._creator, self._deleter, self._registry, self._threads)
        name_of = netns.names().get
        return [pair_result(pair, name_of) for pair in pairs]

    async def link_set(self, params: LinkSetParams, call: Call) -> SelectedResult:
        """Change an end or its pair: everything that is asked for, or nothing."""
        pair, letter = select(self._registry, params, call)
        wanted = params.set
        with ExitStack() as opened:
            place = None
            if wanted.netns is not None:
                place = opened.enter_context(call.netns(wanted.netns, f"end {letter}: netns"))
            of_end = EndChange(
                wanted.ifname,
                place,
                wanted.address,
                wanted.mtu,
                wanted.txqueuelen,
                wanted.alias,
                wanted.gro,
                wanted.up,
                _port(wanted),
            )
            change = PairChange(
                a=of_end if letter == "a" else None,
                b=of_end if letter == "b" else None,
                labels=wanted.labels,
                worker=wanted.worker,
                overload=wanted.overload,
            )
            await self._changer.setlink(pair, change, f"link.set by {call.peer}", params.generation)
        return {**pair_result(pair), "end": letter}

    async def link_del(self, params: LinkDelParams, call: Call) -> DeletedResult:
        """Delete a pair; both devices are gone when this is answered."""
        pair, _letter = select(self._registry, params, call)
        if pair.state is not PairState.LIVE:
            raise NoSuchLink(f"pair {pair.uuid} is being made or deleted already")
        reason = f"link.del by {call.peer}"
        if params.generation is None:
            await self._deleter.dellink(pair, reason)
        else:
            async with pair.lock:
                require(pair, params.generation)
                await self._deleter.dellink(pair, reason)
        return {"pair": str(pair.uuid)}

    async def link_get(self, params: LinkSelector, call: Call) -> SelectedResult:
        """One pair, and which of its ends was asked for."""
        pair, letter = select(self._registry, params, call)
        return {**pair_result(pair), "end": letter}

    async def link_list(self, params: LinkListParams, call: Call) -> list[PairResult]:
        """All pairs, or those that the filter lets through."""
        pairs = matching(self._registry, params, call)
        name_of = netns.names().get
        if not params.stats:
            return [pair_result(pair, name_of) for pair in pairs]
        kernel = await look(pairs, self._threads, self._counters, self._settled)
        return [
            {**pair_result(pair, name_of), "stats": stats_result(pair, self._counters, kernel)}
            async for pair in in_turns(pairs)
            if pair.is_live()
        ]


def _pair_spec(params: PairParams, call: Call, opened: ExitStack, places: Places) -> PairSpec:
    """What a pair shall be. opened: closes the fds of namespaces. places: those that are open already.

    Raises NoSuchNetns, InvalidParams, NotPermitted.
    """
    a, b = params.a, params.b
    if b is None:  # kernel: the peer without attributes of its own takes the main ones, never name or MAC
        b = EndParams(mtu=a.mtu, txqueuelen=a.txqueuelen)
    for letter, end in (("a", a), ("b", b)):
        if end.netns not in places:
            places[end.netns] = opened.enter_context(call.netns(end.netns, f"end {letter}: netns"))
    return PairSpec(
        _end_spec("a", a, places[a.netns]),
        _end_spec("b", b, places[b.netns]),
        params.placement,
        params.origin,
        params.numqueues,
        overload=params.overload,
        labels=params.labels,
        reason=f"link.add by {call.peer}",
    )


def _port(wanted: LinkChanges) -> Port | None:
    """The bridge that is asked for: null is another thing than nothing."""
    if wanted.bridge is not None:
        return as_port(wanted.bridge)
    return NO_BRIDGE if "bridge" in wanted.model_fields_set else None


def _end_spec(letter: Letter, params: EndParams, fd: int) -> EndSpec:
    spec = EndSpec(letter, params.ifname, fd, params.address, alias=params.alias or "", gro=params.gro, up=params.up)
    spec.attached = attachment(params, f"end {letter}")
    if params.mtu is not None:
        spec.mtu = params.mtu
    spec.txqueuelen = TXQUEUELEN_DEFAULT if params.txqueuelen is None else params.txqueuelen
    return spec
