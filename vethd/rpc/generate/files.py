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
from vethd.rpc.generate.wire import wire

_ROOT: Final = Path(__file__).parents[3]


def files() -> dict[Path, str]:
    """What each generated file of the checkout shall hold."""
    methods = asyncio.run(table())
    return {_ROOT / "vethd/rpc/wire.py": wire(methods)}


async def table() -> tuple[Method, ...]:
    """All methods: those of a daemon that is put together and never started."""
    with mock.patch.object(supervisor, "HostThreads"):  # they enter a namespace, and nobody but root may
        table = supervisor.Supervisor(Config(), structlog.get_logger()).methods.table
    from vethd.rpc.access import Role
    from vethd.rpc.schema import config, daemon, events, link, stats
    from vethd.rpc.schema.base import NoParams

    planned = [
        Method(name, params, result, role, mock.Mock(__doc__=params.__doc__))
        for name, params, result, role in (
            ("link.set", link.LinkSetParams, link.SelectedResult, Role.CHANGE),
            ("sysctl.get", stats.SysctlGetParams, stats.SysctlResult, Role.LOOK),
            ("sysctl.set", stats.SysctlSetParams, stats.SysctlResult, Role.CHANGE),
            ("events.subscribe", events.SubscribeParams, events.SubscribeResult, Role.LOOK),
            ("events.unsubscribe", events.UnsubscribeParams, events.UnsubscribeResult, Role.LOOK),
            ("config.apply", config.ConfigApplyParams, config.ConfigApplyResult, Role.CHANGE),
            ("config.save", config.ConfigSaveParams, config.ConfigSaveResult, Role.LOOK),
            ("daemon.reexec", NoParams, daemon.ReexecResult, Role.CHANGE),
        )
        if name not in {method.name for method in table}
    ]
    return (*table, *planned)
