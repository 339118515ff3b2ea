"""The daemon's way from a line to its answer, in this process; the methods at its end do nothing."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any, Final

import structlog

from tests.rpc.fuzz import oracle
from tests.rpc.fuzz.requests import METHODS
from vethd.rpc.access import Peer, Role
from vethd.rpc.call import Call, Method
from vethd.rpc.methods import Methods


class _Someone:
    """A connection, as far as what comes before the methods looks at it."""

    peer: Final = Peer(1, 0, 0, Role.CHANGE)
    sock: Final = socket.socket(socket.AF_UNIX)  # says which namespace it is in


async def _nothing(_params: Any, _call: Call) -> dict[str, Any]:
    return {}


def _failed(_logger: object, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Raise what the code under test logs as a bug of its own."""
    if event.get("exc_info"):
        raise AssertionError(event) from sys.exception()
    raise structlog.DropEvent


_LOOP: Final = asyncio.new_event_loop()
_LOG: Final = structlog.wrap_logger(
    structlog.PrintLogger(), processors=[_failed], wrapper_class=structlog.make_filtering_bound_logger(0)
)
_ANSWERING: Final = Methods(
    [Method(name, params, dict, Role.CHANGE, _nothing) for name, params in METHODS.items() if name != "rpc.discover"],
    _LOG,
)


def answer(data: bytes) -> None:
    """Answer a line and insist on the answer that it must get; each newline in it becomes a blank."""
    line = data.replace(b"\n", b" ")
    if not line.strip():
        return  # the connection makes no request of it
    connection: Any = _Someone()
    text = _LOOP.run_until_complete(_ANSWERING.handle(connection, line, []))
    expected = oracle.answers(line)
    assert (text is None) == (not expected), (line, text)
    if text is not None:
        oracle.check(text.encode(), expected[0])
