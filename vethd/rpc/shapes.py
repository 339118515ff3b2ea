"""Parameters and results of the daemon's methods, for type checkers and for who looks up a field.

Written by `make generate` from vethd/rpc/schema/; needs nothing but the standard library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypeAlias, TypedDict

if TYPE_CHECKING:
    from vethd.rpc.namespaces import Namespace


class NetnsRef(TypedDict):
    """A network namespace, in exactly one way."""

    name: NotRequired[str | None]
    """As `ip netns` knows it."""
    path: NotRequired[str | None]
    """Absolute, for example /proc/PID/ns/net."""
    pid: NotRequired[int | None]
    """Of a process in it."""
    fd: NotRequired[int | None]
    """Position among the file descriptors sent along with this request (SCM_RIGHTS), from 0."""


#: A name, or a path when it begins with a slash; opened by the client and sent along. See netns.
Netns: TypeAlias = "str | NetnsRef | Namespace"


class BridgeDelParams(TypedDict):
    """Delete a bridge; only a bridge, and only one that has no ports but ends of pairs."""

    name: str
    """Of the bridge."""
    netns: NotRequired[Netns | None]
    """Where it is; omitted, the caller's own namespace."""
    token: NotRequired[str | None]
    """Makes a retry safe: a second request with it gets the first one's result."""


class BridgeDeletedResult(TypedDict):
    """bridge.del."""

    name: str
    """Of the bridge that is no more."""
    deleted: bool
    """False when it was not there."""


class AddressParams(TypedDict):
    """An IP address of a device."""

    address: str
    """With the length of its prefix: 10.0.0.2/24, fd00::2/64."""
    noprefixroute: NotRequired[bool]
    """Without a route to its prefix."""


class BridgeSetParams(TypedDict):
    """Make a bridge, or complete one that is there."""

    name: str
    """At most 15 bytes."""
    netns: NotRequired[Netns | None]
    """Where it belongs; omitted, the caller's own namespace."""
    addresses: NotRequired[list[str | AddressParams]]
    """IP addresses that it shall have; others stay."""
    mtu: NotRequired[int | None]
    """Bytes; omitted, the smallest of its ports."""
    address: NotRequired[str | None]
    """Unicast MAC address; omitted, a random one that stays the same whatever ports come and go."""
    vlan_filtering: NotRequired[bool | None]
    """Frames are kept to the VLANs of their ports."""
    promisc: NotRequired[bool | None]
    """The bridge itself takes all frames: with hairpin, so that what it answers for comes back to it."""
    up: NotRequired[bool]
    """Set it up."""
    token: NotRequired[str | None]
    """Makes a retry safe: a second request with it gets the first one's result."""


class BridgeResult(TypedDict):
    """bridge.set: the bridge as it is now."""

    name: str
    """Its name."""
    ifindex: int
    """Its index in its namespace."""
    address: str
    """MAC address."""
    mtu: int
    """Bytes."""
    created: bool
    """It was not there before."""


class PortParams(TypedDict):
    """A port of a bridge."""

    name: str
    """Of the bridge, which must be there, in the namespace of the end."""
    hairpin: NotRequired[bool]
    """Frames may leave by the port they came in by, so that a container reaches itself by a published address."""
    isolated: NotRequired[bool]
    """No frames from or to other isolated ports."""
    vlan: NotRequired[int | None]
    """The VLAN of untagged frames (PVID, untagged), in place of the bridge's own; for a bridge with vlan_filtering."""


class RouteParams(TypedDict):
    """A route through an end."""

    dst: str
    """Where to: 10.0.0.0/8, fd00::/8, or `default`, which is IPv6 when `gw` or `src` is, else IPv4."""
    gw: NotRequired[str | None]
    """The next hop's address; omitted, `dst` is on the link."""
    src: NotRequired[str | None]
    """The source address that it prefers."""
    mtu: NotRequired[int | None]
    """Bytes, of packets that take it."""
    advmss: NotRequired[int | None]
    """Bytes, TCP's maximum segment size that it advertises."""
    priority: NotRequired[int | None]
    """The lower goes first (metric); omitted, the kernel's: 0 for IPv4, 1024 for IPv6."""
    table: NotRequired[int | None]
    """Routing table; omitted, main (254)."""
    scope: NotRequired[Literal["global", "link", "host"] | None]
    """How far away; omitted, `global` with a `gw`, else `link`. IPv6 knows none."""


