"""Whatever becomes of the daemon, its links stay as they are: systemd holds them until the next one takes over."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from tests.e2e.service.answers import answers_of_pid_1
from tests.e2e.service.unit import Unit
from tests.e2e.service.wire import STATE, Wire, meanwhile, read_state
from tests.kit.frames import TEST_ETHERTYPE, number_of, numbered
from tests.kit.links import all_links
from tests.kit.netns import fresh_name
from tests.kit.packets import PacketSocket
from tests.kit.rpc import RpcError
from tests.kit.traffic import Numbered, Transfer, frame_crosses, looks, silent
from tests.kit.waiting import eventually

pytestmark = pytest.mark.parametrize("user", ["vethd"], indirect=True)

VERSION = "/usr/local/lib/vethd/lib/python3.11/site-packages/vethd/__init__.py"


# -- what may become of it --------------------------------------------------------------------------------------------


def restarted(unit: Unit) -> None:
    unit.ctl("restart", "vethd.service")


def killed(unit: Unit) -> None:
    pid = unit.pid
    unit.ctl("kill", "--signal=KILL", "--kill-whom=main", "vethd.service")
    unit.until_replaced(pid)


def hanging(unit: Unit) -> None:
    unit.machine.drop_in("vethd.service", "[Service]\nWatchdogSec=1s\n")
    unit.ctl("restart", "vethd.service")
    pid = unit.pid
    unit.ctl("kill", "--signal=STOP", "--kill-whom=main", "vethd.service")
    unit.until_replaced(pid)


def worker_killed(unit: Unit) -> None:
    (worker,) = unit.call("daemon.info")["workers"]
    unit.machine.run("kill", "-KILL", str(worker["pid"]))
    eventually(
        lambda: [each["pid"] for each in unit.call("daemon.info")["workers"]],
        lambda pids: None not in pids and worker["pid"] not in pids,
        "it is replaced",
        within=20,
    )


def systemd_replaced(unit: Unit) -> None:
    unit.ctl("daemon-reexec")
    restarted(unit)


def replaced_in_place(unit: Unit) -> None:
    before = unit.call("daemon.info")
    unit.ctl("kill", "--signal=USR2", "--kill-whom=main", "vethd.service")
    after = eventually(
        lambda: unit.call("daemon.info"), lambda now: now["server_id"] != before["server_id"], "it is", within=20
    )
    assert after["pid"] == before["pid"]
    restarted(unit)


def upgraded(unit: Unit) -> None:
    program = unit.machine.path(VERSION)
    text = program.read_text()
    try:
        program.write_text(f'{text}\n__version__ = "99"\n')
        unit.machine.drop_in("vethd.service", "[Service]\nWatchdogSec=60s\n")
        restarted(unit)
        assert unit.call("daemon.info")["version"] == "99"
    finally:
        program.write_text(text)


@pytest.mark.parametrize(
    "happens", [restarted, killed, hanging, worker_killed, systemd_replaced, replaced_in_place, upgraded]
)
def test_nobody_notices(unit: Unit, new_wire: Callable[..., Wire], happens: Callable[[Unit], None]) -> None:
    wire = new_wire(numqueues=2, labels={"tier": "front"})
    transfer = Transfer(wire)
    seen, row, seq = looks(wire), wire.row(), unit.seq
    transfer.goes_on()
    read = wire.read()
    with silent(wire):
        happens(unit)
        transfer.goes_on()
    assert looks(wire) == seen
    assert wire.row() == row
    assert unit.seq >= seq
    transfer.finish()
    assert wire.read() > read
    assert unit.stored == 2 + 4


# -- what is there again ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("happens", [restarted, killed])
def test_whatever_was_set_and_counted_is_there(unit: Unit, wire: Wire, happens: Callable[[Unit], None]) -> None:
    a, b = ({"ifname": end.name, "netns": place.name} for end, place in ((wire.a, wire.red), (wire.b, wire.blue)))
    unit.call("link.set", **a, set={"mtu": 1400, "txqueuelen": 50, "alias": "größe", "gro": True})
    unit.call("sysctl.set", values={"netdev_budget": 64})
    with PacketSocket(wire.a.netns, wire.a.name) as source:
        for number in range(3):
            source.send(numbered(number))
    wire.wait_quiet()
    token = fresh_name("token")
    with_token = {"a": {"ifname": "other0", "netns": wire.red.name}, "b": {"ifname": "other1", "netns": wire.red.name}}
    made = unit.call("link.add", **with_token, token=token)
    counters = wire.wait_quiet()
    unit.call("link.set", **b, set={"labels": {"tier": "front"}, "overload": "backpressure"})
    pairs, sysctls = unit.call("link.list"), unit.call("sysctl.get")
    happens(unit)
    assert unit.call("link.list") == pairs
    assert unit.call("sysctl.get") == sysctls
    assert wire.wait_quiet() == counters
    assert counters["a"]["read"] == 3
    assert unit.call("link.add", **with_token, token=token) == made, "it was made again"
    assert len(unit.call("link.list")) == 2
    unit.call("sysctl.set", values={"netdev_budget": 300})


def test_frames_that_were_never_read_are_counted_once(unit: Unit, wire: Wire) -> None:
    wire.blue.ip("link", "set", wire.b.name, "down")
    eventually(lambda: wire.a.state().carrier, lambda on: not on, "the carrier is off")
    for number in range(3):
        with PacketSocket(wire.a.netns, wire.a.name) as source:
            source.try_send(numbered(number))
    dropped = eventually(wire.drops, bool, "they are counted")
    killed(unit)
    assert wire.drops() == dropped
    restarted(unit)
    assert wire.drops() == dropped


def test_frames_that_wait_are_delivered(unit: Unit, wire: Wire) -> None:
    count = wire.a.state().txqlen
    with (
        PacketSocket(wire.a.netns, wire.a.name) as source,
        PacketSocket(wire.b.netns, wire.b.name, ethertype=TEST_ETHERTYPE) as sink,
    ):
        with meanwhile(unit):
            for number in range(count):
                source.send(numbered(number))
        arrived = [number_of(arrival.data) for arrival in sink.collect(count, within=20)]
    assert arrived == list(range(count))


def test_a_restart_loses_no_frame_of_a_flood(unit: Unit, wire: Wire) -> None:
    unit.call("sysctl.set", values={"netdev_budget": 1})  # so the worker has always some in hand
    with Numbered(wire, burst=500, pause=0) as flood:
        for _ in range(2):
            flood.goes_on()
            restarted(unit)
    unit.call("sysctl.set", values={"netdev_budget": 300})
    assert wire.wait_quiet()["a"]["drops"]["WORKER_LOST"] == 0


def test_100_pairs_stay(unit: Unit, wire: Wire) -> None:
    links = [
        {
            "a": {"ifname": f"many{number}", "netns": wire.red.name, "up": True},
            "b": {"ifname": f"many{number}", "netns": wire.blue.name, "up": True},
            "placement": "inside",
        }
        for number in range(99)
    ]
    for link in links:
        unit.call("link.add", **link)
    indices = {name: state.ifindex for name, state in all_links(wire.a.netns).items()}
    pairs = unit.call("link.list")
    assert len(pairs) == 100
    assert unit.stored == 2 + 200
    with silent(wire):
        restarted(unit)
        assert unit.call("link.list") == pairs
        killed(unit)
        assert unit.call("link.list") == pairs
    assert {name: state.ifindex for name, state in all_links(wire.a.netns).items()} == indices
    frame_crosses(wire)


def test_static_pairs_are_made_anew_only_when_they_are_wanted_otherwise(unit: Unit, wire: Wire) -> None:
    def configured(mtu: int) -> str:
        ends = (f'{{ifname = "static", netns = "{place.name}", mtu = {mtu}}}' for place in (wire.red, wire.blue))
        return '[[pair]]\nname = "static"\na = {}\nb = {}\n'.format(*ends)

    def mtu() -> int:
        return all_links(wire.a.netns)["static"].mtu

    unit.configure(configured(1400))
    restarted(unit)
    assert mtu() == 1400
    wire.red.ip("link", "set", "static", "mtu", "1300")
    restarted(unit)
    assert mtu() == 1300
    unit.configure(configured(1450))
    restarted(unit)
    assert mtu() == 1450
    unit.configure("")
    restarted(unit)
    assert [row["pair"] for row in unit.call("link.list")] == [wire.uuid]


def test_more_pairs_are_allowed_after_a_restart_and_counters_stay(unit: Unit, wire: Wire) -> None:
    frame_crosses(wire)
    counters = wire.wait_quiet()
    for wanted, allowed in ((5000, 4367), (10, 10)):  # systemd can't hand over the descriptors of 5000
        unit.configure(f"[limits]\nmax_pairs = {wanted}\n")
        restarted(unit)
        assert unit.call("daemon.info")["max_pairs"] == allowed
        assert wire.wait_quiet() == counters


# -- what has changed meanwhile ---------------------------------------------------------------------------------------


def test_devices_that_were_deleted_meanwhile_are_no_more(unit: Unit, new_wire: Callable[..., Wire]) -> None:
    stays, loses_device, loses_namespace, renamed = (new_wire() for _ in range(4))
    assert unit.stored == 2 + 8
    no_more = str(uuid4())  # as if systemd had lost its descriptors
    with meanwhile(unit):
        state = read_state(unit)
        unit.machine.write(
            STATE, json.dumps({**state, "pairs": [*state["pairs"], {**state["pairs"][0], "uuid": no_more}]})
        )
        loses_device.red.ip("link", "delete", loses_device.a.name)
        loses_namespace.blue.delete()
        renamed.red.ip("link", "set", renamed.a.name, "down", "name", "renamed", "mtu", "1300")
    eventually(
        lambda: {row["pair"] for row in unit.call("link.list")},
        lambda pairs: pairs == {stays.uuid, renamed.uuid},
        "the others are gone",
    )
    assert (renamed.row()["a"]["ifname"], renamed.row()["a"]["mtu"]) == ("renamed", 1300)
    for twin in (loses_device.b, loses_namespace.a):
        eventually(lambda end=twin: end.exists, lambda there: not there, "the twin is gone")  # type: ignore[misc]
    since = {"server_id": unit.call("daemon.info")["server_id"], "seq": state["seq"]}
    events = unit.call("events.subscribe", topics=["link"], since=since)["events"]
    gone = {loses_device.uuid, loses_namespace.uuid, no_more}
    assert {event["pair"] for event in events if event["event"] == "deleted"} == gone
    said = {line["VETHD_PAIR"] for line in unit.journal("VETHD_EVENT=link deleted")}
    assert said >= gone
    assert not said & {stays.uuid, renamed.uuid}
    eventually(lambda: unit.stored, lambda count: count == 2 + 4, "they are taken out of the store")
    frame_crosses(stays)


@pytest.mark.parametrize("text", ["\0\xff", None])  # tests/daemon/test_state.py has more that can't be read
def test_a_state_that_can_not_be_read_costs_no_link(unit: Unit, wire: Wire, text: str | None) -> None:
    seen, row = looks(wire), wire.row()
    state = unit.machine.path(STATE)
    with silent(wire), meanwhile(unit):
        if text is None:
            state.unlink()
        else:
            state.write_bytes(text.encode("latin-1"))
    assert looks(wire) == seen
    unreadable = unit.machine.path(f"{STATE}.unreadable")
    assert unreadable.exists() is (text is not None)
    unreadable.unlink(missing_ok=True)
    not_known = {"generation", "a.offload", "a.offload_why", "b.offload", "b.offload_why"}
    assert different(wire.row(), row) <= not_known
    frame_crosses(wire)
    restarted(unit)
    frame_crosses(wire)


def different(now: dict[str, Any], before: dict[str, Any], within: str = "") -> set[str]:
    """What is no longer the same."""
    found = set()
    for name, value in before.items():
        if isinstance(value, dict):
            found |= different(now[name], value, f"{within}{name}.")
        elif now[name] != value:
            found.add(within + name)
    return found


def test_static_pairs_that_lost_their_names_get_them_back(unit: Unit, wire: Wire) -> None:
    """Not made a second time, nor refused because their names are taken; nor is a pair of somebody else one of them."""
    unit.configure(
        "".join(
            f"[[pair]]\nname = '{name}'\nlabels = {{tier = 'front'}}\n"
            f"a = {{ifname = '{name}', netns = '{wire.red.name}', mtu = 1400}}\n"
            f"b = {{ifname = '{name}', netns = '{wire.blue.name}', up = true}}\n"
            for name in ("static0", "static1")
        )
    )
    unit.ctl("reload", "vethd.service")
    rows = unit.call("link.list")
    with meanwhile(unit):
        unit.machine.path(STATE).unlink()
        wire.red.ip("link", "set", "static1", "name", "other")
    not_known = {"generation", "a.offload", "a.offload_why", "b.offload", "b.offload_why"}
    for _ in range(2):
        now = {row["pair"]: row for row in unit.call("link.list")}
        assert now.keys() == {row["pair"] for row in rows}
        for row in rows:
            assert different(now[row["pair"]], row) <= not_known
        unit.ctl("reload", "vethd.service")
    assert unit.journal("VETHD_EVENT=static pair failed") == []


def test_a_state_of_version_1_is_read(unit: Unit, new_wire: Callable[..., Wire]) -> None:
    wire = new_wire(labels={"tier": "front"})
    with meanwhile(unit):
        state = read_state(unit)
        state["version"] = 1
        for pair in state["pairs"]:
            for letter in "ab":
                del pair[letter]["unread_before"]
                pair[letter]["tx_dropped_seen"] = 0
        del state["static"]
        unit.machine.write(STATE, json.dumps(state))
    assert wire.row()["labels"] == {"tier": "front"}
    assert not unit.machine.path(f"{STATE}.unreadable").exists()


# -- what goes --------------------------------------------------------------------------------------------------------


def test_a_pair_that_is_deleted_leaves_the_store(unit: Unit, wire: Wire) -> None:
    assert unit.stored == 2 + 2
    assert unit.machine.path(STATE).stat().st_mode & 0o777 == 0o600
    unit.call("link.del", pair=wire.uuid)
    eventually(lambda: unit.stored, lambda count: count == 2, "it is taken out")
    eventually(lambda: read_state(unit)["pairs"], lambda pairs: pairs == [], "it is not in the state")


def test_stop_deletes_what_restart_keeps_and_holds_up_nobody(
    unit: Unit, wire: Wire, capsys: pytest.CaptureFixture[str]
) -> None:
    """To close a TAP that is not deleted takes systemd 20 ms and more, and it has 600 of them."""
    pairs = [
        {
            "a": {"ifname": f"many{number}", "netns": wire.red.name, "up": True},
            "b": {"ifname": f"many{number}", "netns": wire.blue.name, "up": True},
            "placement": "inside",
        }
        for number in range(299)
    ]
    unit.call("link.add", pairs=pairs)
    assert unit.stored == 2 + 600
    with answers_of_pid_1(unit.machine) as answers:
        unit.ctl("stop", "vethd.service")
    assert [all_links(end.netns).keys() for end in (wire.a, wire.b)] == [{"lo"}, {"lo"}]
    assert unit.stored == 0
    assert not unit.machine.path(STATE).exists()
    assert len({line["VETHD_PAIR"] for line in unit.journal("VETHD_EVENT=link deleted")}) == 300
    with capsys.disabled():
        print(f"\nPID 1 answered {answers.count} times, within {answers.slowest * 1e3:.0f} ms")
    assert answers.slowest < 1


def test_no_more_pairs_than_the_store_has_room_for(unit: Unit, wire: Wire) -> None:
    unit.machine.drop_in("vethd.service", "[Service]\nFileDescriptorStoreMax=5\nEnvironment=FDSTORE=5\n")
    restarted(unit)
    one_more = {"a": {"ifname": "full0", "netns": wire.red.name}, "b": {"ifname": "full1", "netns": wire.red.name}}
    with pytest.raises(RpcError, match="FileDescriptorStoreMax") as refused:
        unit.call("link.add", **one_more)
    assert refused.value.kind == "limit_reached"
    frame_crosses(wire)
