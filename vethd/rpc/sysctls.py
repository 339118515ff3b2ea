"""The methods sysctl.get and sysctl.set: the limits of every worker's backlog, under the kernel's names.

Ranges are those of [sysctl] in the configuration, which says what the daemon starts with.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from pydantic import ValidationError
from structlog.typing import FilteringBoundLogger

from vethd.config import SysctlConfig
from vethd.errors import InvalidParams
from vethd.pairs.journal import Journal
from vethd.pairs.workers import Workers
from vethd.rpc.access import Role
from vethd.rpc.call import Call, Method
from vethd.rpc.schema.stats import SysctlGetParams, SysctlResult, SysctlSetParams
from vethd.validation import findings

_PREFIX: Final = "net.core."
_NAMES: Final = tuple(SysctlConfig.model_fields)


class SysctlMethods:
    """sysctl.get, sysctl.set."""

    def __init__(self, workers: Workers, journal: Journal, log: FilteringBoundLogger) -> None:
        self._workers = workers
        self._journal = journal
        self._log = log
        self.table = (
            Method(
                "sysctl.get",
                SysctlGetParams,
                SysctlResult,
                Role.LOOK,
                self.sysctl_get,
                example={"names": ["netdev_max_backlog"]},
            ),
            Method(
                "sysctl.set",
                SysctlSetParams,
                SysctlResult,
                Role.CHANGE,
                self.sysctl_set,
                example={"values": {"net.core.netdev_max_backlog": 2000}},
            ),
        )

    async def sysctl_get(self, params: SysctlGetParams, _call: Call) -> SysctlResult:
        """The backlog's limits that are in force."""
        names = _NAMES if params.names is None else [_short(name, "names") for name in params.names]
        return self._result(names)

    async def sysctl_set(self, params: SysctlSetParams, call: Call) -> SysctlResult:
        """Change limits; answered when every worker that serves has them."""
        values = _checked(params.values)
        now = self._workers.sysctls
        changed: dict[str, Any] = {_PREFIX + name: value for name, value in values.items() if value != now[name]}
        await self._workers.set_sysctls(values)
        if changed:
            self._log.info("sysctl set", **changed, reason=f"sysctl.set by {call.peer}")
            self._journal.record("daemon", "sysctl", values=changed)
        return self._result(values)

    def _result(self, names: Iterable[str]) -> SysctlResult:
        return {"values": {_PREFIX + name: self._workers.sysctls[name] for name in names}}


def _checked(values: dict[str, int]) -> dict[str, int]:
    """The values by names without prefix. Raises InvalidParams, naming each that is not known or out of range."""
    checked = {_short(name, "values"): value for name, value in values.items()}
    if len(checked) < len(values):
        raise InvalidParams("values: a name is there twice", hint=f"give it once, with or without {_PREFIX}")
    try:
        SysctlConfig.model_validate(checked)
    except ValidationError as error:
        sentences, hint = findings(error, SysctlConfig)
        raise InvalidParams("; ".join(f"values.{sentence}" for sentence in sentences), hint=hint) from error
    return checked


def _short(name: str, what: str) -> str:
    """A name without prefix. Raises InvalidParams when there is none of that name."""
    short = name.removeprefix(_PREFIX)
    if short not in _NAMES:
        raise InvalidParams(f"{what}.{name}: unknown", hint=f"known in {what}: {', '.join(_NAMES)}")
    return short
