"""What people take instead: programs that join two TAP devices, each run as its manual says is the direct way.

    vde_plug   VDE: one process with two plugs, `vde_plug tap://A tap://B` (vde_plug(1)); faster here than a vde_switch
               with two TAPs, which also learns addresses
    socat      one process, two addresses of type TUN with `tun-type=tap` (socat(1))
    ovs        Open vSwitch's userspace datapath (`datapath_type=netdev`) with two ports of type `tap`, on a database
               and sockets of its own; an Open vSwitch that runs on this machine is not touched

The program runs in the namespace of A and makes both TAPs there; B's is then moved. They are up with carrier off first:
a frame that is written to a TAP that is down is an error, at which socat ends.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from benchmarks.generators import BenchmarkError, call
from benchmarks.topology import DeviceLink, End, Link, address, namespaces

START_SECONDS: Final = 10.0
STOP_SECONDS: Final = 5.0
SCHEMA: Final = Path("/usr/share/openvswitch/vswitch.ovsschema")

#: Starts the program in the namespace of its first end, with the files in the directory; yields the pids that carry it.
Cable: TypeAlias = Callable[[End, End, Path], AbstractContextManager[list[int]]]


@dataclass(frozen=True)
class Program:
    """What has to be installed: `commands` on the path, from the Debian package `package`."""

    commands: tuple[str, ...]
    package: str

    def missing(self) -> str | None:
        """Why it cannot run and how to install it, or None when it can."""
        absent = [command for command in self.commands if shutil.which(command) is None]
        return f"{', '.join(absent)} not installed: apt-get install {self.package}" if absent else None

    def version(self) -> str:
        """Package and version. Not asked of the program itself: vde_plug does not tell."""
        query = ("dpkg-query", "-W", "-f", "${Package} ${Version}", self.package)
        return call(*query) if shutil.which("dpkg-query") else f"{self.package}, version unknown"


@contextmanager
def tap_cable(index: int, directory: Path, *, name: str, program: Program, cable: Cable) -> Iterator[Link]:
    """Two fresh namespaces joined by `cable`, which runs `program`; `name` stands in the table."""
    if missing := program.missing():
        raise BenchmarkError(missing)
    with ExitStack() as stack:
        a, b = stack.enter_context(namespaces(index))
        pids = stack.enter_context(cable(a, b, directory))
        _join(a, b)
        address(a, b)
        yield DeviceLink(name, program.version(), a, b, pids)


@contextmanager
def vde_plug(a: End, b: End, directory: Path) -> Iterator[list[int]]:
    """One vde_plug between two TAPs."""
    with _process(a, directory, "vde_plug", f"tap://{a.netns}", f"tap://{b.netns}") as pid:
        yield [pid]


@contextmanager
def socat(a: End, b: End, directory: Path) -> Iterator[list[int]]:
    """One socat between two TAPs."""
    ends = (f"TUN,tun-name={end.netns},tun-type=tap,iff-no-pi" for end in (a, b))
    with _process(a, directory, "socat", *ends) as pid:
        yield [pid]


@contextmanager
def ovs(a: End, b: End, directory: Path) -> Iterator[list[int]]:
    """A database, a switch of its own, and in it one bridge with two TAPs and the default flow, NORMAL."""
    database, remote = str(directory / "conf.db"), f"unix:{directory}/db.sock"
    call("ovsdb-tool", "create", database, str(SCHEMA))
    server = ("ovsdb-server", database, f"--remote=p{remote}", f"--unixctl={directory}/ovsdb.ctl")
    switch = ("ovs-vswitchd", remote, f"--unixctl={directory}/vswitchd.ctl")
    vsctl = ("ovs-vsctl", f"--db={remote}", f"--timeout={START_SECONDS:.0f}")
    with ExitStack() as stack:
        server_pid = stack.enter_context(_process(a, directory, *server))
        call(*vsctl, "--retry", "--no-wait", "init")
        switch_pid = stack.enter_context(_process(a, directory, *switch))
        ports = ("--", "add-port", "br0", a.netns, "--", "add-port", "br0", b.netns)
        kinds = ("--", "set", "interface", a.netns, "type=tap", "--", "set", "interface", b.netns, "type=tap")
        call(*vsctl, "add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev", *ports, *kinds)
        yield [switch_pid, server_pid]


def _join(a: End, b: End) -> None:
    """Move the TAP of `b` from the namespace of `a`, where both appear, into its own; then both up with carrier."""
    deadline = time.monotonic() + START_SECONDS
    for end in (a, b):
        while not _exists(end, within=a):
            if time.monotonic() > deadline:
                raise BenchmarkError(f"no TAP device {end.netns} within {START_SECONDS:.0f} s")
            time.sleep(0.02)
        call("ip", "-n", a.netns, "link", "set", end.netns, "carrier", "off")
    call("ip", "-n", a.netns, "link", "set", b.netns, "netns", b.netns)
    for state in (("up",), ("carrier", "on")):
        for end in (a, b):
            call("ip", "-n", end.netns, "link", "set", end.netns, *state)


def _exists(end: End, within: End) -> bool:
    """Whether the namespace of `within` holds the device of `end`."""
    command = ("ip", "-n", within.netns, "link", "show", end.netns)
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextmanager
def _process(where: End, directory: Path, *command: str) -> Iterator[int]:
    """`command` in the namespace of `where`, with its sockets and log in `directory`; ended by its pid."""
    log = directory / f"{command[0]}.log"
    ours = {variable: str(directory) for variable in ("OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR")}
    with log.open("wb") as sink:
        # A session of its own: Ctrl-C must reach the benchmark only, which then takes the link down in order.
        process = subprocess.Popen(
            ("ip", "netns", "exec", where.netns, *command),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | ours,
        )
    try:
        yield process.pid  # `ip netns exec` became the command
    except BenchmarkError as error:
        if process.poll() is None:
            raise
        last_words = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
        raise BenchmarkError(f"{error}\n{command[0]} ended, status {process.returncode}: {last_words}") from error
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
