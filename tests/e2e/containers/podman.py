"""podman with CNI networks: its configuration, its commands, and what it left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.kit.commands import Answer
from tests.kit.containers import Container, serving
from tests.kit.host import ContainerHost
from tests.kit.waiting import eventually

SAMPLES = Path(__file__).parents[3] / "config/cni"
# Machines without CAP_SYS_RESOURCE can't have the limits that podman asks for; and without systemd it needs cgroupfs.
CONTAINERS_CONF = """
[network]
network_backend = "cni"
cni_plugin_dirs = ["/usr/local/bin", "/usr/lib/cni"]
network_config_dir = "{at}/net.d"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "{at}/tmp"
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
"""
STORAGE_CONF = """
[storage]
driver = "vfs"
graphroot = "{at}/storage"
runroot = "{at}/run"
"""
# It keeps its cgroups for other containers.
CLEAR_CGROUPS = """
find /sys/fs/cgroup -depth -type d -path '*/libpod_parent*' -exec rmdir {} + 2>/dev/null
find /sys/fs/cgroup -type d -name libpod_parent
"""


class Podman:
    """podman on a host, with the networks of config/cni.

    leases: where addresses are kept that are given out. Its storage is a directory of the test's own.
    """

    def __init__(self, host: ContainerHost, at: Path, rootfs: Path) -> None:
        self.host = host
        self.rootfs = rootfs
        self.leases = at / "leases"
        self._at = at
        self._env = {
            "CONTAINERS_CONF": str(at / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(at / "storage.conf"),
            "TMPDIR": str(at),
        }
        (at / "net.d").mkdir()
        (at / "containers.conf").write_text(CONTAINERS_CONF.format(at=at))
        (at / "storage.conf").write_text(STORAGE_CONF.format(at=at))
        for sample in SAMPLES.glob("*.conflist"):
            self.write_network(json.loads(sample.read_text()))

    def write_network(self, network: dict[str, Any], *behind: str) -> None:
        """Let there be a network, without the plugins that come behind vethd's unless they are named."""
        own, *others = network["plugins"]
        own["ipam"]["dataDir"] = str(self.leases)
        network["plugins"] = [own, *(each for each in others if each["type"] in behind)]
        (self._at / "net.d" / f"{network['name']}.conflist").write_text(json.dumps(network))

    def __call__(self, *words: str, check: bool = True) -> Answer:
        """Run `podman WORDS...`."""
        return self.host.run("podman", *words, check=check, within=60, env=self._env)

    def start(self, *options: str, network: str = "vethd", pod: str | None = None) -> Container:
        """Run a container that serves a body, in a network or in a pod."""
        name = self.host.name()
        where = ("--pod", pod) if pod else ("--network", network)
        self.host.launch(
            *("podman", "run", "--detach", "--name", name, *where, "--cap-add", "NET_RAW", *options),
            *("--rootfs", str(self.rootfs), *serving(name)),
            log=self._at / f"{name}.log",
            env=self._env,
        )
        return self.look(name)

    def look(self, name: str) -> Container:
        """A container as it is now, with the addresses that podman knows of it."""
        (found,) = self("inspect", name).json()
        addresses = []
        for network in found["NetworkSettings"]["Networks"].values():
            addresses += [network[key] for key in ("IPAddress", "GlobalIPv6Address") if network[key]]
        return Container(self.host, found["State"]["Pid"], name, tuple(addresses))

    def leased(self) -> list[str]:
        """Addresses that are taken."""
        return sorted(path.name for path in self.leases.glob("*/*") if path.name[0] in "1f" and path.is_file())


@contextmanager
def podman_on(host: ContainerHost, rootfs: Path) -> Iterator[Podman]:
    """podman, whose containers, and the bridges of their networks, are taken away behind the body of the block."""
    with TemporaryDirectory(prefix="vtp", dir="/tmp") as at:  # a short path: conmon has sockets there
        podman = Podman(host, Path(at), rootfs)
        try:
            yield podman
        finally:
            podman("rm", "--all", "--force", "--time", "0", check=False)
            podman("pod", "rm", "--all", "--force", "--time", "0", check=False)
            for link in host.run("ip", "-j", "link", "show", "type", "bridge").json():
                host.run("ip", "link", "del", link["ifname"])
            eventually(lambda: host.run("sh", "-c", CLEAR_CGROUPS).out, lambda left: left == "", "conmon has ended", 20)
        assert podman.leased() == []