class StaticEnd(TypedDict):
    """An end of a static pair; its name has no `%d`."""

    ifname: str
    """At most 15 bytes."""
    netns: NotRequired[Netns | None]
    """Where it belongs; omitted, the caller's own namespace."""
    address: NotRequired[str | None]
    """Unicast MAC address; omitted, a random one."""
    mtu: NotRequired[int | None]
    """Bytes, 68 to 65521; omitted, 1500."""
    txqueuelen: NotRequired[int | None]
    """Frames that the TAP's ring holds; 0 or omitted, 1000."""
    alias: NotRequired[str | None]
    """The device's ifalias; omitted, `vethd UUID peer NAME`."""
    gro: NotRequired[bool]
    """Merge frames that wait for this end, as `ethtool -K DEV gro on` would."""
    up: NotRequired[bool]
    """Set it up."""
    bridge: NotRequired[str | PortParams | None]
    """Make it a port of this bridge, which must be in the namespace where the end belongs, with either placement; a
    bridge keeps no namespace alive.
    """
    addresses: NotRequired[list[str | AddressParams]]
    """IP addresses that it gets; an IPv6 address can be used at once, without looking for duplicates (nodad)."""
    routes: NotRequired[list[RouteParams]]
    """Routes through it, made in this order when it is up. One to the same destination that is there already stays, and
    comes second unless its priority is lower.
    """


class StaticPair(TypedDict):
    """A pair that shall exist, known by its name: one `[[pair]]` of the configuration."""

    name: str
    """What tells it from other static pairs."""
    a: StaticEnd
    """The first end. A namespace named here that does not exist is made, as by `ip netns add`."""
    b: StaticEnd
    """Its peer."""
    placement: NotRequired[Literal["move", "inside"]]
    """See link.add."""
    numqueues: NotRequired[int]
    """See link.add."""
    overload: NotRequired[Literal["drop", "backpressure"] | None]
    """See link.add."""
    labels: NotRequired[dict[str, str]]
    """See link.add."""


class StaticBridge(TypedDict):
    """A bridge that shall exist before the pairs: one `[[bridge]]` of the configuration."""

    name: str
    """At most 15 bytes."""
    netns: NotRequired[Netns | None]
    """Where it belongs; omitted, the caller's own namespace."""
    addresses: NotRequired[list[str | AddressParams]]
    """IP addresses that it shall have; others stay."""
    mtu: NotRequired[int | None]
    """Bytes; omitted, the smallest of its ports."""
    address: NotRequired[str | None]
    """Unicast MAC address; omitted, a random one that stays the same whatever ports come and go."""
    vlan_filtering: NotRequired[bool | None]
    """Frames are kept to the VLANs of their ports."""
    promisc: NotRequired[bool | None]
    """The bridge itself takes all frames: with hairpin, so that what it answers for comes back to it."""
    up: NotRequired[bool]
    """Set it up."""
    masquerade: NotRequired[bool]
    """Let what comes from the networks of its addresses go out by other devices, with the address that those have."""


class ConfigApplyParams(TypedDict):
    """Make the static pairs what they shall be: create, change and, with `prune`, remove. Pairs of another origin are
    never touched, and a pair that is as it shall be is not disturbed. Bridges are made or completed before.

    Each pair is changed as a whole or not at all; what failed stands in its row, and the others are done nevertheless.
    """

    pairs: list[StaticPair]
    """The pairs that shall exist."""
    bridges: NotRequired[list[StaticBridge]]
    """Bridges that shall exist; a namespace named here that does not exist is made. With `prune`, those that were named
    before and are not now are removed, if they were made so and others have no ports there.
    """
    prune: NotRequired[bool]
    """Remove static pairs that are not among them."""
    dry_run: NotRequired[bool]
    """Only say what would be done."""
    token: NotRequired[str | None]
    """Makes a retry safe: a second request with it gets the first one's result."""


