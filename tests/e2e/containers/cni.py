"""A host with vethd-cni where runtimes look for it, and what its containers have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.e2e.containers.podman import SAMPLES
from tests.kit.containers import Container
from tests.kit.host import ContainerHost


@contextmanager
def installed(host: ContainerHost, directory: Path) -> Iterator[None]:
    """The host has the plugin where `make install` puts it, and the sample network."""
    for place in ("/opt", "/etc/cni"):
        host.run("mount", "-t", "tmpfs", "tmpfs", place)
    try:
        host.run("mkdir", "-p", "/opt/cni/bin", "/etc/cni/net.d")
        host.run("sh", "-c", "ln -s /usr/local/bin/vethd-cni /usr/lib/cni/* /opt/cni/bin")
        sample = json.loads((SAMPLES / "10-vethd.conflist").read_text())
        network, *_behind = sample["plugins"]  # portmap leaves empty chains
        network["ipam"]["dataDir"] = str(directory / "leases")
        host.path("/etc/cni/net.d/10-vethd.conflist").write_text(json.dumps(sample | {"plugins": [network]}))
        yield
    finally:
        for place in ("/opt", "/etc/cni"):
            host.run("umount", place)


def with_addresses(container: Container) -> Container:
    """The container, with the addresses that it has."""
    (link,) = json.loads(
        container.host.run("nsenter", f"--net=/proc/{container.pid}/ns/net", "ip", "-j", "addr", "show", "eth0").out
    )
    return replace(container, addresses=tuple(at["local"] for at in link["addr_info"] if at["scope"] == "global"))


def leased(leases: Path) -> list[str]:
    """Addresses that are taken."""
    return [path.name for path in leases.glob("*/*") if path.name.startswith(("1", "f"))]
