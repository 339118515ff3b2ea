"""What the next program of the daemon must know: a versioned model, written by `snapshot`, read by `restore`.

It goes two ways: to the next program of this process (handover.py), or by way of systemd to the next process
(keep.py). Descriptors go by names (names.py).

A field that is added here with a default is carried over both ways, and read as its default from an older state. A
field that changes its meaning gets another name; VERSION is raised when a former program would be led astray, and
`_UPGRADES` says how to read what such a program left. A state of any other version is not read at all.

Who has descriptors but no state that can be read makes one from them (`_recovered`): the kernel knows where each device
is and how it is set. What only the daemon knew is lost then: labels, origin, counters. A static pair is told by where
its ends are and what they are called (static.py).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, PlainSerializer, PlainValidator, ValidationInfo
from structlog.typing import FilteringBoundLogger

from vethd.daemon.names import (
    CONTROL,
    COUNTERS,
    STAGING,
    Half,
    as_end,
    as_worker,
    end_name,
    half_of,
    is_known,
    whole_of,
    worker_name,
)
from vethd.daemon.reload import Reloader
from vethd.errors import LimitReached
from vethd.host import netns, tap
from vethd.host.locate import Located, delete, locate
from vethd.host.threads import HostThreads
from vethd.pairs.journal import Journal
from vethd.pairs.pair import End, Letter, Origin, Overload, Pair, PairState, Placement, Queue
from vethd.pairs.registry import Registry
from vethd.pairs.static_bridges import StaticBridges
from vethd.pairs.workers import Workers
from vethd.rpc.server import Server
from vethd.rpc.tokens import Answered, Tokens
from vethd.worker.child import Kept
from vethd.worker.counters import Counters

VERSION: Final = 2
#: Descriptors of a pair by (letter, number of the queue).
Queues = dict[tuple[Letter, int], int]


def _from_json(text: Any, info: ValidationInfo) -> str:
    if not isinstance(text, str):
        raise ValueError("must be a string")
    return text.encode("latin-1").decode(errors="surrogateescape") if info.mode == "json" else text


def _to_json(text: str) -> str:
    return text.encode(errors="surrogateescape").decode("latin-1")


#: Text of the kernel's, to which it is bytes that need not be UTF-8; in JSON a character stands for each byte.
KernelText = Annotated[str, PlainValidator(_from_json), PlainSerializer(_to_json, when_used="json")]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True)


class EndEntry(_Entry):
    """An end: fields of `End` by their names. numbers: of its queues."""

    numbers: tuple[int, ...]
    ifname: KernelText
    ifindex: int
    address: str
    mtu: int
    txqlen: int
    netns: tuple[int, int]
    nsid: int
    offload: int
    hdr_len: int
    alias: KernelText = ""
    gro: bool = False
    up: bool = False
    master: KernelText = ""
    master_index: int = 0
    joined: bool = False
    attached: bool = False
    operstate: str = "DOWN"
    offload_why: str = ""
    unread_before: int = 0
    hdr_invalid_seen: int = 0


class PairEntry(_Entry):
    """A pair: fields of `Pair` by their names. workers: slot by queue, if that is known."""

    uuid: UUID
    placement: Placement
    origin: Origin
    carrier: bool
    a: EndEntry
    b: EndEntry
    numqueues: int = 1
    overload: Overload = "drop"
    name: str | None = None
    labels: dict[str, str] = {}
    generation: int = 0
    recovered: bool = False
    workers: tuple[int, ...] = ()


class WorkerEntry(_Entry):
    """A worker process: fields of `Kept` by their names."""

    slot: int | None
    pid: int
    ready: dict[str, Any]
    sequence: int


class TokenEntry(_Entry):
    """The result of a request with a token: fields of `Answered` by their names. fingerprint: in hexadecimal."""

    uid: int
    token: str
    fingerprint: str
    result: str


class Head(_Entry):
    """What is there once. ends: that the counters have rows for. seq: number of the last event.

    inode: of the socket's path. sysctls: backlog settings that were changed at run time. static: see
    Reloader.static_digest, None if that is not known. bridges: see StaticBridges.known.
    """

    version: Literal[2] = VERSION
    ends: int
    seq: int
    inode: int
    sysctls: dict[str, int | bool]
    static: str | None = None
    bridges: tuple[tuple[tuple[int, int], KernelText], ...] = ()


class State(Head):
    """All of it."""

    pairs: list[PairEntry]
    workers: list[WorkerEntry] = []
    tokens: list[TokenEntry] = []

    def numbers(self) -> Iterator[int]:
        """Those of all ends, or queues."""
        return (number for entry in self.pairs for number in _numbers(entry))


def _from_1(told: dict[str, Any]) -> None:
    """Before, each end said how much of the kernel's tx_dropped was charged; the counters say that themselves."""
    for pair in told["pairs"]:
        for letter in "ab":
            del pair[letter]["tx_dropped_seen"]


