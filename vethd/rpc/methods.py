"""The methods of the control socket: check the request, do it, say what came out.

`Methods.table` lists them with what they need. envelope.py speaks JSON-RPC 2.0; the models of schema.py check the
parameters; an error that a client can meet is a VethdError and carries its kind, errno and hint in `data`.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from structlog.typing import FilteringBoundLogger

from vethd import __version__
from vethd.drops import DropPoint
from vethd.errors import InvalidParams, NoSuchLink, NoSuchNetns, ShuttingDown, VethdError
from vethd.host import netns, tap
from vethd.host.rtnl import LinkStats
from vethd.host.threads import HostThreads
from vethd.pairs.create import Creator
from vethd.pairs.delete import Deleter
from vethd.pairs.pair import End, Letter, Pair, PairState
from vethd.pairs.registry import Registry
from vethd.pairs.spec import TXQUEUELEN_DEFAULT, EndSpec, PairSpec
from vethd.pairs.stats import charge_unread, end_stats, kernel_stats, queue_stats
from vethd.pairs.workers import Workers
from vethd.rpc.access import Role
from vethd.rpc.envelope import Envelope, refusal
from vethd.rpc.schema import (
    DaemonInfo,
    EndParams,
    EndResult,
    EndStatsResult,
    LinkAddParams,
    LinkFilter,
    LinkSelector,
    NetnsRef,
    NoParams,
    PairResult,
    PairStats,
    SelectedResult,
    SoftnetResult,
    SoftnetRow,
    StatsResult,
)
from vethd.rpc.server import Connection
from vethd.validation import findings
from vethd.worker.channel import MAX_FDS
from vethd.worker.counters import Counters

P = TypeVar("P", bound=BaseModel)
#: The name of a namespace by its identity, None when it has none.
NameOf = Callable[[tuple[int, int]], str | None]


class Call:
    """One request's surroundings: who asks, and the file descriptors that came along."""

    def __init__(self, connection: Connection, fds: list[int]) -> None:
        self.peer = connection.peer
        self.fds = fds
        self._connection = connection

    @contextmanager
    def netns(self, ref: str | NetnsRef | None, what: str) -> Iterator[int]:
        """An fd of the namespace that a request names, or of the caller's own; closed after the body.

        Raises NoSuchNetns, InvalidParams, NotPermitted.
        """
        fd = self._open(ref, what)
        try:
            yield fd
        finally:
            os.close(fd)  # an open fd would keep the namespace alive

    def own_netns(self) -> tuple[int, int]:
        """Identity of the caller's own namespace."""
        with self.netns(None, "the caller") as fd:
            return netns.identity(fd)

    def _open(self, ref: str | NetnsRef | None, what: str) -> int:
        if ref is None:
            try:
                return netns.of_socket(self._connection.sock.fileno())
            except OSError as error:  # it disconnected, or we may not see its namespace
                raise netns.not_opened(f"{what}: the caller's own", "name one: netns NAME", error) from error
            except ValueError as error:
                raise NoSuchNetns(f"{what}: the caller's own: {error}", hint="name one: netns NAME") from error
        if isinstance(ref, str):
            ref = NetnsRef(path=ref) if ref.startswith("/") else NetnsRef(name=ref)
        try:
            if ref.name is not None:
                return netns.open_name(ref.name)
            if ref.path is not None:
                return netns.open_path(ref.path)
            if ref.pid is not None:
                return netns.open_pid(ref.pid)
        except VethdError as error:
            which_end = what.removesuffix("netns")
            raise type(error)(which_end + error.message, hint=error.hint, errno=error.errno) from error
        assert ref.fd is not None
        if ref.fd >= len(self.fds):
            raise InvalidParams(
                f"{what}: netns.fd {ref.fd}, but {len(self.fds)} file descriptors came with the request",
                hint="send the descriptor with the last bytes of the request's line (SCM_RIGHTS)",
            )
        netns.check(self.fds[ref.fd], f"{what}: the file descriptor sent along")
        try:
            return os.dup(self.fds[ref.fd])
        except OSError as error:
            raise netns.not_opened(f"{what}: the file descriptor sent along", "send it again", error) from error


@dataclass(frozen=True, slots=True)
class Method:
    """A method: its name, the model of its parameters, what the caller must be allowed, and what it does."""

    name: str
    params: type[BaseModel]
    role: Role
    call: Callable[[Any, Call], Awaitable[Any]]


