"""Making one call of one function fail, and counting the calls."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self
from unittest.mock import patch


class Fault:
    """While entered, `owner.name` counts its calls, and the `nth` of them (from 1; 0: none) does `instead`.

    concerns: which calls count, by their arguments. Calls of all threads are counted together.
    """

    def __init__(
        self,
        owner: Any,
        name: str,
        nth: int = 0,
        instead: Callable[[], None] | None = None,
        concerns: Callable[..., bool] = lambda *_args, **_kwargs: True,
    ) -> None:
        self.calls = 0
        self._lock = threading.Lock()
        self._original = getattr(owner, name)
        self._nth = nth
        self._instead = instead or refuse(errno.ENOMEM)
        self._concerns = concerns
        self._patch = patch.object(owner, name, self._stand_in())

    def _stand_in(self) -> Callable[..., Any]:
        def stand_in(*args: Any, **kwargs: Any) -> Any:
            if self._concerns(*args, **kwargs):
                with self._lock:
                    self.calls += 1
                    mine = self.calls
                if mine == self._nth:
                    self._instead()
            return self._original(*args, **kwargs)

        return stand_in

    @property
    def happened(self) -> bool:
        """Whether the call that is to fail was made."""
        return 0 < self._nth <= self.calls

    def __enter__(self) -> Self:
        self._patch.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._patch.stop()


def refuse(number: int) -> Callable[[], None]:
    """Fail as a system call does."""

    def raise_it() -> None:
        raise OSError(number, os.strerror(number))

    return raise_it
