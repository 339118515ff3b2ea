"""podman attaches its containers by vethd-cni, as the samples in config/cni have it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.containers.cni import with_addresses
from tests.e2e.containers.podman import SAMPLES, Podman, podman_on
from tests.kit.containers import body, talk
from tests.kit.host import ContainerHost
from tests.kit.waiting import eventually


@pytest.fixture
def podman(host: ContainerHost, rootfs: Path) -> Iterator[Podman]:
    """podman on the host; its containers are gone when the test is over."""
    host.need("podman", "runc", "nft")
    with podman_on(host, rootfs) as podman:
        yield podman


@pytest.mark.parametrize("network", ["vethd", "vethd-ptp"])
def test_two_containers(podman: Podman, network: str) -> None:
    a, b = podman.start(network=network), podman.start(network=network)
    labels = [pair["labels"] for pair in podman.host.daemon.pairs()]
    assert {label["pod"] for label in labels} == {a.word, b.word}
    talk(a, b)


def test_a_container_that_is_killed_leaves_nothing(podman: Podman) -> None:
    a, b = podman.start(), podman.start()
    talk(a, b)
    podman.host.run("kill", "-9", str(a.pid))
    eventually(lambda: len(podman.host.daemon.pairs()), lambda count: count == 1, "its pair is gone", 20)
    eventually(lambda: set(podman.leased()), lambda now: now == set(b.addresses), "its addresses are free", 20)
    podman("start", a.word)
    talk(podman.look(a.word), b)


def test_hot_plug(podman: Podman) -> None:
    a, b = podman.start(), podman.start(network="vethd-ptp")
    podman("network", "connect", "vethd-ptp", a.word)
    assert a.run("ip", "link", "show", "eth1").ok
    both = podman.look(a.word)
    talk(b, replace(a, addresses=tuple(set(both.addresses) - set(a.addresses))))
    podman("network", "disconnect", "vethd-ptp", a.word)
    assert not a.run("ip", "link", "show", "eth1", check=False).ok
    assert len(podman.host.daemon.pairs()) == 2


def test_a_published_port(podman: Podman) -> None:
    podman.write_network(json.loads((SAMPLES / "10-vethd.conflist").read_text()), "portmap")
    try:
        a, b = podman.start("--publish", "8080:80"), podman.start(network="vethd-ptp")
        gateway = podman.host.run("ip", "-j", "route", "get", b.addresses[0]).json()[0]["prefsrc"]
        assert b.fetch(gateway, 8080) == body(a.word)
    finally:
        podman("rm", "--all", "--force", "--time", "0")
        rules = podman.host.run("nft", "list", "ruleset").out
        podman.host.run("nft", "flush", "ruleset")  # portmap leaves its empty chains
    assert "8080" not in rules


def test_a_pod(podman: Podman) -> None:
    """Its containers share the interface of the one that podman makes for it."""
    podman("pod", "create", "--name", "shop", "--network", "vethd")
    a, b = podman.start(pod="shop"), podman.start()
    (infra,) = (pair["labels"] for pair in podman.host.daemon.pairs() if pair["labels"]["pod"] != b.word)
    assert infra["network"] == "vethd"
    talk(with_addresses(a), b)
