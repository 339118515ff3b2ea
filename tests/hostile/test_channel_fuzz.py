"""The supervisor's side of a worker's channel, told anything at all: it believes what the protocol has, or ends it."""

from __future__ import annotations

import array
import asyncio
import json
import os
import socket
import subprocess
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vethd.worker import child as child_module
from vethd.worker.channel import PROTOCOL_VERSION, Message, parse_report
from vethd.worker.child import Child

ENDS = 8
#: What the worker was asked, in this order.
PING, ADD = 1, 2
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
numbers = st.integers(-1, ENDS + 1) | values
#: All that either side says.
ops = st.sampled_from(
    [
        *("ready", "unable", "ack", "refused", "gone", "hdr_invalid"),
        *("hello", "add", "set", "sysctl", "del", "drain", "ping"),
    ]
)
reports = st.fixed_dictionaries(
    {"op": ops | values},
    optional=dict.fromkeys(("end", "frames", "seq", "pid"), numbers)
    | {"version": st.just(PROTOCOL_VERSION) | numbers}
    | {name: st.just("x") | values for name in ("why", "remedy", "frameio", "datapath")},
)
right = st.one_of(
    st.builds(lambda end: {"op": "gone", "end": end}, st.integers(0, ENDS - 1)),
    st.builds(
        lambda end, power: {"op": "hdr_invalid", "end": end, "frames": 16 << power},
        st.integers(0, ENDS - 1),
        st.integers(0, 40),
    ),
    st.just({"op": "ack", "seq": PING}),
    st.sampled_from([{"op": "ack", "seq": ADD}, {"op": "refused", "seq": ADD, "why": "x"}]),
)
packets = st.lists(
    st.tuples(st.one_of(right, right, reports, values, st.binary(max_size=99)), st.integers(0, 2)), max_size=8
)


async def converse(packets: list[tuple[Any, int]]) -> None:
    """Send packets, each with so many descriptors (most have none), as the worker of a child; then hang up."""
    loop = asyncio.get_running_loop()
    failures: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: failures.append(context))
    heard: list[Message] = []
    sides: list[int] = []

    def impostor(channel: int, _frameio: str) -> subprocess.Popen[bytes]:
        sides.append(os.dup(channel))
        return subprocess.Popen(["sleep", "60"])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(child_module, "_start_process", impostor)
        child = Child(loop, lambda _child, report: heard.append(report), lambda _child: None)
    child.ends = ENDS
    asked = child.request("ping"), child.request("add", ends=[])
    with socket.socket(fileno=sides[0]) as worker:
        assert [json.loads(worker.recv(1 << 16))["seq"] for _ in asked] == [PING, ADD]
        for content, fds in packets:
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * fds))] if fds == 2 else []
            with suppress(ConnectionError):
                worker.sendmsg([data], rights)
    async with asyncio.timeout(10):
        await child.ended.wait()
    assert failures == []
    assert all(answer.done() for answer in asked)
    assert child.why_dead.startswith(("broke the protocol: ", "its channel: ", "frameio is 'uring', but "))
    for report in heard:
        assert parse_report(report)["end"] < ENDS
    assert len(heard) == len({json.dumps(report) for report in heard})


@given(packets)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_nothing_that_a_worker_says_makes_the_supervisor_fail(packets: list[tuple[Any, int]]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    asyncio.run(converse(packets))
    assert len(os.listdir("/proc/self/fd")) == before
