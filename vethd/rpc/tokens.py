"""`Tokens`: the results of requests that came with a token, so that a client who never heard the answer may ask again.

A retry gets the result of the first request and changes nothing; while that one is under way, it waits for its outcome.
A request that failed has changed nothing, so it is forgotten, and a retry tries again. Tokens of one user never meet
those of another. What makes two requests the same is in their fingerprint.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from vethd.errors import TokenReused, VethdError
from vethd.rpc.call import Call

#: Results that are kept, and bytes that they take together; the oldest is forgotten first.
KEPT: Final = 1024
ROOM: Final = 16 << 20

#: Whose token, and which.
Key = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Answered:
    """A request with a token that was answered. uid: whose. result: JSON text."""

    uid: int
    token: str
    fingerprint: bytes
    result: bytes


@dataclass(slots=True)
class _Known:
    """A request with a token. result: its JSON text, once there is one. outcome: done when it is over."""

    fingerprint: bytes
    outcome: asyncio.Future[None]
    result: bytes = b""


class Tokens:
    """What tokens stand for; only the event loop touches it. kept, room: see KEPT and ROOM.

    revision: grows with each result that is kept.
    """

    def __init__(self, kept: int = KEPT, room: int = ROOM) -> None:
        self._kept = kept
        self._room = room
        self._running: dict[Key, _Known] = {}
        self._done: OrderedDict[Key, _Known] = OrderedDict()
        self._size = 0
        self.revision = 0

    async def once(self, uid: int, token: str, fingerprint: bytes, do: Callable[[], Awaitable[Any]]) -> Any:
        """The result of `do`, or what it was when a request with this token and fingerprint did it before.

        Raises what `do` raises, also to those who waited for it, and TokenReused when the fingerprint is another.
        """
        key = uid, token
        known = self._running.get(key) or self._done.get(key)
        if known is None:
            return await self._do(key, fingerprint, do)
        if known.fingerprint != fingerprint:
            raise TokenReused(
                f"token {token!r} came with another request before", hint="choose a new token for each new request"
            )
        await asyncio.shield(known.outcome)
        return json.loads(known.result)

    def answered(self) -> list[Answered]:
        """All results that are kept, oldest first."""
        return [Answered(*key, known.fingerprint, known.result) for key, known in self._done.items()]

    def adopt(self, answered: Iterable[Answered]) -> None:
        """Keep the results of a predecessor, oldest first."""
        for each in answered:
            known = _Known(each.fingerprint, asyncio.get_running_loop().create_future(), each.result)
            known.outcome.set_result(None)
            self._keep((each.uid, each.token), known)

    async def _do(self, key: Key, fingerprint: bytes, do: Callable[[], Awaitable[Any]]) -> Any:
        known = self._running[key] = _Known(fingerprint, asyncio.get_running_loop().create_future())
        try:
            result = await do()
        except BaseException as error:
            if isinstance(error, Exception):
                known.outcome.set_exception(error)
                known.outcome.exception()  # seen: nobody may be waiting
            else:  # the loop ends
                known.outcome.cancel()
            raise
        else:
            known.result = json.dumps(result).encode()
            known.outcome.set_result(None)
            self._keep(key, known)
            return result
        finally:
            del self._running[key]

    def _keep(self, key: Key, known: _Known) -> None:
        self.revision += 1
        self._done[key] = known
        self._size += len(known.result)
        while len(self._done) > self._kept or (self._size > self._room and len(self._done) > 1):
            _key, oldest = self._done.popitem(last=False)
            self._size -= len(oldest.result)


def fingerprint(method: str, params: dict[str, Any], call: Call) -> bytes:
    """What two requests have in common when they ask for the same: method, parameters, and what these stand for.

    That is the files behind the descriptors sent along, whose numbers differ each time, and the caller's own namespace,
    which a request means that names none.
    """
    files = [(status.st_dev, status.st_ino) for status in map(os.fstat, call.fds)]
    try:
        own = call.own_netns()
    except VethdError:  # a request that needs it will fail
        own = None
    return hashlib.sha256(json.dumps([method, params, files, own], sort_keys=True).encode()).digest()
