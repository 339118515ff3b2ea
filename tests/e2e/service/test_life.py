"""The life of the service under a real systemd, run by its own user and by root: each way in, on and out."""

from __future__ import annotations

import pytest

from tests.e2e.service.unit import Unit
from tests.kit.machine import Machine
from tests.kit.waiting import eventually

PAIR = """
[[pair]]
name = "lab"
placement = "inside"
[pair.a]
ifname = "lab0"
up = true
[pair.b]
ifname = "lab1"
up = true
"""
AS_VETHD = pytest.mark.parametrize("user", ["vethd"], indirect=True)  # the other user would make no difference
ALL_CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapAmb")


def stopped_by(unit: Unit) -> list[str]:
    """Signals that it was stopped by."""
    return [line["VETHD_SIGNAL"] for line in unit.journal("VETHD_EVENT=stopping")]


def test_it_says_how_it_is(unit: Unit, user: str) -> None:
    assert unit.call("daemon.info")["pid"] == unit.pid
    assert unit.machine.show("vethd.service", "StatusText").startswith("0 pairs, ")
    assert unit.status(unit.pid, "Uid").split()[0] == unit.machine.run("id", "-u", user).out.strip()


def test_it_has_three_capabilities_and_its_workers_none(unit: Unit, user: str) -> None:
    net_broadcast, net_admin, sys_admin, setgid, setuid = (1 << number for number in (11, 12, 21, 6, 7))
    expected = net_broadcast | net_admin | sys_admin | (setgid | setuid if user == "root" else 0)
    assert int(unit.status(unit.pid, "CapEff"), 16) == expected
    assert int(unit.status(unit.pid, "CapBnd"), 16) == expected
    workers = set(unit.processes()) - {unit.pid}
    assert len(workers) == 2  # one of them is the spare
    for pid in workers:
        assert [int(unit.status(pid, name), 16) for name in ALL_CAPABILITIES] == [0, 0, 0, 0]
        assert unit.status(pid, "NoNewPrivs") == "1"
        filters = [int(unit.status(each, "Seccomp_filters")) for each in (pid, unit.pid)]
        assert filters[0] == filters[1] + 2  # no rings but its own, and then next to nothing
        assert unit.status(pid, "Uid").split()[0] != "0"


def test_a_client_starts_it(unit: Unit) -> None:
    unit.ctl("stop", "vethd.service")
    assert unit.processes() == []
    assert unit.call("link.list") == []
    assert unit.state == "active"


@AS_VETHD
def test_the_socket_outlives_it(unit: Unit) -> None:
    path = unit.machine.path("/run/vethd/control.sock")
    inode = path.stat().st_ino
    unit.ctl("restart", "vethd.service")
    unit.ctl("stop", "vethd.service")
    assert path.stat().st_ino == inode
    assert path.stat().st_mode & 0o777 == 0o666


@AS_VETHD
def test_who_connects_while_it_is_away_is_answered(unit: Unit) -> None:
    pid = unit.pid
    unit.ctl("kill", "--signal=STOP", "--kill-whom=main", "vethd.service")
    with unit.machine.connect() as client:  # it can't have been accepted
        unit.ctl("kill", "--signal=KILL", "--kill-whom=main", "vethd.service")
        assert client.call("daemon.info")["pid"] not in (0, pid)


@AS_VETHD
def test_a_restart_of_the_socket_is_one_of_the_service(unit: Unit) -> None:
    pid = unit.pid
    unit.ctl("restart", "vethd.socket")
    assert stopped_by(unit) == ["SIGTERM"]
    assert unit.until_replaced(pid)


def test_stop_leaves_nothing(unit: Unit) -> None:
    unit.configure(PAIR)
    unit.ctl("reload", "vethd.service")
    assert sorted(unit.links()) == ["lab0", "lab1"]
    unit.ctl("stop", "vethd.service")
    assert unit.links() == []
    assert unit.processes() == []
    assert unit.machine.show("vethd.service", "Result") == "success"
    assert len(unit.journal("VETHD_EVENT=link deleted")) == 1  # by the daemon, which knew that it does not come back


def test_a_restart_keeps_the_links(unit: Unit) -> None:
    """Whoever runs it; test_restart.py has the rest."""
    unit.configure(PAIR)
    unit.ctl("reload", "vethd.service")
    links, pairs = unit.machine.run("ip", "-j", "link", "show").json(), unit.call("link.list")
    unit.ctl("restart", "vethd.service")
    assert unit.machine.run("ip", "-j", "link", "show").json() == links
    assert unit.call("link.list") == pairs
    assert stopped_by(unit) == ["SIGTERM"]


def test_a_supervisor_that_is_killed_is_started_again(unit: Unit) -> None:
    pid, before = unit.pid, set(unit.processes())
    unit.ctl("kill", "--signal=KILL", "--kill-whom=main", "vethd.service")
    unit.until_replaced(pid)
    assert unit.call("daemon.info")["pid"] != pid
    assert not before & set(unit.processes())


