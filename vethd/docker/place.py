"""The network namespace that dockerd is in: bridges are there, and ports are published there.

It is that of the connection: of the socket at its other end (SIOCGSKNS), which does not change and needs no look at the
process, of which a pid is known that may be another's by now.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Self, TypeVar

from vethd.host import netns
from vethd.rpc.namespaces import Namespace

T = TypeVar("T")


class Place(Namespace):
    """An open network namespace, for requests to vethd as well. inode: tells it from others."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self.inode = os.fstat(fd).st_ino

    @classmethod
    def of_connection(cls, sock: int) -> Self:
        """That of whoever connected. Raises OSError."""
        return cls(netns.of_socket(sock))

    @classmethod
    def own(cls) -> Self:
        """That of the calling thread."""
        return cls(netns.current())

    def __enter__(self) -> Self:
        return self

    def run(self, function: Callable[[], T]) -> T:
        """Call a function in it, on a thread that ends with that; blocks. Raises what it raises, and OSError."""
        outcome: list[T] = []
        failure: list[BaseException] = []

        def there() -> None:
            try:
                netns.setns(self.fd)
                outcome.append(function())
            except BaseException as error:  # noqa: BLE001 - raised where it was called
                failure.append(error)

        thread = threading.Thread(target=there, name="place")
        thread.start()
        thread.join()
        if failure:
            raise failure[0]
        return outcome[0]
