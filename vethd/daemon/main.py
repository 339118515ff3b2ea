"""The command `vethd`.

What other packages are needed for is imported where it is used: the doctor says which are missing.
"""

from __future__ import annotations

import argparse
import errno
import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vethd import __version__
from vethd.daemon.doctor import examine

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from vethd.config import Config
    from vethd.configfiles import Loaded, Source
    from vethd.daemon.handover import Inheritance

_SOCKET_HINTS = {
    errno.ENOENT: "create its directory",
    errno.EADDRINUSE: "what is there is no socket: remove it, or choose another path",
}


def main() -> None:
    """Entry point of `vethd`. Exit status: 0 stopped by a signal, 1 a part did not start, 2 usage or configuration.

    `vethd doctor`: 0 vethd can run here, 1 it can't. `vethd check-config`: 0 it is valid, 2 it is not.
    `vethd --check-takeover`: 0 it can be taken over, 1 or 2 it can't.
    """
    options = parser().parse_args()
    if options.command == "doctor":
        socket = options.socket or os.environ.get("VETHD_SOCKET") or None
        report, status = examine(options.config, socket, options.json)
        print(report)
        sys.exit(status)
    if options.command == "check-config":
        sys.exit(_check_config(options.file or options.config))
    _run(options)


def _run(options: argparse.Namespace) -> None:
    """Be the daemon."""
    import uvloop

    from vethd.configfiles import ConfigError, Source
    from vethd.daemon import handover, keep
    from vethd.daemon.log import logger
    from vethd.errors import VethdError
    from vethd.frameio.choice import WANTED
    from vethd.rpc.client import DEFAULT_SOCKET
    from vethd.rpc.server import AlreadyRunning, UnsafeDirectory

    frameio = os.environ.get("VETHD_FRAMEIO") or None
    if frameio is not None and frameio not in WANTED:
        print(f"vethd: VETHD_FRAMEIO is {frameio!r}, not one of {', '.join(WANTED)}", file=sys.stderr)
        sys.exit(2)
    source = Source(options.config, options.socket or os.environ.get("VETHD_SOCKET") or None, frameio)
    try:
        loaded = source.load()
    except ConfigError as error:
        for finding in error.findings:
            print(f"vethd: {finding}", file=sys.stderr)
        sys.exit(2)
    config = source.overrule(loaded.config)
    if options.check_takeover is not None:
        sys.exit(_check_takeover(options.check_takeover))
    _raise_nofile()
    log = logger(config.log)
    left = handover.inherit(log) or keep.inherit(log)
    try:
        # Where there is a systemd, tmpfiles.d has made the directory.
        if left is None and config.socket == DEFAULT_SOCKET:
            Path(DEFAULT_SOCKET).parent.mkdir(mode=0o755, exist_ok=True)
        uvloop.run(_serve(source, loaded, left, log))
    except (VethdError, AlreadyRunning, UnsafeDirectory, OSError) as error:
        print(f"vethd: {_reason(error, config)}", file=sys.stderr)
        sys.exit(1)


def _check_takeover(version: int) -> int:
    """Say whether this program could take over from one whose state is of a version; the exit status."""
    import vethd.daemon.supervisor  # noqa: F401 - whether it can be
    from vethd.daemon.state import READABLE

    if version in READABLE:
        return 0
    known = ", ".join(map(str, sorted(READABLE)))
    print(f"vethd: state of version {version} is not understood, only of {known}", file=sys.stderr)
    return 2


def _check_config(path: Path | None) -> int:
    """Say everything that is wrong with the configuration; the exit status."""
    from vethd.configfiles import ConfigError, load

    try:
        loaded = load(path)
    except ConfigError as error:
        print(error)
        return 2
    for file in loaded.files:
        print(f"{file}: ok")
    return 0


def _reason(error: Exception, config: Config) -> str:
    """Why the daemon did not start, and what to do about it, in one line."""
    if not isinstance(error, OSError):
        hint = getattr(error, "hint", None)
        return f"{error} ({hint})" if hint else str(error)
    text = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
    if error.filename == config.socket:
        hint = _SOCKET_HINTS.get(error.errno or 0)
        return f"control socket {text}" + (f" ({hint})" if hint else "")
    if error.errno == errno.EPERM:
        return f"{text} (run it as root, or with CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_NET_BROADCAST)"
    return text


async def _serve(source: Source, loaded: Loaded, left: Inheritance | None, log: FilteringBoundLogger) -> None:
    from vethd.daemon.supervisor import Supervisor

    await Supervisor(loaded.config, log, source, loaded.files, left).run()


def parser() -> argparse.ArgumentParser:
    """The words of the command line."""
    words = argparse.ArgumentParser(prog="vethd", description="userspace veth: pairs of TAP devices joined by a wire")
    words.add_argument(
        "--config", type=Path, metavar="FILE", help="main configuration file (TOML); conf.d is beside it"
    )
    words.add_argument("--socket", metavar="PATH", help="control socket; has the last word before $VETHD_SOCKET")
    words.add_argument("--version", action="version", version=f"vethd {__version__}")
    words.add_argument(
        "--check-takeover",
        type=int,
        metavar="VERSION",
        help="say whether state of this version could be taken over from a running daemon, then exit",
    )
    commands = words.add_subparsers(dest="command", metavar="COMMAND", title="without it, vethd serves; else")
    doctor = commands.add_parser("doctor", help="say what this machine lacks, and what to do about it")
    doctor.add_argument("--json", action="store_true", help="the same for programs")
    check = commands.add_parser("check-config", help="say everything that is wrong with the configuration")
    check.add_argument("file", type=Path, nargs="?", metavar="FILE", help="main file, instead of that of --config")
    return words


def _raise_nofile() -> None:
    """Take as many file descriptors as allowed: each end is one, and each client."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
