"""JSON-RPC 2.0's envelope, to the letter of jsonrpc.org/specification: a line comes in, at most one line goes out.

Our own because the library for it (pjrpc) departs from the specification: it refuses a whole batch for one bad request
in it, answers a batch of notifications with `[]`, and takes `"id": null` for a notification. Stricter than the
specification is this: a request has no members but its four, so that `parms` is an error and not a call without
parameters; a batch holds at most MAX_BATCH requests; a text is nested at most MAX_DEPTH levels deep.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Generic, TypeVar

from pydantic_core import PydanticSerializationError, to_json

from vethd.errors import InvalidRequest, MethodNotFound, ParseError, VethdError

MAX_BATCH: Final = 100
#: Levels of arrays and objects; the deepest request there is has eight of them.
MAX_DEPTH: Final = 32
_MEMBERS: Final = frozenset({"jsonrpc", "id", "method", "params"})
_EXAMPLE: Final = '{"jsonrpc": "2.0", "id": 1, "method": "link.list"}'

Context = TypeVar("Context")


class Envelope(Generic[Context]):
    """Answers lines by calling methods. The methods raise VethdErrors and nothing else."""

    def __init__(self, methods: Mapping[str, Callable[[Context, Any], Awaitable[Any]]]) -> None:
        self._methods = methods

    async def answer(self, line: bytes, context: Context) -> str | None:
        """The answer to one line, or None when it holds only notifications; each method is called with the context."""
        try:
            message = _decode(line)
            if isinstance(message, list):
                _check_batch(message)
        except VethdError as error:
            return refusal(error)
        if not isinstance(message, list):
            reply = await self._reply(message, context)
            return None if reply is None else _encode(reply)
        replies = []
        for request in message:
            reply = await self._reply(request, context)
            if reply is not None:
                replies.append(reply)
            await asyncio.sleep(0)  # other clients' turn
        return _encode(replies) if replies else None

    async def _reply(self, request: Any, context: Context) -> dict[str, Any] | None:
        try:
            _check_request(request)
        except VethdError as error:
            return _error(None, error)
        try:
            method = self._methods.get(request["method"])
            if method is None:
                raise MethodNotFound(
                    f"there is no method {request['method']!r}", hint=f"there are {', '.join(sorted(self._methods))}"
                )
            result = await method(context, request.get("params", {}))
        except VethdError as error:
            return _error(request["id"], error) if "id" in request else None
        return {"jsonrpc": "2.0", "id": request["id"], "result": result} if "id" in request else None


def refusal(error: VethdError) -> str:
    """The line that says so when a request can't be read, or is not read any further."""
    return _encode(_error(None, error))


def _encode(answer: Any) -> str:
    """One JSON text, in a third of the time that json takes - which refuses no name that is not UTF-8."""
    try:
        return to_json(answer).decode()
    except PydanticSerializationError:
        return json.dumps(answer)


def _error(request_id: Any, error: VethdError) -> dict[str, Any]:
    member = {"code": error.code, "message": error.message, "data": error.data()}
    return {"jsonrpc": "2.0", "id": request_id, "error": member}


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant)
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_ALL_BUT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))


def _check_depth(line: bytes) -> None:
    """Raise ParseError when the text is nested too deeply; before it is decoded, for the decoder recurses."""
    if line.count(b"[") + line.count(b"{") <= MAX_DEPTH:
        return
    depth = 0
    for bracket in _STRING.sub(b"", line).translate(None, _ALL_BUT_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            raise ParseError("nested too deeply", hint=f"at most {MAX_DEPTH} levels")


def _decode(line: bytes) -> Any:
    _check_depth(line)
    try:
        return _DECODER.decode(line.decode())
    except ValueError as error:  # not UTF-8, not JSON, or a number of thousands of digits
        raise ParseError(f"not a JSON text: {error}", hint=f"one JSON text per line, in UTF-8: {_EXAMPLE}") from error


def _check_batch(batch: list[Any]) -> None:
    if not batch:
        raise InvalidRequest("an empty batch", hint="a batch holds at least one request")
    if len(batch) > MAX_BATCH:
        raise InvalidRequest(f"a batch of {len(batch)} requests", hint=f"at most {MAX_BATCH}; send several")


def _check_request(request: Any) -> None:
    """Raise InvalidRequest unless it is one; what it asks for is checked by the method."""
    if not isinstance(request, dict):
        raise InvalidRequest("a request is an object", hint=_EXAMPLE)
    if request.get("jsonrpc") != "2.0":
        raise InvalidRequest('jsonrpc: must be "2.0"', hint="the protocol is JSON-RPC 2.0")
    if not isinstance(request.get("method"), str):
        raise InvalidRequest("method: must be a string")
    if not isinstance(request.get("params", {}), dict | list):
        raise InvalidRequest("params: must be an object", hint="leave it out when there are none")
    number = request.get("id")
    if isinstance(number, bool | dict | list) or (isinstance(number, float) and not math.isfinite(number)):
        raise InvalidRequest("id: must be a string or a number", hint="without an id nothing is answered")
    unknown = sorted(request.keys() - _MEMBERS)
    if unknown:
        raise InvalidRequest(f"{', '.join(unknown)}: unknown", hint=f"known: {', '.join(sorted(_MEMBERS))}")
