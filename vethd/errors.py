"""Every error that a client can meet: one class per kind, one number and one stable word each.

`KINDS` is what the documentation and the tests read. A `kind` never changes its meaning and a code is never reused; the
message is for people and may change.
"""

from __future__ import annotations

import errno as errno_names
import os
import resource
from typing import Any, ClassVar, Final


class VethdError(Exception):
    """Base of all errors that are answered to a client.

    message: what went wrong, naming the end and the field. hint: what to do about it, or None.
    errno: the kernel's errno where the kernel refused, or None.
    """

    code: ClassVar[int] = -32603
    kind: ClassVar[str] = "internal"
    summary: ClassVar[str] = "a bug in vethd; its log says more"

    def __init__(self, message: str, *, hint: str | None = None, errno: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.errno = errno

    def data(self) -> dict[str, Any]:
        """The `data` member of the JSON-RPC error: kind, and errno and hint where there are any."""
        data: dict[str, Any] = {"kind": self.kind}
        if self.errno is not None:
            data["errno"] = errno_names.errorcode.get(self.errno, str(self.errno))
        if self.hint is not None:
            data["hint"] = self.hint
        return data


class ParseError(VethdError):
    """Raised when a line is not one JSON text in UTF-8, or nested too deeply to be read."""

    code, kind, summary = -32700, "parse_error", "the line is not a JSON text"


class InvalidRequest(VethdError):
    """Raised when a JSON text is not a request of JSON-RPC 2.0, or is too large."""

    code, kind, summary = -32600, "invalid_request", "the JSON text is not a request"


class MethodNotFound(VethdError):
    """Raised when there is no method of that name."""

    code, kind, summary = -32601, "method_not_found", "no such method"


class InvalidParams(VethdError):
    """Raised when a request's fields are missing, unknown, or of the wrong type or range."""

    code, kind, summary = -32602, "invalid_params", "a field of the request is missing, unknown or wrong"


class InvalidName(VethdError):
    """Raised when an interface name is not one that the kernel would take."""

    code, kind, summary = -32001, "invalid_name", "not a valid interface name"


class InvalidAddress(VethdError):
    """Raised when a MAC address is malformed, zero or multicast."""

    code, kind, summary = -32002, "invalid_address", "not a valid unicast MAC address"


class MtuOutOfRange(VethdError):
    """Raised when an MTU is below 68 or above what a TAP can have (65521)."""

    code, kind, summary = -32003, "mtu_out_of_range", "an MTU outside 68..65521"


class LinkExists(VethdError):
    """Raised when the namespace already has an interface of that name."""

    code, kind, summary = -32004, "link_exists", "an interface of that name exists in the namespace"


class NoSuchLink(VethdError):
    """Raised when no end of vethd has that name (in that namespace)."""

    code, kind, summary = -32005, "no_such_link", "no such link"


class AmbiguousName(VethdError):
    """Raised when ends in several namespaces have the name and none is in the caller's."""

    code, kind, summary = -32006, "ambiguous_name", "the name exists in several namespaces"


class NoSuchNetns(VethdError):
    """Raised when a namespace is not there, or what is there is not a network namespace."""

    code, kind, summary = -32007, "no_such_netns", "not a network namespace"


class NotPermitted(VethdError):
    """Raised when the caller's uid and groups don't allow the method."""

    code, kind, summary = -32008, "not_permitted", "the caller may not do this"


class LimitReached(VethdError):
    """Raised when a limit (ends, workers, file descriptors, clients) would be exceeded."""

    code, kind, summary = -32009, "limit_reached", "a limit of the daemon is reached"


class KernelRefused(VethdError):
    """Raised when the kernel refused a step; `errno` is its answer and everything done so far is undone."""

    code, kind, summary = -32010, "kernel_refused", "the kernel refused a step"


class TunMissing(VethdError):
    """Raised when /dev/net/tun can't be used; the hint says whether module, node or capability is missing."""

    code, kind, summary = -32011, "tun_missing", "/dev/net/tun can't be used"


class WorkerFailed(VethdError):
    """Raised when no worker could take the pair."""

    code, kind, summary = -32012, "worker_failed", "no worker process could take the pair"


class ShuttingDown(VethdError):
    """Raised when the daemon is about to exit and takes no more changes."""

    code, kind, summary = -32013, "shutting_down", "the daemon is shutting down"


class ListenerTooSlow(VethdError):
    """Raised when a listener does not read its events, and is disconnected for that."""

    code, kind, summary = -32017, "listener_too_slow", "the listener does not read its events fast enough"


class TimedOut(VethdError):
    """Raised when a client asked nothing for longer than `idle_timeout`."""

    code, kind, summary = -32018, "timed_out", "the client asked nothing for too long and is disconnected"


class TokenReused(VethdError):
    """Raised when a token comes with a request that is not the one it came with before."""

    code, kind, summary = -32015, "token_reused", "the token belongs to another request"


class CursorExpired(VethdError):
    """Raised when a cursor is not among the last ones that this daemon gave."""

    code, kind, summary = -32016, "cursor_expired", "the daemon does not know the cursor any more"


class StaleGeneration(VethdError):
    """Raised when a pair has changed since the generation that a request names, which then changes nothing."""

    code, kind, summary = -32014, "stale_generation", "the pair has changed meanwhile"


class ReexecFailed(VethdError):
    """Raised when the daemon's program can't be replaced; the daemon goes on as before."""

    code, kind, summary = -32019, "reexec_failed", "the daemon's program was not replaced"


class NoSuchBridge(VethdError):
    """Raised when what shall be a bridge is not there, in the namespace of the end, or is something else."""

    code, kind, summary = -32020, "no_such_bridge", "there is no such bridge in the namespace"


class BridgeInUse(VethdError):
    """Raised when a bridge that is to be deleted has ports of others."""

    code, kind, summary = -32021, "bridge_in_use", "the bridge has ports that are no ends of pairs"


KINDS: Final[tuple[type[VethdError], ...]] = (
    ParseError,
    InvalidRequest,
    MethodNotFound,
    InvalidParams,
    VethdError,
    InvalidName,
    InvalidAddress,
    MtuOutOfRange,
    LinkExists,
    NoSuchLink,
    AmbiguousName,
    NoSuchNetns,
    NotPermitted,
    LimitReached,
    KernelRefused,
    TunMissing,
    WorkerFailed,
    ShuttingDown,
    ListenerTooSlow,
    TimedOut,
    TokenReused,
    CursorExpired,
    StaleGeneration,
    ReexecFailed,
    NoSuchBridge,
    BridgeInUse,
)


def name_taken(end: str, ifname: str) -> LinkExists:
    """The error for EEXIST. end: its letter."""
    return LinkExists(
        f"end {end}: name {ifname!r} exists in the namespace already",
        hint="choose another name, or one with %d for a free number",
        errno=errno_names.EEXIST,
    )


def no_fd_left(what: str, number: int | None) -> LimitReached:
    """The error for EMFILE and ENFILE. what: which step met it, with a colon, or ""."""
    if number == errno_names.ENFILE:
        text = f"{what}no file descriptor is free on this machine"
        return LimitReached(text, hint="raise the sysctl fs.file-max", errno=number)
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return LimitReached(
        f"{what}no file descriptor is free, of {soft} (RLIMIT_NOFILE)",
        hint="raise LimitNOFILE (ulimit -n) of the daemon",
        errno=number,
    )


_TUN_HINTS: Final = {
    errno_names.ENOENT: "load the tun module (modprobe tun), or create the node: mknod /dev/net/tun c 10 200",
    errno_names.ENXIO: "the node is there but the tun driver is not: modprobe tun",
    errno_names.ENODEV: "the node is there but the tun driver is not: modprobe tun",
    errno_names.ENOTTY: "what is there is not the tun device: remove it, then mknod /dev/net/tun c 10 200",
    errno_names.EACCES: "let the daemon's user read and write it: chmod 0666 /dev/net/tun, which is what udev does",
    errno_names.EPERM: "CAP_NET_ADMIN in the namespace, and a device cgroup that allows char 10:200, are needed",
}


def _who_may(path: str) -> str:
    """Why somebody may not open a file, as far as can be seen."""
    try:
        node = os.stat(path)
    except OSError:
        return ""
    return f": its mode is {node.st_mode & 0o7777:04o}, its owner uid {node.st_uid}, and this is uid {os.geteuid()}"


def tun_missing(number: int) -> TunMissing:
    """The error for an errno with which /dev/net/tun answered."""
    text = f"/dev/net/tun: {os.strerror(number)}"
    if number == errno_names.EACCES:
        text += _who_may("/dev/net/tun")
    return TunMissing(text, hint=_TUN_HINTS.get(number, "see `dmesg`"), errno=number)
