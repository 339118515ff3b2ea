"""A supervisor inside the test's own process, where a test may make any step fail; and an inventory of what it holds.

Everything is real - TAPs, namespaces, rtnetlink, a worker process - only the event loop is the test's. While a test
blocks that loop the supervisor stands still, so tests that use a `House` wait with `soon`, never with the kit's
blocking `eventually`.
"""

from __future__ import annotations

import asyncio
import gc
import os
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import structlog

from tests.kit import netns as kit_netns
from tests.kit.frames import frame
from tests.kit.links import all_links
from tests.kit.netns import RUN_NETNS, fresh_name, known_nsids
from tests.kit.packets import PacketSocket
from tests.kit.processes import descendants, open_files, tap_fds
from tests.kit.waiting import settled
from vethd.config import Config
from vethd.daemon.supervisor import Supervisor
from vethd.pairs.pair import Pair, Placement
from vethd.pairs.spec import EndSpec, PairSpec

T = TypeVar("T")

PAUSE = 0.005  # seconds between two looks


async def soon(read: Callable[[], T], wanted: Callable[[T], bool], what: str, within: float = 5.0) -> T:
    """Read until `wanted` accepts the value, and return it; fail when that takes longer than `within` seconds."""
    deadline = time.monotonic() + within
    while not wanted(value := read()):
        assert time.monotonic() < deadline, f"not within {within} s: {what}; last seen: {value!r}"
        await asyncio.sleep(PAUSE)
    return value


