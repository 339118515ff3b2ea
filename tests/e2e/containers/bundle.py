"""Containers of runc and crun: an OCI bundle each, started, joined and taken away by the runtime's own commands."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.kit.commands import Answer
from tests.kit.containers import Container, serving
from tests.kit.host import ContainerHost


@contextmanager
def bridge(host: ContainerHost) -> Iterator[str]:
    """A bridge on the host, with a MAC address of its own: else it would change with the ports."""
    name = host.name("br")
    host.run("ip", "link", "add", name, "address", "02:00:00:00:88:fe", "up", "type", "bridge")
    try:
        yield name
    finally:
        host.run("ip", "link", "del", name)


@contextmanager
def oci_container(
    host: ContainerHost,
    runtime: str,
    rootfs: Path,
    *addresses: str,
    netns: str | None = None,
    annotations: Mapping[str, str] | None = None,
    hooks: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
) -> Iterator[Container]:
    """Run a container that serves a body; it is deleted behind the body of the block, if it is still there.

    runtime: runc or crun. netns: path of the network namespace it joins; None, one of its own.
    """
    name = host.name()
    bundle = host.workdir / name
    write_bundle(host, runtime, bundle, rootfs, serving(name), netns, annotations, hooks)
    pid_file = bundle / "pid"
    host.launch(
        *(runtime, "run", "--detach", "--bundle", str(bundle), "--pid-file", str(pid_file), identity(host, name)),
        log=bundle / "log",
    )
    try:
        yield Container(host, int(pid_file.read_text()), name, addresses)
    finally:
        host.run(runtime, "delete", "--force", identity(host, name), check=False)


def run_once(
    host: ContainerHost,
    runtime: str,
    rootfs: Path,
    annotations: Mapping[str, str],
    hooks: Mapping[str, Sequence[Mapping[str, Any]]],
    netns: str | None = None,
) -> Answer:
    """Run a container that does nothing, and return how the runtime ended, and what hooks wrote to standard error."""
    name = host.name()
    bundle = host.workdir / name
    told = bundle / "hooks.err"  # of crun, which else keeps it to itself
    said = {"run.oci.hooks.stderr": str(told), **annotations}
    write_bundle(host, runtime, bundle, rootfs, ["true"], netns, said, hooks)
    answer = host.run(runtime, "run", "--bundle", str(bundle), identity(host, name), check=False)
    return replace(answer, err=answer.err + told.read_text()) if told.exists() else answer


def identity(host: ContainerHost, name: str) -> str:
    """The id of a container."""
    return f"{host.id}-{name}"


def write_bundle(
    host: ContainerHost,
    runtime: str,
    bundle: Path,
    rootfs: Path,
    args: Sequence[str],
    netns: str | None = None,
    annotations: Mapping[str, str] | None = None,
    hooks: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
) -> None:
    """Write a bundle: the runtime's own `spec`, with these changes."""
    bundle.mkdir()
    host.run("sh", "-c", f"cd {bundle} && {runtime} spec")
    config = json.loads((bundle / "config.json").read_text())
    config["process"] |= {"terminal": False, "args": list(args)}
    for capabilities in config["process"]["capabilities"].values():
        capabilities.append("CAP_NET_RAW")
    config["root"]["path"] = str(rootfs)
    for namespace in config["linux"]["namespaces"]:
        if namespace["type"] == "network" and netns is not None:
            namespace["path"] = netns
    config["annotations"] = dict(annotations or {})
    config["hooks"] = dict(hooks or {})
    (bundle / "config.json").write_text(json.dumps(config))
