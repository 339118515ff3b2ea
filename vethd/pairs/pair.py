"""`Pair` and `End`: what the supervisor knows of a pair.

The kernel is right, this is a picture of it: names, namespaces, MTU, addresses and admin state may be changed by
anybody with `ip`, and arrive here through follow.py. An end is its file descriptor; everything else about it may
change.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from enum import Enum
from hashlib import sha256
from typing import Literal
from uuid import UUID

Letter = Literal["a", "b"]
Placement = Literal["move", "inside"]
Origin = Literal["config", "api", "cni", "docker", "oci"]
Overload = Literal["drop", "backpressure"]


class PairState(Enum):
    """The life cycle of a pair.

    ======= ============================================ ============================================================
    state   what may be done                             leads to
    ======= ============================================ ============================================================
    NEW     nothing: its ends are being made; it is in   LIVE, when both ends exist, are registered and a worker has
            no table                                     them; gone without a trace when any step fails
    LIVE    everything                                   DYING: link.del, deletion of one device or of its
                                                         namespace, shutdown of the daemon
    DYING   nothing; its devices are going               gone: out of every table, fds closed, numbers free again
    ======= ============================================ ============================================================
    """

    NEW = "new"
    LIVE = "live"
    DYING = "dying"


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue of an end.

    number: its number towards the worker, which takes it for an end, and its row in the counters.
    fd: the supervisor's copy of its fd; the queue lives as long as any copy, and the device as long as any queue.
    """

    number: int
    fd: int


@dataclass(slots=True, eq=False)
class End:
    """One end: a TAP device (kernel: net_device and veth_priv).

    letter: `a` or `b`; in `link add NAME type veth peer name NAME2`, NAME is a.
    queues: all its queues, from its creation to its end; the first one speaks for the device.
    ifname, ifindex, address, mtu, txqlen, alias, up, operstate: as the kernel last said.
    netns: identity of its namespace (device, inode of the nsfs file). nsid: that namespace's id in the staging
    namespace.
    offload: TUNSETOFFLOAD value in force. offload_why: why it is less than the kernel offers, or "".
    hdr_len: bytes of virtio header.
    gro: frames that wait for it are merged.
    master: name of the bridge, or other device, that it is a port of, or "". master_index: its ifindex, or 0.
    joined: vethd made it a port, and may undo that. attached: it may have addresses or routes of vethd's.
    heard: events of the end so far; an answer of the kernel is stale when this grew since it was asked.
    unread_before: the kernel's tx_dropped as it was before any of it was charged to a drop point.
    hdr_invalid_seen: frames whose headers the kernel had refused when the offload was last lowered.
    """

    pair: Pair
    letter: Letter
    queues: tuple[Queue, ...]
    ifname: str
    ifindex: int
    address: str
    mtu: int
    txqlen: int
    netns: tuple[int, int]
    nsid: int
    offload: int
    hdr_len: int
    alias: str = ""
    gro: bool = False
    up: bool = False
    master: str = ""
    master_index: int = 0
    joined: bool = False
    attached: bool = False
    operstate: str = "DOWN"
    offload_why: str = ""
    heard: int = 0
    unread_before: int = 0
    hdr_invalid_seen: int = 0

    @property
    def number(self) -> int:
        """What stands for the whole end in tables, and where corrections of the whole device are kept."""
        return self.queues[0].number

    @property
    def fd(self) -> int:
        """A descriptor to ask about the device, and to change it."""
        return self.queues[0].fd

    @property
    def peer(self) -> End:
        """The other end."""
        return self.pair.b if self.letter == "a" else self.pair.a

    @property
    def key(self) -> tuple[int, int]:
        """Where events of this end come from: (nsid, ifindex)."""
        return self.nsid, self.ifindex

    def label(self) -> str:
        """How messages name the end: `a (veth0)`."""
        return f"{self.letter} ({self.ifname})"


@dataclass(slots=True, eq=False)
class QueuePair:
    """Queue `index` of both ends, which feed each other: what one worker forwards, to which it is a pair of its own.

    worker: slot of that worker, chosen when it takes them.
    """

    pair: Pair
    index: int
    worker: int = 0

    @property
    def queues(self) -> tuple[Queue, Queue]:
        """The queues themselves, a's first."""
        return self.pair.a.queues[self.index], self.pair.b.queues[self.index]


def new_uuid() -> UUID:
    """A random uuid (version 4) whose second half follows from the first: a name with room for half of it is enough."""
    half = os.urandom(8)
    return uuid_of(UUID(bytes=half + half, version=4).bytes[:8])


def uuid_of(half: bytes) -> UUID:
    """The uuid that begins with these eight bytes."""
    return UUID(bytes=half + sha256(half).digest()[:8], version=4)


@dataclass(slots=True, eq=False)
class Pair:
    """Two ends and the wire between them.

    numqueues: how many queues each end has; fixed for life.
    queues: what each of them is joined to, and the worker in between.
    carrier: what both TAPs were last told.
    name: of a static pair. labels: words about it, the user's. generation: number of the last event about it.
    overload: what its worker does while the backlog is full.
    recovered: it was made from its descriptors alone. Origin, name and labels are lost: a static pair may be it.
    lock: held while it is changed; what changes a pair waits for who does already.
    """

    placement: Placement
    origin: Origin
    numqueues: int = 1
    overload: Overload = "drop"
    name: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    generation: int = 0
    recovered: bool = False
    uuid: UUID = field(default_factory=new_uuid)
    state: PairState = PairState.NEW
    carrier: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    a: End = field(init=False)
    b: End = field(init=False)
    queues: tuple[QueuePair, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.queues = tuple(QueuePair(self, index) for index in range(self.numqueues))

    @property
    def ends(self) -> tuple[End, End]:
        """Both ends, a first."""
        return self.a, self.b

    def is_live(self) -> bool:
        """True while everything may be done with it."""
        return self.state is PairState.LIVE

    @property
    def wants_carrier(self) -> bool:
        """The rule of veth_open and veth_close: carrier on both ends if and only if both are up."""
        return self.a.up and self.b.up


def describe(pair: Pair) -> dict[str, str | int]:
    """The fields with which log lines name a pair."""
    return {
        "pair": str(pair.uuid),
        "a": pair.a.ifname,
        "a_netns": pair.a.netns[1],
        "b": pair.b.ifname,
        "b_netns": pair.b.netns[1],
    }


def default_alias(end: End) -> str:
    """The ifalias of an end that was given none: it says whose it is, and the name of its peer."""
    return f"vethd {end.pair.uuid} peer {end.peer.ifname}"


def has_default_alias(end: End) -> bool:
    """True when the ifalias is the default one, be it with a name that the peer has no more."""
    return end.alias.startswith(f"vethd {end.pair.uuid} peer ")


def has_old_alias(end: End) -> bool:
    """True when the ifalias is the default one with a name that the peer has no more."""
    return has_default_alias(end) and end.alias != default_alias(end)
