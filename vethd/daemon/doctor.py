"""`vethd doctor`: what this machine offers vethd, feature by feature, and what to do about what is missing.

A check is a function that returns one `Finding`; `checks` lists them in the order of the report. A check looks at the
machine itself, not at what should follow from a version number, and changes nothing. Nothing is imported before the
check that needs it, so that a missing package is a finding as well.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import importlib
import json
import os
import platform
import re
import resource
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from vethd.errors import VethdError, tun_missing
from vethd.host import capabilities as caps

if TYPE_CHECKING:
    from vethd.config import Config
    from vethd.frameio.choice import Wanted

T = TypeVar("T")

#: The first kernel with all system calls and ioctls that vethd cannot do without (pidfd_open; TUNGETDEVNETNS is 5.2).
KERNEL_MIN: Final = (5, 3)
#: Capabilities that the daemon needs, and what for.
CAPABILITIES: Final = {
    "CAP_NET_ADMIN": "to make devices",
    "CAP_SYS_ADMIN": "to enter namespaces",
    "CAP_NET_BROADCAST": "to hear of all namespaces",
}
#: Packages that the daemon needs, by what is imported of each.
PACKAGES: Final = {
    "pydantic": "pydantic",
    "pytun": "python-pytun",
    "structlog": "structlog",
    "tomli_w": "tomli-w",
    "uvloop": "uvloop",
}
#: File descriptors of a daemon without pairs and clients.
_OWN_FILES: Final = 64
_TUN: Final = "/dev/net/tun"
_TUNGETFEATURES: Final = 0x800454CF


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    feature: what was looked for. ok: it is there. needed: without it vethd does not run; else it can do less.
    found: what is there, or why nothing is. remedy: what to do, where it is missing.
    """

    feature: str
    ok: bool
    needed: bool
    found: str
    remedy: str | None = None


def kernel() -> Finding:
    """The kernel knows every system call that vethd needs."""
    release = platform.release()
    numbers = re.match(r"(\d+)\.(\d+)", release)
    ok = numbers is not None and (int(numbers[1]), int(numbers[2])) >= KERNEL_MIN
    oldest = ".".join(map(str, KERNEL_MIN))
    return Finding("kernel", ok, True, f"Linux {release}", None if ok else f"take Linux {oldest} or later")


def capabilities() -> Finding:
    """The daemon may make devices, enter namespaces and follow events of all namespaces."""
    missing = [name for name in CAPABILITIES if name not in caps.effective()]
    if missing:
        uses = ", ".join(f"{name} ({CAPABILITIES[name]})" for name in missing)
        return Finding("capabilities", False, True, f"without {uses}", "run it as root, or with those")
    return Finding("capabilities", True, True, ", ".join(CAPABILITIES))


def package(module: str) -> Finding:
    """A package that the daemon needs is there, and can be loaded."""
    name = PACKAGES[module]
    try:
        importlib.import_module(module)
    except ImportError as error:
        return Finding(
            name, False, True, str(error), f"pip install {name}, where there are a C compiler and python3-dev"
        )
    return Finding(name, True, True, metadata.version(name))


def namespaces() -> Finding:
    """A thread can enter a network namespace of its own, and go back."""
    try:
        _apart(_enter_and_leave)
    except OSError as error:
        remedy = {
            errno.ENOSPC: "raise sysctl user.max_net_namespaces",
            errno.EINVAL: "take a kernel with CONFIG_NET_NS",
        }.get(error.errno or 0) or _allowance(error, ("CAP_SYS_ADMIN",), "unshare and setns (RestrictNamespaces=net)")
        return Finding("network namespaces", False, True, str(error.strerror), remedy)
    return Finding("network namespaces", True, True, "can be made and entered")


def all_nsid() -> Finding:
    """The events of all namespaces can be heard on one socket."""
    from vethd.host.rtnl import event_socket

    what = "events of all namespaces"
    try:
        event_socket().close()
    except OSError as error:
        remedy = {
            errno.ENOPROTOOPT: "take a kernel with NETLINK_LISTEN_ALL_NSID (4.2)",
            errno.EAFNOSUPPORT: "let the seccomp profile allow AF_NETLINK (RestrictAddressFamilies=)",
        }.get(error.errno or 0) or _allowance(
            error, ("CAP_NET_BROADCAST", "CAP_NET_ADMIN"), "socket and setsockopt for AF_NETLINK"
        )
        return Finding(what, False, True, str(error.strerror), remedy)
    return Finding(what, True, True, "NETLINK_LISTEN_ALL_NSID")


