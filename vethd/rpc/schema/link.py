"""link.*: pairs made, changed, deleted and looked at."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired
from uuid import UUID

from pydantic import Field, model_validator, with_config
from typing_extensions import TypedDict

from vethd.rpc.schema.base import DESCRIBED, LabelName, LabelValue, Letter, Netns, Params, Token
from vethd.rpc.schema.network import Addresses, Port, Routes
from vethd.rpc.schema.stats import EndsStats

Placement = Literal["move", "inside"]
Overload = Literal["drop", "backpressure"]
Origin = Literal["config", "api", "cni", "docker", "oci"]


class EndParams(Params):
    """One end to be made."""

    ifname: str = "veth%d"
    """At most 15 bytes; `%d` in it asks for a free number."""
    netns: Netns | None = None
    """Where it belongs; omitted, the caller's own namespace."""
    address: str | None = None
    """Unicast MAC address; omitted, a random one."""
    mtu: int | None = None
    """Bytes, 68 to 65521; omitted, 1500."""
    txqueuelen: int | None = None
    """Frames that the TAP's ring holds; 0 or omitted, 1000."""
    alias: Annotated[str, Field(max_length=255)] | None = None
    """The device's ifalias; omitted, `vethd UUID peer NAME`."""
    gro: bool = False
    """Merge frames that wait for this end, as `ethtool -K DEV gro on` would."""
    up: bool = False
    """Set it up."""
    bridge: Port | None = None
    """Make it a port of this bridge, which must be in the namespace where the end belongs, with either placement; a
    bridge keeps no namespace alive."""
    addresses: Addresses = Field(default_factory=list)
    """IP addresses that it gets; an IPv6 address can be used at once, without looking for duplicates (nodad)."""
    routes: Routes = Field(default_factory=list)
    """Routes through it, made in this order when it is up. One to the same destination that is there already stays, and
    comes second unless its priority is lower."""


class PairParams(Params):
    """A pair to be made."""

    a: EndParams = EndParams()
    """The first end, the one that `ip link add NAME` names."""
    b: EndParams | None = None
    """Its peer; omitted, it gets a's mtu and txqueuelen and a name of its own, as with `ip link add type veth`."""
    placement: Placement = "move"
    """`move`: the pair dies with a namespace, as veth does. `inside`: quick, and keeps the namespaces alive."""
    numqueues: int = 1
    """Queues of each end, 1 to 256; the flows are spread over them, and they over the workers. Fixed for life."""
    overload: Overload | None = None
    """What its worker does while the backlog is full: `drop` frames, or `backpressure`: stop reading this pair.
    Omitted, what `overload` in the configuration says."""
    labels: dict[LabelName, LabelValue] = Field(default_factory=dict)
    """Words of the caller's about the pair, to find it by; at most 64."""
    origin: Literal["api", "cni", "docker", "oci"] = "api"
    """On whose behalf it is made."""


class LinkAddParams(PairParams):
    """Make a pair, or several at once."""

    pairs: Annotated[list[PairParams], Field(min_length=1, max_length=1000)] | None = None
    """Several pairs, made all or none; then nothing beside it but `token`."""
    token: Token | None = None
    """Makes a retry safe: a second request with it gets the first one's result, and makes nothing."""

    @model_validator(mode="after")
    def _one_or_several(self) -> LinkAddParams:
        if self.pairs is not None and (beside := self.model_fields_set - {"pairs", "token"}):
            raise ValueError(f"{', '.join(sorted(beside))}: goes into each of pairs, not beside it")
        return self


class LinkSelector(Params):
    """A pair: by the name of an end, or by its uuid."""

    ifname: str | None = None
    """The name of an end."""
    netns: Netns | None = None
    """The namespace of that end; omitted, the caller's own, or else the only one that has an end of that name."""
    pair: UUID | None = Field(default=None, strict=False)
    """The pair's uuid."""
    end: Letter | None = None
    """Which end of `pair` is meant, where it matters; omitted, a."""

    @model_validator(mode="after")
    def _name_or_uuid(self) -> LinkSelector:
        if (self.ifname is None) == (self.pair is None):
            raise ValueError("give either ifname (and netns) or pair")
        if self.pair is not None and self.netns is not None:
            raise ValueError("netns goes with ifname, not with pair")
        if self.pair is None and self.end is not None:
            raise ValueError("end goes with pair; ifname says which end is meant")
        return self


class LinkDelParams(LinkSelector):
    """Delete a pair; both devices are gone when this is answered."""

    generation: Annotated[int, Field(ge=0)] | None = None
    """Only if the pair's generation is still this one."""
    token: Token | None = None
    """Makes a retry safe: a second request with it gets the first one's result."""