class PlanRow(TypedDict):
    """What happens to one static pair."""

    name: str
    """Its name."""
    action: Literal["create", "change", "replace", "remove", "keep"]
    """`replace`: what can't be changed (placement, numqueues) differs, so it is deleted and made anew."""
    pair: str | None
    """Its uuid; null when there is none yet."""
    changes: dict[str, list[Any]]
    """What differs: [what it is, what it shall be] by field, such as `a.mtu`."""
    error: dict[str, Any] | None
    """Why it failed: `message`, `kind`, and `errno` and `hint` where there are any; else null."""


class ConfigApplyResult(TypedDict):
    """config.apply."""

    applied: bool
    """False with `dry_run`."""
    failed: int
    """Rows with an error."""
    plan: list[PlanRow]
    """One row per pair."""


class ConfigSaveResult(TypedDict):
    """config.save."""

    toml: str
    """A configuration file; the daemon writes nothing itself."""
    left_out: list[str]
    """Pairs that no file can describe, with the reason: their namespace has no name."""


class KernelInfo(TypedDict):
    """The kernel, and what of it vethd can use."""

    release: str
    """As `uname -r`."""
    features: dict[str, str]
    """`yes`, or what is missing and what to do: `network namespaces`, `events of all namespaces`, `/dev/net/tun`,
    `several queues` and `io_uring`, as `vethd doctor` looks for them.
    """


class Limits(TypedDict):
    """What there is, and may be at most."""

    pairs: int
    """Pairs that exist."""
    max_pairs: int
    """Pairs that may exist."""
    clients: int
    """Clients connected now."""
    max_clients: int
    """Clients that may be connected."""
    open_files: int
    """File descriptors that are open."""
    max_open_files: int
    """File descriptors that may be open (RLIMIT_NOFILE)."""


class WorkerRow(TypedDict):
    """One worker: what runs in it, and why not something faster."""

    id: int
    """Number of the worker."""
    pid: int | None
    """Its process; null while it is being replaced."""
    pairs: int
    """Pairs of which it forwards queues."""
    queues: int
    """Queues that it forwards."""
    datapath: str | None
    """`compiled` or `interpreted`."""
    frameio: str | None
    """`uring` or `syscalls`."""
    why: str | None
    """Why not something faster."""


class DaemonInfo(TypedDict):
    """daemon.info."""

    version: str
    """Of vethd."""
    pid: int
    """Of the supervisor."""
    server_id: str
    """Tells this run of the daemon from others; event numbers belong to it."""
    seq: int
    """Number of the last event."""
    uptime: float
    """Seconds since the daemon serves."""
    config: list[str]
    """Configuration files that were read."""
    capabilities: list[str]
    """Effective capabilities of the supervisor, as capabilities(7) names them."""
    kernel: KernelInfo
    """What it runs on."""
    limits: Limits
    """How full it is."""
    pairs: int
    """Pairs that exist."""
    max_pairs: int
    """Pairs that may exist."""
    workers: list[WorkerRow]
    """One row per worker."""


class ReexecResult(TypedDict):
    """daemon.reexec; answered before the program is replaced, and the connection ends with it."""

    server_id: str
    """Of the daemon that answers; the next one has another."""


class Since(TypedDict):
    """The last event that the subscriber knows of."""

    server_id: str
    """Of the daemon that it was heard from: numbers start again with each daemon."""
    seq: int
    """Its number."""


class SubscribeParams(TypedDict):
    """Hear of events on this connection from now on, as notifications `event`.

    A listener that can't keep up is disconnected with the error `listener_too_slow`; no event is ever left out. A
    connection has at most 16 subscriptions.
    """

    topics: NotRequired[list[Literal["link", "carrier", "worker", "drop", "config", "daemon"]] | None]
    """Which; omitted, all."""
    since: NotRequired[Since | None]
    """Continue after this event, if the daemon still knows what came after it."""
    interval: NotRequired[float]
    """Topic drop: seconds between two events for the same end and drop point, at least; in steps of 0.1."""


