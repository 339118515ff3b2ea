"""A worker that was taken over by a frame makes system calls: what comes of each, and how the supervisor tells."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.hostile import acts
from vethd.worker.counters import Counters

CHECKOUT = Path(__file__).parents[2]
KILLED = "signal SIGSYS"
EXPECTED = {
    "opens a file": "errno EACCES",
    "looks at a file": "errno EACCES",
    "lists a directory": "errno EACCES",
    "moves what others share": "errno EACCES",
    "calls what no kernel has": "errno ENOSYS",
    "asks for a limit of its own": "done",
    "binds itself": "done",
    "aborts": "signal SIGABRT",
    "kills a thread of its own": "signal SIGUSR1",
    "maps memory": "done",
    "writes the counters": "done",
    "asks whether it is a terminal": "done",
}


@pytest.fixture(scope="module")
def outcomes() -> Iterator[dict[str, str]]:
    """What came of every act of acts.py, by act."""
    with closing(Counters.create(2)) as counters:
        victim = subprocess.Popen(["sleep", "60"], user=acts.NOBODY)
        try:
            ran = subprocess.run(
                [sys.executable, "-m", "tests.hostile.acts", str(victim.pid), str(counters.fd)],
                pass_fds=[counters.fd],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
                timeout=60,
                cwd=CHECKOUT,
            )
            assert victim.poll() is None, "a worker ended another process of its user"
        finally:
            victim.kill()
            victim.wait()
        yield json.loads(ran.stdout)


@pytest.mark.parametrize("act", acts.names())
def test_a_worker_that(outcomes: dict[str, str], act: str) -> None:
    assert outcomes[act] == EXPECTED.get(act, KILLED)


def test_every_expectation_is_of_an_act() -> None:
    assert EXPECTED.keys() <= set(acts.names())
