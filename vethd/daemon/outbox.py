"""`Outbox`: messages to systemd that have to arrive, in their order, however long it does not listen."""

from __future__ import annotations

import os
from collections import deque
from typing import NamedTuple

from structlog.typing import FilteringBoundLogger

from vethd.daemon.service import Service


class Message(NamedTuple):
    """Lines, and a descriptor that goes with them; it is closed when they have arrived."""

    lines: tuple[str, ...]
    fd: int | None = None


class Outbox:
    """What is to be sent; one thread puts it there and sends it, any may look whether it is empty."""

    def __init__(self, service: Service, log: FilteringBoundLogger) -> None:
        self._service = service
        self._log = log
        self._waiting: deque[Message] = deque()
        self._failed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, *lines: str, fd: int | None = None) -> None:
        """Send this when all before it has arrived."""
        self._waiting.append(Message(lines, fd))

    def send(self) -> bool:
        """Send all; False when systemd did not take one of them, so that it, and those behind it, wait."""
        while self._waiting:
            lines, fd = self._waiting[0]
            try:
                self._service.deliver(*lines, fds=[] if fd is None else [fd])
            except OSError as error:
                if not self._failed:
                    self._log.warning("systemd not told, trying again", message=lines[0], error=str(error))
                self._failed = True
                return False
            self._failed = False
            self._drop_first()
        return True

    def give_up(self) -> list[str]:
        """Forget what waits; the lines of each message."""
        lines = [" ".join(message.lines) for message in self._waiting]
        while self._waiting:
            self._drop_first()
        return lines

    def _drop_first(self) -> None:
        fd = self._waiting.popleft().fd
        if fd is not None:
            os.close(fd)
