"""The compiled and the interpreted datapath do the same: any schedule, the same outcome in every counter and field."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.datapath.flows import ACK, CWR, PSH, Packet
from tests.kit.ippackets import IPPROTO_TCP, IPPROTO_UDP

SCHEDULE = Path(__file__).parent / "schedule.py"

LENGTHS = st.sampled_from([0, 1, 13, 14, 15, 16, 60, 1018, 1019, 1514, 1518, 1519, 9018, 65521]) | st.integers(0, 2000)
END = st.integers(0, 7)

FRAMES = st.tuples(
    st.just("frames"),
    END,
    st.integers(1, 80),
    LENGTHS,
    st.integers(0, 255),  # virtio flags
    st.sampled_from([0, 0, 0, 1, 4, 5, 0x80, 0x81, 0x25, 255]),  # gso_type
    st.sampled_from([2, 2, 2, 3, 0xFF, 0]),  # first byte of the destination
    st.sampled_from([0x0800, 0x86DD, 0x8100, 0x05FF, 0x0600, 0, 0xFFFF]),
)


@st.composite
def raw_frames(draw: st.DrawFn) -> tuple[str, int, list[str]]:
    """Frames of a few flows that GRO merges, some of them with a few bytes made up or the end cut off."""
    flow = Packet(
        b"",
        protocol=draw(st.sampled_from([IPPROTO_TCP, IPPROTO_UDP])),
        ipv6=draw(st.booleans()),
        tci=draw(st.sampled_from([None, None, 5])),
        seq=draw(st.sampled_from([1, 2**32 - 300])),
        ident=draw(st.sampled_from([0, 65530])),
    )
    fixed = draw(st.booleans())
    frames: list[str] = []
    for size in draw(st.lists(st.sampled_from([100, 100, 100, 100, 99, 1, 0, 1448, 20000]), max_size=12)):
        flags = draw(st.sampled_from([ACK, ACK, ACK, ACK | PSH, ACK | CWR]))
        packet = replace(flow, payload=bytes(size), flags=flags)
        whole = bytearray(packet.header().pack() + packet.frame())
        if draw(st.integers(0, 3)) == 0:
            whole[draw(st.integers(0, 80)) % len(whole)] = draw(st.integers(0, 255))
        if draw(st.integers(0, 15)) == 0:
            del whole[draw(st.integers(10, 110)) :]
        frames.append(whole.hex())
        flow = replace(flow, seq=(flow.seq + size) % 2**32, ident=(flow.ident + (not fixed)) % 2**16)
    return "raw", draw(END), frames


OPERATION = st.one_of(
    FRAMES,
    FRAMES,
    raw_frames(),
    raw_frames(),
    st.tuples(st.just("gro"), END, st.sampled_from([True, True, False]), st.booleans()),
    st.tuples(st.just("poll"), st.sampled_from([0, 1, 100, 3000, 9000])),
    st.tuples(st.just("sysctl"), st.just("netdev_max_backlog"), st.integers(1, 150)),
    st.tuples(st.just("sysctl"), st.just("netdev_budget"), st.integers(1, 400)),
    st.tuples(st.just("sysctl"), st.just("netdev_budget_usecs"), st.integers(1, 9000)),
    st.tuples(st.just("sysctl"), st.just("dev_weight"), st.integers(1, 100)),
    st.tuples(st.just("backpressure"), END, st.booleans()),
    st.tuples(st.just("carrier"), END, st.booleans()),
    st.tuples(st.just("mtu"), END, st.sampled_from([68, 1000, 1500, 9000, 65521])),
    st.tuples(st.just("lose"), END),
    st.tuples(st.just("find"), END),
)


class Datapath:
    """A process that runs schedules at one speed."""

    def __init__(self, **environment: str) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("VETHD_")}
        self._process = subprocess.Popen(
            [sys.executable, str(SCHEDULE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=inherited | environment,
        )
        self.hello = self._answer()

    def run(self, pairs: int, operations: list[Any]) -> Any:
        """The outcome of a schedule."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([pairs, operations]) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=10)

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the datapath's process ended"
        return json.loads(line)


@pytest.fixture(scope="module")
def compiled() -> Iterator[Datapath]:
    """The datapath as it was compiled; without extensions this is an error, not a skip."""
    datapath = Datapath(VETHD_REQUIRE_EXTENSIONS="1")
    yield datapath
    datapath.close()


@pytest.fixture(scope="module")
def interpreted() -> Iterator[Datapath]:
    """The datapath from its source."""
    datapath = Datapath(VETHD_NO_EXTENSIONS="1")
    yield datapath
    datapath.close()


def test_the_two_speeds_are_really_two(compiled: Datapath, interpreted: Datapath) -> None:
    assert compiled.hello["speed"] == "compiled"
    assert all(file.endswith(".so") for file in compiled.hello["modules"])
    assert interpreted.hello["speed"] == "interpreted"
    assert all(file.endswith(".py") for file in interpreted.hello["modules"])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.integers(1, 4), operations=st.lists(OPERATION, max_size=30))
def test_any_schedule_has_the_same_outcome_at_both_speeds(
    compiled: Datapath, interpreted: Datapath, pairs: int, operations: list[Any]
) -> None:
    assert compiled.run(pairs, operations) == interpreted.run(pairs, operations)
