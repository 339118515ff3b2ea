"""Inside the unit's sandbox everything works that works outside it."""

from __future__ import annotations

import pytest

from tests.e2e.service.conftest import CHECKOUT
from tests.e2e.service.unit import Unit
from tests.kit.waiting import eventually


def join(unit: Unit, *words: str) -> None:
    """Make a pair between two namespaces that were not there when vethd was started."""
    for name in ("red", "blue"):
        unit.machine.run("ip", "netns", "add", name)
        unit.machine.run("ip", "-n", name, "link", "set", "lo", "up")
    unit.vethctl(
        *("link", "add", "veth0", "netns", "red", "up", "type", "veth", "peer", "veth1", "netns", "blue", "up", *words)
    )
    for name, number in (("red", 1), ("blue", 2)):
        unit.machine.run("ip", "-n", name, "address", "add", f"192.0.2.{number}/24", "dev", f"veth{number - 1}")


def leave(unit: Unit) -> None:
    for name in ("red", "blue"):
        unit.machine.run("ip", "netns", "del", name)


@pytest.mark.parametrize("words", [[], ["placement", "inside", "numqueues", "2"]], ids=["moved", "inside, two queues"])
def test_frames_pass_between_namespaces_that_came_later(unit: Unit, words: list[str]) -> None:
    join(unit, *words)
    unit.machine.run("ip", "netns", "exec", "red", "ping", "-c", "3", "-i", "0.02", "-W", "5", "192.0.2.2")
    if words:
        unit.vethctl("link", "del", "veth0", "netns", "red")
    leave(unit)
    eventually(lambda: unit.call("link.list"), lambda pairs: pairs == [], "the pair went with its namespaces")


def test_a_static_pair_may_name_a_namespace_that_is_not_there(unit: Unit) -> None:
    unit.configure('[[pair]]\nname = "lab"\n[pair.a]\nifname = "lab0"\nnetns = "new"\n[pair.b]\nifname = "lab1"\n')
    unit.ctl("reload", "vethd.service")
    assert unit.links("new") == ["lab0"]
    unit.machine.run("ip", "netns", "del", "new")


def test_the_example_of_nat_works(unit: Unit) -> None:
    """Bridges and rules need CAP_NET_ADMIN alone; the sysctls that switch forwarding on, a place in the sandbox."""
    unit.machine.run("sysctl", "-w", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0")
    unit.configure((CHECKOUT / "config/nat.toml").read_text())
    unit.ctl("reload", "vethd.service")
    assert [line for line in unit.journal() if "error" in line or line["MESSAGE"] == "static pair failed"] == []
    for sysctl in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
        assert unit.machine.run("sysctl", "-n", sysctl).out == "1\n"
    rules = unit.machine.run("nft", "list", "table", "inet", "vethd").out
    assert '10.77.0.0/24 comment "config:vbr0"' in rules
    unit.machine.run("ip", "netns", "exec", "red", "ping", "-c", "1", "-W", "5", "10.77.0.1")
    unit.machine.run("ip", "netns", "exec", "blue", "ping", "-c", "1", "-W", "5", "fd77::1")
    unit.ctl("restart", "vethd.service")
    assert [pair["a"]["master"] for pair in unit.call("link.list")] == ["vbr0", "vbr0"]
    unit.machine.run("ip", "netns", "exec", "red", "ping", "-c", "1", "-W", "5", "10.77.0.3")
    unit.configure("")
    unit.ctl("reload", "vethd.service")
    assert not unit.machine.run("nft", "list", "table", "inet", "vethd", check=False).ok
    assert "vbr0" not in unit.links()
    leave(unit)


@pytest.mark.parametrize("user", ["vethd"], indirect=True)
def test_workers_bind_themselves_to_a_cpu(unit: Unit) -> None:
    cpu = unit.status(unit.pid, "Cpus_allowed_list").replace("-", ",").split(",")[0]
    unit.configure(f"[worker]\ncpus = [{cpu}]\n")
    unit.ctl("restart", "vethd.service")
    (worker,) = unit.call("daemon.info")["workers"]
    assert unit.status(worker["pid"], "Cpus_allowed_list") == cpu
    unit.ctl("stop", "vethd.service")


def test_the_program_is_replaced_in_place(unit: Unit) -> None:
    join(unit)
    pid = unit.pid
    unit.vethctl("daemon", "reexec")
    assert (unit.pid, unit.state) == (pid, "active")
    unit.machine.run("ip", "netns", "exec", "red", "ping", "-c", "3", "-i", "0.02", "-W", "5", "192.0.2.2")
    leave(unit)
