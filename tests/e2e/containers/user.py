"""Somebody on the host who is not root."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.kit.commands import Answer
from tests.kit.containers import make_rootfs
from tests.kit.host import ContainerHost

NAME, UID = "alice", 61011
HOME = "/run/alice"
GROUP, GID = "vethd", 61012
CONFIG = Path(__file__).parents[3] / "config"
CONTAINERS_CONF = """\
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
"""


class User:
    """A user with a home, a root file system in it, and subordinate ids; in the group vethd, if that is wanted."""

    def __init__(self, host: ContainerHost, *, member: bool) -> None:
        self._host = host
        self._groups = f"--groups={GID}" if member else "--clear-groups"
        self.env = {"HOME": HOME, "USER": NAME, "XDG_RUNTIME_DIR": f"{HOME}/run", "PATH": os.environ["PATH"]}

    def run(self, commands: str, check: bool = True, prefix: tuple[str, ...] = ()) -> Answer:
        """Run shell commands at home. prefix: a command that executes its arguments."""
        return self._host.run(*self._as_user(commands, prefix), env=self.env, check=check)

    def launch(self, commands: str, check: bool = True, prefix: tuple[str, ...] = ()) -> None:
        """The same for commands that leave processes behind."""
        log = self._host.path(f"{HOME}/log")
        self._host.launch(*self._as_user(commands, prefix), env=self.env, check=check, log=Path(f"{HOME}/{log.name}"))

    def _as_user(self, commands: str, prefix: tuple[str, ...]) -> list[str]:
        user = ("setpriv", f"--reuid={UID}", f"--regid={UID}", self._groups, "--")
        return [*user, *prefix, "sh", "-c", f"set -eu; cd {HOME}; {commands}"]


@contextmanager
def user(host: ContainerHost, word: str, *, member: bool = False) -> Iterator[User]:
    """Make one; whatever is left of him is taken away."""
    etc = {
        "passwd": f"{Path('/etc/passwd').read_text()}{NAME}:x:{UID}:{UID}::{HOME}:/bin/sh\n",
        "group": f"{Path('/etc/group').read_text()}{GROUP}:x:{GID}:{NAME if member else ''}\n",
        "subuid": f"{NAME}:200000:65536\n",
        "subgid": f"{NAME}:200000:65536\n",
    }
    home = host.path(HOME)
    for directory in ("etc", "run", ".config/containers"):
        (home / directory).mkdir(parents=True)
    make_rootfs(home / "rootfs", word)
    (home / "config").symlink_to(CONFIG)
    (home / ".config/containers/containers.conf").write_text(CONTAINERS_CONF)
    (home / ".config/containers/storage.conf").write_text('[storage]\ndriver = "vfs"\n')
    for name, text in etc.items():
        (home / "etc" / name).write_text(text)
    host.run("chown", "-R", "-h", f"{UID}:{UID}", HOME)
    mounted = []
    try:
        for name in etc:
            host.run("touch", f"/etc/{name}")
            host.run("mount", "--bind", f"{HOME}/etc/{name}", f"/etc/{name}")
            mounted.append(f"/etc/{name}")
        yield User(host, member=member)
    finally:
        host.run("pkill", "-KILL", "-u", str(UID), check=False)  # podman keeps a process for the namespaces of a user
        host.run("sh", "-c", f"while pgrep -u {UID}; do sleep 0.01; done")
        host.run("umount", "--lazy", *mounted)
        host.run("rm", "-rf", HOME)


@contextmanager
def tun(host: ContainerHost, mode: str) -> Iterator[None]:
    """While the body runs, /dev/net/tun has this mode."""
    host.run("mknod", "-m", mode, "/run/tun", "c", "10", "200")
    host.run("mount", "--bind", "/run/tun", "/dev/net/tun")
    try:
        yield
    finally:
        host.run("umount", "--lazy", "/dev/net/tun")
        host.run("rm", "/run/tun")