class Methods:
    """All methods, on the daemon's parts."""

    def __init__(
        self,
        threads: HostThreads,
        registry: Registry,
        workers: Workers,
        creator: Creator,
        deleter: Deleter,
        counters: Counters,
        log: FilteringBoundLogger,
    ) -> None:
        self._threads = threads
        self._registry = registry
        self._workers = workers
        self._creator = creator
        self._deleter = deleter
        self._counters = counters
        self._log = log
        self.shutting_down = False
        self.table = (
            Method("link.add", LinkAddParams, Role.CHANGE, self.link_add),
            Method("link.del", LinkSelector, Role.CHANGE, self.link_del),
            Method("link.get", LinkSelector, Role.LOOK, self.link_get),
            Method("link.list", LinkFilter, Role.LOOK, self.link_list),
            Method("stats.get", LinkFilter, Role.LOOK, self.stats_get),
            Method("softnet.get", NoParams, Role.LOOK, self.softnet_get),
            Method("daemon.info", NoParams, Role.LOOK, self.daemon_info),
        )
        self._envelope: Envelope[Call] = Envelope({method.name: self._guarded(method) for method in self.table})

    async def handle(self, connection: Connection, line: bytes, fds: list[int]) -> str | None:
        """Answer one line; None when it asked for no answer."""
        try:
            return await self._envelope.answer(line, Call(connection, fds))
        except Exception:  # noqa: BLE001 - logged, and the connection goes on
            self._log.exception("a request failed", uid=connection.peer.uid, pid=connection.peer.pid)
            return refusal(VethdError("the request failed", hint="this is a bug; the log has more"))
        finally:
            for fd in fds:
                os.close(fd)

    # -- methods ------------------------------------------------------------------------------------------------------

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
        return _pair_result(pair)

    async def link_del(self, params: LinkSelector, call: Call) -> dict[str, str]:
        """Delete a pair; both devices are gone when this is answered."""
        pair, _letter = self._select(params, call)
        if pair.state is not PairState.LIVE:
            raise NoSuchLink(f"pair {pair.uuid} is being made or deleted already")
        await self._deleter.dellink(pair, f"link.del by {call.peer}")
        return {"pair": str(pair.uuid)}

    async def link_get(self, params: LinkSelector, call: Call) -> SelectedResult:
        """One pair, and which of its ends was asked for."""
        pair, letter = self._select(params, call)
        return {**_pair_result(pair), "end": letter}

    async def link_list(self, params: LinkFilter, call: Call) -> list[PairResult]:
        """All pairs, or those that the filter lets through."""
        name_of = netns.names().get
        return [_pair_result(pair, name_of) for pair in self._filter(params, call)]

    async def stats_get(self, params: LinkFilter, call: Call) -> StatsResult:
        """Counters, the kernel's own included."""
        pairs = self._filter(params, call)
        ends = [end for pair in pairs for end in pair.ends]
        kernel = await kernel_stats(ends, self._threads)
        for end in ends:
            if end.number in kernel and end.pair.state is PairState.LIVE:
                charge_unread(end, kernel[end.number].tx_dropped, end.pair.carrier, self._counters)
        rows: list[PairStats] = []
        for pair in pairs:
            if pair.state is PairState.LIVE:
                a, b = (_stats_result(end, self._counters, kernel.get(end.number)) for end in pair.ends)
                rows.append({"uuid": str(pair.uuid), "ends": {"a": a, "b": b}})
        return {"pairs": rows}

    async def softnet_get(self, _params: NoParams, _call: Call) -> SoftnetResult:
        """Every worker's backlog."""
        rows: list[SoftnetRow] = []
        for slot, ready in self._workers.serving():
            row = self._counters.load_softnet(slot.number)
            rows.append(
                {
                    "worker": slot.number,
                    "pid": ready.get("pid"),
                    "processed": row.processed,
                    "dropped": row.dropped,
                    "time_squeeze": row.time_squeeze,
                    "input_queue_len": row.input_queue_len,
                    "process_queue_len": row.process_queue_len,
                }
            )
        return {"workers": rows}

    async def daemon_info(self, _params: NoParams, _call: Call) -> DaemonInfo:
        """What runs."""
        return {
            "version": __version__,
            "pid": os.getpid(),
            "pairs": len(self._registry),
            "max_pairs": self._registry.max_ends // 2,
            "workers": [
                {
                    "id": slot.number,
                    "pid": ready.get("pid"),
                    "pairs": len(slot.pairs),
                    "queues": len(slot.queues),
                    "datapath": ready.get("datapath"),
                    "frameio": ready.get("frameio"),
                    "why": ready.get("why"),
                }
                for slot, ready in self._workers.serving()
            ],
        }

    # -- parts --------------------------------------------------------------------------------------------------------

    def _select(self, params: LinkSelector, call: Call) -> tuple[Pair, Letter]:
        if params.pair is not None:
            return self._registry.by_uuid(params.pair), "a"
        assert params.ifname is not None
        where = None
        if params.netns is not None:
            with call.netns(params.netns, "netns") as fd:
                where = netns.identity(fd)
        end = self._registry.named(params.ifname, where, call.own_netns())
        return end.pair, end.letter

    def _filter(self, params: LinkFilter, call: Call) -> list[Pair]:
        if params.pair is not None:
            return [self._registry.by_uuid(params.pair)]
        where = None
        if params.netns is not None:
            with call.netns(params.netns, "netns") as fd:
                where = netns.identity(fd)
        return [
            pair
            for pair in self._registry
            if any(
                (params.ifname is None or end.ifname == params.ifname) and (where is None or end.netns == where)
                for end in pair.ends
            )
        ]

    def _guarded(self, method: Method) -> Callable[[Call, Any], Awaitable[Any]]:
        """The method as the envelope calls it: rights first, then parameters; it raises VethdErrors only."""

        async def guarded(call: Call, params: Any) -> Any:
            try:
                call.peer.require(method.role, method.name)
                if not isinstance(params, dict):
                    raise InvalidParams("params is a list", hint="give an object: parameters go by name")
                if len(call.fds) > MAX_FDS:
                    raise InvalidParams("too many file descriptors for one request", hint=f"send at most {MAX_FDS}")
                checked = _validate(method.params, params)
                if self.shutting_down and method.role is Role.CHANGE:
                    raise ShuttingDown("the daemon is shutting down", hint="try again when it is back")
                return await method.call(checked, call)
            except VethdError:
                raise
            except Exception as error:
                self._log.exception("method failed", method=method.name)
                raise VethdError(f"{method.name} failed: {error!r}", hint="this is a bug; the log has more") from error

        return guarded


