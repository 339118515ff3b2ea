"""A daemon as systemd runs it with User=: somebody without rights, but for three capabilities."""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.kit.daemon import Daemon

CHECKOUT: Final = Path(__file__).parents[2]
#: Nobody has this uid; the worker's user where the daemon runs as it.
USER: Final = 61010
CAPABILITIES: Final = ("net_admin", "sys_admin", "net_broadcast")


def as_user() -> list[str]:
    """A command that executes its arguments as USER with CAPABILITIES in every set, as AmbientCapabilities= does.

    In a mount namespace of its own, in which everybody may open /dev/net/tun, as udev has it, and reach the checkout.
    """
    given = ",".join(f"+{name}" for name in CAPABILITIES)
    return [
        *("unshare", "--mount", "--propagation", "slave", "sh", "-ec", _SCRIPT, "sh"),
        *("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs"),
        *(f"--bounding-set=-all,{given}", f"--inh-caps=-all,{given}", f"--ambient-caps={given}", "--"),
    ]


def _closed() -> Path | None:
    """The first directory on the way to the checkout that only its owner may pass; it may be the checkout itself."""
    way = (*reversed(CHECKOUT.parents), CHECKOUT)
    return next((each for each in way if not each.stat().st_mode & 0o001), None)


def _script() -> str:
    """Shell commands that open the way to the checkout and to /dev/net/tun."""
    lines = ["mount -t tmpfs vth /mnt", "mknod -m 666 /mnt/tun c 10 200", "mount --bind /mnt/tun /dev/net/tun"]
    if (closed := _closed()) is not None:
        checkout = shlex.quote(str(CHECKOUT))
        lines += ["mkdir -m 755 /mnt/open /mnt/checkout"]  # the upper one says who may pass
        lines += [f"mount -t overlay -o lowerdir=/mnt/open:{checkout} vth /mnt/checkout"]
        if closed != CHECKOUT:
            lines += [f"mount -t tmpfs -o mode=755 vth {shlex.quote(str(closed))}", f"mkdir -p {checkout}"]
        lines += [f"mount --bind /mnt/checkout {checkout}"]
    return "; ".join([*lines, 'exec "$@"'])


_SCRIPT: Final = _script()


@contextmanager
def unprivileged_daemon(**keywords: Any) -> Iterator[Daemon]:
    """A daemon of USER, in a directory that it owns; checked and stopped after the body."""
    with tempfile.TemporaryDirectory(prefix="vth", dir="/run") as name:
        workdir = Path(name)
        os.chown(workdir, USER, USER)
        workdir.chmod(0o755)
        daemon = Daemon(workdir, prefix=as_user(), **keywords)
        daemon.start()
        try:
            yield daemon
            daemon.check_books()
            daemon.clear()
            daemon.check_fds()
        finally:
            if daemon.running:
                daemon.stop()
        daemon.check_log()
