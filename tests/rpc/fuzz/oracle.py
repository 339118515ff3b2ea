"""What JSON-RPC 2.0 and the limits of the daemon say must come back, reckoned without the code under test."""

from __future__ import annotations

import json
import math
from typing import Any, Final

from vethd.errors import KINDS
from vethd.rpc.envelope import MAX_BATCH, MAX_DEPTH

#: In the place of an id: nothing comes back.
SILENCE: Final = object()
#: In the place of an id: an error with the id null.
REFUSED: Final = object()
_CODES: Final = {error.kind: error.code for error in KINDS if error.kind != "internal"}


def answers(stream: bytes) -> list[Any]:
    """The ids of the answers to all that one client sends before it says no more; a list for a batch."""
    ids = [_of_text(line) for line in stream.split(b"\n") if line.strip()]
    return [number for number in ids if number is not SILENCE]


def check(line: bytes, expected: Any) -> None:
    """Insist that a line is the answer with this id (or these): whole, with a result or an error that has a code."""
    answer = json.loads(line.decode(), parse_constant=_refuse)
    if isinstance(expected, list):
        assert isinstance(answer, list)
        assert len(answer) == len(expected)
    for each, number in zip(answer, expected, strict=True) if isinstance(expected, list) else [(answer, expected)]:
        assert each.keys() in ({"jsonrpc", "id", "result"}, {"jsonrpc", "id", "error"}), each
        assert each["jsonrpc"] == "2.0"
        assert json.dumps(each["id"]) == json.dumps(None if number is REFUSED else number)
        assert number is not REFUSED or "error" in each
        if "error" in each:
            error = each["error"]
            assert error["code"] == _CODES.get(error["data"]["kind"]), error
            assert error["message"]


def is_event(line: bytes) -> bool:
    """Whether a line is a notification, which may come between answers to whoever subscribed."""
    value = json.loads(line)
    return isinstance(value, dict) and "method" in value


def _refuse(name: str) -> None:
    raise ValueError(name)


def _of_text(line: bytes) -> Any:
    try:
        value = json.loads(line.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return REFUSED
    if _depth(value) > MAX_DEPTH:
        return REFUSED
    if not isinstance(value, list):
        return _of_request(value)
    if not value or len(value) > MAX_BATCH:
        return REFUSED
    ids = [number for number in map(_of_request, value) if number is not SILENCE]
    return ids or SILENCE


def _of_request(value: Any) -> Any:
    if not isinstance(value, dict) or not value.keys() <= {"jsonrpc", "method", "params", "id"}:
        return REFUSED
    if value.get("jsonrpc") != "2.0" or type(value.get("method")) is not str:
        return REFUSED
    if type(value.get("params", [])) not in (list, dict):
        return REFUSED
    if "id" not in value:
        return SILENCE
    number = value["id"]
    if type(number) is float and not math.isfinite(number):
        return REFUSED
    return number if number is None or type(number) in (str, int, float) else REFUSED


def _depth(value: Any) -> int:
    """Levels of arrays and objects."""
    level, depth = [value], 0
    while level := [each for each in level if isinstance(each, list | dict)]:
        depth += 1
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    return depth