class Event(TypedDict):
    """One event, also in the `params` of a notification, which has the method `event`."""

    seq: int
    """Number; events of all topics but drop are numbered together. A drop event has the number of the one before it: it
    is counted for this subscription alone and not kept for `since`.
    """
    time: float
    """Seconds since the epoch."""
    topic: Literal["link", "carrier", "worker", "drop", "config", "daemon"]
    """What it is about."""
    event: str
    """What happened: added, changed, moved, deleted ...; see docs/rpc.md."""
    pair: NotRequired[str]
    """Uuid of the pair that it is about."""
    end: NotRequired[Literal["a", "b"]]
    """End of the pair that it is about."""
    fields: dict[str, Any]
    """What belongs to this kind of event."""


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


class QueueStatsResult(TypedDict):
    """What the worker of one queue of an end counted there; the names are those of EndStatsResult.

    What only the kernel's counters of the whole device tell is in the end's totals alone: WORKER_LOST, TAP_RING, and
    what a worker had not published when it died.
    """

    queue: int
    """Number of the queue, from 0."""
    worker: int
    """Which worker forwards it."""
    rx_packets: int
    """Frames."""
    rx_bytes: int
    """Bytes."""
    tx_packets: int
    """Frames."""
    tx_bytes: int
    """Bytes."""
    read: int
    """Frames."""
    delivered: int
    """Frames."""
    merged: int
    """Frames."""
    drops: dict[str, int]
    """Frames by drop point."""


class KernelStats(TypedDict):
    """The TAP's own counters, as `ip -s link` shows them."""

    rx_packets: int
    """Frames."""
    tx_packets: int
    """Frames."""
    rx_bytes: int
    """Bytes."""
    tx_bytes: int
    """Bytes."""
    rx_dropped: int
    """Frames."""
    tx_dropped: int
    """Frames."""


class EndStatsResult(TypedDict):
    """Counters of an end, rx_* and tx_* as kernel veth charges them; read = delivered + merged + dropped + queued.

    Since a cursor, all of them are differences, but `queued` is not: read = delivered + merged + dropped + growth of
    queued.
    """

    rx_packets: int
    """Frames delivered to this end."""
    rx_bytes: int
    """Bytes of them."""
    rx_dropped: int
    """Frames for this end that were dropped where kernel veth charges the receiver."""
    tx_packets: int
    """Frames taken from this end."""
    tx_bytes: int
    """Bytes of them."""
    tx_dropped: int
    """Frames of this end that were dropped where kernel veth charges the sender."""
    read: int
    """Frames read from this end."""
    delivered: int
    """Of these, those written to the peer."""
    merged: int
    """Of these, those that became part of another one (gro)."""
    dropped: int
    """Of these, those dropped at any point."""
    queued: int
    """Of these, those that are still in the backlog."""
    drops: dict[str, int]
    """Frames that started here, by drop point; NO_CARRIER and TAP_RING count also what was never read."""
    queues: list[QueueStatsResult]
    """The same by queue."""
    kernel: KernelStats | None
    """The TAP's own counters; null when the device is going, or was not there at the cursor."""


class EndsStats(TypedDict):
    """Counters of both ends."""

    a: EndStatsResult
    """The first end."""
    b: EndStatsResult
    """Its peer."""


class PairResult(TypedDict):
    """A pair as it is now."""

    pair: str
    """Its uuid."""
    name: str | None
    """The name of a static pair (origin config), else null."""
    origin: Literal["config", "api", "cni", "docker", "oci"]
    """On whose behalf it was made."""
    generation: int
    """Number of its last change; changes of all pairs are numbered together."""
    labels: dict[str, str]
    """Words about it."""
    placement: Literal["move", "inside"]
    """See link.add."""
    numqueues: int
    """Queues of each end."""
    overload: Literal["drop", "backpressure"]
    """See link.add."""
    workers: list[int]
    """Which worker forwards each queue."""
    a: EndResult
    """The first end."""
    b: EndResult
    """Its peer."""
    stats: NotRequired[EndsStats]
    """Counters of both ends; link.list with `stats` alone."""


