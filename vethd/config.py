"""The daemon's configuration, key by key; configfiles.py reads it. config/vethd.toml documents every key."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from vethd.rpc.client import DEFAULT_SOCKET
from vethd.rpc.schema.config import StaticBridge, StaticPair
from vethd.validation import NUMBER, WORD

Level = Literal["debug", "info", "warning", "error"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class LogConfig(_Section):
    """[log]: `format` auto is console on a terminal, fields in the journal under systemd, and json elsewhere."""

    level: Level = "info"
    format: Literal["auto", "console", "json"] = "auto"


def _count_form(value: Any) -> str | None:
    return WORD if value == "auto" else NUMBER if type(value) is int else None


def _available(cpus: list[int]) -> list[int]:
    available = os.sched_getaffinity(0)
    if missing := sorted(set(cpus) - available):
        raise PydanticCustomError(
            "cpus",
            "{missing} not among the CPUs this process may use: {available}",
            {"missing": _listed(missing), "available": _listed(available)},
        )
    return cpus


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))


class WorkerConfig(_Section):
    """[worker]: how many processes forward, and what they do under overload.

    count: `auto` is half the CPUs, at least one. overload: of new pairs of which nothing else is said: `drop` at the
    backlog's cap, or `backpressure`: stop reading.
    cpus: CPUs that workers are bound to, one each, in turn; none: the scheduler places them.
    frameio: `syscalls`, `uring`, or `auto`: io_uring where it works.
    restart_window: seconds; from the third death of a worker within them on, its replacement waits.
    watchdog: seconds; before half of them have gone by, a worker that does not answer is replaced.
    """

    count: Annotated[
        Annotated[Literal["auto"], Tag(WORD)] | Annotated[int, Field(ge=1, le=64), Tag(NUMBER)],
        Discriminator(
            _count_form, custom_error_type="count", custom_error_message="must be a number from 1 to 64, or 'auto'"
        ),
    ] = "auto"
    overload: Literal["drop", "backpressure"] = "drop"
    cpus: Annotated[list[Annotated[int, Field(ge=0)]], AfterValidator(_available)] = []
    frameio: Literal["auto", "syscalls", "uring"] = "auto"
    restart_window: Annotated[float, Field(ge=0, le=3600)] = 10.0
    watchdog: Annotated[float, Field(ge=1, le=3600)] = 10.0

    def processes(self) -> int:
        """The number of workers on this machine."""
        return max(1, len(os.sched_getaffinity(0)) // 2) if self.count == "auto" else self.count


class SysctlConfig(_Section):
    """[sysctl]: the backlog's limits under the kernel's names (net.core.*), per worker.

    netdev_max_backlog, netdev_budget, dev_weight: frames. netdev_budget_usecs, busy_poll: microseconds.
    """

    netdev_max_backlog: Annotated[int, Field(ge=0, le=1_000_000)] = 1000
    netdev_budget: Annotated[int, Field(ge=1, le=1_000_000)] = 300
    netdev_budget_usecs: Annotated[int, Field(ge=1, le=1_000_000)] = 8000
    dev_weight: Annotated[int, Field(ge=1, le=1024)] = 64
    busy_poll: Annotated[int, Field(ge=0, le=1_000_000)] = 0


class LimitConfig(_Section):
    """[limits]: max_pairs that may exist at a time; clients connected to the control socket at a time.

    idle_timeout: seconds after which a client that asks nothing is disconnected; 0 is never. Listeners are never idle.
    write_timeout: seconds for which a client may leave its answers unread.
    """

    max_pairs: Annotated[int, Field(ge=1, le=65_536)] = 4096
    clients: Annotated[int, Field(ge=1, le=65_536)] = 256
    idle_timeout: Annotated[float, Field(ge=0, le=604_800)] = 900.0
    write_timeout: Annotated[float, Field(gt=0, le=3600)] = 30.0


#: Longest path of a unix socket, bytes (sun_path without its NUL).
_PATH_MAX: Final = 107


def _socket_path(path: str) -> str:
    if not path.startswith("/") or "\0" in path or len(os.fsencode(path)) > _PATH_MAX:
        raise PydanticCustomError("socket", f"must be an absolute path of at most {_PATH_MAX} bytes")
    return path


class Config(_Section):
    """Everything that files say. socket: path of the control socket. bridge, pair: those that shall exist."""

    socket: Annotated[str, AfterValidator(_socket_path)] = DEFAULT_SOCKET
    log: LogConfig = LogConfig()
    worker: WorkerConfig = WorkerConfig()
    sysctl: SysctlConfig = SysctlConfig()
    limits: LimitConfig = LimitConfig()
    bridge: list[StaticBridge] = []
    pair: list[StaticPair] = []
