"""Which files are generated, and what belongs in them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final
from unittest import mock

import structlog

from vethd.config import Config
from vethd.daemon import supervisor
from vethd.rpc.call import Method
from vethd.rpc.discover import document
from vethd.rpc.generate.markdown import filled
from vethd.rpc.generate.wire import shapes, wire

_ROOT: Final = Path(__file__).parents[3]
WIRE: Final = _ROOT / "vethd/rpc/wire.py"
SHAPES: Final = _ROOT / "vethd/rpc/shapes.py"
PAGE: Final = _ROOT / "docs/rpc.md"


def files() -> dict[Path, str]:
    """What each generated file of the checkout shall hold."""
    methods = asyncio.run(table())
    return {WIRE: wire(methods), SHAPES: shapes(methods), PAGE: filled(PAGE.read_text(), document(methods))}


async def table() -> tuple[Method, ...]:
    """All methods: those of a daemon that is put together and never started."""
    with mock.patch.object(supervisor, "HostThreads"):  # they enter a namespace, and nobody but root may
        return supervisor.Supervisor(Config(), structlog.get_logger()).methods.table