class Snapshot(TypedDict):
    """Everything as it was when the subscription began."""

    pairs: list[PairResult]
    """All pairs."""
    workers: list[WorkerRow]
    """All workers."""


class SubscribeResult(TypedDict):
    """events.subscribe: either the missed events or a snapshot; events that follow are newer than `seq`."""

    subscription: int
    """Its number on this connection, also in each notification."""
    server_id: str
    """Tells this run of the daemon from others."""
    seq: int
    """Number of the last event that is part of this answer."""
    found: bool
    """`since` is still known, and `events` are all that was missed; else `snapshot` holds the present state."""
    events: list[Event]
    """What was missed, oldest first."""
    snapshot: Snapshot | None
    """The present state, unless `found`."""


class UnsubscribeParams(TypedDict):
    """Hear of no more events."""

    subscription: int
    """Which subscription of this connection."""


class UnsubscribeResult(TypedDict):
    """events.unsubscribe."""

    subscription: int
    """The subscription that is no more."""


class EndParams(TypedDict):
    """One end to be made."""

    ifname: NotRequired[str]
    """At most 15 bytes; `%d` in it asks for a free number."""
    netns: NotRequired[Netns | None]
    """Where it belongs; omitted, the caller's own namespace."""
    address: NotRequired[str | None]
    """Unicast MAC address; omitted, a random one."""
    mtu: NotRequired[int | None]
    """Bytes, 68 to 65521; omitted, 1500."""
    txqueuelen: NotRequired[int | None]
    """Frames that the TAP's ring holds; 0 or omitted, 1000."""
    alias: NotRequired[str | None]
    """The device's ifalias; omitted, `vethd UUID peer NAME`."""
    gro: NotRequired[bool]
    """Merge frames that wait for this end, as `ethtool -K DEV gro on` would."""
    up: NotRequired[bool]
    """Set it up."""
    bridge: NotRequired[str | PortParams | None]
    """Make it a port of this bridge, which must be in the namespace where the end belongs, with either placement; a
    bridge keeps no namespace alive.
    """
    addresses: NotRequired[list[str | AddressParams]]
    """IP addresses that it gets; an IPv6 address can be used at once, without looking for duplicates (nodad)."""
    routes: NotRequired[list[RouteParams]]
    """Routes through it, made in this order when it is up. One to the same destination that is there already stays, and
    comes second unless its priority is lower.
    """


class PairParams(TypedDict):
    """A pair to be made."""

    a: NotRequired[EndParams]
    """The first end, the one that `ip link add NAME` names."""
    b: NotRequired[EndParams | None]
    """Its peer; omitted, it gets a's mtu and txqueuelen and a name of its own, as with `ip link add type veth`."""
    placement: NotRequired[Literal["move", "inside"]]
    """`move`: the pair dies with a namespace, as veth does. `inside`: quick, and keeps the namespaces alive."""
    numqueues: NotRequired[int]
    """Queues of each end, 1 to 256; the flows are spread over them, and they over the workers. Fixed for life."""
    overload: NotRequired[Literal["drop", "backpressure"] | None]
    """What its worker does while the backlog is full: `drop` frames, or `backpressure`: stop reading this pair.
    Omitted, what `overload` in the configuration says.
    """
    labels: NotRequired[dict[str, str]]
    """Words of the caller's about the pair, to find it by; at most 64."""
    origin: NotRequired[Literal["api", "cni", "docker", "oci"]]
    """On whose behalf it is made."""


