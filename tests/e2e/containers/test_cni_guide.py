"""Runtimes that attach containers by vethd-cni: the chapter of docs/containers.md, run as it stands."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.containers.cni import installed, leased, with_addresses
from tests.e2e.containers.guide import GUIDE, for_the_other, sections
from tests.e2e.containers.podman import CLEAR_CGROUPS, SAMPLES
from tests.e2e.containers.test_guide import CONTAINERS_CONF, Page
from tests.kit.containers import talk
from tests.kit.host import ContainerHost
from tests.kit.waiting import eventually

CHAPTER = sections()["Networks by CNI"]
NETWORK_CONF = """
[network]
network_backend = "cni"
cni_plugin_dirs = ["/opt/cni/bin", "/usr/lib/cni"]
"""


def test_the_sample_is_what_the_guide_shows() -> None:
    text = GUIDE.read_text().split("## Networks by CNI")[1].split("```json\n")[1].split("```")[0]
    assert json.loads(text) == json.loads((SAMPLES / "10-vethd.conflist").read_text())["plugins"][0]


def wait_until_deleted(host: ContainerHost, leases: Path) -> None:
    """Return when the plugin has taken away every container; the lease is the last to go."""
    eventually(host.daemon.pairs, lambda pairs: pairs == [], "the pairs are gone", 20)
    eventually(lambda: leased(leases), lambda left: left == [], "the addresses are free", 20)


@pytest.mark.parametrize("section", [name for name in CHAPTER if name])
def test_as_the_guide_says(host: ContainerHost, tmp_path: Path, section: str) -> None:
    start, remove = CHAPTER[section]
    with ExitStack() as stack:
        stack.enter_context(installed(host, tmp_path))
        page = Page(host, tmp_path)
        (tmp_path / "containers.conf").write_text(CONTAINERS_CONF + NETWORK_CONF)
        if section.startswith("containerd"):
            stack.enter_context(page.containerd())
        stack.callback(wait_until_deleted, host, tmp_path / "leases")
        stack.callback(page.do, "ip link del vethd0", check=False)
        stack.callback(page.do, remove, check=False)
        stack.callback(page.do, for_the_other(remove), check=False)
        web = with_addresses(page.start(start, ""))
        db = with_addresses(page.start(for_the_other(start), ""))
        talk(web, db)
        shown = host.daemon.ctl("link", "show").out
        assert "web" in shown
        host.run("kill", "-KILL", str(web.pid))
        page.do(remove, check=False)
        page.do(for_the_other(remove))
        wait_until_deleted(host, tmp_path / "leases")
    eventually(lambda: host.run("sh", "-c", CLEAR_CGROUPS).out, lambda left: left == "", "conmon has ended", 20)
