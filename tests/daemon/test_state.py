"""The state that one program leaves for the next: what goes in comes out, whatever else is in the file."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest

from vethd.daemon.names import half_of
from vethd.daemon.state import (
    READABLE,
    VERSION,
    EndEntry,
    PairEntry,
    State,
    TokenEntry,
    WorkerEntry,
    _sound,
    read_state,
)
from vethd.pairs.pair import End, Letter, Pair

#: What belongs to one program alone: how a pair is wired up there, and what is under way.
NOT_KEPT_OF_PAIRS = {"state", "lock", "queues"}
NOT_KEPT_OF_ENDS = {"pair", "letter", "queues", "heard"}


def end(*numbers: int, ifname: str = "veth0") -> EndEntry:
    return EndEntry(
        numbers=numbers,
        ifname=ifname,
        ifindex=7,
        address="02:00:00:00:00:01",
        mtu=1500,
        txqlen=1000,
        netns=(4, 4026531840),
        nsid=3,
        offload=0x1EF,
        hdr_len=24,
    )


def pair(a: EndEntry, b: EndEntry) -> PairEntry:
    return PairEntry(
        uuid=uuid4(), placement="move", origin="api", carrier=True, numqueues=len(a.numbers), workers=(0,), a=a, b=b
    )


def state(*pairs: PairEntry) -> State:
    worker = WorkerEntry(slot=0, pid=4711, ready={"op": "ready", "version": 2}, sequence=9)
    return State(
        version=VERSION,
        ends=8192,
        seq=5,
        inode=9,
        sysctls={"netdev_budget": 64},
        pairs=list(pairs),
        workers=[worker],
        tokens=[TokenEntry(uid=0, token="T", fingerprint="00ff", result="[1]")],
    )


def test_every_field_of_a_pair_is_kept_or_belongs_to_one_program_alone() -> None:
    """A field that is added to Pair or End must be thought of here."""
    assert set(Pair.__dataclass_fields__) - NOT_KEPT_OF_PAIRS == set(PairEntry.model_fields) - {"workers"}
    assert set(End.__dataclass_fields__) - NOT_KEPT_OF_ENDS == set(EndEntry.model_fields) - {"numbers"}


@pytest.mark.parametrize("ifname", ["veth0", "größe", b"\xff\xfe".decode(errors="surrogateescape")])
def test_what_is_written_is_read_back(ifname: str) -> None:
    written = state(pair(end(0, ifname=ifname), end(1)))
    assert read_state(written.model_dump_json().encode()) == written


def test_fields_of_a_later_program_are_passed_over_and_missing_ones_have_their_defaults() -> None:
    written = state(pair(end(0), end(1)))
    told = json.loads(written.model_dump_json())
    told["pairs"][0]["colour"] = "red"
    told["mood"] = "good"
    for name in ("labels", "overload", "generation", "name"):
        del told["pairs"][0][name]
    assert read_state(json.dumps(told).encode()) == written


def test_a_state_of_version_1_is_made_one_of_today() -> None:
    """What was charged of the kernel's tx_dropped is in the counters, as far as it was."""
    written = state(pair(end(0), end(1)))
    told = json.loads(written.model_dump_json())
    told["version"] = 1
    for entry in told["pairs"]:
        for letter in "ab":
            del entry[letter]["unread_before"]
            entry[letter]["tx_dropped_seen"] = 7
    assert read_state(json.dumps(told).encode()) == written
    assert {1, VERSION} == READABLE


@pytest.mark.parametrize(
    "told",
    [
        *(b"", b"{}", b"[]", b"1", b'""', b"null", b"\0", b"\xff", b"[" * 100_000),
        *(b'{"version": %d}' % version for version in (*READABLE, 0, VERSION + 1)),
        *(b'{"version": 1, "pairs": [%s]}' % pair for pair in (b"{}", b"0", b"null", b'{"a": {}, "b": 1}')),
        *(b'{"version": %s}' % version for version in (b"[]", b"{}", b"null", b'"2"', b"2.5")),
    ],
)
def test_another_version_or_no_state_at_all_is_refused(told: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the words are for people
        read_state(told)


def test_a_pair_is_sound_only_with_all_its_descriptors_and_rows_of_its_own() -> None:
    good, double, beyond, uneven = (
        pair(end(0, 2), end(1, 3)),
        pair(end(4), end(3)),
        pair(end(6), end(8)),
        pair(end(4, 5), end(6)),
    )
    letters: tuple[Letter, ...] = ("a", "b")
    complete = {
        half_of(entry.uuid): {(letter, queue): 9 for letter in letters for queue in range(entry.numqueues)}
        for entry in (good, double, beyond, uneven)
    }
    entries = [good, double, beyond, uneven]
    assert _sound(entries, complete, ends=8) == [good]
    del complete[half_of(good.uuid)]["b", 1]
    assert _sound(entries, complete, ends=8) == [double]
    assert _sound(entries, {}, ends=8) == []
