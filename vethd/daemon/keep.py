"""`Keeper`: puts what must outlive this process into the hands of systemd. Without systemd it does nothing.

::

    descriptors   into the unit's file descriptor store, by their names in state.py: when a pair is made; they are taken
                  out when it is gone. systemd gives them to the process that it starts next for the unit
    state         into a file in the unit's runtime directory, which systemd removes when it empties the store

A client that changed something is answered when both are done; if systemd does not listen for SEND_WITHIN seconds, it
is told later (outbox.py), and the client is answered all the same. What anybody else does to a device is written within
SAVE_WITHIN seconds; a process that ends before loses nothing, because the next one asks the kernel. One thread does
both, so that the event loop never waits for a systemd that is busy.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final
from uuid import UUID

from structlog.typing import FilteringBoundLogger

from vethd.daemon.handover import Inheritance, understood
from vethd.daemon.names import COUNTERS, STAGING, most_ends, outlives_the_process
from vethd.daemon.outbox import Outbox
from vethd.daemon.service import Service, listen_fds
from vethd.daemon.state import (
    Parts,
    State,
    head,
    lasting_descriptors,
    pair_descriptors,
    pair_entry,
    token_entry,
)
from vethd.errors import NoSuchLink
from vethd.pairs.delete import Deleter
from vethd.pairs.journal import Event
from vethd.pairs.pair import Pair

#: In the runtime directory; the second is one that was found and could not be read.
FILE: Final = "state.json"
UNREADABLE: Final = "state.json.unreadable"
SAVE_WITHIN: Final = 0.05
#: Seconds until systemd is told again what it did not take.
AGAIN_WITHIN: Final = 1.0
#: Events that may have been told after the state was written. The next process numbers its own behind them all, so that
#: a generation of a pair never stands for two things.
_MAYBE_TOLD: Final = 10_000
#: FileDescriptorStoreMax= in vethd.service; systemd tells us from version 254 on.
STORE_MAX: Final = 16384


def inherit(log: FilteringBoundLogger) -> Inheritance | None:
    """What systemd opened for this process or kept for it, None if nothing; to be asked once, at the start.

    A state that can't be read is set aside.
    """
    fds: dict[str, int] = {}
    for name, fd in listen_fds():
        if fds.setdefault(name, fd) != fd:
            log.warning("descriptor of no use", name=name)
            os.close(fd)
    if not fds:
        return None
    directory = _directory()
    return Inheritance(_read(directory, log) if directory is not None else None, fds)


def room_for_ends() -> tuple[int, str]:
    """How many ends, or queues, systemd can keep - more would be lost without a word - and how it could keep more."""
    told = os.environ.get("FDSTORE", "")
    room = (int(told) if told.isdigit() else STORE_MAX) - len((STAGING, COUNTERS))
    if room < most_ends():
        return max(0, room), "raise FileDescriptorStoreMax= of the unit"
    return most_ends(), "let a second daemon have some: systemd hands over no more"


class Keeper:
    """Keeps what `parts` consist of; one per daemon. staging: fd of the staging namespace."""

    def __init__(
        self, service: Service, parts: Parts, deleter: Deleter, staging: int, log: FilteringBoundLogger
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._service = service
        self._parts = parts
        self._deleter = deleter
        self._staging = staging
        self._log = log
        self._directory = _directory()
        self._thread = ThreadPoolExecutor(1, "keep")
        self._outbox = Outbox(service, log)
        self._again: asyncio.TimerHandle | None = None
        self._running = False
        self._names: dict[str, Iterable[str]] = {}  # of the descriptors of each pair
        self._gone: list[str] = []
        self._removing: asyncio.Task[None] | None = None
        self._texts: dict[str, str] = {}  # of all pairs, as they were written last
        self._changed: dict[str, None] = {}  # those that have changed since, in order
        self._tokens: tuple[int, str] = (-1, "")
        self._changes = 0
        self._changes_saved = 0
        self._saving = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._save: asyncio.Task[None] | None = None
        self._failed = ""

    async def start(self, left: Mapping[str, int]) -> None:
        """Keep everything there is, and from now on what changes; returns when that is done.

        left: what was found in the store.
        """
        if not self._service.present:
            return
        self._running = True
        if self._directory is None:
            self._log.warning("state not written", why="the unit has no RuntimeDirectory=")
        wanted = lasting_descriptors(self._parts, self._staging)
        for name, fd in left.items():
            if outlives_the_process(name) and wanted.get(name) != fd:
                self._thread.submit(self._remove, [name])
        for name, fd in wanted.items():
            if left.get(name) != fd:
                self._store(name, fd)
        for pair in self._parts.registry:
            self._names[str(pair.uuid)] = pair_descriptors(pair).keys()
            self._changed[str(pair.uuid)] = None
        self._parts.journal.listen(self._heard)
        await self.saved()

    async def saved(self) -> None:
        """Return when systemd has, and the file says, all that there was when this was called."""
        if not self._running:
            return
        self._changes += 1
        wanted = self._changes
        while self._changes_saved < wanted:
            async with self._saving:
                if self._changes_saved < wanted:
                    upto = self._changes
                    await self._write(self._text(_MAYBE_TOLD))
                    self._changes_saved = upto

    @property
    def busy(self) -> bool:
        """True while something is being kept, or soon will be."""
        return self._changing or len(self._outbox) > 0

    @property
    def _changing(self) -> bool:
        return self._timer is not None or self._removing is not None or self._changes_saved < self._changes

    async def settle(self) -> None:
        """Return when what is there now is kept, or systemd was asked once more to."""
        self._cancel_timer()
        if self._removing is not None:
            await asyncio.wait([self._removing])
        if self._outbox:
            await asyncio.wrap_future(self._thread.submit(self._send))
        await self.saved()

    async def stop(self, keep: bool) -> None:
        """Change nothing more. keep: for the next process; else there is nothing that it should know."""
        if self._running:
            await self.settle()
            while self._changing:
                await self.settle()
            self._running = False
            self._parts.journal.unlisten(self._heard)
            await self._write(self._text() if keep else None)
            if self._again is not None:
                self._again.cancel()
            lost = await asyncio.wrap_future(self._thread.submit(self._outbox.give_up))
            if lost and keep:
                self._log.error("systemd not told", messages=lost)
        await asyncio.to_thread(self._thread.shutdown)

    # -- what happens -------------------------------------------------------------------------------------------------

    def _heard(self, event: Event) -> None:
        if event.pair is not None:
            self._changed[event.pair] = None
            if event.event == "added":
                self._store_pair(self._parts.registry.by_uuid(UUID(event.pair)))
            elif event.event == "deleted":
                self._gone += self._names.pop(event.pair, ())
                if self._removing is None:
                    self._removing = self._loop.create_task(self._remove_gone())
        if self._timer is None:
            self._timer = self._loop.call_later(SAVE_WITHIN, self._save_now)

    def _save_now(self) -> None:
        self._timer = None
        self._save = self._loop.create_task(self.saved())

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- descriptors --------------------------------------------------------------------------------------------------

    def _store_pair(self, pair: Pair) -> None:
        descriptors = pair_descriptors(pair)
        self._names[str(pair.uuid)] = descriptors.keys()
        for name, fd in descriptors.items():
            self._store(name, fd)

    def _store(self, name: str, fd: int) -> None:
        try:
            copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 0)  # the pair may be deleted before it is sent
        except OSError as error:
            self._log.error("will not outlive the daemon", name=name, error=str(error))
        else:
            # Without FDPOLL=0 systemd would be on the list of those who wait for the TAP's frames.
            self._thread.submit(self._put, ["FDSTORE=1", f"FDNAME={name}", "FDPOLL=0"], copy)

    async def _remove_gone(self) -> None:
        # systemd closes them, and to close a TAP waits for RTNL: not while deletions queue for that.
        await self._deleter.settle()
        names, self._gone, self._removing = self._gone, [], None
        self._thread.submit(self._remove, names)

    def _put(self, lines: Iterable[str], fd: int | None = None) -> None:
        """Runs on the thread."""
        waiting = len(self._outbox) > 0
        self._outbox.put(*lines, fd=fd)
        if not waiting:  # else systemd does not listen, and is told all of it later
            self._send()

    def _remove(self, names: Iterable[str]) -> None:
        """Runs on the thread."""
        for name in names:
            self._put(["FDSTOREREMOVE=1", f"FDNAME={name}"])

    def _send(self) -> None:
        """Runs on the thread."""
        if not self._outbox.send():
            self._loop.call_soon_threadsafe(self._send_later)

    def _send_later(self) -> None:
        if self._again is None and self._running:
            self._again = self._loop.call_later(AGAIN_WITHIN, self._send_again)

    def _send_again(self) -> None:
        self._again = None
        self._thread.submit(self._send)

    # -- state --------------------------------------------------------------------------------------------------------

    def _text(self, maybe_told: int = 0) -> str:
        """The state as JSON, put together from that of each pair: 4096 of them are 5 MB."""
        first = head(self._parts)
        first = first.model_copy(update={"seq": first.seq + maybe_told})
        for uuid in self._changed:
            try:
                self._texts[uuid] = pair_entry(self._parts.registry.by_uuid(UUID(uuid))).model_dump_json()
            except NoSuchLink:
                self._texts.pop(uuid, None)
        self._changed.clear()
        pairs = ",".join(self._texts.values())
        return f'{first.model_dump_json()[:-1]},"pairs":[{pairs}],"tokens":[{self._tokens_text()}]}}'

    def _tokens_text(self) -> str:
        tokens = self._parts.tokens
        if self._tokens[0] != tokens.revision:
            entries = [token_entry(each).model_dump_json() for each in tokens.answered()]
            self._tokens = tokens.revision, ",".join(entries)
        return self._tokens[1]

    async def _write(self, text: str | None) -> None:
        """Write the state, None to remove it, after all that was submitted before."""
        failed = await asyncio.wrap_future(self._thread.submit(_write, self._directory, text))
        if failed and failed != self._failed:
            self._log.error("state not written", error=failed)
        self._failed = failed


def _directory() -> Path | None:
    """The unit's runtime directory, None when it has none."""
    first = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(first) if first else None


def _write(directory: Path | None, text: str | None) -> str:
    """Replace the state in a directory, if there is one; why that failed, if it did. Runs on the thread."""
    if directory is None:
        return ""
    try:
        if text is None:
            (directory / FILE).unlink(missing_ok=True)
        else:
            new = directory / f"{FILE}.new"
            new.write_text(text)
            new.replace(directory / FILE)
    except OSError as error:
        return str(error)
    return ""


def _read(directory: Path, log: FilteringBoundLogger) -> State | None:
    file = directory / FILE
    try:
        text = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        log.error("state not read", error=str(error))
    else:
        state = understood(text, log)
        if state is not None:
            return state
    try:
        file.replace(directory / UNREADABLE)
        log.warning("state set aside", file=str(directory / UNREADABLE))
    except OSError as error:
        log.error("state not set aside", error=str(error))
    return None