#: What makes a state of a version one of the next, in place. They raise LookupError or TypeError when it is none.
_UPGRADES: Final[dict[int, Callable[[dict[str, Any]], None]]] = {1: _from_1}
#: Versions that can be read.
READABLE: Final = frozenset({VERSION, *_UPGRADES})


def read_state(text: bytes) -> State:
    """A state of any version that can be read. Raises ValueError."""
    try:
        told = json.loads(text)
        if told["version"] == VERSION:
            return State.model_validate_json(text)
        while told["version"] in _UPGRADES:
            _UPGRADES[told["version"]](told)
            told["version"] += 1
    except (LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"not what vethd writes: {error!r}") from error
    return State.model_validate_json(json.dumps(told))


#: Fields of an end that the kernel knows by the same names.
_ASKED: Final = ("ifname", "ifindex", "address", "mtu", "txqlen", "alias", "up", "operstate")
#: Why a pair is deleted that is in the state, and of which a descriptor is missing.
_VANISHED: Final = "it vanished while the daemon did not run"
_END_FIELDS: Final = EndEntry.model_fields.keys() - {"numbers"}
_PAIR_FIELDS: Final = PairEntry.model_fields.keys() - {"a", "b", "workers"}


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a daemon whose state it is."""

    registry: Registry
    workers: Workers
    counters: Counters
    journal: Journal
    reloader: Reloader
    bridges: StaticBridges
    tokens: Tokens
    server: Server


def head(parts: Parts) -> Head:
    """What is there once."""
    return Head(
        ends=parts.counters.ends,
        seq=parts.journal.seq,
        inode=parts.server.inode,
        sysctls=parts.reloader.changed_sysctls(),
        static=parts.reloader.static_digest,
        bridges=tuple(sorted(parts.bridges.known)),
    )


def snapshot(parts: Parts) -> State:
    """The state of a daemon of which nothing is under way."""
    return State(
        **dict(head(parts)),
        pairs=[pair_entry(pair) for pair in parts.registry],
        workers=[
            WorkerEntry(slot=slot, pid=child.pid, ready=child.ready.result(), sequence=child.sequence)
            for slot, child in parts.workers.children()
        ],
        tokens=list(map(token_entry, parts.tokens.answered())),
    )


def descriptors(parts: Parts, staging: int) -> dict[str, int]:
    """Everything that the next program of this process must have open, by name."""
    return {
        **lasting_descriptors(parts, staging),
        CONTROL: parts.server.listener,
        **{worker_name(child.pid): child.channel_fd for _slot, child in parts.workers.children()},
    }


def lasting_descriptors(parts: Parts, staging: int) -> dict[str, int]:
    """Those of them that outlive the process."""
    ends = [pair_descriptors(pair) for pair in parts.registry]
    return {STAGING: staging, COUNTERS: parts.counters.fd, **dict(item for each in ends for item in each.items())}


def pair_descriptors(pair: Pair) -> dict[str, int]:
    """The queues of a pair, by name."""
    return {
        end_name(pair.uuid, end.letter, index): queue.fd for end in pair.ends for index, queue in enumerate(end.queues)
    }


async def restore(
    state: State | None, fds: Mapping[str, int], parts: Parts, threads: HostThreads, log: FilteringBoundLogger
) -> None:
    """Enter what a predecessor left into the parts of a daemon that has not been started.

    state: None when there is none that can be read. fds: by name; those of ends and workers are taken, and a device of
    which one is missing is deleted with its twin. Of each pair that is no more an event tells. Where devices are now is
    still to be asked (Follower.ask_all).
    """
    for name, fd in fds.items():
        if not is_known(name):
            log.warning("descriptor of no use", name=name)
            os.close(fd)
    queues = _queues_by_pair(fds)
    sound = _sound(state.pairs, queues, parts.counters.ends) if state else []
    entries = {half_of(entry.uuid): entry for entry in sound}
    parts.registry.keep_numbers(number for entry in entries.values() for number in _numbers(entry))
    for half in queues.keys() - entries.keys():
        uuid = whole_of(half)
        entry = await _recovered(uuid, queues[half], parts, threads)
        if entry is not None:
            log.warning("pair not in the state", pair=str(uuid))
            entries[half] = entry
        else:
            log.warning("pair not recovered", pair=str(uuid))
            await _delete(queues[half], threads)
    # From here on nothing waits: an event about a pair must not come before its workers are known.
    slots: dict[Pair, tuple[int, ...]] = {}
    for half, entry in entries.items():
        pair = _pair(entry, queues[half])
        parts.registry.add(pair)
        slots[pair] = entry.workers
    if state is not None:
        parts.journal.seq = state.seq
        parts.bridges.known = set(state.bridges)
        for known in state.pairs:
            if half_of(known.uuid) not in entries:
                who = {"pair": str(known.uuid), "a": known.a.ifname, "b": known.b.ifname}
                where = {"a_netns": known.a.netns[1], "b_netns": known.b.netns[1]}
                log.warning("link deleted", **who, **where, reason=_VANISHED)
                parts.journal.vanished(known.uuid, _VANISHED)
        parts.workers.sysctls = {**parts.workers.sysctls, **state.sysctls}
        parts.tokens.adopt(
            Answered(each.uid, each.token, bytes.fromhex(each.fingerprint), each.result.encode())
            for each in state.tokens
        )
    parts.workers.adopt(_kept(state.workers if state else [], fds), slots)


async def _delete(fds: Queues, threads: HostThreads) -> None:
    for letter in {letter for letter, _queue in fds}:
        await threads.reap(delete, *(fd for (its, _queue), fd in fds.items() if its == letter))


# -- one way ----------------------------------------------------------------------------------------------------------


def token_entry(each: Answered) -> TokenEntry:
    """A request with a token that was answered, to be written."""
    return TokenEntry(uid=each.uid, token=each.token, fingerprint=each.fingerprint.hex(), result=each.result.decode())


def pair_entry(pair: Pair) -> PairEntry:
    """A pair, to be written."""
    return PairEntry(
        a=_end_entry(pair.a),
        b=_end_entry(pair.b),
        workers=tuple(queues.worker for queues in pair.queues),
        **{name: getattr(pair, name) for name in _PAIR_FIELDS},
    )


def _end_entry(end: End) -> EndEntry:
    numbers = tuple(queue.number for queue in end.queues)
    return EndEntry(numbers=numbers, **{name: getattr(end, name) for name in _END_FIELDS})


# -- and back ---------------------------------------------------------------------------------------------------------


def _pair(entry: PairEntry, fds: Queues) -> Pair:
    pair = Pair(**{name: getattr(entry, name) for name in _PAIR_FIELDS})
    pair.a, pair.b = _end("a", entry.a, pair, fds), _end("b", entry.b, pair, fds)
    pair.state = PairState.LIVE
    return pair


def _end(letter: Letter, entry: EndEntry, pair: Pair, fds: Queues) -> End:
    queues = tuple(Queue(number, fds[letter, index]) for index, number in enumerate(entry.numbers))
    return End(pair, letter, queues, **{name: getattr(entry, name) for name in _END_FIELDS})


def _queues_by_pair(fds: Mapping[str, int]) -> dict[Half, Queues]:
    found: dict[Half, Queues] = {}
    for name, fd in fds.items():
        if end := as_end(name):
            half, letter, queue = end
            found.setdefault(half, {})[letter, queue] = fd
    return found


def _numbers(entry: PairEntry) -> tuple[int, ...]:
    return entry.a.numbers + entry.b.numbers


def _sound(entries: Iterable[PairEntry], queues: Mapping[Half, Queues], ends: int) -> list[PairEntry]:
    """Entries of which every descriptor is there, and whose rows in the counters are theirs alone."""
    sound: list[PairEntry] = []
    taken: set[int] = set()
    for entry in entries:
        numbers = set(_numbers(entry))
        wanted = set(product(("a", "b"), range(entry.numqueues)))
        if (
            queues.get(half_of(entry.uuid), {}).keys() == wanted
            and len(entry.a.numbers) == len(entry.b.numbers) == entry.numqueues
            and len(numbers) == 2 * entry.numqueues
            and numbers <= set(range(ends)) - taken
        ):
            taken |= numbers
            sound.append(entry)
    return sound


def _kept(entries: Iterable[WorkerEntry], fds: Mapping[str, int]) -> list[Kept]:
    """Worker processes whose channels are there; of one that no entry is about only that."""
    by_pid = {entry.pid: entry for entry in entries}
    kept = []
    for name, fd in fds.items():
        if (pid := as_worker(name)) is not None:
            entry = by_pid.get(pid)
            kept.append(Kept(entry.slot, pid, fd, entry.ready, entry.sequence) if entry else Kept(None, pid, fd, {}))
    return kept


# -- without a state --------------------------------------------------------------------------------------------------


async def _recovered(uuid: UUID, fds: Queues, parts: Parts, threads: HostThreads) -> PairEntry | None:
    """An entry made of a pair's descriptors alone; None when one of them is missing or its device is gone."""
    numqueues = len(fds) // 2
    if fds.keys() != set(product(("a", "b"), range(numqueues))):
        return None
    try:
        numbers = parts.registry.take_numbers(numqueues)
    except LimitReached:
        return None
    for number in numbers:
        parts.counters.clear(number)
    entry = await threads.follow(_ask_the_kernel, uuid, fds["a", 0], fds["b", 0], numbers)
    if entry is None:
        parts.registry.give_numbers(numbers)
    return entry