def _validate(model: type[P], params: dict[str, Any]) -> P:
    """The parameters as their model. Raises InvalidParams, naming each field."""
    try:
        return model.model_validate(params)
    except ValidationError as error:
        sentences, hint = findings(error, model)
        raise InvalidParams("; ".join(sentences), hint=hint) from error


def _end_spec(letter: Letter, params: EndParams, fd: int) -> EndSpec:
    spec = EndSpec(letter, params.ifname, fd, params.address, gro=params.gro, up=params.up)
    if params.mtu is not None:
        spec.mtu = params.mtu
    spec.txqueuelen = TXQUEUELEN_DEFAULT if params.txqueuelen is None else params.txqueuelen
    return spec


def _pair_result(pair: Pair, name_of: NameOf = netns.name_of) -> PairResult:
    return {
        "pair": str(pair.uuid),
        "origin": pair.origin,
        "placement": pair.placement,
        "numqueues": pair.numqueues,
        "workers": [queues.worker for queues in pair.queues],
        "a": _end_result(pair.a, name_of),
        "b": _end_result(pair.b, name_of),
    }


def _end_result(end: End, name_of: NameOf) -> EndResult:
    return {
        "ifname": end.ifname,
        "ifindex": end.ifindex,
        "netns": name_of(end.netns),
        "netns_inode": end.netns[1],
        "address": end.address,
        "mtu": end.mtu,
        "txqueuelen": end.txqlen,
        "up": end.up,
        "carrier": end.pair.carrier,
        "operstate": end.operstate,
        "offload": tap.offload_names(end.offload),
        "offload_why": end.offload_why,
        "gro": end.gro,
    }


def _drops(drops: dict[DropPoint, int]) -> dict[str, int]:
    return {point.name: frames for point, frames in drops.items()}


def _stats_result(end: End, counters: Counters, kernel: LinkStats | None) -> EndStatsResult:
    stats = end_stats(end, counters, kernel)
    return {
        "rx_packets": stats.rx_packets,
        "rx_bytes": stats.rx_bytes,
        "rx_dropped": stats.rx_dropped,
        "tx_packets": stats.tx_packets,
        "tx_bytes": stats.tx_bytes,
        "tx_dropped": stats.tx_dropped,
        "read": stats.read,
        "delivered": stats.delivered,
        "merged": stats.merged,
        "dropped": stats.dropped,
        "queued": stats.queued,
        "drops": _drops(stats.drops),
        "queues": [
            {
                "queue": queues.index,
                "worker": queues.worker,
                "rx_packets": row.rx_packets,
                "rx_bytes": row.rx_bytes,
                "tx_packets": row.tx_packets,
                "tx_bytes": row.tx_bytes,
                "read": row.read,
                "delivered": row.delivered,
                "merged": row.merged,
                "drops": _drops(row.drops),
            }
            for queues, row in zip(end.pair.queues, queue_stats(end, counters), strict=True)
        ],
        "kernel": None
        if kernel is None
        else {
            "rx_packets": kernel.rx_packets,
            "tx_packets": kernel.tx_packets,
            "rx_bytes": kernel.rx_bytes,
            "tx_bytes": kernel.tx_bytes,
            "rx_dropped": kernel.rx_dropped,
            "tx_dropped": kernel.tx_dropped,
        },
    }
