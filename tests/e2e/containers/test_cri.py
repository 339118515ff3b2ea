"""What a kubelet does: pods in containerd, attached by vethd-cni."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.containers.cni import installed, leased, with_addresses
from tests.e2e.containers.cri import kubelet
from tests.kit.containers import Container, talk
from tests.kit.host import ContainerHost
from tests.kit.waiting import eventually


def test_two_pods(host: ContainerHost, rootfs: Path) -> None:
    host.need("containerd", "ctr", "runc")
    at = host.workdir / host.name("k")
    at.mkdir()
    with installed(host, at), kubelet(host, at, rootfs) as node:
        pods: list[str] = []
        containers: list[Container] = []
        try:
            for name in (host.name("pod"), host.name("pod")):
                before = servers(host)
                pods.append(node.start(name))
                (pid,) = eventually(lambda: servers(host) - before, lambda new: len(new) == 1, "it serves", 20)  # noqa: B023
                containers.append(with_addresses(Container(host, pid, name, ())))
            found = [pair["labels"] for pair in host.daemon.pairs()]
            assert [(each["pod"], each["pod-namespace"]) for each in found] == [
                (each.word, "shop") for each in containers
            ]
            assert {each["container"] for each in found} == set(pods)
            talk(*containers)
        finally:
            for pod in pods:
                node.stop(pod)
                node.remove(pod)
            assert (host.daemon.pairs(), leased(at / "leases")) == ([], [])
            host.run("ip", "link", "del", "vethd0")


def servers(host: ContainerHost) -> set[int]:
    return {pid for pid, name in host.processes().items() if name == "httpd"}
