"""A worker process as the supervisor sees it: start it or take it over, ask it, hear of its death.

States::

    starting --ready--> spare --hello--> serving --(process ends, for whatever reason)--> dead
        `-----unable (what it was told to use does not work here)------------------------'

A supervisor whose program is replaced keeps its pid, and so its workers: the new program takes them over as spare or
serving. It is still their parent, so their pids are nobody else's, even of those that have ended meanwhile.

Death is what the kernel says (a pidfd), not what the channel says: only then is it certain that the process reads and
writes nothing any more. A worker that breaks the protocol is killed, and so is one that does not answer: one of which
nothing is asked is asked whether it is there (`ping`).
"""

from __future__ import annotations

import asyncio
import os
import pwd
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from vethd.errors import WorkerFailed
from vethd.frameio.choice import Wanted
from vethd.host import capabilities
from vethd.worker.channel import HDR_INVALID_REPORT, PROTOCOL_VERSION, Channel, ChannelError, Message, parse_report
from vethd.worker.confine import die_with

#: Users to run workers as, the first that exists; both without rights of their own.
WORKER_USERS = ("vethd-worker", "nobody")


#: Seconds after which a worker is taken to hang, and is killed: for its cold start, an answer, and its end.
START_WITHIN = 30.0
ANSWER_WITHIN = 2.5
STOP_WITHIN = 1.0
#: Looks at a silent worker before it is killed. They are counted, not timed: after each the loop hears what was said,
#: so a supervisor that was held up itself (a suspended machine, a frozen cgroup) does not blame its workers for that.
LOOKS = 3


class WorkerDied(Exception):
    """Raised to whoever waits for an answer of a worker that died. remedy: what to do about it, where that is known."""

    remedy: str | None = None


class WorkerRefused(Exception):
    """Raised to whoever asked a worker for what it has no means for; nothing has happened there."""


@cache
def worker_user() -> pwd.struct_passwd:
    """The user that workers run as when vethd is root.

    Raises WorkerFailed when the machine has none of WORKER_USERS, or the user namespace that we are root of has no room
    for them.
    """
    for name in WORKER_USERS:
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        if os.geteuid() == 0 and not (_mapped("uid_map", user.pw_uid) and _mapped("gid_map", user.pw_gid)):
            raise WorkerFailed(
                f"workers can't be {name}: uid {user.pw_uid} or gid {user.pw_gid} is not in this user namespace",
                hint="map subordinate ids: unshare --map-root-user --map-auto; /etc/subuid and /etc/subgid give them",
            )
        return user
    raise WorkerFailed(
        f"there is neither a user {' nor '.join(WORKER_USERS)} for workers to be",
        hint=f"useradd --system --no-create-home {WORKER_USERS[0]}",
    )


def _mapped(which: str, number: int) -> bool:
    """Whether an id exists in our user namespace. which: uid_map or gid_map. Source: user_namespaces(7)."""
    lines = Path(f"/proc/self/{which}").read_text().splitlines()
    return any(int(first) <= number < int(first) + int(count) for first, _outside, count in map(str.split, lines))


@dataclass(frozen=True, slots=True)
class Kept:
    """A worker process that this program did not start.

    slot: where it serves, None for the spare. channel: fd of our end of its channel. ready: its `ready` message, empty
    when that is not known any more. sequence: of the last message that was sent to it.
    """

    slot: int | None
    pid: int
    channel: int
    ready: Message
    sequence: int = 0


