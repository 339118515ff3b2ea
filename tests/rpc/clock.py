"""An event loop whose clock the test turns: timers fire when `pass_time` says so, all else is the real loop's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class ClockLoop:
    """The running loop with a clock of its own, for what takes its loop as an argument."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._now = 1000.0
        self._timers: list[asyncio.TimerHandle] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def time(self) -> float:
        """Seconds."""
        return self._now

    def call_later(self, delay: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call back once `delay` seconds have passed by this clock."""
        loop: Any = self
        timer = asyncio.TimerHandle(self._now + delay, callback, (), loop)
        self._timers.append(timer)
        return timer

    def _timer_handle_cancelled(self, _timer: asyncio.TimerHandle) -> None:
        """Called by the timer."""

    def pass_time(self, seconds: float) -> None:
        """Let time pass; each timer that becomes due fires at its time."""
        until = self._now + seconds
        while due := [timer for timer in self._timers if not timer.cancelled() and timer.when() <= until]:
            timer = min(due)
            self._timers.remove(timer)
            self._now = timer.when()
            timer._run()
        self._now = until

    def timers(self) -> int:
        """How many timers are set."""
        return sum(not timer.cancelled() for timer in self._timers)
