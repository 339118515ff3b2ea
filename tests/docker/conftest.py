"""A vethd-docker for all tests that do not end it for good, and a namespace in which dockerd would be."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.docker.plugin import Dockerd, Plugin
from tests.kit.commands import in_netns, ip_json
from tests.kit.daemon import Daemon
from tests.kit.netns import Namespaces
from tests.kit.waiting import settled


@pytest.fixture(scope="package")
def _package_plugin(tmp_path_factory: pytest.TempPathFactory, _session_daemon: Daemon) -> Iterator[Plugin]:
    plugin = Plugin(tmp_path_factory.mktemp("plugin"), _session_daemon.socket)
    plugin.start()
    yield plugin
    plugin.close()


@pytest.fixture
def plugin(_package_plugin: Plugin, shared_daemon: Daemon) -> Plugin:
    """A client of the shared daemon."""
    assert _package_plugin.control == shared_daemon.socket
    return _package_plugin


@pytest.fixture
def dockerd(plugin: Plugin, shared_daemon: Daemon, netns: Namespaces) -> Iterator[Dockerd]:
    """Speaks to the plugin from a namespace of its own; when the test ends, nothing may be left of what it made."""
    dockerd = Dockerd(plugin, netns.make(ipv6=True))
    yield dockerd
    dockerd.close()
    assert nothing_left(dockerd) == []
    assert settled(shared_daemon.pairs, lambda pairs: not pairs) == []


def nothing_left(dockerd: Dockerd) -> list[str]:
    """What is there of networks that were deleted."""
    left = [
        link["ifname"] for link in ip_json(dockerd.netns, "link", "show") if link["ifname"].startswith(("br-", "v"))
    ]
    left += dockerd.plugin.files()
    if "vethd_docker" in in_netns(dockerd.netns, "nft", "list", "tables").out:
        left.append("nft table")
    return left


@pytest.fixture
def sandbox(netns: Namespaces) -> str:
    """A namespace as of a container."""
    return netns.make(ipv6=True)