def readable(descriptor: socket.socket) -> bool:
    """Whether something waits to be read; select() would refuse high descriptors."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


@contextmanager
def held(netns: str) -> Iterator[int]:
    """An open fd of a namespace, as a request holds one while it is served."""
    fd = os.open(RUN_NETNS / netns, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


class House:
    """A supervisor on the running loop. log: what it logged so far, one dict per line."""

    def __init__(self, workdir: Path, workers: int = 1) -> None:
        gc.collect()  # what is left of others would go while descriptors are counted
        self.log: list[dict[str, Any]] = []
        self._expected: list[str] = []
        self.unheard: list[str] = []
        """What the loop's exception handler was told: errors that nobody looked at."""
        self.socket = str(workdir / "control.sock")
        config = Config.model_validate({"socket": self.socket, "worker": {"count": workers, "restart_window": 0.0}})
        logger = structlog.wrap_logger(structlog.testing.ReturnLogger(), processors=[self._collect])
        asyncio.get_running_loop().set_exception_handler(lambda _loop, told: self.unheard.append(repr(told)))
        self._others = set(os.listdir("/proc/self/task"))
        self.supervisor = Supervisor(config, logger)

    def _collect(self, _logger: Any, level: str, line: Any) -> Any:
        self.log.append({"level": level, **line})
        raise structlog.DropEvent

    # -- pairs ----------------------------------------------------------------------------------------------------

    async def newlink(
        self,
        a_netns: str,
        b_netns: str,
        *,
        placement: Placement = "move",
        numqueues: int = 1,
        a: dict[str, Any] | None = None,
        b: dict[str, Any] | None = None,
    ) -> Pair:
        """Make a pair, both ends up; `a` and `b` are further fields of their EndSpec."""
        with held(a_netns) as a_fd, held(b_netns) as b_fd:
            spec_a = EndSpec("a", **{"ifname": fresh_name("a"), "up": True, **(a or {})}, netns=a_fd)
            spec_b = EndSpec("b", **{"ifname": fresh_name("b"), "up": True, **(b or {})}, netns=b_fd)
            return await self.supervisor.creator.newlink(PairSpec(spec_a, spec_b, placement, numqueues=numqueues))

    async def dellink(self, pair: Pair) -> None:
        await self.supervisor.deleter.dellink(pair, "the test wants it")

    async def closed(self) -> None:
        """Wait until the descriptors of deleted pairs are closed and their numbers free; they are gone before that."""
        await soon(lambda: len(self.supervisor.deleter._going), lambda left: left == 0, "every pair is closed")

    async def assert_wire(self, pair: Pair, two: tuple[str, str]) -> None:
        """A frame crosses in each direction."""
        with PacketSocket(two[0], pair.a.ifname) as a, PacketSocket(two[1], pair.b.ifname) as b:
            for source, target in ((a, b), (b, a)):
                source.send(frame(60))
                assert await asyncio.to_thread(target.collect, 1), "no frame crossed the wire"

    def hurry_worker(self) -> None:
        """The first worker is killed within a moment if it does not answer."""
        child = self.supervisor.workers.serving()[0][0].child
        assert child is not None
        child.hurry(0.2)

    def lines(self, event: str) -> list[dict[str, Any]]:
        """The log lines of one event."""
        return [line for line in self.log if line["event"] == event]

    def expect(self, *events: str) -> None:
        """The test provokes errors of these events."""
        self._expected += events

    def fresh_log(self) -> None:
        """Forget what was logged and expected."""
        self.log.clear()
        self.unheard.clear()
        self._expected.clear()

    def troubles(self) -> list[str]:
        """Errors that were logged and not expected, or never looked at."""
        logged = [line for line in self.log if line["level"] in ("error", "critical", "exception")]
        return [repr(line) for line in logged if line["event"] not in self._expected] + self.unheard

    async def handled_events(self) -> None:
        """Wait until every event that the socket holds now is handled, and everything that followed from them."""
        follower = self.supervisor.follower
        events = follower._events
        assert events is not None
        await soon(
            lambda: (readable(events), len(follower._tasks), len(follower._carrier.tasks)),
            lambda left: left == (False, 0, 0),
            "nothing is left to do",
        )

    # -- what there is --------------------------------------------------------------------------------------------

    async def inventory(self, *namespaces: str) -> dict[str, Any]:
        """Everything that a failed newlink could leave behind."""
        supervisor = self.supervisor
        await self.closed()
        number_pair = supervisor.registry.take_numbers()
        supervisor.registry.give_numbers(number_pair)
        helpers = descendants(os.getpid())
        staging_devices, nsids = await supervisor.threads.create(_look_at_staging)
        return {
            "devices": {name: sorted(all_links(name)) for name in namespaces},
            "devices in staging": staging_devices,
            "devices at home": sorted(name for name in all_links(None) if name.startswith(("vethd", kit_netns.PREFIX))),
            "named namespaces": sorted(path.name for path in RUN_NETNS.glob(f"{kit_netns.PREFIX}*")),
            "nsids": nsids,
            "descriptors": await self._descriptors(),
            "TAP descriptors of processes": sum(tap_fds(process.pid) for process in helpers),
            "processes": len(helpers),
            "threads astray": settled(self._threads_astray, lambda found: not found),  # one may refresh an end now
            "threads": sorted({thread.name.partition("_")[0] for thread in threading.enumerate()}),
            "pairs": len(supervisor.registry),
            "queues of workers": sum(len(slot.queues) for slot, _ready in supervisor.workers.serving()),
            "free numbers begin at": number_pair,
        }

    async def _descriptors(self) -> dict[str, int]:
        """Kinds of open descriptors and how many there are, once nothing runs on the host threads."""
        await self.supervisor.threads.create(int)
        await self.supervisor.threads.follow(int)
        kinds = Counter(target.partition(":[")[0] for target in open_files(os.getpid()) if "/fd" not in target)
        return dict(sorted(kinds.items()))

    def _threads_astray(self) -> list[str]:
        """The supervisor's threads that are neither at home nor in the staging namespace: they would pin one."""
        allowed = {os.stat("/proc/self/ns/net").st_ino, os.fstat(self.supervisor.threads.staging).st_ino}
        tasks = [task for task in Path("/proc/self/task").iterdir() if task.name not in self._others]
        return [task.name for task in tasks if (task / "ns/net").stat().st_ino not in allowed]


async def assert_wire_has_mtu(a: PacketSocket, b: PacketSocket, mtu: int) -> None:
    """Frames from a to b pass up to this MTU and no further."""
    a.send(frame(mtu + 19))
    a.send(frame(mtu + 18))
    (arrival,) = await asyncio.to_thread(b.collect, 1)
    assert len(arrival.data) == mtu + 18


def _look_at_staging() -> tuple[list[str], list[int]]:
    """Devices of the staging namespace, and the ids it has for others. Runs on a host thread."""
    return sorted(all_links(None)), sorted(known_nsids())
