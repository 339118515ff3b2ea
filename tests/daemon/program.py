"""Running `vethd` without the fixtures and their checks: to its end, or as a process to be looked at from outside."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.kit.commands import Answer, run
from tests.kit.daemon import MANAGER_VARIABLES, PROGRAMS
from tests.kit.netns import fresh_name
from tests.kit.waiting import settled

MARK = "VETHD_TEST_MARK"


def vethd(*arguments: str | Path, prefix: Sequence[str] = (), within: float = 20.0, **variables: str) -> Answer:
    """Run `vethd ARGUMENTS...` to its end; no process that it started may be left then.

    prefix: a command that ends by executing its arguments. variables: of its environment.
    """
    mark = fresh_name("mark")
    command = _command(arguments, prefix, {MARK: mark, **variables})
    answer = run(*command, check=False, within=within)
    left = settled(lambda: marked(mark), lambda pids: not pids)
    assert not left, f"processes left behind: {left}\n{answer}"
    return answer


@contextmanager
def running(*arguments: str | Path, prefix: Sequence[str] = (), **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Run `vethd ARGUMENTS...` with its standard error in a pipe; it is killed if it has not ended by itself."""
    process = subprocess.Popen(
        _command(arguments, prefix, variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def _command(arguments: Sequence[str | Path], prefix: Sequence[str], variables: dict[str, str]) -> list[str]:
    unset = [word for name in MANAGER_VARIABLES for word in ("-u", name)]
    sets = [f"{name}={value}" for name, value in variables.items()]
    return ["env", *unset, *sets, *prefix, str(PROGRAMS / "vethd"), *map(str, arguments)]


def marked(mark: str) -> list[int]:
    """Processes whose environment has this mark; workers inherit the variables that begin with VETHD_."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                environment = Path(f"/proc/{entry}/environ").read_bytes()
            except OSError:  # it ended meanwhile
                continue
            if f"{MARK}={mark}".encode() in environment.split(b"\0"):
                found.append(int(entry))
    return found


def without_capability(*names: str) -> Sequence[str]:
    """A prefix that takes capabilities away, such as `net_admin`, for good."""
    dropped = ",".join(f"-{name}" for name in names)
    return ["setpriv", f"--bounding-set={dropped}", f"--inh-caps={dropped}", "--"]


def with_mount(script: str, *arguments: str | Path) -> Sequence[str]:
    """A prefix that runs a shell script, which mounts something for the program alone; its arguments are $1 and so on.

    Mounts that are made elsewhere, such as those of namespaces, still come and go.
    """
    count = len(arguments)
    whole = f'{script} && shift {count} && exec "$@"'
    return ["unshare", "--mount", "--propagation", "slave", "sh", "-ec", whole, "sh", *map(str, arguments)]


def without_worker_user(directory: Path) -> Sequence[str]:
    """A prefix under which root is the only user. directory: where to put what stands for files of /etc."""
    (directory / "passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (directory / "nsswitch").write_text("passwd: files\n")  # systemd's own would make up a nobody
    mounts = "mount --bind $1 /etc/passwd && mount --bind $2 /etc/nsswitch.conf"
    return with_mount(mounts, directory / "passwd", directory / "nsswitch")
