"""The envelope alone, with methods of the test's own."""

import asyncio
import inspect
import json
import sys
from typing import Any

import pytest

from vethd.errors import NoSuchLink, VethdError
from vethd.rpc.envelope import MAX_BATCH, MAX_DEPTH, Envelope, refusal


async def echo(call: str, params: Any) -> dict[str, Any]:
    return {"call": call, "params": params}


async def fail(call: str, params: Any) -> None:
    raise NoSuchLink(f"{call}: no link", hint="look", errno=19)


@pytest.fixture
def envelope() -> Envelope[str]:
    return Envelope({"echo": echo, "fail": fail})


async def test_a_method_gets_the_context_and_the_parameters_as_they_came(envelope: Envelope[str]) -> None:
    for given, got in (({}, {}), ({"x": [1, None]}, {"x": [1, None]}), ([1], [1])):
        line = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "echo", "params": given}).encode()
        answer = json.loads(await envelope.answer(line, "me") or "")
        assert answer == {"jsonrpc": "2.0", "id": 1, "result": {"call": "me", "params": got}}


async def test_an_error_carries_code_text_kind_errno_and_hint(envelope: Envelope[str]) -> None:
    answer = json.loads(await envelope.answer(b'{"jsonrpc":"2.0","id":"x","method":"fail"}', "me") or "")
    data = {"kind": "no_such_link", "errno": "ENODEV", "hint": "look"}
    error = {"code": NoSuchLink.code, "message": "me: no link", "data": data}
    assert answer == {"jsonrpc": "2.0", "id": "x", "error": error}


async def test_what_no_other_encoder_takes_is_answered_all_the_same(envelope: Envelope[str]) -> None:
    """A name of a device is bytes, and need not be UTF-8; an id may be any number."""
    for value in ("\udc80", "\u00e9\u2028", 10**40, -(2**70), 2**64 - 1, 1.5, True, None):
        request: dict[str, object] = {"jsonrpc": "2.0", "id": "\ud800", "method": "echo", "params": [value]}
        answer = json.loads(await envelope.answer(json.dumps(request).encode(), "me") or "")
        assert answer == {"jsonrpc": "2.0", "id": "\ud800", "result": {"call": "me", "params": [value]}}
        request["id"] = 7
        text = await envelope.answer(json.dumps(request).encode(), "me")
        assert "\n" not in (text or "\n")
        assert json.loads(text or "")["result"]["params"] == [value]


async def test_a_refusal_has_no_id() -> None:
    data = {"kind": "internal"}
    error = {"code": VethdError.code, "message": "no", "data": data}
    assert json.loads(refusal(VethdError("no"))) == {"jsonrpc": "2.0", "id": None, "error": error}


async def test_the_loop_turns_between_the_requests_of_a_batch(envelope: Envelope[str]) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    batch = [{"jsonrpc": "2.0", "id": n, "method": "echo"} for n in range(MAX_BATCH)]
    await envelope.answer(json.dumps(batch).encode(), "me")
    counting.cancel()
    assert turns >= MAX_BATCH


# -- depth ------------------------------------------------------------------------------------------------------------


def nested(levels: int) -> str:
    """An array of arrays of objects, and so on."""
    opening = ("[", '{"a":') * levels
    closing = ("]", "}") * levels
    return "".join(opening[:levels]) + "1" + "".join(reversed(closing[:levels]))


async def meet(envelope: Envelope[str], text: str) -> str:
    """How a text is answered: `ok`, or the message of the error."""
    answer = json.loads(await envelope.answer(text.encode(), "me") or "")
    return str(answer["error"]["message"]) if "error" in answer else "ok"


def echoed(params: str) -> str:
    return f'{{"jsonrpc":"2.0","id":1,"method":"echo","params":{params}}}'


async def test_as_deep_as_may_be_and_one_level_more(envelope: Envelope[str]) -> None:
    assert await meet(envelope, echoed(nested(MAX_DEPTH - 1))) == "ok"
    assert await meet(envelope, echoed(nested(MAX_DEPTH))) == "nested too deeply"


async def test_depth_is_not_length(envelope: Envelope[str]) -> None:
    assert await meet(envelope, echoed("[" + ",".join([nested(MAX_DEPTH - 2)] * 500) + "]")) == "ok"


@pytest.mark.parametrize(
    "string",
    ['"' + "[{" * 50 + '"', r'"\"' + "[" * 100 + '"', "[" + r'"\\\"' + "{" * 100 + '"]', '"\u00e9' + "[" * 100 + '"'],
)
async def test_brackets_in_a_string_are_no_levels(envelope: Envelope[str], string: str) -> None:
    assert await meet(envelope, echoed(f"[{string}]")) == "ok"


@pytest.mark.parametrize("text", ["]" * 100 + "[" * 100, "[]" * 100, '"' + "[" * 100, '{"a": "\\' + "[" * 100])
async def test_brackets_that_do_not_match_are_no_json_text(envelope: Envelope[str], text: str) -> None:
    assert (await meet(envelope, text)).startswith("not a JSON text: ")


async def test_the_depth_that_python_has_left_does_not_matter(envelope: Envelope[str]) -> None:
    """Not Python's own limit decides what can be read."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 100)
    try:
        assert await meet(envelope, echoed(nested(MAX_DEPTH - 1))) == "ok"
        assert await meet(envelope, "[" * 1000) == "nested too deeply"
    finally:
        sys.setrecursionlimit(limit)