def _ask_the_kernel(uuid: UUID, a: int, b: int, numbers: tuple[int, ...]) -> PairEntry | None:
    """What the kernel knows of a pair. Runs on the `follow` thread."""
    found_a, found_b = locate(a), locate(b)
    if found_a is None or found_b is None:
        return None
    return PairEntry(
        uuid=uuid,
        placement="inside" if _is_inside(a, found_a) or _is_inside(b, found_b) else "move",
        origin="api",  # nobody but who asks for that deletes pairs of this origin
        carrier=found_a.info.carrier and found_b.info.carrier,
        numqueues=len(numbers) // 2,
        recovered=True,
        a=_asked(a, found_a, numbers[0::2]),
        b=_asked(b, found_b, numbers[1::2]),
    )


def _asked(fd: int, found: Located, numbers: tuple[int, ...]) -> EndEntry:
    info = found.info
    offload, hdr_len = tap.offload_of(fd)
    return EndEntry(
        numbers=numbers,
        netns=found.netns,
        nsid=found.nsid,
        offload=offload,
        hdr_len=hdr_len,
        offload_why="the daemon does not know any more what is on",
        unread_before=info.stats.tx_dropped if info.stats is not None else 0,
        attached=True,  # for all one knows
        **{name: getattr(info, name) for name in _ASKED},
    )


def _is_inside(fd: int, found: Located) -> bool:
    """Whether a TAP is where it was opened, and not for the sole reason that this is the daemon's own namespace."""
    there = netns.of_socket(fd)
    try:
        return netns.identity(there) == found.netns != netns.home()
    finally:
        os.close(there)
