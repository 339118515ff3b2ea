"""What the next program of the daemon must know: a versioned model, written by `snapshot`, read by `restore`.

Descriptors have names here, never numbers, because they get others on their way through a service manager::

    end.UUID.a|b.QUEUE      one queue of an end          staging      the staging namespace
    worker.PID              the channel of a worker      counters     their memfd
                                                         control      the listening socket

A field that is added here with a default is carried over both ways, and read as its default from an older state. A
field that changes its meaning gets another name, or VERSION is raised; a state of another version is not read at all.

Who has descriptors but no state that can be read makes one from them (`_recovered`): the kernel knows where each device
is and how it is set. What only the daemon knew is lost then: labels, origin, counters.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, PlainSerializer, PlainValidator, ValidationInfo
from structlog.typing import FilteringBoundLogger

from vethd.daemon.reload import Reloader
from vethd.errors import LimitReached
from vethd.host import netns, tap
from vethd.host.locate import Located, delete, locate
from vethd.host.threads import HostThreads
from vethd.pairs.journal import Journal
from vethd.pairs.pair import End, Letter, Origin, Overload, Pair, PairState, Placement, Queue
from vethd.pairs.registry import Registry
from vethd.pairs.workers import Workers
from vethd.rpc.server import Server
from vethd.rpc.tokens import Answered, Tokens
from vethd.worker.child import Kept
from vethd.worker.counters import Counters

VERSION: Final = 1
STAGING, COUNTERS, CONTROL = "staging", "counters", "control"
_KNOWN: Final = {STAGING, COUNTERS, CONTROL}
_END_NAME: Final = re.compile(r"end\.(?P<uuid>[0-9a-f-]{36})\.(?P<letter>[ab])\.(?P<queue>[0-9]{1,3})")
_WORKER_NAME: Final = re.compile(r"worker\.(?P<pid>[0-9]{1,9})")

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
    operstate: str = "DOWN"
    offload_why: str = ""
    tx_dropped_seen: int = 0
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


class State(_Entry):
    """All of it. ends: that the counters have rows for. seq: number of the last event. inode: of the socket's path.

    sysctls: backlog settings that were changed at run time.
    """

    version: Literal[1]
    ends: int
    seq: int
    inode: int
    sysctls: dict[str, int | bool]
    pairs: list[PairEntry]
    workers: list[WorkerEntry]
    tokens: list[TokenEntry] = []


#: Fields of an end that the kernel knows by the same names.
_ASKED: Final = ("ifname", "ifindex", "address", "mtu", "txqlen", "alias", "up", "operstate")
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
    tokens: Tokens
    server: Server


def snapshot(parts: Parts) -> State:
    """The state of a daemon of which nothing is under way."""
    return State(
        version=VERSION,
        ends=parts.counters.ends,
        seq=parts.journal.seq,
        inode=parts.server.inode,
        sysctls=parts.reloader.changed_sysctls(),
        pairs=[_pair_entry(pair) for pair in parts.registry],
        workers=[
            WorkerEntry(slot=slot, pid=child.pid, ready=child.ready.result(), sequence=child.sequence)
            for slot, child in parts.workers.children()
        ],
        tokens=[
            TokenEntry(uid=each.uid, token=each.token, fingerprint=each.fingerprint.hex(), result=each.result.decode())
            for each in parts.tokens.answered()
        ],
    )


def descriptors(parts: Parts, staging: int) -> dict[str, int]:
    """Everything that the next program must have open, by name."""
    return {
        STAGING: staging,
        COUNTERS: parts.counters.fd,
        CONTROL: parts.server.listener,
        **{f"worker.{child.pid}": child.channel_fd for _slot, child in parts.workers.children()},
        **{
            f"end.{pair.uuid}.{end.letter}.{index}": queue.fd
            for pair in parts.registry
            for end in pair.ends
            for index, queue in enumerate(end.queues)
        },
    }


async def restore(
    state: State | None, fds: Mapping[str, int], parts: Parts, threads: HostThreads, log: FilteringBoundLogger
) -> None:
    """Enter what a predecessor left into the parts of a daemon that has not been started.

    state: None when there is none that can be read. fds: by name; those of ends and workers are taken, and a device of
    which one is missing is deleted with its twin. Where devices are now is still to be asked (Follower.ask_all).
    """
    for name, fd in fds.items():
        if name not in _KNOWN and not _END_NAME.fullmatch(name) and not _WORKER_NAME.fullmatch(name):
            log.warning("descriptor of no use", name=name)
            os.close(fd)
    queues = _queues_by_pair(fds)
    entries = {entry.uuid: entry for entry in _sound(state.pairs, queues, parts.counters.ends)} if state else {}
    parts.registry.keep_numbers(number for entry in entries.values() for number in _numbers(entry))
    for uuid in queues.keys() - entries.keys():
        entry = await _recovered(uuid, queues[uuid], parts, threads)
        log.warning("pair not in the state", pair=str(uuid), recovered=entry is not None)
        if entry is not None:
            entries[uuid] = entry
        else:
            await _delete(queues[uuid], threads)
    # From here on nothing waits: an event about a pair must not come before its workers are known.
    slots: dict[Pair, tuple[int, ...]] = {}
    for uuid, entry in entries.items():
        pair = _pair(entry, queues[uuid])
        parts.registry.add(pair)
        slots[pair] = entry.workers
    if state is not None:
        parts.journal.seq = state.seq
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


def _pair_entry(pair: Pair) -> PairEntry:
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


def _queues_by_pair(fds: Mapping[str, int]) -> dict[UUID, Queues]:
    found: dict[UUID, Queues] = {}
    for name, fd in fds.items():
        if match := _END_NAME.fullmatch(name):
            letter: Letter = "a" if match["letter"] == "a" else "b"
            found.setdefault(UUID(match["uuid"]), {})[letter, int(match["queue"])] = fd
    return found


def _numbers(entry: PairEntry) -> tuple[int, ...]:
    return entry.a.numbers + entry.b.numbers


def _sound(entries: Iterable[PairEntry], queues: Mapping[UUID, Queues], ends: int) -> list[PairEntry]:
    """Entries of which every descriptor is there, and whose rows in the counters are theirs alone."""
    sound: list[PairEntry] = []
    taken: set[int] = set()
    for entry in entries:
        numbers = set(_numbers(entry))
        wanted = set(product(("a", "b"), range(entry.numqueues)))
        if (
            queues.get(entry.uuid, {}).keys() == wanted
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
        if match := _WORKER_NAME.fullmatch(name):
            pid = int(match["pid"])
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
        placement="inside" if found_a.netns == _opened_in(a) else "move",
        origin="api",  # nobody but who asks for that deletes pairs of this origin
        carrier=found_a.info.carrier and found_b.info.carrier,
        numqueues=len(numbers) // 2,
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
        tx_dropped_seen=info.stats.tx_dropped if info.stats is not None else 0,
        **{name: getattr(info, name) for name in _ASKED},
    )


def _opened_in(fd: int) -> tuple[int, int]:
    """Identity of the namespace that a TAP was opened in."""
    there = netns.of_socket(fd)
    try:
        return netns.identity(there)
    finally:
        os.close(there)
