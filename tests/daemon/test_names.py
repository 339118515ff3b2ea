"""Names of descriptors: what they stand for is found again, and all of them fit into what systemd hands over."""

from __future__ import annotations

import os
import subprocess
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vethd.config import LimitConfig
from vethd.daemon.names import (
    CONTROL,
    COUNTERS,
    STAGING,
    as_end,
    as_worker,
    end_name,
    half_of,
    is_known,
    most_ends,
    outlives_the_process,
    whole_of,
    worker_name,
)
from vethd.host.tap import QUEUES_MAX
from vethd.pairs.pair import Letter, new_uuid

LETTERS: tuple[Letter, ...] = ("a", "b")


@given(st.binary(min_size=16, max_size=16), st.sampled_from(LETTERS), st.integers(0, QUEUES_MAX - 1))
def test_a_name_tells_pair_end_and_queue(uuid: bytes, letter: Letter, queue: int) -> None:
    name = end_name(UUID(bytes=uuid), letter, queue)
    assert as_end(name) == (half_of(UUID(bytes=uuid)), letter, queue)
    assert len(name) == 14
    assert name.isascii()
    assert ":" not in name
    assert is_known(name)
    assert outlives_the_process(name)
    assert as_worker(name) is None


def test_the_uuid_of_a_pair_follows_from_what_the_name_has_of_it() -> None:
    uuids = [new_uuid() for _ in range(1000)]
    assert [whole_of(half_of(uuid)) for uuid in uuids] == uuids
    assert len(set(map(half_of, uuids))) == 1000
    assert {(uuid.version, uuid.variant) for uuid in uuids} == {(4, uuid4().variant)}


def test_names_of_version_1_are_understood() -> None:
    uuid = uuid4()
    assert as_end(f"end.{uuid}.b.12") == (half_of(uuid), "b", 12)


@pytest.mark.parametrize("name", [STAGING, COUNTERS, CONTROL, worker_name(1), "stored", "", "end.x.a.0", "A" * 14])
def test_what_is_no_end_is_not_taken_for_one(name: str) -> None:
    assert as_end(name) is None
    assert is_known(name) is (name in (STAGING, COUNTERS, CONTROL, "worker.1"))


def test_workers_and_the_socket_are_not_for_systemd_to_keep() -> None:
    assert as_worker(worker_name(4711)) == 4711
    assert not outlives_the_process(worker_name(4711))
    assert not outlives_the_process(CONTROL)
    assert outlives_the_process(STAGING)
    assert outlives_the_process(COUNTERS)


@pytest.mark.parametrize("more", [0, 1])
def test_the_kernel_takes_the_names_of_as_many_ends_and_no_more(more: int) -> None:
    names = [CONTROL, STAGING, COUNTERS, *(end_name(UUID(int=number), "a", 0) for number in range(most_ends() + more))]
    command, told = ["true"], {**os.environ, "LISTEN_FDNAMES": ":".join(names)}
    if more:
        with pytest.raises(OSError, match="Argument list too long"):
            subprocess.run(command, env=told, check=True)
    else:
        subprocess.run(command, env=told, check=True)
    assert most_ends() >= 2 * LimitConfig().max_pairs
