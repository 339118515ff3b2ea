"""The vethd of a machine, as its administrator sees it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tests.kit.commands import Answer
from tests.kit.machine import Machine
from tests.kit.waiting import eventually

CONFIG = "/etc/vethd/conf.d/test.toml"
README = Path(__file__).parents[3] / "README.md"


def as_root() -> str:
    """The drop-in that README.md gives for a daemon run by root."""
    section = README.read_text().split("\n## As a service\n", 1)[1].split("\n## ", 1)[0]
    return section.split("```ini\n", 1)[1].split("```", 1)[0]


class Unit:
    """vethd.service in a machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.begin = time.time()

    def ctl(self, *words: str, check: bool = True) -> Answer:
        """Run `systemctl WORDS...`."""
        return self.machine.run("systemctl", *words, check=check, within=60)

    def vethctl(self, *words: str, check: bool = True) -> Answer:
        """Run `vethctl WORDS...`."""
        return self.machine.run("vethctl", *words, check=check)

    def call(self, method: str, **params: Any) -> Any:
        """Call a method over the control socket."""
        with self.machine.connect() as client:
            return client.call(method, params or None)

    def configure(self, text: str) -> None:
        """Write a configuration that is read behind the main file."""
        self.machine.write(CONFIG, text)

    @property
    def pid(self) -> int:
        """The supervisor, as it is numbered inside."""
        return int(self.machine.show("vethd.service", "MainPID"))

    @property
    def seq(self) -> int:
        """Number of the last event."""
        seq: int = self.call("daemon.info")["seq"]
        return seq

    @property
    def stored(self) -> int:
        """How many file descriptors systemd keeps for it."""
        return int(self.machine.show("vethd.service", "NFileDescriptorStore"))

    @property
    def state(self) -> str:
        return self.machine.show("vethd.service", "ActiveState")

    def until(self, state: str) -> None:
        """Wait for a state, such as `active`."""
        eventually(lambda: self.state, lambda now: now == state, f"it is {state}", within=30)

    def until_replaced(self, pid: int) -> int:
        """Wait until another process has taken the place of this one, and is ready; which."""
        eventually(lambda: self.pid, lambda now: now not in (0, pid), "it is started again", within=30)
        self.until("active")
        return self.pid

    def processes(self) -> list[int]:
        """All processes of the service."""
        group = "/sys/fs/cgroup/system.slice/vethd.service/cgroup.procs"
        if not self.machine.path(group).exists():
            return []
        return [int(pid) for pid in self.machine.run("cat", group).out.split()]  # as they are numbered inside

    def status(self, pid: int, field: str) -> str:
        """A line of /proc/PID/status."""
        for line in self.machine.path(f"/proc/{pid}/status").read_text().splitlines():
            name, _colon, value = line.partition(":")
            if name == field:
                return value.strip()
        raise KeyError(field)

    def journal(self, *matches: str) -> list[dict[str, Any]]:
        """What vethd has logged since this was made."""
        return self.machine.journal("_SYSTEMD_UNIT=vethd.service", *matches, since=self.begin)

    def links(self, netns: str | None = None) -> list[str]:
        """Names of the links in a namespace, but for lo."""
        enter = ["-n", netns] if netns else []
        listed = self.machine.run("ip", "-j", *enter, "link", "show").json()
        return [link["ifname"] for link in listed if link["ifname"] != "lo"]