def test_a_supervisor_that_hangs_is_started_again(unit: Unit) -> None:
    unit.machine.drop_in("vethd.service", "[Service]\nWatchdogSec=2s\n")
    unit.ctl("restart", "vethd.service")
    pid, fed = unit.pid, unit.machine.show("vethd.service", "WatchdogTimestampMonotonic")
    eventually(lambda: unit.machine.show("vethd.service", "WatchdogTimestampMonotonic"), lambda now: now != fed, "fed")
    assert unit.pid == pid
    unit.ctl("kill", "--signal=STOP", "--kill-whom=main", "vethd.service")
    unit.until_replaced(pid)
    said = [line["MESSAGE"] for line in unit.machine.journal("_PID=1", "UNIT=vethd.service", since=unit.begin)]
    assert any("Watchdog timeout" in message for message in said)


def test_reload_returns_when_it_is_done(unit: Unit) -> None:
    pid = unit.pid
    names = [f"{letter}{number}" for number in range(20) for letter in "ab"]
    pairs = [
        f'[[pair]]\nname = "{a}"\n[pair.a]\nifname = "{a}"\n[pair.b]\nifname = "{b}"\n'
        for a, b in zip(names[::2], names[1::2], strict=True)
    ]
    unit.configure("".join(pairs))  # long enough in the making to be missed
    unit.ctl("reload", "vethd.service")
    assert sorted(unit.links()) == sorted(names)
    unit.configure("")
    unit.ctl("reload", "vethd.service")
    assert unit.links() == []
    assert (unit.state, unit.pid) == ("active", pid)


@AS_VETHD
def test_a_reload_of_something_invalid_changes_nothing(unit: Unit) -> None:
    unit.configure("[log]\nlevel = 'loud'\n")
    unit.ctl("reload", "vethd.service")
    assert unit.state == "active"
    (line,) = unit.journal("PRIORITY=3")
    assert line["VETHD_EVENT"] == "configuration not valid, nothing was changed"
    assert line["VETHD_WHY"].startswith("/etc/vethd/conf.d/test.toml:2: log.level: ")


@AS_VETHD
def test_a_daemon_that_can_not_start_says_why_and_is_tried_again(unit: Unit) -> None:
    unit.configure("[log]\nlevel = 'loud'\n")
    unit.ctl("restart", "vethd.service", check=False)
    eventually(lambda: int(unit.machine.show("vethd.service", "NRestarts")), lambda n: n > 0, "it is tried", within=30)
    assert unit.machine.show("vethd.service", "StartLimitIntervalUSec") == "0"  # and again, for ever
    lines = unit.journal("PRIORITY=3")
    assert lines[0]["MESSAGE"].startswith("vethd: /etc/vethd/conf.d/test.toml:2: log.level: ")
    unit.configure("")
    unit.until("active")


@AS_VETHD
def test_static_pairs_are_there_before_the_network(unit: Unit) -> None:
    unit.ctl("stop", "vethd.service", "network.target")
    unit.configure(PAIR)
    unit.machine.write(
        "/etc/systemd/system/probe.service",
        "[Unit]\nWants=vethd.service network.target\nAfter=network.target\n"
        "[Service]\nType=oneshot\nExecStart=ip link show lab0\n",
    )
    unit.ctl("daemon-reload")
    unit.ctl("start", "probe.service")
    assert "docker.service" in unit.machine.show("vethd.service", "Before").split()


@AS_VETHD
def test_without_the_socket_unit_it_opens_the_socket_itself(unit: Unit, machine: Machine, user: str) -> None:
    unit.ctl("stop", "vethd.service", "vethd.socket")
    assert not machine.path("/run/vethd/control.sock").exists()
    capabilities = "AmbientCapabilities=CAP_NET_ADMIN CAP_SYS_ADMIN CAP_NET_BROADCAST"
    machine.run("chown", user, "/run/vethd")
    start = ["systemd-run", "--unit=byhand", f"--uid={user}", f"--property={capabilities}"]
    machine.run(*start, "/usr/local/sbin/vethd")
    try:
        eventually(machine.path("/run/vethd/control.sock").is_socket, bool, "it listens", within=20)
        with machine.connect() as client:
            assert client.call("link.list") == []
    finally:
        machine.run("systemctl", "stop", "byhand.service")
        machine.run("chown", "vethd", "/run/vethd")
    assert not machine.path("/run/vethd/control.sock").exists()


@AS_VETHD
def test_a_stranger_may_connect_and_do_nothing(unit: Unit) -> None:
    answer = unit.machine.run("setpriv", "--reuid=65534", "--clear-groups", "vethctl", "link", "show", check=False)
    assert answer.code == 2
    assert "may not call link.list" in answer.err


@AS_VETHD
def test_a_member_of_the_group_may_look(unit: Unit) -> None:
    for group in ("vethd", "vethd-ro"):
        gid = unit.machine.run("getent", "group", group).out.split(":")[2]
        unit.machine.run("setpriv", "--reuid=65534", f"--regid={gid}", "--clear-groups", "vethctl", "link", "show")
