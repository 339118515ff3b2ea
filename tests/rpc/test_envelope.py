"""The envelope alone, with methods of the test's own."""

import asyncio
import json
from typing import Any

import pytest

from vethd.errors import NoSuchLink, VethdError
from vethd.rpc.envelope import MAX_BATCH, Envelope, refusal


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
