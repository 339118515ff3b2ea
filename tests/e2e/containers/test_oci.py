"""vethd-oci run by runc and crun: what it makes, what it refuses, and what becomes of its pairs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.containers.bundle import bridge, identity, oci_container, run_once
from tests.kit.containers import talk_by_vethd
from tests.kit.host import ContainerHost
from tests.kit.waiting import eventually

RUNTIMES = pytest.mark.parametrize("runtime", ["runc", "crun"])
HOOK = {"path": "/usr/local/bin/vethd-oci", "args": ["vethd-oci"]}
HOOKS = {"createRuntime": [HOOK], "poststop": [HOOK]}
ETH0 = "vethd.network.eth0."


@RUNTIMES
def test_kill_takes_the_pair_and_delete_finds_nothing(whole_host: ContainerHost, rootfs: Path, runtime: str) -> None:
    def said(address: str) -> dict[str, str]:
        return {f"{ETH0}bridge": name, f"{ETH0}addresses": address, f"{ETH0}labels": "tier=web"}

    with (
        bridge(whole_host) as name,
        oci_container(whole_host, runtime, rootfs, "10.91.0.1", annotations=said("10.91.0.1/24"), hooks=HOOKS) as a,
        oci_container(whole_host, runtime, rootfs, "10.91.0.2", annotations=said("10.91.0.2/24"), hooks=HOOKS) as b,
    ):
        talk_by_vethd(a, b)
        (pair,) = whole_host.daemon.call("link.list", {"labels": {"container": identity(whole_host, a.word)}})
        assert (pair["labels"], pair["origin"]) == (
            {"container": identity(whole_host, a.word), "interface": "eth0", "tier": "web"},
            "oci",
        )
        assert pair["a"]["master"] == name
        whole_host.run("kill", "-KILL", str(a.pid))
        eventually(lambda: len(whole_host.daemon.pairs()), lambda count: count == 1, "the pair went with the namespace")


def test_everything_that_annotations_say(whole_host: ContainerHost, rootfs: Path) -> None:
    annotations = {
        f"{ETH0}addresses": "10.92.0.1/24, fd00:92::1/64",
        f"{ETH0}gateway": "10.92.0.254, fd00:92::fe",
        f"{ETH0}routes": "10.93.0.0/16 via 10.92.0.7 metric 5, 10.94.0.0/16 src 10.92.0.1 mtu 1400",
        f"{ETH0}mac": "02:00:00:00:92:01",
        f"{ETH0}mtu": "1450",
        f"{ETH0}host-name": "web0",
        f"{ETH0}host-addresses": "10.92.0.254/32",
        f"{ETH0}host-routes": "10.92.0.1",
        "vethd.network.eth1.addresses": "10.95.0.1/24",
    }
    with oci_container(whole_host, "runc", rootfs, "10.92.0.1", annotations=annotations, hooks=HOOKS) as container:
        inside = whole_host.run("nsenter", f"--target={container.pid}", "--net", "ip", "-j", "address").json()
        eth0, eth1 = inside[1:]
        assert [f"{at['local']}/{at['prefixlen']}" for at in eth0["addr_info"] if at["scope"] == "global"] == [
            "10.92.0.1/24",
            "fd00:92::1/64",
        ]
        assert (eth0["address"], eth0["mtu"], eth1["mtu"]) == ("02:00:00:00:92:01", 1450, 1500)
        routes = {
            line.strip()
            for family in ("-4", "-6")
            for line in container_ip(whole_host, container.pid, family, "route").splitlines()
        }
        for wanted in (
            "default via 10.92.0.254 dev eth0",
            "10.93.0.0/16 via 10.92.0.7 dev eth0 proto 118 metric 5",
            "10.94.0.0/16 dev eth0 proto 118 scope link src 10.92.0.1 mtu 1400",
            "10.95.0.0/24 dev eth1 proto kernel scope link src 10.95.0.1",
        ):
            assert any(line.startswith(wanted) for line in routes), (wanted, routes)
        assert any(line.startswith("default via fd00:92::fe dev eth0") for line in routes), routes
        whole_host.run("ping", "-c1", "-W5", "10.92.0.1")
        assert "10.92.0.254/32" in whole_host.run("ip", "address", "show", "web0").out


def container_ip(host: ContainerHost, pid: int, *words: str) -> str:
    return host.run("nsenter", f"--target={pid}", "--net", "ip", *words).out


@RUNTIMES
@pytest.mark.parametrize(
    ("annotations", "reason"),
    [
        ({f"{ETH0}adress": "10.0.0.1/24"}, f"annotation {ETH0}adress: 'adress' is unknown"),
        ({f"{ETH0}addresses": "10.0.0.300/24"}, f"annotation {ETH0}addresses: "),
        ({f"{ETH0}mtu": "70000"}, f"annotation {ETH0}mtu: "),
        ({f"{ETH0}bridge": "nobridge"}, f"annotation {ETH0}bridge: there is no bridge 'nobridge'"),
    ],
    ids=["unknown", "address", "mtu", "bridge"],
)
def test_a_container_without_its_network_does_not_start(
    whole_host: ContainerHost, rootfs: Path, runtime: str, annotations: dict[str, str], reason: str
) -> None:
    answer = run_once(whole_host, runtime, rootfs, annotations, HOOKS)
    assert (answer.ok, reason in answer.err) == (False, True), answer


@RUNTIMES
def test_a_daemon_that_is_down_is_told(whole_host: ContainerHost, rootfs: Path, runtime: str) -> None:
    hook = HOOK | {"env": ["VETHD_SOCKET=/run/nobody.sock"]}
    answer = run_once(whole_host, runtime, rootfs, {f"{ETH0}addresses": "10.0.0.1/24"}, {"createRuntime": [hook]})
    told = "vethd-oci: /run/nobody.sock: No such file or directory. Is vethd running, and is this its socket?"
    assert (answer.ok, told in answer.err) == (False, True), answer


def test_a_container_in_the_namespace_of_the_host_is_refused(whole_host: ContainerHost, rootfs: Path) -> None:
    answer = run_once(whole_host, "runc", rootfs, {f"{ETH0}addresses": "10.0.0.1/24"}, HOOKS, netns="/proc/1/ns/net")
    assert (answer.ok, "has no network namespace of its own" in answer.err) == (False, True), answer


def test_a_namespace_that_outlives_its_container_keeps_no_pair(whole_host: ContainerHost, rootfs: Path) -> None:
    netns = whole_host.name("n")
    whole_host.run("ip", "netns", "add", netns)
    said = {f"{ETH0}addresses": "10.96.0.1/24"}
    for _twice in range(2):
        with oci_container(
            whole_host, "runc", rootfs, "10.96.0.1", netns=f"/run/netns/{netns}", annotations=said, hooks=HOOKS
        ):
            assert len(whole_host.daemon.pairs()) == 1
        assert whole_host.daemon.pairs() == []
    whole_host.run("ip", "netns", "del", netns)
