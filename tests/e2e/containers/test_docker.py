"""docker: containers on networks of the driver vethd, from creation to removal, and while everything is restarted."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.containers.conftest import Hosts
from tests.e2e.containers.dockerd import PAGE, Docker
from tests.e2e.containers.guide import sections
from tests.kit.containers import Container, body, talk
from tests.kit.host import ContainerHost
from tests.kit.waiting import eventually


class Dockers:
    """The dockerd that the tests of this file share; another one on another machine."""

    def __init__(self, hosts: Hosts, rootfs: Path) -> None:
        self._hosts = hosts
        self._rootfs = rootfs
        self._docker: Docker | None = None

    def get(self) -> Docker:
        host = self._hosts.get()
        if self._docker is None or self._docker.host is not host:
            self._forget()
            self._docker = Docker(host, self._rootfs)
        return self._docker

    def close(self) -> None:
        self._hosts.discard()  # chains of iptables and sysctls stay behind dockerd
        self._forget()

    def _forget(self) -> None:
        if self._docker is not None:
            self._docker.forget()
            self._docker = None


@pytest.fixture(scope="module")
def dockers(hosts: Hosts, rootfs: Path) -> Iterator[Dockers]:
    dockers = Dockers(hosts, rootfs)
    yield dockers
    dockers.close()


@pytest.fixture(autouse=True)
def _before_the_host_is_looked_at(dockers: Dockers) -> None:
    dockers.get()


@pytest.fixture
def docker(dockers: Dockers, host: ContainerHost) -> Docker:
    """dockerd, without any container."""
    docker = dockers.get()
    assert docker.host is host
    return docker


def test_two_containers(docker: Docker) -> None:
    with (
        docker.network("--subnet=10.91.0.0/24", "--ipv6", "--subnet=fd00:91::/64") as network,
        docker.container(network) as a,
        docker.container(network, "-p", "8080-8089:80", "--ip=10.91.0.77", "--mac-address=02:42:00:00:00:77") as b,
    ):
        assert b.addresses[0] == "10.91.0.77"
        talk(a, b)
        assert a.fetch(b.word) == body(b.word)  # dockerd's own DNS
        with outside(docker.host) as (red, here):
            for address in here:
                assert fetch_from(docker.host, red, address, 8080) == body(b.word)
            a.ping("192.0.2.2")  # masqueraded
        assert a.fetch("10.91.0.1", 8080) == b.fetch("10.91.0.1", 8080) == body(b.word)
        assert docker.host.run("busybox", "wget", "-qO-", "http://127.0.0.1:8080/").out == body(b.word)
        with docker.network("--subnet=10.92.0.0/24") as other, docker.container(other) as c:
            docker.run("network", "connect", other, a.word)
            talk(docker.look(a.word, other), c)
            assert labels_of(docker, "interface", "eth1")["network-name"] == other
            docker.run("network", "disconnect", other, a.word)
            assert not a.run("ip", "link", "show", "eth1", check=False).ok
        labels = labels_of(docker, "container-name", b.word)
        assert labels["container"] == docker.inspect(b.word)["Id"]
        assert "0.0.0.0:8080->80/tcp" in labels["ports"]
        assert docker.run("port", b.word).out == ""  # docker shows what its own driver has published
        shown = docker.host.daemon.ctl("link", "show", "label", f"container-name={b.word}").out
        assert f"container={labels['container']}" in shown
        docker.host.run("kill", "-9", str(a.pid))
        eventually(lambda: len(docker.host.daemon.pairs()), lambda count: count == 1, "its pair is gone", within=20)
        docker.run("start", a.word)
        talk(docker.look(a.word), b)


def test_connections_survive_restarts(docker: Docker) -> None:
    with (
        docker.network("--subnet=10.91.0.0/24", "--ipv6", "--subnet=fd00:91::/64") as network,
        docker.container(network) as a,
        docker.container(network, "-p", "8080:80") as b,
    ):
        a.ping(b.addresses[0])
        with conversation(docker, a, b) as say:
            say("before")
            for restart in (docker.restart, docker.restart_driver, docker.host.daemon.reexec):
                restart()
                say(restart.__qualname__)
        talk(a, b)
        with docker.container(network) as c:
            talk(a, c)
            assert c.fetch("10.91.0.1", 8080) == body(b.word)


@pytest.mark.parametrize("host", ["whole"], indirect=True)
def test_as_the_page_says(docker: Docker) -> None:
    begin, end = sections()["docker"][""]
    assert docker.host.run("sh", "-ec", begin, within=60).out.endswith(PAGE)
    docker.host.run("sh", "-ec", end, within=60)


def labels_of(docker: Docker, label: str, value: str) -> dict[str, str]:
    """All labels of the only pair that has this one, as soon as there is one."""
    pairs: list[dict[str, Any]] = eventually(
        lambda: docker.host.daemon.call("link.list", {"labels": {label: value}}), bool, f"{label} is {value}", within=10
    )
    (pair,) = pairs
    labels: dict[str, str] = pair["labels"]
    return labels


@contextmanager
def outside(host: ContainerHost) -> Iterator[tuple[str, tuple[str, str]]]:
    """A namespace beside the machine, on a wire of the kernel's; its name, and the machine's addresses on it."""
    name = host.name("out")
    host.run("ip", "netns", "add", name)
    host.run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "up0", "netns", name)
    for where, number in (((), 1), (("-n", name), 2)):
        host.run("ip", *where, "address", "add", f"192.0.2.{number}/24", "dev", "up0")
        host.run("ip", *where, "address", "add", f"2001:db8::{number}/64", "dev", "up0", "nodad")
        host.run("ip", *where, "link", "set", "up0", "up")
    try:
        yield name, ("192.0.2.1", "2001:db8::1")
    finally:
        host.run("ip", "link", "del", "up0")
        host.run("ip", "netns", "del", name)


def fetch_from(host: ContainerHost, netns: str, address: str, port: int) -> str:
    """The body that is served at an address of the machine, asked from a namespace."""
    url = f"http://[{address}]:{port}/" if ":" in address else f"http://{address}:{port}/"
    return host.run("nsenter", f"--net=/run/netns/{netns}", "timeout", "10", "busybox", "wget", "-qO-", url).out


@contextmanager
def conversation(docker: Docker, a: Container, b: Container) -> Iterator[Any]:
    """A TCP connection from one container to the other; a function that says a line over it, and hears it again."""
    docker.run("exec", "-d", b.word, "nc", "-l", "-p", "9000", "-e", "cat")
    listening = ("nsenter", f"--target={b.pid}", "--net", "ss", "-Hltn", "sport = 9000")
    eventually(lambda: docker.host.run(*listening).out, bool, "somebody listens", within=10)
    client = subprocess.Popen(
        docker.host.enter("nsenter", f"--target={a.pid}", "--net", "busybox", "nc", b.addresses[0], "9000"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    assert client.stdin is not None
    assert client.stdout is not None
    to, back = client.stdin, client.stdout

    def say(line: str) -> None:
        to.write(line + "\n")
        assert back.readline() == line + "\n"

    try:
        yield say
        assert client.poll() is None
    finally:
        to.close()
        client.kill()
        client.wait()
        back.close()
