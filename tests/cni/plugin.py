"""Running `vethd-cni` as a runtime does: in the host's namespace, with CNI_* variables and nothing else."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.kit.daemon import PROGRAMS
from tests.kit.netns import RUN_NETNS

PROGRAM = PROGRAMS / "vethd-cni"
#: Where Debian puts the plugins of containernetworking-plugins.
STOCK = Path("/usr/lib/cni")


@dataclass(frozen=True)
class Said:
    """What the plugin said: exit status, standard output decoded (None when empty), standard error."""

    status: int
    document: Any
    err: str

    @property
    def code(self) -> int:
        """The number of the error, 0 for success."""
        return 0 if self.status == 0 else int(self.document["code"])

    @property
    def msg(self) -> str:
        """The words of the error."""
        return str(self.document["msg"])


def call(
    command: str | None,
    stdin: str | bytes = "",
    environment: Mapping[str, str] | None = None,
    host: str | None = None,
    program: Path = PROGRAM,
) -> Said:
    """Run the plugin in the namespace `host` (None: ours) with these variables alone, and return what it said."""
    started = start(command, environment, host, program)
    return finish(started, stdin)


def start(
    command: str | None,
    environment: Mapping[str, str] | None = None,
    host: str | None = None,
    program: Path = PROGRAM,
) -> subprocess.Popen[bytes]:
    """Start the plugin; `finish` gives it its input."""
    enter = ["/usr/bin/nsenter", f"--net={RUN_NETNS / host}", "--"] if host else []
    variables = {} if command is None else {"CNI_COMMAND": command}
    return subprocess.Popen(
        [*enter, str(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=variables | dict(environment or {}),
    )


def finish(started: subprocess.Popen[bytes], stdin: str | bytes) -> Said:
    """What the plugin says to this input."""
    out, err = started.communicate(stdin.encode() if isinstance(stdin, str) else stdin, timeout=60)
    document = json.loads(out) if out.strip() else None
    said = Said(started.returncode, document, err.decode())
    assert "Traceback" not in said.err, said.err
    return said


@dataclass
class Runtime:
    """A container runtime: one network, of which it knows the configuration and every result.

    host: the namespace that plays the host. socket: of the daemon. fields: of the network's configuration.
    """

    host: str
    socket: Path
    fields: dict[str, Any]
    path: Sequence[Path] = (STOCK,)
    program: Path = PROGRAM
    results: dict[tuple[str, str], Any] = field(default_factory=dict)

    def config(self, **more: Any) -> str:
        """The configuration that the plugin reads."""
        return json.dumps({"type": "vethd-cni", "socket": str(self.socket)} | self.fields | more)

    def environment(self, container: str, netns: str | None, ifname: str, args: str = "") -> dict[str, str]:
        """The variables of a call about an attachment. netns: its name, or "" or a path as it is."""
        place = str(RUN_NETNS / netns) if netns and "/" not in netns else netns
        said = {"CNI_CONTAINERID": container, "CNI_NETNS": place, "CNI_IFNAME": ifname, "CNI_ARGS": args}
        return {name: value for name, value in said.items() if value} | {"CNI_PATH": ":".join(map(str, self.path))}

    def add(self, container: str, netns: str, ifname: str = "eth0", args: str = "", **more: Any) -> Said:
        """ADD."""
        said = call(
            "ADD", self.config(**more), self.environment(container, netns, ifname, args), self.host, self.program
        )
        if said.status == 0:
            self.results[container, ifname] = said.document
        return said

    def remove(self, container: str, netns: str | None = None, ifname: str = "eth0", **more: Any) -> Said:
        """DEL, with the result of ADD where there was one."""
        previous = {"prevResult": self.results[container, ifname]} if (container, ifname) in self.results else {}
        config = self.config(**previous | more)
        return call("DEL", config, self.environment(container, netns, ifname), self.host, self.program)

    def check(self, container: str, netns: str, ifname: str = "eth0", **more: Any) -> Said:
        """CHECK, with the result of ADD."""
        config = self.config(**{"prevResult": self.results[container, ifname]} | more)
        return call("CHECK", config, self.environment(container, netns, ifname), self.host, self.program)

    def collect(self, valid: Sequence[tuple[str, str]], **more: Any) -> Said:
        """GC."""
        stay = [{"containerID": container, "ifname": ifname} for container, ifname in valid]
        config = self.config(**{"cni.dev/valid-attachments": stay} | more)
        return call("GC", config, {"CNI_PATH": ":".join(map(str, self.path))}, self.host, self.program)

    def status(self, **more: Any) -> Said:
        """STATUS."""
        path = {"CNI_PATH": ":".join(map(str, self.path))}
        return call("STATUS", self.config(**more), path, self.host, self.program)
