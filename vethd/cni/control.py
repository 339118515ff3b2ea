"""The daemon, over its control socket, in the errors of a plugin."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from vethd.cni.errors import INVALID_CONFIG, REFUSED, TRY_AGAIN, UNKNOWN_CONTAINER, CniError
from vethd.rpc.client import Client, NotRunning, RpcError

#: Seconds for an answer; what the daemon does for a container takes a fraction of one.
_PATIENCE: Final = 30.0
#: Kinds of the daemon's errors that a runtime shall act on in another way than on a refusal.
_CODES: Final = {
    "no_such_netns": UNKNOWN_CONTAINER,
    "limit_reached": TRY_AGAIN,
    "worker_failed": TRY_AGAIN,
    "shutting_down": TRY_AGAIN,
    "invalid_params": INVALID_CONFIG,
    "invalid_name": INVALID_CONFIG,
    "invalid_address": INVALID_CONFIG,
    "mtu_out_of_range": INVALID_CONFIG,
}


class Unreachable(CniError):
    """Raised when no daemon answers."""

    def __init__(self, error: NotRunning) -> None:
        super().__init__(TRY_AGAIN, f"vethd does not answer: {error}")


@contextmanager
def connected(socket: str | None) -> Iterator[Client]:
    """A connection to the daemon. socket: its path, or None for the default.

    Raises CniError, also in place of what its calls raise.
    """
    try:
        with Client(socket, _PATIENCE) as client:
            yield client
    except NotRunning as error:
        raise Unreachable(error) from error
    except RpcError as error:
        raise refused(error) from error


def refused(error: RpcError) -> CniError:
    """The error of a plugin for one of the daemon's."""
    errno = f" [{error.errno}]" if error.errno else ""
    return CniError(_CODES.get(error.kind, REFUSED), f"vethd: {error.message}{errno}", error.hint or "")