class LinkAddParams(TypedDict):
    """Make a pair, or several at once."""

    a: NotRequired[EndParams]
    """The first end, the one that `ip link add NAME` names."""
    b: NotRequired[EndParams | None]
    """Its peer; omitted, it gets a's mtu and txqueuelen and a name of its own, as with `ip link add type veth`."""
    placement: NotRequired[Literal["move", "inside"]]
    """`move`: the pair dies with a namespace, as veth does. `inside`: quick, and keeps the namespaces alive."""
    numqueues: NotRequired[int]
    """Queues of each end, 1 to 256; the flows are spread over them, and they over the workers. Fixed for life."""
    overload: NotRequired[Literal["drop", "backpressure"] | None]
    """What its worker does while the backlog is full: `drop` frames, or `backpressure`: stop reading this pair.
    Omitted, what `overload` in the configuration says.
    """
    labels: NotRequired[dict[str, str]]
    """Words of the caller's about the pair, to find it by; at most 64."""
    origin: NotRequired[Literal["api", "cni", "docker", "oci"]]
    """On whose behalf it is made."""
    token: NotRequired[str | None]
    """Makes a retry safe: a second request with it gets the first one's result, and makes nothing."""


class LinkDelParams(TypedDict):
    """Delete a pair; both devices are gone when this is answered."""

    ifname: NotRequired[str | None]
    """The name of an end."""
    netns: NotRequired[Netns | None]
    """The namespace of that end; omitted, the caller's own, or else the only one that has an end of that name."""
    pair: NotRequired[str | None]
    """The pair's uuid."""
    end: NotRequired[Literal["a", "b"] | None]
    """Which end of `pair` is meant, where it matters; omitted, a."""
    generation: NotRequired[int | None]
    """Only if the pair's generation is still this one."""
    token: NotRequired[str | None]
    """Makes a retry safe: a second request with it gets the first one's result."""


class DeletedResult(TypedDict):
    """link.del."""

    pair: str
    """The uuid that is no more."""


class LinkSelector(TypedDict):
    """A pair: by the name of an end, or by its uuid."""

    ifname: NotRequired[str | None]
    """The name of an end."""
    netns: NotRequired[Netns | None]
    """The namespace of that end; omitted, the caller's own, or else the only one that has an end of that name."""
    pair: NotRequired[str | None]
    """The pair's uuid."""
    end: NotRequired[Literal["a", "b"] | None]
    """Which end of `pair` is meant, where it matters; omitted, a."""


class SelectedResult(TypedDict):
    """link.get: the pair, and the end that was asked for."""

    pair: str
    """Its uuid."""
    name: str | None
    """The name of a static pair (origin config), else null."""
    origin: Literal["config", "api", "cni", "docker", "oci"]
    """On whose behalf it was made."""
    generation: int
    """Number of its last change; changes of all pairs are numbered together."""
    labels: dict[str, str]
    """Words about it."""
    placement: Literal["move", "inside"]
    """See link.add."""
    numqueues: int
    """Queues of each end."""
    overload: Literal["drop", "backpressure"]
    """See link.add."""
    workers: list[int]
    """Which worker forwards each queue."""
    a: EndResult
    """The first end."""
    b: EndResult
    """Its peer."""
    stats: NotRequired[EndsStats]
    """Counters of both ends; link.list with `stats` alone."""
    end: Literal["a", "b"]
    """Which of its ends has the name that was asked for; asked by uuid, the one named, else a."""


class LinkListParams(TypedDict):
    """All pairs, or those that the filter lets through."""

    ifname: NotRequired[str | None]
    """An end has this name."""
    netns: NotRequired[Netns | None]
    """An end is in this namespace; with `ifname`, the same end."""
    pair: NotRequired[str | None]
    """The one with this uuid; that there is none is an error."""
    labels: NotRequired[dict[str, str | None]]
    """It has all these labels; null means any value."""
    origin: NotRequired[Literal["config", "api", "cni", "docker", "oci"] | None]
    """On whose behalf it was made."""
    stats: NotRequired[bool]
    """With the counters of stats.get in each."""


