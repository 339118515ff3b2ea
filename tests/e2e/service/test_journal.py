"""What the journal knows of the life of a pair, and by which fields it is found."""

from __future__ import annotations

import pytest

from tests.e2e.service.unit import Unit

pytestmark = pytest.mark.parametrize("user", ["vethd"], indirect=True)


def add(unit: Unit, name: str) -> str:
    """Make a pair in the machine's own namespace; its UUID."""
    end = ["netns", "/proc/1/ns/net"]
    unit.vethctl("link", "add", f"{name}0", *end, "type", "veth", "peer", f"{name}1", *end, "placement", "inside")
    (pair,) = unit.call("link.list")
    return str(pair["pair"])


def test_lines_of_a_pair_are_found_by_its_fields(unit: Unit) -> None:
    uuid = add(unit, "log")
    unit.machine.run("ip", "link", "set", "log1", "mtu", "1400")
    unit.machine.run("ip", "link", "set", "log1", "name", "log2")
    unit.vethctl("link", "del", "log0")
    lines = unit.machine.journal(f"VETHD_PAIR={uuid}")
    assert [line["VETHD_EVENT"] for line in lines] == [
        *("link added", "link changed", "link changed"),  # and its peer's alias is another then
        *("link changed", "link deleted"),
    ]
    added, changed, renamed, _alias, _deleted = lines
    inode = unit.machine.run("stat", "--dereference", "--format=%i", "/proc/1/ns/net").out.strip()
    assert added["VETHD_IFNAME"] == ["log0", "log1"]
    assert added["NETNS"] == inode
    assert added["MESSAGE"].startswith(f"link added pair={uuid} a=log0 ")
    assert (changed["VETHD_END"], changed["VETHD_MTU"], changed["NETNS"]) == ("b", "1400", inode)
    assert changed["VETHD_IFNAME"] == "log1"
    assert set(renamed["VETHD_IFNAME"]) == {"log1", "log2"}
    for line in lines:
        assert (line["PRIORITY"], line["SYSLOG_IDENTIFIER"], line["_TRANSPORT"]) == ("6", "vethd", "journal")
        assert line["_SYSTEMD_UNIT"] == "vethd.service"
    for match, found in (("VETHD_IFNAME=log1", added), (f"NETNS={inode}", changed), ("VETHD_END=b", changed)):
        assert found in unit.machine.journal(match, since=unit.begin)


def test_each_line_is_there_once(unit: Unit) -> None:
    add(unit, "one")
    said = [line["MESSAGE"] for line in unit.journal()]
    assert len([text for text in said if "link added" in text]) == 1
    assert all(line["_TRANSPORT"] == "journal" for line in unit.journal())  # none came by standard error


def test_a_death_has_the_priority_of_an_error(unit: Unit) -> None:
    (worker,) = unit.call("daemon.info")["workers"]
    unit.machine.run("kill", "-KILL", str(worker["pid"]))
    unit.call("softnet.get")
    add(unit, "die")
    (line,) = unit.journal("VETHD_EVENT=worker died")
    assert (line["PRIORITY"], line["VETHD_PID"], line["VETHD_WORKER"]) == ("3", str(worker["pid"]), "0")


def test_the_level_is_changed_while_it_runs(unit: Unit) -> None:
    pid = unit.pid
    unit.configure('[log]\nlevel = "error"\n')
    unit.ctl("reload", "vethd.service")
    add(unit, "mum")
    assert unit.journal("VETHD_EVENT=link added") == []
    unit.configure("")
    unit.ctl("reload", "vethd.service")
    unit.vethctl("link", "del", "mum0")
    assert len(unit.journal("VETHD_EVENT=link deleted")) == 1
    assert unit.pid == pid


def test_lines_asked_for_in_a_format_have_priorities_too(unit: Unit) -> None:
    unit.configure('[log]\nformat = "json"\n')
    unit.ctl("restart", "vethd.service")
    (line,) = [line for line in unit.journal() if "vethd serves" in line["MESSAGE"]]
    assert (line["PRIORITY"], line["_TRANSPORT"]) == ("6", "stdout")
    assert line["MESSAGE"].startswith("{")
    unit.ctl("stop", "vethd.service")
