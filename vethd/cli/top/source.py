"""Asks the daemon at regular intervals, in a thread: a daemon that does not answer must not stop the keys."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing

from vethd.cli.grammar import UsageError
from vethd.cli.options import Options
from vethd.cli.request import Request
from vethd.cli.session import Session
from vethd.cli.stats import Selection
from vethd.cli.top.rates import Sample
from vethd.rpc.client import NotRunning, RpcError

#: Reads the words anew into a request, whose namespaces are then those of this moment.
Reader = Callable[[Request], object]


def take(selection: Selection, session: Session) -> Sample:
    """One sample, now. Raises RpcError, NotRunning."""
    pairs = selection.pairs()
    now = time.monotonic()
    return Sample(now, list(selection.ends(pairs)), session.call("softnet.get")["workers"])


class Source(threading.Thread):
    """Samples, and errors in place of samples, as they come.

    read: the words of the command. interval: seconds between samples, and between attempts to reconnect. wake: called
    after each. It is a daemon thread: the process does not wait for an answer that may never come.
    """

    def __init__(self, options: Options, read: Reader, interval: float, wake: Callable[[], object]) -> None:
        super().__init__(name="source", daemon=True)
        self._options = options
        self._read = read
        self._interval = interval
        self._wake = wake
        self._found: deque[Sample | Exception] = deque()

    def run(self) -> None:
        while True:
            try:
                self._serve()
            except (NotRunning, RpcError, UsageError) as error:
                self._put(error)
            time.sleep(self._interval)

    def _serve(self) -> None:
        """Take samples until something fails."""
        with closing(Session(self._options)) as session, Request() as request:
            self._read(request)
            selection = Selection(request, session)
            due = time.monotonic()
            while True:
                self._put(take(selection, session))
                due = max(due + self._interval, time.monotonic())
                time.sleep(due - time.monotonic() if due > time.monotonic() else 0)

    def _put(self, found: Sample | Exception) -> None:
        self._found.append(found)
        self._wake()

    def drain(self) -> list[Sample | Exception]:
        """What came since the last call."""
        found = []
        while self._found:
            found.append(self._found.popleft())
        return found