class LinkChanges(Params):
    """What link.set changes; what is omitted stays. The last three concern the whole pair, the others the end."""

    ifname: str | None = None
    """New name; also of an end that is up, as the kernel allows."""
    netns: Netns | None = None
    """Move the end into this namespace; it is down there unless `up` is said as well, as with `ip link set netns`."""
    address: str | None = None
    """Unicast MAC address."""
    mtu: int | None = None
    """Bytes, 68 to 65521."""
    txqueuelen: int | None = None
    """Frames that the TAP's ring holds; 0 means 1000."""
    alias: Annotated[str, Field(max_length=255)] | None = None
    """The device's ifalias; empty, `vethd UUID peer NAME` again."""
    gro: bool | None = None
    """Merge frames that wait for this end."""
    up: bool | None = None
    """Set it up or down; carrier follows on both ends."""
    bridge: Port | None = None
    """Make it a port of this bridge; null: let it leave the one it is in."""
    labels: dict[LabelName, LabelValue | None] | None = None
    """Labels to set, or with null to remove; others stay."""
    worker: Annotated[int, Field(ge=0)] | None = None
    """Let this worker forward all queues of the pair; no frame is lost or overtakes another on the way."""
    overload: Overload | None = None
    """See link.add."""


class LinkSetParams(LinkSelector):
    """Change an end or its pair: everything that is asked for, or nothing."""

    set: LinkChanges
    """What to change."""
    generation: Annotated[int, Field(ge=0)] | None = None
    """Only if the pair's generation is still this one."""
    token: Token | None = None
    """Makes a retry safe: a second request with it gets the first one's result."""


class LinkFilter(Params):
    """Which pairs: all, or those for which everything given holds."""

    ifname: str | None = None
    """An end has this name."""
    netns: Netns | None = None
    """An end is in this namespace; with `ifname`, the same end."""
    pair: UUID | None = Field(default=None, strict=False)
    """The one with this uuid; that there is none is an error."""
    labels: dict[LabelName, LabelValue | None] = Field(default_factory=dict)
    """It has all these labels; null means any value."""
    origin: Origin | None = None
    """On whose behalf it was made."""


class StatsGetParams(LinkFilter):
    """Counters since each pair was made, or since a cursor."""

    cursor: bool = False
    """Also a cursor, with which the next call asks for what came since this one; a daemon keeps the last 64."""
    since: str | None = None
    """Count from this cursor on: differences, with a new cursor. A pair made since then counts from its creation."""


class LinkListParams(LinkFilter):
    """All pairs, or those that the filter lets through."""

    stats: bool = False
    """With the counters of stats.get in each."""


@with_config(DESCRIBED)
class EndResult(TypedDict):
    """An end as it is now."""

    ifname: str
    """Its name."""
    ifindex: int
    """Its index in its namespace."""
    netns: str | None
    """Its namespace's `ip netns` name, or null."""
    netns_inode: int
    """Inode of its namespace, which tells unnamed ones apart."""
    address: str
    """MAC address."""
    mtu: int
    """Bytes."""
    txqueuelen: int
    """Frames."""
    alias: str
    """The device's ifalias."""
    up: bool
    """Administratively up (IFF_UP)."""
    carrier: bool
    """Both ends are up."""
    operstate: str
    """RFC 2863, as the kernel says: UP, DOWN, LOWERLAYERDOWN ..."""
    offload: list[str]
    """What crosses the wire undone: checksums, segmentation."""
    offload_why: str
    """Why it is not more, or empty."""
    gro: bool
    """Frames that wait for it are merged."""
    master: str | None
    """The bridge, or another device, that it is a port of."""


@with_config(DESCRIBED)
class PairResult(TypedDict):
    """A pair as it is now."""

    pair: str
    """Its uuid."""
    name: str | None
    """The name of a static pair (origin config), else null."""
    origin: Origin
    """On whose behalf it was made."""
    generation: int
    """Number of its last change; changes of all pairs are numbered together."""
    labels: dict[str, str]
    """Words about it."""
    placement: Placement
    """See link.add."""
    numqueues: int
    """Queues of each end."""
    overload: Overload
    """See link.add."""
    workers: list[int]
    """Which worker forwards each queue."""
    a: EndResult
    """The first end."""
    b: EndResult
    """Its peer."""
    stats: NotRequired[EndsStats]
    """Counters of both ends; link.list with `stats` alone."""


@with_config(DESCRIBED)
class SelectedResult(PairResult):
    """link.get: the pair, and the end that was asked for."""

    end: Letter
    """Which of its ends has the name that was asked for; asked by uuid, the one named, else a."""


@with_config(DESCRIBED)
class DeletedResult(TypedDict):
    """link.del."""

    pair: str
    """The uuid that is no more."""
