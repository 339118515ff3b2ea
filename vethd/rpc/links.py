"""The methods link.*."""

from __future__ import annotations

from vethd.errors import (
    AmbiguousName,
    InvalidAddress,
    InvalidName,
    KernelRefused,
    LimitReached,
    LinkExists,
    MtuOutOfRange,
    NoSuchLink,
    NoSuchNetns,
    TunMissing,
    WorkerFailed,
)
from vethd.host import netns
from vethd.pairs.create import Creator
from vethd.pairs.delete import Deleter
from vethd.pairs.pair import Letter, PairState
from vethd.pairs.registry import Registry
from vethd.pairs.spec import TXQUEUELEN_DEFAULT, EndSpec, PairSpec
from vethd.rpc.access import Role
from vethd.rpc.call import Call, Method
from vethd.rpc.results import pair_result
from vethd.rpc.schema.link import (
    DeletedResult,
    EndParams,
    LinkAddParams,
    LinkDelParams,
    LinkListParams,
    LinkSelector,
    PairResult,
    SelectedResult,
)
from vethd.rpc.select import matching, select

_WHICH = (NoSuchLink, AmbiguousName, NoSuchNetns)
_NEW_VALUES = (InvalidName, InvalidAddress, MtuOutOfRange, LinkExists, NoSuchNetns, KernelRefused)


class LinkMethods:
    """link.add, link.del, link.get, link.list."""

    def __init__(self, registry: Registry, creator: Creator, deleter: Deleter) -> None:
        self._registry = registry
        self._creator = creator
        self._deleter = deleter
        self.table = (
            Method(
                "link.add",
                LinkAddParams,
                PairResult,
                Role.CHANGE,
                self.link_add,
                (*_NEW_VALUES, LimitReached, TunMissing, WorkerFailed),
                {"a": {"ifname": "lab0", "mtu": 9000, "up": True}, "b": {"ifname": "lab1", "up": True}},
            ),
            Method("link.del", LinkDelParams, DeletedResult, Role.CHANGE, self.link_del, _WHICH, {"ifname": "veth0"}),
            Method("link.get", LinkSelector, SelectedResult, Role.LOOK, self.link_get, _WHICH, {"ifname": "veth0"}),
            Method("link.list", LinkListParams, list[PairResult], Role.LOOK, self.link_list, (NoSuchLink, NoSuchNetns)),
        )

    async def link_add(self, params: LinkAddParams, call: Call) -> PairResult:
        """Make a pair."""
        a = params.a
        b = params.b
        if b is None:  # kernel: the peer without attributes of its own takes the main ones, never name or MAC
            b = EndParams(mtu=a.mtu, txqueuelen=a.txqueuelen)
        with call.netns(a.netns, "end a: netns") as a_netns, call.netns(b.netns, "end b: netns") as b_netns:
            ends = _end_spec("a", a, a_netns), _end_spec("b", b, b_netns)
            reason = f"link.add by {call.peer}"
            spec = PairSpec(*ends, params.placement, numqueues=params.numqueues, reason=reason)
            pair = await self._creator.newlink(spec)
        return pair_result(pair)

    async def link_del(self, params: LinkDelParams, call: Call) -> DeletedResult:
        """Delete a pair; both devices are gone when this is answered."""
        pair, _letter = select(self._registry, params, call)
        if pair.state is not PairState.LIVE:
            raise NoSuchLink(f"pair {pair.uuid} is being made or deleted already")
        await self._deleter.dellink(pair, f"link.del by {call.peer}")
        return {"pair": str(pair.uuid)}

    async def link_get(self, params: LinkSelector, call: Call) -> SelectedResult:
        """One pair, and which of its ends was asked for."""
        pair, letter = select(self._registry, params, call)
        return {**pair_result(pair), "end": letter}

    async def link_list(self, params: LinkListParams, call: Call) -> list[PairResult]:
        """All pairs, or those that the filter lets through."""
        name_of = netns.names().get
        return [pair_result(pair, name_of) for pair in matching(self._registry, params, call)]


def _end_spec(letter: Letter, params: EndParams, fd: int) -> EndSpec:
    spec = EndSpec(letter, params.ifname, fd, params.address, gro=params.gro, up=params.up)
    if params.mtu is not None:
        spec.mtu = params.mtu
    spec.txqueuelen = TXQUEUELEN_DEFAULT if params.txqueuelen is None else params.txqueuelen
    return spec
