"""Every runtime, as docs/containers.md says: two containers, what they tell each other, and the end of both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.e2e.containers.guide import for_the_other, sections
from tests.kit.containers import Container, make_rootfs, talk_by_vethd
from tests.kit.host import ContainerHost
from tests.kit.waiting import eventually

GUIDE = sections()
#: First words of sections, and the programs that they are about.
PROGRAMS = {"lxc": "lxc-start", "containerd": "ctr"}
CASES = [(chapter, section) for chapter, found in GUIDE.items() if found[""] for section in found if section]
WORD = "rootfs"
#: podman asks for limits that only CAP_SYS_RESOURCE may raise, and for a systemd that manages cgroups.
CONTAINERS_CONF = """\
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
"""
CONTAINERD_CONF = """\
version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri"]
"""


class Page:
    """The host as somebody uses it who reads the page."""

    def __init__(self, host: ContainerHost, directory: Path) -> None:
        self._host = host
        self._directory = directory
        make_rootfs(directory / "rootfs", WORD)
        (directory / "config").symlink_to(Path(__file__).parents[3] / "config")
        (directory / "containers.conf").write_text(CONTAINERS_CONF)

    def do(self, commands: str, check: bool = True) -> None:
        """Run a block of commands."""
        script = f"set -eu; cd {self._directory}; {commands}"
        env = {"CONTAINERS_CONF": f"{self._directory}/containers.conf"}
        self._host.launch("sh", "-c", script, log=self._directory / "log", env=env, check=check)

    def start(self, commands: str, address: str) -> Container:
        """Run a block that starts a container with this address."""
        before = self._servers()
        self.do(commands)
        (pid,) = eventually(lambda: self._servers() - before, lambda new: len(new) == 1, "the container runs", 20)
        return Container(self._host, pid, WORD, (address,))

    def _servers(self) -> set[int]:
        return {pid for pid, name in self._host.processes().items() if name == "httpd"}

    @contextmanager
    def containerd(self) -> Iterator[None]:
        """The body runs while containerd does."""
        config = self._directory / "containerd.toml"
        config.write_text(CONTAINERD_CONF)
        log = self._directory / "containerd.log"
        process = self._host.spawn("containerd", "--config", str(config), log=log)
        try:
            eventually(lambda: self._host.run("ctr", "version", check=False).ok, bool, "containerd answers", 20)
            yield
        finally:
            self._host.run("pkill", "-x", "containerd")
            process.wait(20)


@pytest.mark.parametrize(("chapter", "section"), CASES, ids=[section for _chapter, section in CASES])
def test_as_the_guide_says(whole_host: ContainerHost, tmp_path: Path, chapter: str, section: str) -> None:
    runtime = section.partition(":")[0]
    whole_host.need(PROGRAMS.get(runtime, runtime), "jq")
    page = Page(whole_host, tmp_path)
    prepare, clear = GUIDE[chapter][""]
    start, remove = GUIDE[chapter][section]
    with ExitStack() as stack:
        if section == "containerd":
            stack.enter_context(page.containerd())
        page.do(prepare)
        stack.callback(page.do, clear)
        stack.callback(page.do, remove, check=False)
        web = page.start(start, "10.88.0.1")
        stack.callback(page.do, for_the_other(remove), check=False)
        db = page.start(for_the_other(start), "10.88.0.2")
        talk_by_vethd(web, db)
        whole_host.run("kill", "-KILL", str(web.pid))
        page.do(for_the_other(remove))
