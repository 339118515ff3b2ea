"""The examples of the JSON-RPC 2.0 specification (jsonrpc.org, section 7), word for word, over a socket.

Only the methods that they speak of are the test's own. What stands on several lines there is one line here, and of an
error the code is compared: our messages say more. test_specification.py has the same with the methods of the daemon.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog

from vethd.config import LimitConfig
from vethd.rpc.connection import Connection
from vethd.rpc.envelope import Envelope
from vethd.rpc.server import Server

EXAMPLES = """
rpc call with positional parameters:

--> {"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}
<-- {"jsonrpc": "2.0", "result": 19, "id": 1}

--> {"jsonrpc": "2.0", "method": "subtract", "params": [23, 42], "id": 2}
<-- {"jsonrpc": "2.0", "result": -19, "id": 2}

rpc call with named parameters:

--> {"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3}
<-- {"jsonrpc": "2.0", "result": 19, "id": 3}

--> {"jsonrpc": "2.0", "method": "subtract", "params": {"minuend": 42, "subtrahend": 23}, "id": 4}
<-- {"jsonrpc": "2.0", "result": 19, "id": 4}

a Notification:

--> {"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}
--> {"jsonrpc": "2.0", "method": "foobar"}

rpc call of non-existent method:

--> {"jsonrpc": "2.0", "method": "foobar", "id": "1"}
<-- {"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": "1"}

rpc call with invalid JSON:

--> {"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]
<-- {"jsonrpc": "2.0", "error": {"code": -32700, "message": "Parse error"}, "id": null}

rpc call with invalid Request object:

--> {"jsonrpc": "2.0", "method": 1, "params": "bar"}
<-- {"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null}

rpc call Batch, invalid JSON:

--> [
  {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},
  {"jsonrpc": "2.0", "method"
]
<-- {"jsonrpc": "2.0", "error": {"code": -32700, "message": "Parse error"}, "id": null}

rpc call with an empty Array:

--> []
<-- {"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null}

rpc call with an invalid Batch (but not empty):

--> [1]
<-- [
  {"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null}
]

rpc call with invalid Batch:

--> [1,2,3]
<-- [
  {"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null},
  {"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null},
  {"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null}
]

rpc call Batch:

--> [
        {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},
        {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},
        {"jsonrpc": "2.0", "method": "subtract", "params": [42,23], "id": "2"},
        {"foo": "boo"},
        {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},
        {"jsonrpc": "2.0", "method": "get_data", "id": "9"}
    ]
<-- [
        {"jsonrpc": "2.0", "result": 7, "id": "1"},
        {"jsonrpc": "2.0", "result": 19, "id": "2"},
        {"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null},
        {"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": "5"},
        {"jsonrpc": "2.0", "result": ["hello", 5], "id": "9"}
    ]

rpc call Batch (all notifications):

--> [
        {"jsonrpc": "2.0", "method": "notify_sum", "params": [1,2,4]},
        {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]}
    ]
<-- //Nothing is returned for all notification batches
"""


async def subtract(_context: None, params: Any) -> int:
    minuend, subtrahend = params if isinstance(params, list) else (params["minuend"], params["subtrahend"])
    return int(minuend - subtrahend)


async def total(_context: None, params: Any) -> int:
    return sum(params)


async def get_data(_context: None, _params: Any) -> list[Any]:
    return ["hello", 5]


async def ignore(_context: None, _params: Any) -> None:
    pass


METHODS: dict[str, Callable[[None, Any], Awaitable[Any]]] = {
    "subtract": subtract,
    "sum": total,
    "get_data": get_data,
    **dict.fromkeys(("update", "notify_hello", "notify_sum"), ignore),
}


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a server with the specification's methods."""
    envelope: Envelope[None] = Envelope(METHODS)

    async def handle(_connection: Connection, line: bytes, _fds: list[int]) -> str | None:
        return await envelope.answer(line, None)

    server = Server(tmp_path / "s", LimitConfig(), handle, structlog.get_logger())
    server.bind()
    server.serve()
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
    yield reader, writer
    writer.close()
    await server.stop()


def examples() -> list[tuple[str, list[str]]]:
    """Each example's title, and what is sent (`-->`) and heard (`<--`), each on one line."""
    found: list[tuple[str, list[str]]] = []
    for title, text in re.findall(r"^(\w[^\n]*):\n(.*?)(?=^\w|\Z)", EXAMPLES, re.MULTILINE | re.DOTALL):
        parts = re.split(r"^(?=-->|<--)", text, flags=re.MULTILINE)
        found.append((title, [" ".join(part.split()) for part in parts if part.strip()]))
    return found


def without_words(answer: Any) -> Any:
    """The answer, of its errors the code alone."""
    if isinstance(answer, list):
        return [without_words(each) for each in answer]
    return {**answer, "error": answer["error"]["code"]} if "error" in answer else answer


def test_every_example_is_there() -> None:
    assert len(examples()) == 12
    assert sum(line.startswith("-->") for _title, lines in examples() for line in lines) == 15


@pytest.mark.parametrize(("title", "lines"), examples(), ids=[title for title, _lines in examples()])
async def test_an_example(
    client: tuple[asyncio.StreamReader, asyncio.StreamWriter], title: str, lines: list[str]
) -> None:
    reader, writer = client
    nothing_more = '{"jsonrpc": "2.0", "result": 0, "id": "nothing more"}'
    for line in (*lines, '--> {"jsonrpc": "2.0", "method": "sum", "id": "nothing more"}', f"<-- {nothing_more}"):
        arrow, text = line.split(" ", 1)
        if arrow == "-->":
            writer.write(text.encode() + b"\n")
        elif not text.startswith("//"):
            heard = await asyncio.wait_for(reader.readline(), 10)
            assert without_words(json.loads(heard)) == without_words(json.loads(text)), title