class LinkChanges(TypedDict):
    """What link.set changes; what is omitted stays. The last three concern the whole pair, the others the end."""

    ifname: NotRequired[str | None]
    """New name; also of an end that is up, as the kernel allows."""
    netns: NotRequired[Netns | None]
    """Move the end into this namespace; it is down there unless `up` is said as well, as with `ip link set netns`."""
    address: NotRequired[str | None]
    """Unicast MAC address."""
    mtu: NotRequired[int | None]
    """Bytes, 68 to 65521."""
    txqueuelen: NotRequired[int | None]
    """Frames that the TAP's ring holds; 0 means 1000."""
    alias: NotRequired[str | None]
    """The device's ifalias; empty, `vethd UUID peer NAME` again."""
    gro: NotRequired[bool | None]
    """Merge frames that wait for this end."""
    up: NotRequired[bool | None]
    """Set it up or down; carrier follows on both ends."""
    bridge: NotRequired[str | PortParams | None]
    """Make it a port of this bridge; null: let it leave the one it is in."""
    labels: NotRequired[dict[str, str | None] | None]
    """Labels to set, or with null to remove; others stay."""
    worker: NotRequired[int | None]
    """Let this worker forward all queues of the pair; no frame is lost or overtakes another on the way."""
    overload: NotRequired[Literal["drop", "backpressure"] | None]
    """See link.add."""


class LinkSetParams(TypedDict):
    """Change an end or its pair: everything that is asked for, or nothing."""

    ifname: NotRequired[str | None]
    """The name of an end."""
    netns: NotRequired[Netns | None]
    """The namespace of that end; omitted, the caller's own, or else the only one that has an end of that name."""
    pair: NotRequired[str | None]
    """The pair's uuid."""
    end: NotRequired[Literal["a", "b"] | None]
    """Which end of `pair` is meant, where it matters; omitted, a."""
    set: LinkChanges
    """What to change."""
    generation: NotRequired[int | None]
    """Only if the pair's generation is still this one."""
    token: NotRequired[str | None]
    """Makes a retry safe: a second request with it gets the first one's result."""


class SoftnetRow(TypedDict):
    """One worker's backlog, in the words of /proc/net/softnet_stat."""

    worker: int
    """Number of the worker."""
    pid: int | None
    """Its process; null while it is being replaced."""
    processed: int
    """Frames taken from the backlog."""
    dropped: int
    """Frames that the full backlog refused."""
    time_squeeze: int
    """Times that a pass ended with work left."""
    input_queue_len: int
    """Frames in input_pkt_queue."""
    process_queue_len: int
    """Frames in process_queue."""


class SoftnetResult(TypedDict):
    """softnet.get."""

    workers: list[SoftnetRow]
    """One row per worker."""


class StatsGetParams(TypedDict):
    """Counters since each pair was made, or since a cursor."""

    ifname: NotRequired[str | None]
    """An end has this name."""
    netns: NotRequired[Netns | None]
    """An end is in this namespace; with `ifname`, the same end."""
    pair: NotRequired[str | None]
    """The one with this uuid; that there is none is an error."""
    labels: NotRequired[dict[str, str | None]]
    """It has all these labels; null means any value."""
    origin: NotRequired[Literal["config", "api", "cni", "docker", "oci"] | None]
    """On whose behalf it was made."""
    cursor: NotRequired[bool]
    """Also a cursor, with which the next call asks for what came since this one; a daemon keeps the last 64."""
    since: NotRequired[str | None]
    """Count from this cursor on: differences, with a new cursor. A pair made since then counts from its creation."""


class PairStats(TypedDict):
    """Counters of a pair."""

    uuid: str
    """The pair."""
    ends: EndsStats
    """Its ends."""


class StatsResult(TypedDict):
    """stats.get."""

    pairs: list[PairStats]
    """Pairs that the filter let through."""
    cursor: str | None
    """To ask from here on next time, when that was asked for."""
    interval: float | None
    """Seconds since the cursor that was given; null without one: the counters then are since creation."""


class SysctlGetParams(TypedDict):
    """The backlog's limits that are in force."""

    names: NotRequired[list[str] | None]
    """Which, with or without `net.core.` before; omitted, all."""


class SysctlResult(TypedDict):
    """sysctl.get, sysctl.set."""

    values: dict[str, int]
    """Values in force, by name with `net.core.` before."""


class SysctlSetParams(TypedDict):
    """Change the backlog's limits of every worker, all or none of them; until the daemon ends."""

    values: dict[str, int]
    """New values by name, with or without `net.core.` before: netdev_max_backlog, netdev_budget, dev_weight in frames,
    netdev_budget_usecs, busy_poll in microseconds.
    """
