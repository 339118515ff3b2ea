"""Namespaces that a configuration names: opened, and made if they have a name and are not there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

from structlog.typing import FilteringBoundLogger

from vethd.host import netns, netns_add
from vethd.rpc.schema.base import NetnsRef

#: Opens a namespace for as long as its body runs; None is the default one. What it is for errors.
Open = Callable[[str | NetnsRef | None, str], AbstractContextManager[int]]


def to_be_made(ref: str | NetnsRef | None) -> str | None:
    """The name of a namespace that has to be made first, else None."""
    name = ref.name if isinstance(ref, NetnsRef) else ref
    if name is None or name.startswith("/") or os.path.lexists(netns.NETNS_DIR / name):
        return None
    return name


async def enter(ref: str | NetnsRef | None, what: str, opened: Open, fds: ExitStack, log: FilteringBoundLogger) -> int:
    """An fd of a namespace, which is made if need be; fds closes it. what: for errors. Raises NoSuchNetns."""
    name = to_be_made(ref)
    if name is not None:
        how = await asyncio.to_thread(netns_add.add, name)
        log.info("namespace made", netns=name, how=how)
    return fds.enter_context(opened(ref, what))
