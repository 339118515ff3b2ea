"""daemon.*: what runs."""

from __future__ import annotations

from pydantic import with_config
from typing_extensions import TypedDict

from vethd.rpc.schema.base import DESCRIBED


@with_config(DESCRIBED)
class WorkerRow(TypedDict):
    """One worker: what runs in it, and why not something faster."""

    id: int
    """Number of the worker."""
    pid: int | None
    """Its process; null while it is being replaced."""
    pairs: int
    """Pairs of which it forwards queues."""
    queues: int
    """Queues that it forwards."""
    datapath: str | None
    """`compiled` or `interpreted`."""
    frameio: str | None
    """`uring` or `syscalls`."""
    why: str | None
    """Why not something faster."""


@with_config(DESCRIBED)
class Limits(TypedDict):
    """What there is, and may be at most."""

    pairs: int
    """Pairs that exist."""
    max_pairs: int
    """Pairs that may exist."""
    clients: int
    """Clients connected now."""
    max_clients: int
    """Clients that may be connected."""
    open_files: int
    """File descriptors that are open."""
    max_open_files: int
    """File descriptors that may be open (RLIMIT_NOFILE)."""


@with_config(DESCRIBED)
class KernelInfo(TypedDict):
    """The kernel, and what of it vethd can use."""

    release: str
    """As `uname -r`."""
    features: dict[str, str]
    """`yes`, or what is missing and what to do: `network namespaces`, `events of all namespaces`, `/dev/net/tun`,
    `several queues` and `io_uring`, as `vethd doctor` looks for them."""


@with_config(DESCRIBED)
class DaemonInfo(TypedDict):
    """daemon.info."""

    version: str
    """Of vethd."""
    pid: int
    """Of the supervisor."""
    server_id: str
    """Tells this run of the daemon from others; event numbers belong to it."""
    seq: int
    """Number of the last event."""
    uptime: float
    """Seconds since the daemon serves."""
    config: list[str]
    """Configuration files that were read."""
    capabilities: list[str]
    """Effective capabilities of the supervisor, as capabilities(7) names them."""
    kernel: KernelInfo
    """What it runs on."""
    limits: Limits
    """How full it is."""
    pairs: int
    """Pairs that exist."""
    max_pairs: int
    """Pairs that may exist."""
    workers: list[WorkerRow]
    """One row per worker."""


@with_config(DESCRIBED)
class ReexecResult(TypedDict):
    """daemon.reexec; answered before the program is replaced, and the connection ends with it."""

    server_id: str
    """Of the daemon that answers; the next one has another."""
