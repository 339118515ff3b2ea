"""The server alone, with a handler of the test's own."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import structlog

from vethd.config import LimitConfig
from vethd.rpc.connection import Connection
from vethd.rpc.server import Server


async def test_a_handler_that_fails_is_an_internal_error_and_the_connection_goes_on(tmp_path: Path) -> None:
    """A bug must not leave a client waiting, nor the requests behind it."""

    async def handle(_connection: Connection, line: bytes, _fds: list[int]) -> str | None:
        return json.dumps({"said": line.decode()} if line == b"good" else {"not JSON": object()})

    logged: list[str] = []
    log = structlog.wrap_logger(None, processors=[lambda _logger, _name, event: _drop(logged, event)])
    server = Server(tmp_path / "s", LimitConfig(), handle, log)
    server.bind()
    server.serve()
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
    writer.write(b"bad\ngood\n")
    first, second = [json.loads(await asyncio.wait_for(reader.readline(), 5)) for _ in range(2)]
    writer.close()
    await server.stop()
    assert (first["id"], first["error"]["data"]["kind"]) == (None, "internal")
    assert second == {"said": "good"}
    assert logged == ["request not answered"]


@pytest.fixture
def sticky(tmp_path: Path) -> Path:
    """A directory such as /tmp: everybody may have files of his own in it, nobody can remove another's."""
    tmp_path.chmod(0o1777)
    return tmp_path


async def test_a_sticky_directory_will_do(sticky: Path) -> None:

    async def handle(_connection: Connection, _line: bytes, _fds: list[int]) -> None:
        raise AssertionError

    server = Server(sticky / "s", LimitConfig(), handle, structlog.get_logger())
    server.bind()  # where it can't, it raises
    await server.stop()


def _drop(logged: list[str], event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    logged.append(str(event["event"]))
    raise structlog.DropEvent
