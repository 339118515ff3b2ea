"""What requests look like. Every request is checked against its model before anything happens; unknown fields are
refused.

Results are TypedDicts: what the methods return, and what clients may rely on.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from vethd.validation import OBJECT, WORD


class _Params(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class NetnsRef(_Params):
    """A network namespace, in exactly one way.

    name: as `ip netns` knows it. path: absolute, for example /proc/PID/ns/net. pid: of a process in it.
    fd: position among the file descriptors sent along with this request, from 0.
    """

    name: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    path: Annotated[str, Field(pattern=r"^/", max_length=4095)] | None = None
    pid: Annotated[int, Field(ge=1, le=1 << 22)] | None = None
    fd: Annotated[int, Field(ge=0, le=15)] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> NetnsRef:
        if sum(value is not None for value in (self.name, self.path, self.pid, self.fd)) != 1:
            raise ValueError("give exactly one of name, path, pid and fd")
        return self


def _netns_form(value: Any) -> str:
    return WORD if isinstance(value, str) else OBJECT


#: A string is a name, or a path when it begins with a slash.
Netns = Annotated[
    Annotated[str, Field(min_length=1, max_length=4095), Tag(WORD)] | Annotated[NetnsRef, Tag(OBJECT)],
    Discriminator(_netns_form),
]


class EndParams(_Params):
    """One end to be made.

    ifname: at most 15 bytes; `%d` in it asks for a free number. netns: omitted, the caller's own. address: unicast MAC;
    omitted, a random one. mtu: bytes, 68 to 65521. txqueuelen: frames; 0 means the default. gro: merge frames that
    wait for this end, as `ethtool -K DEV gro on` would. up: set it up.
    """

    ifname: str = "veth%d"
    netns: Netns | None = None
    address: str | None = None
    mtu: int | None = None
    txqueuelen: int | None = None
    gro: bool = False
    up: bool = False


class LinkAddParams(_Params):
    """link.add: make a pair.

    a, b: the ends; without b the peer gets a's mtu and txqueuelen and a name of its own, as with `ip link add type
    veth`.
    placement: `move` (the pair dies with a namespace) or `inside` (quick; keeps the namespaces alive).
    numqueues: of each end, 1 to 256; the flows are spread over them, and they over the workers.
    """

    a: EndParams = EndParams()
    b: EndParams | None = None
    placement: Literal["move", "inside"] = "move"
    numqueues: int = 1


class LinkSelector(_Params):
    """link.get, link.del: a pair by the name of an end (in a namespace; omitted: see README), or by its uuid."""

    ifname: str | None = None
    netns: Netns | None = None
    pair: UUID | None = Field(default=None, strict=False)

    @model_validator(mode="after")
    def _name_or_uuid(self) -> LinkSelector:
        if (self.ifname is None) == (self.pair is None):
            raise ValueError("give either ifname (and netns) or pair")
        if self.pair is not None and self.netns is not None:
            raise ValueError("netns goes with ifname, not with pair")
        return self


class LinkFilter(_Params):
    """link.list, stats.get: all pairs, those with an end called ifname or in netns, or the one with this uuid."""

    ifname: str | None = None
    netns: Netns | None = None
    pair: UUID | None = Field(default=None, strict=False)


class NoParams(_Params):
    """For methods that take nothing."""


class EndResult(TypedDict):
    """An end as it is now. netns: its `ip netns` name, or None; netns_inode tells unnamed ones apart.

    operstate: RFC 2863, as the kernel says. offload: what crosses the wire undone, and why not more. gro: frames that
    wait for it are merged.
    """

    ifname: str
    ifindex: int
    netns: str | None
    netns_inode: int
    address: str
    mtu: int
    txqueuelen: int
    up: bool
    carrier: bool
    operstate: str
    offload: list[str]
    offload_why: str
    gro: bool


class PairResult(TypedDict):
    """A pair as it is now. workers: which one forwards each queue."""

    pair: str
    origin: str
    placement: str
    numqueues: int
    workers: list[int]
    a: EndResult
    b: EndResult


class SelectedResult(PairResult):
    """link.get: the pair, and which end has the name that was asked for (`a` when asked by uuid)."""

    end: Literal["a", "b"]


class KernelStats(TypedDict):
    """The TAP's own counters, as `ip -s link` shows them."""

    rx_packets: int
    tx_packets: int
    rx_bytes: int
    tx_bytes: int
    rx_dropped: int
    tx_dropped: int


class QueueStatsResult(TypedDict):
    """What the worker of one queue of an end counted there; the names are those of EndStatsResult.

    What only the kernel's counters of the whole device tell is in the end's totals alone: WORKER_LOST, TAP_RING, and
    what a worker had not published when it died.
    """

    queue: int
    worker: int
    rx_packets: int
    rx_bytes: int
    tx_packets: int
    tx_bytes: int
    read: int
    delivered: int
    merged: int
    drops: dict[str, int]


class EndStatsResult(TypedDict):
    """Counters of an end; frames and bytes. rx_* and tx_* as kernel veth charges them.

    read, delivered, merged, dropped, queued: the direction that starts here. drops: by point, of that direction.
    queues: the same by queue.
    """

    rx_packets: int
    rx_bytes: int
    rx_dropped: int
    tx_packets: int
    tx_bytes: int
    tx_dropped: int
    read: int
    delivered: int
    merged: int
    dropped: int
    queued: int
    drops: dict[str, int]
    queues: list[QueueStatsResult]
    kernel: KernelStats | None


class EndsStats(TypedDict):
    """Counters of both ends."""

    a: EndStatsResult
    b: EndStatsResult


class PairStats(TypedDict):
    """Counters of a pair."""

    uuid: str
    ends: EndsStats


class StatsResult(TypedDict):
    """stats.get."""

    pairs: list[PairStats]


class SoftnetRow(TypedDict):
    """One worker's backlog, in the words of /proc/net/softnet_stat; frames."""

    worker: int
    pid: int | None
    processed: int
    dropped: int
    time_squeeze: int
    input_queue_len: int
    process_queue_len: int


class SoftnetResult(TypedDict):
    """softnet.get."""

    workers: list[SoftnetRow]


class WorkerRow(TypedDict):
    """One worker: what runs in it, and why not something faster."""

    id: int
    pid: int | None
    pairs: int
    queues: int
    datapath: str | None
    frameio: str | None
    why: str | None


class DaemonInfo(TypedDict):
    """daemon.info."""

    version: str
    pid: int
    pairs: int
    max_pairs: int
    workers: list[WorkerRow]
