"""Inside the unit's sandbox everything works that works outside it."""

from __future__ import annotations

import pytest

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