def tun() -> Finding:
    """/dev/net/tun can be opened, and the tun driver is behind it."""
    try:
        fd = os.open(_TUN, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(fd, _TUNGETFEATURES, bytes(4))
        finally:
            os.close(fd)
    except OSError as error:
        number = error.errno or 0
        missing = tun_missing(number)
        return Finding(_TUN, False, True, missing.message.removeprefix(f"{_TUN}: "), missing.hint)
    return Finding(_TUN, True, True, "can be opened")


def tap() -> Finding:
    """A TAP with a virtio header can be made; it is, for a moment, in a namespace of its own."""
    try:
        _try_tap()
    except ImportError:
        return Finding("TAP", False, True, "not tried", "see python-pytun")
    except VethdError as error:
        return Finding("TAP", False, True, error.message, error.hint)
    except OSError:
        return Finding("TAP", False, True, "not tried", "see network namespaces")
    return Finding("TAP", True, True, "can be made")


def offloads() -> Finding:
    """Large frames can be written to a TAP whole, of every kind that vethd knows."""
    try:
        taken = _try_tap()
    except (ImportError, VethdError, OSError):
        return Finding("offloads", False, False, "not tried", "see TAP")
    from vethd.host.tap import OFFLOADS, offload_names

    lacking = offload_names(OFFLOADS[0][0] & ~taken)
    if lacking:
        remedy = "take Linux 6.2 or later for uso, 6.17 for udp-tunnel; until then such frames are segmented on the way"
        return Finding("offloads", False, False, f"without {', '.join(lacking)}", remedy)
    return Finding("offloads", True, False, ", ".join(offload_names(taken)))


def steering() -> Finding:
    """The kernel takes the program that keeps each flow in one queue."""
    from vethd.host.steering import try_out

    what = "several queues"
    try:
        try_out()
    except VethdError as error:
        return Finding(what, False, False, error.message, error.hint)
    except OSError as error:
        return Finding(what, False, False, str(error.strerror), "take a kernel with CONFIG_BPF_SYSCALL")
    return Finding(what, True, False, "bpf(2) takes the program")


def worker_user() -> Finding:
    """There is a user without rights for workers to be."""
    from vethd.worker import child

    try:
        user = child.worker_user()
    except VethdError as error:
        return Finding("worker user", False, True, error.message, error.hint)
    return Finding("worker user", True, True, user.pw_name)


def configuration(path: Path | None) -> Finding:
    """The configuration is valid. path: the main file, None for the default one."""
    try:
        from vethd.configfiles import ConfigError, load
    except ImportError as error:
        return Finding("configuration", False, True, "not tried", f"see {error.name}")
    try:
        files = load(path).files
    except ConfigError as error:
        first, *others = map(str, error.findings)
        found = f"{first}, and {len(others)} more" if others else first
        return Finding("configuration", False, True, found, "`vethd check-config` says all that is wrong with it")
    return Finding("configuration", True, True, ", ".join(map(str, files)) or "no file, so the defaults hold")


def open_files(path: Path | None) -> Finding:
    """The daemon may have as many open files as its pairs and clients need. path: as for `configuration`."""
    try:
        limits, (_soft, hard) = _config(path).limits, resource.getrlimit(resource.RLIMIT_NOFILE)
    except ImportError as error:
        return Finding("open files", False, False, "not tried", f"see {error.name}")
    wanted = 2 * limits.max_pairs + limits.clients + _OWN_FILES
    pairs = max(0, (hard - limits.clients - _OWN_FILES) // 2)
    found = f"{hard}: enough for {pairs} pairs of one queue, and {limits.clients} clients"
    ok = hard >= wanted
    remedy = f"LimitNOFILE={wanted} (ulimit -Hn) for {limits.max_pairs}, or a lower max_pairs"
    return Finding("open files", ok, False, found, None if ok else remedy)


def control_socket(path: Path | None, socket: str | None) -> Finding:
    """The directory of the control socket is there, or can be made, and is nobody else's.

    path: as for `configuration`. socket: where it is, whatever the configuration says; None where that counts.
    """
    what = "control socket"
    try:
        from vethd.rpc.server import UnsafeDirectory, check_directory

        place = Path(socket or _config(path).socket)
    except ImportError as error:
        return Finding(what, False, True, "not tried", f"see {error.name}")
    from vethd.rpc.client import DEFAULT_SOCKET

    directory = place.parent
    try:
        check_directory(place)
    except UnsafeDirectory as error:
        return Finding(what, False, True, str(error), error.hint)
    except FileNotFoundError:
        if str(place) != DEFAULT_SOCKET:
            return Finding(what, False, True, f"{directory} is not there", f"mkdir {directory}")
        directory = directory.parent  # where the daemon makes it
    except OSError as error:
        return Finding(what, False, True, f"{directory}: {error.strerror}", "choose another path")
    if not os.access(directory, os.W_OK | os.X_OK):
        return Finding(what, False, True, f"{directory} is not writable", f"make {place.parent} beforehand, writable")
    return Finding(what, True, True, str(place))


def datapath() -> Finding:
    """The datapath is compiled."""
    from vethd.datapath import speed, why
    from vethd.frameio.choice import build_remedy

    ok = speed() == "compiled"
    return Finding("compiled datapath", ok, False, why(), None if ok else build_remedy())


def batches() -> Finding:
    """Reading and writing by system calls is compiled."""
    from vethd.frameio.choice import build_remedy
    from vethd.frameio.syscalls import compiled

    if compiled() is not None:
        return Finding("frame I/O in C", True, False, "extension is built")
    return Finding("frame I/O in C", False, False, "it runs in Python", build_remedy())


def worker() -> Finding:
    """A worker starts, and gives up its privileges."""
    try:
        ready = _worker_says("auto")
    except VethdError:
        return Finding("worker", False, True, "not tried", "see worker user")
    if isinstance(ready, str):
        return Finding("worker", False, True, ready, "see what it printed above")
    return Finding("worker", True, True, f"gives up its privileges; reads and writes by {ready['frameio']}")


def io_uring() -> Finding:
    """A worker can make a ring; asked of a worker, since root may what workers may not."""
    try:
        ready = _worker_says("auto")
    except VethdError:
        return Finding("io_uring", False, False, "not tried", "see worker user")
    if not isinstance(ready, str) and ready["frameio"] != "uring":
        ready = _worker_says("uring")  # it says what to do
    if isinstance(ready, str):
        return Finding("io_uring", False, False, ready, "see worker")
    if ready["op"] == "unable":
        return Finding("io_uring", False, False, ready["why"], ready["remedy"])
    return Finding("io_uring", True, False, ready["why"].rpartition("; ")[2])


def checks(path: Path | None, socket: str | None) -> Iterator[Callable[[], Finding]]:
    """All of them. path, socket: as for `control_socket`."""
    yield from (kernel, capabilities)
    yield from (partial(package, module) for module in PACKAGES)
    yield from (namespaces, all_nsid, tun, tap, offloads, steering, worker_user, worker)
    yield from (partial(configuration, path), partial(control_socket, path, socket), partial(open_files, path))
    yield from (datapath, batches, io_uring)


def features() -> dict[str, str]:
    """What the kernel has for a daemon that runs, and so has namespaces: `yes`, or what is missing and what to do."""
    found = [check() for check in (tun, steering)]
    there = dict.fromkeys(("network namespaces", "events of all namespaces"), "yes")
    return there | {each.feature: "yes" if each.ok else f"{each.found} ({each.remedy})" for each in found}


def _config(path: Path | None) -> Config:
    """What the configuration says, or would where it is not valid. Raises ImportError."""
    from vethd.config import Config
    from vethd.configfiles import ConfigError, load

    try:
        return load(path).config
    except ConfigError:
        return Config()


def _apart(call: Callable[[], T]) -> T:
    """Make a call in a thread of its own, which need not leave the namespace that it entered. Raises what it raises."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(call).result()


def _try_tap() -> int:
    """Make a TAP in a namespace of its own; the offloads that the kernel takes.

    Raises ImportError, VethdError, OSError.
    """
    from vethd.host import netns, tap

    def make() -> int:
        netns.unshare()
        fd = tap.open_queue("vethd%d")
        try:
            return tap.probe_offload(fd)[0]
        finally:
            os.close(fd)

    return _apart(make)


def _enter_and_leave() -> None:
    from vethd.host import netns

    home = netns.current()
    try:
        netns.unshare()
        netns.setns(home)
    finally:
        os.close(home)


def _allowance(error: OSError, needed: tuple[str, ...], calls: str) -> str:
    """What to do about something that the kernel did not do. needed: capabilities. calls: what seccomp must allow."""
    if error.errno not in (errno.EPERM, errno.EACCES):
        return "see `dmesg`"
    if missing := [name for name in needed if name not in caps.effective()]:
        return f"run it as root, or with {' and '.join(missing)}"
    return f"let the seccomp profile, or the security module, allow {calls}"


@cache
def _worker_says(frameio: Wanted) -> dict[str, Any] | str:
    """What `_ask_worker` returns, asked once. Raises WorkerFailed."""
    return asyncio.run(_ask_worker(frameio))


async def _ask_worker(frameio: Wanted) -> dict[str, Any] | str:
    """The first message of a worker, `ready` or `unable`; in words why, when it died without one."""
    from vethd.worker.child import Child, WorkerDied

    child = Child(asyncio.get_running_loop(), lambda _child, _message: None, lambda _child: None, frameio)
    said: dict[str, Any] | str
    try:
        said = await child.ready
    except WorkerDied as died:
        said = child.unable or str(died)
    child.stop()
    await child.ended.wait()
    return said


def examine(path: Path | None, socket: str | None, as_json: bool) -> tuple[str, int]:
    """Make every check. Returns the report, and the exit status: 0 when vethd can run here, else 1.

    path: main file of the configuration, None for the default one. socket: has the last word before it.
    """
    findings = [check() for check in checks(path, socket)]
    status = 0 if all(finding.ok for finding in findings if finding.needed) else 1
    if as_json:
        return json.dumps([asdict(finding) for finding in findings], indent=2), status
    return "\n".join(map(_line, findings)), status


def _line(finding: Finding) -> str:
    state = "ok" if finding.ok else "missing" if finding.needed else "warning"
    remedy = f" ({finding.remedy})" if finding.remedy else ""
    return f"{state:8}{finding.feature:25}{finding.found}{remedy}"
