"""A dockerd and a vethd-docker on a machine for containers."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.kit.commands import Answer
from tests.kit.containers import Container, serving
from tests.kit.host import ContainerHost
from tests.kit.waiting import eventually

DOCKER = "/usr/bin/docker"  # Debian's, of dockerd's version; there may be another one in front of it
IMAGE = "app"
PAGE = "hello from the image\n"


class Docker:
    """dockerd, its containers, and the network driver. rootfs: what containers consist of."""

    def __init__(self, host: ContainerHost, rootfs: Path) -> None:
        self.host = host
        self._log = host.workdir / "dockerd.log"
        self._driver_log = host.workdir / "vethd-docker.log"
        self._dockerd: subprocess.Popen[bytes] | None = None
        self._driver: subprocess.Popen[bytes] | None = None
        host.services |= {"dockerd", "containerd", "vethd-docker"}
        self.start_driver()
        self.start()
        content = host.workdir / "image"
        shutil.copytree(rootfs, content, symlinks=True)
        (content / "srv/index.html").write_text(PAGE)
        host.run("sh", "-c", f"tar -C {content} -c . | {DOCKER} import - {IMAGE}")
        self.run("run", "--rm", "--network", "none", IMAGE, "true")  # what dockerd makes once and keeps

    def run(self, *words: str, check: bool = True) -> Answer:
        """Run `docker WORDS...`."""
        return self.host.run(DOCKER, *words, check=check, within=60)

    def log(self) -> str:
        """The ends of both logs."""
        return f"dockerd:\n{self._log.read_text()[-3000:]}\nvethd-docker:\n{self._driver_log.read_text()[-3000:]}"

    # -- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start dockerd; returns when it answers."""
        self._dockerd = self.host.spawn("dockerd", "--live-restore", "--storage-driver=overlay2", log=self._log)
        eventually(self._answers, bool, "dockerd answers", within=30)

    def _answers(self) -> bool:
        assert self._dockerd is not None
        assert self._dockerd.poll() is None, self._log.read_text()
        return self.host.path("/run/docker.sock").exists() and self.run("version", check=False).ok

    def restart(self) -> None:
        """Stop dockerd, and start another; containers run on."""
        self.stop()
        self.start()

    def stop(self) -> None:
        assert self._dockerd is not None
        self.host.run("sh", "-c", "kill $(cat /run/docker.pid)")
        self._dockerd.wait(30)

    def start_driver(self) -> None:
        """Start vethd-docker; returns when docker could use it."""
        self._driver = self.host.spawn("vethd-docker", log=self._driver_log)
        socket = self.host.path("/run/docker/plugins/vethd.sock")
        eventually(socket.exists, bool, "vethd-docker serves", within=30)

    def restart_driver(self) -> None:
        """Kill vethd-docker, and start another."""
        self.stop_driver("KILL")
        self.start_driver()

    def stop_driver(self, signal: str = "TERM") -> None:
        assert self._driver is not None
        (pid,) = self.host.run("pgrep", "-f", "bin/vethd-docker").out.split()
        self.host.run("kill", f"-{signal}", pid)
        self._driver.wait(30)

    def forget(self) -> None:
        """Its machine has ended, and it with it."""
        for process in (self._dockerd, self._driver):
            if process is not None:
                process.wait(30)

    # -- networks and containers ------------------------------------------------------------------------------------

    @contextmanager
    def network(self, *options: str) -> Iterator[str]:
        """Create a network; its name."""
        name = self.host.name("net")
        self.run("network", "create", "-d", "vethd", *options, name)
        try:
            yield name
        finally:
            self.run("network", "rm", name)

    @contextmanager
    def container(self, network: str, *options: str) -> Iterator[Container]:
        """Run a container that serves a body made of its name."""
        name = self.host.name()
        identity = self.run("run", "-d", "--name", name, "--network", network, *options, IMAGE, *serving(name)).out
        try:
            yield self.look(name)
        finally:
            self.run("rm", "-f", "-v", identity.strip(), check=False)

    def look(self, name: str, network: str | None = None) -> Container:
        """A container as it is now. network: whose addresses; None, those of its only one."""
        found = self.inspect(name)
        networks = found["NetworkSettings"]["Networks"]
        at = networks[network or next(iter(networks))]
        addresses = tuple(filter(None, (at["IPAddress"], at["GlobalIPv6Address"])))
        return Container(self.host, found["State"]["Pid"], name, addresses)

    def inspect(self, name: str) -> dict[str, Any]:
        (found,) = json.loads(self.run("inspect", name).out)
        assert isinstance(found, dict)
        return found
