"""The methods config.*."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from vethd.config import Config
from vethd.configsave import saved
from vethd.errors import InvalidParams, TokenReused
from vethd.host import netns
from vethd.host.bridge import Port
from vethd.host.threads import HostThreads
from vethd.pairs.attach import attachments
from vethd.pairs.registry import Registry, describe_netns
from vethd.pairs.static import Row, StaticPairs
from vethd.rpc.access import Role
from vethd.rpc.call import Call, Method
from vethd.rpc.schema.config import (
    ConfigApplyParams,
    ConfigApplyResult,
    ConfigSaveParams,
    ConfigSaveResult,
    PlanRow,
)


class ConfigMethods:
    """config.apply, config.save. settings: those in force, as a file would say them."""

    def __init__(
        self, threads: HostThreads, registry: Registry, static: StaticPairs, settings: Callable[[], Config]
    ) -> None:
        self._threads = threads
        self._registry = registry
        self._static = static
        self._settings = settings
        self.table = (
            Method(
                "config.apply",
                ConfigApplyParams,
                ConfigApplyResult,
                Role.CHANGE,
                self.config_apply,
                (TokenReused,),
                {
                    "pairs": [{"name": "lab", "a": {"ifname": "lab0", "mtu": 9000}, "b": {"ifname": "lab1"}}],
                    "dry_run": True,
                },
            ),
            Method("config.save", ConfigSaveParams, ConfigSaveResult, Role.LOOK, self.config_save),
        )

    async def config_apply(self, params: ConfigApplyParams, call: Call) -> ConfigApplyResult:
        """Make the static pairs what they shall be."""
        twice = [name for name, count in Counter(pair.name for pair in params.pairs).items() if count > 1]
        if twice:
            raise InvalidParams(f"pairs: {', '.join(twice)}: given twice", hint="give each pair a name of its own")
        rows = await self._static.apply(
            params.pairs,
            params.bridges,
            call.netns,
            f"config.apply by {call.peer}",
            prune=params.prune,
            dry_run=params.dry_run,
        )
        names = netns.names()
        return {
            "applied": not params.dry_run,
            "failed": sum(row.error is not None for row in rows),
            "plan": [_plan_row(row, names) for row in rows],
        }

    async def config_save(self, _params: ConfigSaveParams, _call: Call) -> ConfigSaveResult:
        """The file that rebuilds the present state."""
        pairs = [pair for pair in self._registry if pair.origin in ("config", "api") and pair.is_live()]
        text, left_out = saved(self._settings(), pairs, await attachments(pairs, self._threads))
        return {"toml": text, "left_out": left_out}


def _plan_row(row: Row, names: dict[tuple[int, int], str]) -> PlanRow:
    return {
        "name": row.step.name,
        "action": row.step.action,
        "pair": None if row.pair is None else str(row.pair),
        "changes": {key: [_shown(value, names) for value in values] for key, values in row.step.changes.items()},
        "error": None if row.error is None else {"message": row.error.message, **row.error.data()},
    }


def _shown(value: Any, names: dict[tuple[int, int], str]) -> Any:
    """A value of a state as JSON: the identity of a namespace is its name, if it has one."""
    if isinstance(value, frozenset):
        return sorted(map(str, value))
    if isinstance(value, Port):
        return value.bridge
    return describe_netns(value, names) if isinstance(value, tuple) else value
