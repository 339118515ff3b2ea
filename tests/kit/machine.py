"""A machine with a systemd of its own: the one that is installed here, booted in fresh namespaces in half a second.

Its root is an overlay of this machine's, so programs and checkout are where they are here, and nothing that happens
inside can change them. It has its own processes, network, host name, /dev, /run and journal, and ends with the tests,
also when these are killed.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import uuid
from pathlib import Path
from typing import Any

from tests.kit.commands import Answer, require_root, run
from tests.kit.rpc import RpcClient
from tests.kit.waiting import eventually

BOOT = Path(__file__).parent / "boot.sh"
SYSTEMD = "/usr/lib/systemd/systemd"


class Machine:
    """One such machine; `close` takes it away.

    workdir: a directory for its root. trees: files that it has in addition, from the root down.
    """

    def __init__(self, workdir: Path, *trees: Path) -> None:
        require_root()
        self._workdir = workdir
        self._trees = trees
        # Not made of the pid: tests that share cgroups need not share pids.
        self._cgroup = _cgroups() / f"vethd-test-{uuid.uuid4()}"
        self._process: subprocess.Popen[bytes] | None = None
        self.init = 0

    # -- life ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Boot; returns when everything that is started at boot is."""
        self._cgroup.mkdir()
        namespaces = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--fork", "--kill-child=KILL")
        joined = f'echo $$ >{self._cgroup}/cgroup.procs && exec "$@"'  # its own root once there is a cgroup namespace
        with (self._workdir / "console").open("wb") as console:
            self._process = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "KILL", "--", "sh", "-c", joined, "sh"),
                    *("unshare", *namespaces, "sh", str(BOOT), str(self._root()), *map(str, self._trees)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        self.init = eventually(self._find_init, bool, "systemd runs", within=20)
        eventually((self.root / "run/systemd/private").exists, bool, "systemd answers", within=20)
        state = self.run("systemctl", "is-system-running", "--wait", check=False).out.strip()
        assert state == "running", f"{state}\n{self.run('systemctl', '--failed', check=False)}"
        self.run("ip", "link", "set", "lo", "up")

    def close(self) -> None:
        """End everything in it at once, and leave nothing."""
        if self._process is not None:
            if self.init:
                os.kill(self.init, signal.SIGKILL)  # and with it its whole pid namespace
            self._process.kill()
            self._process.wait()
            self._process = None
        eventually(self._remove_cgroup, bool, f"{self._cgroup} is empty", within=20)

    def _remove_cgroup(self) -> bool:
        try:
            for group, _groups, _files in os.walk(self._cgroup, topdown=False):
                os.rmdir(group)
        except OSError as error:
            if error.errno != errno.EBUSY:  # a process in it is not gone yet
                raise
            return False
        return True

    def _root(self) -> Path:
        root = self._workdir / "root"
        root.mkdir(exist_ok=True)
        return root

    def _find_init(self) -> int:
        assert self._process is not None
        assert self._process.poll() is None, (self._workdir / "console").read_text()
        pid = self._process.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            if os.readlink(f"/proc/{child}/exe") == SYSTEMD:
                return int(child)
        return 0

    # -- what goes on inside --------------------------------------------------------------------------------------

    @property
    def root(self) -> Path:
        """Its root directory, seen from here."""
        return Path(f"/proc/{self.init}/root")

    def path(self, inside: str) -> Path:
        """A path of its, seen from here."""
        return self.root / inside.removeprefix("/")

    def run(self, *argv: str, check: bool = True, within: float = 30.0) -> Answer:
        """Run a command inside."""
        return run("nsenter", "--target", str(self.init), "--all", "--wdns=/", "--", *argv, check=check, within=within)

    def write(self, inside: str, text: str) -> None:
        """Write a file, and the directories above it."""
        path = self.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def drop_in(self, unit: str, text: str, name: str = "test") -> None:
        """Let these lines have their say about a unit, too; none: no more."""
        inside = f"/etc/systemd/system/{unit}.d/{name}.conf"
        if text:
            self.write(inside, text)
        else:
            self.path(inside).unlink(missing_ok=True)
        self.run("systemctl", "daemon-reload")

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--property", name, "--value", unit).out.strip()

    def journal(self, *matches: str, since: float = 0) -> list[dict[str, Any]]:
        """Entries that match, such as `VETHD_PAIR=...`; a field that has several values is a list.

        since: seconds since the epoch.
        """
        self.run("journalctl", "--sync")
        answer = self.run("journalctl", "--quiet", "--all", "--output=json", f"--since=@{since:.6f}", *matches)
        return [json.loads(line) for line in answer.out.splitlines()]

    def connect(self) -> RpcClient:
        """A client at the control socket of the vethd in it."""
        return RpcClient(self.path("/run/vethd/control.sock"))


def _cgroups() -> Path:
    """Where cgroups of version 2 are mounted."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _device, where, kind, *_rest = line.split()
        if kind == "cgroup2":
            return Path(where)
    raise AssertionError("no cgroup2 is mounted: mount -t cgroup2 none /sys/fs/cgroup/unified")
