"""Fixtures for tests of the worker: processes, ends, and proof after each test that nothing of them is left."""

import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.frameio.taps import Taps
from tests.frameio.ways import WAYS, MakeFrameIO
from tests.kit import netns as kit_netns
from tests.kit.netns import Namespaces
from tests.kit.processes import descendants, open_files
from tests.worker.bench import Bench
from tests.worker.ends import StandIn
from tests.worker.parent import IMPOSTOR, Supervisor
from tests.worker.subject import ENDS, Worker
from vethd.worker.channel import PROTOCOL_VERSION
from vethd.worker.counters import Counters

StartWorker = Callable[..., Worker]
FRAMEIO = ["syscalls", "uring"] if "uring" in WAYS else ["syscalls"]


@pytest.fixture(autouse=True)
def _names_of_these_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices and namespaces made here can be told from those of other tests by their names."""
    monkeypatch.setattr(kit_netns, "PREFIX", f"vtw{os.getpid()}")


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """A test leaves neither a descriptor nor a process."""
    descriptors, processes = Counter(open_files(os.getpid())), set(descendants(os.getpid()))
    yield
    assert set(descendants(os.getpid())) == processes, "a process was left"
    assert not Counter(open_files(os.getpid())) - descriptors, "a file descriptor was left open"


@pytest.fixture
def taps(_nothing_is_left: None, netns: Namespaces) -> Iterator[Taps]:
    """A factory of TAPs; they are gone after the test, before their namespaces."""
    made = Taps(netns)
    yield made
    made.close()


@pytest.fixture
def stand_in(_nothing_is_left: None) -> Iterator[Callable[..., StandIn]]:
    """A function that makes a stand-in end."""
    with ExitStack() as stack:

        def make(hdr_len: int = 10, *, room: int = 4 << 20) -> StandIn:
            made = StandIn(hdr_len, room=room)
            stack.callback(made.close)
            return made

        yield make


@pytest.fixture
def counters(_nothing_is_left: None) -> Iterator[Counters]:
    """Counters with rows for ENDS ends, all zero."""
    made = Counters.create(ENDS)
    yield made
    made.close()


@pytest.fixture(params=FRAMEIO)
def frameio(request: pytest.FixtureRequest) -> str:
    """Each frame I/O that a worker of this process can be told to use, in turn."""
    return str(request.param)


@pytest.fixture
def start_worker(
    stand_in: Callable[..., StandIn], taps: Taps, counters: Counters, tmp_path: Path, frameio: str
) -> Iterator[StartWorker]:
    """A function that starts a worker process on the test's counters; nothing has been said yet.

    It asks for the fixtures of the ends, so that workers give their pairs back before the ends are closed.
    """
    started: list[Worker] = []
    with ExitStack() as stack:

        def start(slot: int = 0) -> Worker:
            made = Worker(tmp_path / f"worker{len(started)}.log", counters, slot, frameio)
            started.append(made)
            stack.callback(made.close)
            return made

        yield start


@pytest.fixture
def worker(start_worker: StartWorker) -> Worker:
    """A worker that has been greeted and holds no pair yet."""
    made = start_worker()
    made.greet()
    return made


@pytest.fixture(params=list(WAYS))
def make_frameio(request: pytest.FixtureRequest) -> MakeFrameIO:
    """Each frame I/O in turn."""
    return WAYS[request.param]


@pytest.fixture
async def bench(
    stand_in: Callable[..., StandIn], taps: Taps, counters: Counters, make_frameio: MakeFrameIO
) -> AsyncIterator[Bench]:
    """A WorkerLoop that is checked and emptied before its ends go."""
    made = Bench(counters, make_frameio)
    yield made
    made.finish()


@pytest.fixture
async def supervisor(_nothing_is_left: None) -> AsyncIterator[Supervisor]:
    """A supervisor whose workers have all ended after the test."""
    made = Supervisor()
    yield made
    await made.end()


@pytest.fixture
def impostor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """A function that makes the next child a program which says something of its own."""

    def install(speech: str) -> None:
        program = tmp_path / "impostor"
        program.write_text(IMPOSTOR.format(python=sys.executable, version=PROTOCOL_VERSION, speech=speech))
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))

    return install