class _Process:
    """What is left of a Popen once the program that started the process has been replaced."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode


def worker_uid() -> int:
    """Who workers run as: worker_user() when vethd is root, else whoever vethd is. Raises KeyError."""
    return os.geteuid() or worker_user().pw_uid


class Child:
    """One worker process, started anew unless there is one to take over.

    on_report(child, message) is called for `gone` and `hdr_invalid`; on_death(child) once, when the process has ended.
    frameio: how it is to read and write; see frameio/choice.py. kept: a process that is there already.
    answer_within: seconds it may leave something unanswered; up to a third more go by until that is seen.
    ended: set when the process has ended. why_dead: for people, then.
    ends: how many there are; it reports of no other.
    unable: the `unable` message of a worker that can't read and write as it was told to; it ends then.
    ready: done when the worker has given up its privileges and waits for `hello`; its result is the `ready` message.
    channel_fd: our end of its channel. sequence: of the last message that was sent to it. foreign: it is of another
    protocol version, so nothing but `drain` may be asked of it.

    Raises OSError when no process can be started, or the one to take over is not there.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_report: Callable[[Child, Message], None],
        on_death: Callable[[Child], None],
        frameio: Wanted = "auto",
        kept: Kept | None = None,
        answer_within: float = ANSWER_WITHIN,
    ) -> None:
        self._loop = loop
        self.answer_within = answer_within
        self.born = loop.time()
        self._on_report = on_report
        self._on_death = on_death
        self.sequence = 0
        self.foreign = kept is not None and kept.ready.get("version") != PROTOCOL_VERSION
        self._waiting: dict[int, tuple[str, asyncio.Future[None]]] = {}
        self._oldest = 0  # unanswered at the last look
        self._silent_looks = 0
        self.ready: asyncio.Future[Message] = loop.create_future()
        self.ended = asyncio.Event()
        self.why_dead = ""
        self.unable: Message | None = None
        self.ends = 0
        self._told: dict[tuple[str, int], int] = {}
        self._process: subprocess.Popen[bytes] | _Process
        if kept is None:
            ours = self._start(frameio)
        else:
            self._process, ours = _Process(kept.pid), socket.socket(fileno=kept.channel)
            os.waitid(os.P_PID, kept.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)  # whether it is ours at all
            self._pidfd = os.pidfd_open(kept.pid)
            self.sequence = kept.sequence
            self.ready.set_result(kept.ready)
        self.pid = self._process.pid
        self.channel_fd = ours.fileno()
        self._channel = Channel(loop, ours, self._on_message, self._on_close)
        loop.add_reader(self._pidfd, self._ended)
        late = loop.call_later(START_WITHIN, self.kill, f"was not ready within {START_WITHIN:g} s")
        self.ready.add_done_callback(lambda _ready: late.cancel())
        self._next_look = loop.call_later(answer_within / LOOKS, self._look)

    def _start(self, frameio: Wanted) -> socket.socket:
        """Start the process; our end of its channel."""
        with ExitStack() as undo:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            undo.callback(ours.close)
            with theirs, capabilities.none_for_children():
                self._process = process = _start_process(theirs.fileno(), frameio)
            undo.callback(process.wait)
            undo.callback(process.kill)
            self._pidfd = os.pidfd_open(process.pid)
            undo.pop_all()
        return ours

    @property
    def alive(self) -> bool:
        """False from the moment that on_death is called."""
        return self._process.returncode is None

    @property
    def busy(self) -> bool:
        """True while it starts, or an answer of it is awaited."""
        return bool(self._waiting) or not self.ready.done()

    async def settle(self) -> None:
        """Return when it has started and has answered everything asked so far, or has died."""
        awaited: list[asyncio.Future[Any]] = [self.ready, *(future for _op, future in self._waiting.values())]
        await asyncio.wait(awaited)

    def request(self, op: str, fds: list[int] | None = None, /, **fields: Any) -> asyncio.Future[None]:
        """Ask for something; the future is done when the worker has acknowledged it.

        It raises WorkerDied, or for `add` WorkerRefused. fds: go along; they must stay open until then.
        """
        self.sequence += 1
        future: asyncio.Future[None] = self._loop.create_future()
        if not self.alive:
            future.set_exception(WorkerDied(self.why_dead))
            return future
        if op == "add":  # ends of these numbers are others now
            for end in fields["ends"]:
                self._told.pop(("gone", end["number"]), None)
                self._told.pop(("hdr_invalid", end["number"]), None)
        self._waiting[self.sequence] = op, future
        self._channel.send({"op": op, "seq": self.sequence, **fields}, fds)
        return future

    def hello(self, slot: int, counters: int, ends: int, cpu: int | None = None) -> asyncio.Future[None]:
        """Give a ready worker its slot, the counters' memfd (with rows for `ends` ends) and its CPU, None for any."""
        self.ends = ends
        return self.request("hello", [counters], version=PROTOCOL_VERSION, slot=slot, ends=ends, cpu=cpu)

    def kill(self, why: str) -> None:
        """End the process at once; on_death follows."""
        if self.alive:
            self.why_dead = self.why_dead or why
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def stop(self) -> None:
        """Let the process end by itself: a worker exits when its channel closes. One that does not is killed."""
        self._channel.close()
        self._next_look.cancel()
        if self.alive:
            self._loop.call_later(STOP_WITHIN, self.kill, f"did not end within {STOP_WITHIN:g} s")

    def hurry(self, answer_within: float) -> None:
        """Be less patient from now on, also with a process that is not ready yet."""
        self.answer_within = min(self.answer_within, answer_within)
        if not self.ready.done():
            late = self._loop.call_later(answer_within, self.kill, "was not ready in time")
            self.ready.add_done_callback(lambda _ready: late.cancel())
        elif not self._next_look.cancelled():
            self._next_look.cancel()
            self._look()

    def _look(self) -> None:
        """Kill the process if it does not answer; if nothing is asked of it, ask whether it is there."""
        if not self.alive:
            return
        if not self._waiting and self.ready.done() and not self.foreign:
            self.request("ping")
            self._oldest, self._silent_looks = self.sequence, 0
        elif self._waiting:
            oldest = next(iter(self._waiting))  # answers come in the order of the questions
            self._silent_looks = self._silent_looks + 1 if oldest == self._oldest else 0
            self._oldest = oldest
            if self._silent_looks >= LOOKS:
                self.kill(f"did not answer `{self._waiting[oldest][0]}` within {self.answer_within:g} s")
        self._next_look = self._loop.call_later(self.answer_within / LOOKS, self._look)

    def _on_message(self, message: Message, fds: list[int]) -> None:
        for fd in fds:
            os.close(fd)
        try:
            if fds:
                raise ChannelError("a worker sends no file descriptors")
            report = parse_report(message)
            if report["op"] == "ready":
                if report["version"] != PROTOCOL_VERSION or self.ready.done():
                    raise ChannelError("an unexpected ready")
                self.ready.set_result(report)
            elif report["op"] == "unable":
                if self.ready.done():
                    raise ChannelError("an unexpected unable")
                self.unable = report
                self.why_dead = f"frameio is 'uring', but {report['why']}"
                self.stop()
            elif report["op"] == "ack":
                self._answered(report, None)
            elif report["op"] == "refused":
                self._answered(report, WorkerRefused(report["why"]))
            else:
                self._check_news(report)
                self._on_report(self, report)
        except ChannelError as error:
            self.kill(f"broke the protocol: {error}")

    def _check_news(self, report: Message) -> None:
        """Raise ChannelError unless there is an end of that number, and it is time to report of it again.

        Each report leads to questions to the kernel; a worker may not ask for more of them than the protocol lets it.
        """
        op, end, frames = report["op"], report["end"], report.get("frames", 0)
        if end >= self.ends:
            raise ChannelError(f"{op}: there is no end {end}")
        last = self._told.get((op, end))
        if last is not None if op == "gone" else frames < 2 * (last or HDR_INVALID_REPORT // 2):
            raise ChannelError(f"{op}: no news of end {end}")
        self._told[op, end] = frames

    def _answered(self, report: Message, error: WorkerRefused | None) -> None:
        op, future = self._waiting.pop(report["seq"], ("nothing", None))
        if future is None or (error is not None and op != "add"):
            raise ChannelError(f"{report['op']}, but of {op}")
        if future.done():
            return
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
            future.exception()  # seen: nobody may be waiting

    def _on_close(self, reason: str) -> None:
        self.kill(f"its channel: {reason}")

    def _ended(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self._next_look.cancel()
        status = self._process.wait()
        os.close(self._pidfd)
        self._channel.close()
        ending = _ending(status)
        if self.unable is None:
            self.why_dead = f"{self.why_dead} ({ending})" if self.why_dead else ending
        died = WorkerDied(self.why_dead)
        if self.unable is not None:
            died.remedy = f"{self.unable['remedy']}; or set worker.frameio (or $VETHD_FRAMEIO) to 'auto'"
        unanswered: list[asyncio.Future[Any]] = [self.ready, *(future for _op, future in self._waiting.values())]
        for future in unanswered:
            if not future.done():
                future.set_exception(died)
                future.exception()  # seen: nobody may be waiting
        self._waiting.clear()
        self.ended.set()
        self._on_death(self)


def _ending(status: int) -> str:
    """How a process ended, for people."""
    if status == -signal.SIGSYS:
        return f"a system call that no worker makes: signal {-status}; the kernel's log may name it, audit type 1326"
    return f"signal {-status}" if status < 0 else f"exit status {status}"


def _start_process(channel: int, frameio: Wanted) -> subprocess.Popen[bytes]:
    """Start a worker, which dies with this thread; that is the daemon's main one."""
    user = worker_user()
    return subprocess.Popen(
        [
            *(sys.executable, "-I", "-m", "vethd.worker.process"),
            *("--channel", str(channel)),
            *("--uid", str(user.pw_uid), "--gid", str(user.pw_gid)),
            *("--frameio", frameio),
        ],
        pass_fds=[channel],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        # Not in the worker: it may be stopped before its first line. It needs no lock that a thread of ours may hold.
        preexec_fn=partial(die_with, os.getpid()),  # noqa: PLW1509
        env={name: value for name, value in os.environ.items() if name.startswith("VETHD_")},
    )
