"""A machine for containers: fresh mount, process, network, IPC, host name and cgroup namespaces, and a vethd in them.

It has its own /run, /var/lib/cni, /var/lib/containers and /sys, its process 1 takes in orphans, and what it has can be
listed: so a test can tell that nothing is left. It ends with the tests, also when these are killed.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
from pathlib import Path

from tests.kit.commands import Answer, require_root, run
from tests.kit.daemon import PROGRAMS, Daemon
from tests.kit.processes import status_field
from tests.kit.waiting import eventually, settled

BOOT = Path(__file__).with_suffix(".sh")
NAMESPACES = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup")
#: What programs find there, whatever the tests were started with; the speed that is tested is theirs, too.
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    **{name: value for name, value in os.environ.items() if name.startswith("VETHD_") and name != "VETHD_SOCKET"},
}
#: Where podman leaves something mounted with its first container.
PODMAN_KEEPS = "/var/lib/containers/storage/overlay"


class ContainerHost:
    """One such machine. `start` makes it, `close` ends everything in it.

    workdir: a directory of its own, seen from inside under the same name. cut: whether its vethd drops every frame.
    services: programs that a test may start anew; the inventory has them without their pids.
    id: tells it from others that run at the same time, elsewhere.
    """

    def __init__(self, workdir: Path) -> None:
        require_root()
        self.workdir = workdir
        self.socket_directory = workdir / "vethd"
        self.daemon = HostDaemon(self)
        self.cut = False
        self.services: set[str] = set()
        self.init = 0
        self._mounted: set[tuple[str, str]] = set()
        self.id = os.urandom(4).hex()
        self._cgroups = [root / f"vethd-host-{self.id}" for root in _cgroup_roots()]
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)

    # -- life ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Make it, and start vethd in it at the usual socket."""
        self.socket_directory.mkdir()
        (self.workdir / "bin").mkdir()
        for program in PROGRAMS.glob("vethd*"):  # where `make install` puts them
            (self.workdir / "bin" / program.name).symlink_to(program)
        (self.workdir / "bin/vethctl").symlink_to(PROGRAMS / "vethctl")
        for cgroup in self._cgroups:
            cgroup.mkdir()
            for name in ("cpuset.cpus", "cpuset.mems"):  # one of version 1 has none, and takes no process
                if (cgroup.parent / name).exists() and not (cgroup / name).read_text().strip():
                    (cgroup / name).write_text((cgroup.parent / name).read_text())
        controllers = [cgroup.parent.name for cgroup in self._cgroups if cgroup.parent != Path("/sys/fs/cgroup")]
        with (self.workdir / "console").open("wb") as console:
            self._process = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "KILL", "--", *self._joined()),
                    *("unshare", *NAMESPACES, "--fork", "--kill-child=KILL", "--mount-proc"),
                    *("sh", str(BOOT), str(self.workdir), *controllers),
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env=ENVIRONMENT,
                start_new_session=True,
            )
        self.init = eventually(self._find_init, bool, "the machine is made", within=20)
        self._mounted = self._mounts()  # much of it is others', and comes and goes
        self.daemon.start()

    def _find_init(self) -> int:
        assert self._process is not None
        assert self._process.poll() is None, (self.workdir / "console").read_text()
        pid = self._process.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            if Path(f"/proc/{child}/root/run/booted").exists():
                return int(child)
        return 0

    def close(self) -> None:
        """End everything in it at once; nothing of it is left."""
        if self._process is not None:
            if self.init:
                os.kill(self.init, signal.SIGKILL)  # and with it its whole process namespace
            self._process.kill()
            self._process.wait()
            self._process = None
            self.daemon.forget()
        for cgroup in self._cgroups:
            eventually(lambda at=cgroup: _removed(at), bool, f"{cgroup} is empty", within=20)  # type: ignore[misc]

    # -- what goes on inside --------------------------------------------------------------------------------------

    def enter(self, *argv: str) -> list[str]:
        """The command that runs another one inside."""
        return [*self._joined(), "nsenter", f"--target={self.init}", "-m", "-u", "-i", "-n", "-p", "-C", "--", *argv]

    def _joined(self) -> list[str]:
        """The beginning of a command that runs in its cgroups."""
        join = "".join(f"echo $$ >{cgroup}/cgroup.procs; " for cgroup in self._cgroups)
        return ["sh", "-ec", join + 'exec "$@"', "sh"]

    def run(
        self,
        *argv: str,
        check: bool = True,
        within: float = 30.0,
        given: str | None = None,
        env: dict[str, str] | None = None,
    ) -> Answer:
        """Run a command inside, as root, with a short environment; env: more of it."""
        variables = [f"{name}={value}" for name, value in (ENVIRONMENT | (env or {})).items()]
        return run(*self.enter("env", "-i", *variables, *argv), check=check, within=within, given=given)

    def launch(self, *argv: str, log: Path, env: dict[str, str] | None = None, check: bool = True) -> None:
        """Run a command inside that ends and leaves a process, which goes on writing to a file; see `run`."""
        try:
            self.run("sh", "-c", f'exec "$@" </dev/null >>{log} 2>&1', "sh", *argv, env=env, check=check)
        except AssertionError as error:
            error.add_note(log.read_text())
            raise

    def spawn(self, *argv: str, log: Path, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a command that goes on running, such as dockerd; it writes to a file, and ends with the tests."""
        with log.open("ab") as output:
            return subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *self.enter(*argv)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=ENVIRONMENT | (env or {}),
            )

    def need(self, *programs: str) -> None:
        """Fail unless these are installed."""
        missing = [name for name in programs if not self.run("sh", "-c", f"command -v {name}", check=False).ok]
        assert not missing, f"not installed: {', '.join(missing)}; `make setup` installs what the tests need"

    def path(self, inside: str) -> Path:
        """A path of its, seen from here."""
        return Path(f"/proc/{self.init}/root") / inside.removeprefix("/")

    def name(self, kind: str = "c") -> str:
        """A name that no other container, namespace or device of its has; at most 15 bytes."""
        return f"{kind}{next(self._numbers)}"

    def cut_wire(self, cut: bool) -> None:
        """Let vethd drop every frame, or none, and let nobody wait for an answer any longer."""
        self.drop_all(cut)
        self.cut = cut

    def drop_all(self, drop: bool) -> None:
        """Let vethd drop every frame, or none."""
        self.daemon.call("sysctl.set", {"values": {"netdev_max_backlog": 0 if drop else 1000}})

    # -- what it has ----------------------------------------------------------------------------------------------

    def inventory(self) -> dict[str, list[str]]:
        """All that a container could leave behind, but for empty cgroups: each kind with its things, sorted."""
        links = self.run("ip", "-j", "address").json()
        rules = self.run("nft", "list", "ruleset").out
        return {
            "pairs": sorted(pair["pair"] for pair in self.daemon.pairs()) if self.daemon.running else [],
            "links": sorted(f"{link['ifname']} of {link.get('master')}" for link in links),
            "addresses": sorted(f"{at['local']} {link['ifname']}" for link in links for at in link["addr_info"]),
            "routes": sorted(
                line
                for family_option in ("-4", "-6")
                for line in self.run("ip", family_option, "route", "show", "table", "all").out.splitlines()
            ),
            "rules": sorted(re.sub(r"counter packets \d+ bytes \d+", "counter", rules).splitlines()),
            "namespaces": sorted(entry.name for entry in self.path("/run/netns").iterdir()),
            "mounts": sorted(where for _number, where in self._mounts() - self._mounted if where != PODMAN_KEEPS),
            "leases": sorted(
                str(path)
                for state in ("cni", "vethd")
                for path in self.path(f"/var/lib/{state}").rglob("*")
                if path.is_file()
            ),
            "processes": sorted(
                name if name in self.services else f"{pid} {name}" for pid, name in self.processes().items()
            ),
        }

    def processes(self) -> dict[int, str]:
        """Processes inside, by number, with what they are called; but for those of vethd."""
        family = {_inner_pid(process.pid) for process in self.daemon.family()}
        return {pid: name for pid, name in _processes(self.path("/proc")).items() if pid not in family}

    def _mounts(self) -> set[tuple[str, str]]:
        """What is mounted: number, and where."""
        lines = Path(f"/proc/{self.init}/mountinfo").read_text().splitlines()
        return {(number, where) for number, _parent, _device, _root, where, *_rest in map(str.split, lines)}

    def check_nothing_left(self, before: dict[str, list[str]], within: float = 5.0) -> None:
        """Insist that it has nothing more than it had before, and nothing less."""
        after = settled(self.inventory, lambda now: now == before, within)
        wrong = [
            f"{kind}: {word} {thing}"
            for kind in before
            for word, things in (
                ("left", set(after[kind]) - set(before[kind])),
                ("gone", set(before[kind]) - set(after[kind])),
            )
            for thing in sorted(things)
        ]
        assert after == before, "\n".join(["the machine is not as it was before:", *wrong])


class HostDaemon(Daemon):
    """The vethd of such a machine, at /run/vethd/control.sock inside."""

    def __init__(self, host: ContainerHost) -> None:
        super().__init__(host.socket_directory)
        self._host = host
        self.env = dict(ENVIRONMENT)

    def start(self, within: float = 20.0) -> None:
        """Start it inside; see Daemon.start."""
        self.prefix = self._host.enter()
        super().start(within)

    @property
    def pid(self) -> int:
        """The pid of the supervisor, as it is numbered here: nsenter waits for it."""
        pid = super().pid
        (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(child)

    def ctl(self, *words: str, check: bool = True, netns: str | None = None) -> Answer:
        """Run `vethctl WORDS...` inside, in a namespace of its if one is given."""
        enter = ["ip", "netns", "exec", netns] if netns else []
        return self._host.run(*enter, "vethctl", *words, check=check)

    def forget(self) -> None:
        """Its machine has ended, and it with it."""
        if self._process is not None:
            self._forget()


def _cgroup_roots() -> list[Path]:
    """The cgroup hierarchies: those of version 1, or where there is none the one of version 2."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    old = [Path(where) for where, kind in mounts if kind == "cgroup"]
    return old or [Path(where) for where, kind in mounts if kind == "cgroup2"]


def _removed(cgroup: Path) -> bool:
    """Remove an own cgroup and those below; False while there is a process in one."""
    try:
        for group, _groups, _files in os.walk(cgroup, topdown=False):
            os.rmdir(group)
    except OSError:
        return not cgroup.exists()
    return True


def _inner_pid(pid: int) -> int | None:
    """How a process of ours is numbered in its own namespace, None when it has ended."""
    try:
        return int(status_field(pid, "NSpid").split()[-1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def _processes(proc: Path) -> dict[int, str]:
    """Processes by number, with what they are called; not zombies, nor those of a command that looks."""
    found: dict[int, str] = {}
    for entry in proc.iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            found[int(entry.name)] = text[text.index("(") + 1 : text.rindex(")")]
    return found
