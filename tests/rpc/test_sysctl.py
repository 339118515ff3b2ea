"""sysctl.get and sysctl.set: what is refused, and that every worker does what was set - those that come later, too."""

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from tests.kit.daemon import Daemon
from tests.kit.frames import numbered
from tests.kit.netns import Namespaces
from tests.kit.packets import PacketSocket
from tests.kit.pairs import Pair, make_pair_between_fresh
from tests.pairs.house import House, held, soon
from tests.pairs.killing import DIED, NO_DELAY, kill_worker, log_lines, spares, stopped, wait_spare, wait_workers
from tests.rpc.talk import Talk, refused, request, result
from vethd.config import SysctlConfig
from vethd.pairs.slot import Slot
from vethd.pairs.spec import EndSpec, PairSpec
from vethd.rpc.schema.stats import SysctlSetParams

FRAMES = 60  # fewer than dev_weight is by default: a worker that finds them waiting takes all of them at once
NAMES = "netdev_max_backlog, netdev_budget, netdev_budget_usecs, dev_weight, busy_poll"
DEFAULTS = {f"net.core.{name}": value for name, value in SysctlConfig().model_dump().items()}


@pytest.fixture
def restored(shared_daemon: Daemon) -> Iterator[Daemon]:
    """The shared daemon, with the limits that it had."""
    before = shared_daemon.call("sysctl.get")["values"]
    yield shared_daemon
    shared_daemon.call("sysctl.set", {"values": before})


def after_a_burst(pair: Pair) -> dict[str, int]:
    """Let the worker find FRAMES frames waiting at each end; the frames dropped, and times that work was left over."""
    (worker,) = pair.daemon.workers()
    before = pair.stats(), pair.daemon.worker_rows()[0]
    with PacketSocket(pair.a.netns, pair.a.name) as a, PacketSocket(pair.b.netns, pair.b.name) as b:
        with stopped([worker]):
            for number in range(FRAMES):
                a.send(numbered(number))
                b.send(numbered(number))
        after = pair.wait_quiet(), pair.daemon.worker_rows()[0]
    dropped = [ends[letter]["drops"]["CPU_BACKLOG"] for ends in (before[0], after[0]) for letter in "ab"]
    squeezes = after[1]["time_squeeze"] - before[1]["time_squeeze"]
    return {"dropped": sum(dropped[2:]) - sum(dropped[:2]), "squeezed": squeezes}


def set_values(daemon: Daemon, **values: int) -> None:
    expected = {f"net.core.{name}": value for name, value in values.items()}
    assert daemon.call("sysctl.set", {"values": values}) == {"values": expected}


def test_names_with_and_without_prefix(restored: Daemon) -> None:
    assert restored.call("sysctl.get") == {"values": DEFAULTS}
    asked = {"names": ["net.core.dev_weight", "busy_poll"]}
    assert restored.call("sysctl.get", asked) == {"values": {"net.core.dev_weight": 64, "net.core.busy_poll": 0}}
    values = {"net.core.netdev_budget": 600, "netdev_max_backlog": 2000}
    told = {"net.core.netdev_budget": 600, "net.core.netdev_max_backlog": 2000}
    assert restored.call("sysctl.set", {"values": values}) == {"values": told}
    assert restored.call("sysctl.get") == {"values": DEFAULTS | told}


@pytest.mark.parametrize(
    ("method", "params", "message", "hint"),
    [
        ("sysctl.get", {"names": ["somaxconn"]}, "names.somaxconn: unknown", f"known in names: {NAMES}"),
        ("sysctl.get", {"names": ["net.ipv4.dev_weight"]}, "names.net.ipv4.dev_weight: unknown", None),
        ("sysctl.set", {"values": {"backpressure": 1}}, "values.backpressure: unknown", f"known in values: {NAMES}"),
        ("sysctl.set", {"values": {}}, "values: ", None),
        (
            "sysctl.set",
            {"values": {"dev_weight": 1, "net.core.dev_weight": 1}},
            "values: a name is there twice",
            "give it once, with or without net.core.",
        ),
        ("sysctl.set", {"values": {"dev_weight": "64"}}, "values.dev_weight: must be a valid integer", None),
        *(
            (
                "sysctl.set",
                {"values": {"netdev_budget": 1, f"net.core.{name}": value}},
                f"values.{name}: must be ",
                None,
            )
            for name, value in (
                *(("netdev_max_backlog", -1), ("netdev_max_backlog", 1_000_001), ("netdev_budget_usecs", 0)),
                *(("dev_weight", 0), ("dev_weight", 1025), ("busy_poll", -1), ("busy_poll", 10**30)),
            )
        ),
        (
            "sysctl.set",
            {"values": {"netdev_budget": 0}},
            "values.netdev_budget: must be greater than or equal to 1",
            None,
        ),
    ],
)
def test_what_can_not_be_is_refused_by_its_name_and_nothing_is_set(
    restored: Daemon, talk: Talk, method: str, params: dict[str, Any], message: str, hint: str | None
) -> None:
    talk.say(request(1, method, **params))
    error = talk.hear(refused(1, "invalid_params"))["error"]
    assert error["message"].startswith(message)
    if hint is not None:
        assert error["data"]["hint"] == hint
    assert restored.call("sysctl.get") == {"values": DEFAULTS}


def test_a_worker_does_at_once_what_was_set(restored: Daemon, pair: Pair) -> None:
    assert after_a_burst(pair) == {"dropped": 0, "squeezed": 0}
    set_values(restored, netdev_max_backlog=1)
    assert after_a_burst(pair)["dropped"] > FRAMES
    set_values(restored, netdev_max_backlog=0)
    assert after_a_burst(pair)["dropped"] == 2 * FRAMES
    set_values(restored, netdev_max_backlog=1)
    set_values(restored, dev_weight=1)  # one in, one out
    assert after_a_burst(pair)["dropped"] <= FRAMES, "only the second end ever meets a full backlog"
    set_values(restored, netdev_max_backlog=1000, dev_weight=64, netdev_budget=1)
    busy = after_a_burst(pair)
    assert (busy["dropped"], busy["squeezed"] >= FRAMES) == (0, True)
    set_values(restored, netdev_budget=300, netdev_budget_usecs=1, dev_weight=32)
    assert after_a_burst(pair)["squeezed"] > 0
    set_values(restored, **SysctlConfig().model_dump())
    assert after_a_burst(pair) == {"dropped": 0, "squeezed": 0}


def test_every_successor_of_a_worker_knows(start_daemon: Callable[..., Daemon], netns: Namespaces) -> None:
    daemon = start_daemon(config=NO_DELAY.format(count=1) + "[sysctl]\nnetdev_budget = 200\n")
    daemon.expected_errors += DIED
    pair = make_pair_between_fresh(daemon, netns)
    wait_spare(daemon)  # it started before anything was set
    set_values(daemon, netdev_max_backlog=1)
    for _ in range(2):
        victim = kill_worker(daemon)
        wait_workers(daemon, 1, {victim})
        assert after_a_burst(pair)["dropped"] > FRAMES
        wait_spare(daemon)
    values = daemon.call("sysctl.get")["values"]
    assert values == DEFAULTS | {"net.core.netdev_max_backlog": 1, "net.core.netdev_budget": 200}


def test_a_worker_that_dies_instead_of_listening_delays_nobody(
    start_daemon: Callable[..., Daemon], netns: Namespaces
) -> None:
    daemon = start_daemon(config=NO_DELAY.format(count=1))
    daemon.expected_errors += DIED
    pair = make_pair_between_fresh(daemon, netns)
    wait_spare(daemon)
    (victim,) = daemon.workers()
    talk = Talk(daemon.socket)
    try:
        os.kill(victim, signal.SIGSTOP)
        talk.say(request(1, "sysctl.set", values={"netdev_max_backlog": 1}))
        talk.say(request(2, "daemon.info"))
        with stopped(spares(daemon)):  # the answer does not wait for a successor
            os.kill(victim, signal.SIGKILL)
            talk.hear(result(1, {"values": {"net.core.netdev_max_backlog": 1}}))
            talk.hear(result(2))
    finally:
        talk.close()
    wait_workers(daemon, 1, {victim})
    assert after_a_burst(pair)["dropped"] > FRAMES


async def test_a_successor_that_is_about_to_serve_hears_of_the_change_and_so_do_listeners(
    tmp_path: Path, netns: Namespaces
) -> None:
    house, may_go_on, told = House(tmp_path), asyncio.Event(), []
    house.expect(*DIED)
    add = Slot.add

    async def add_later(*args: Any) -> None:
        told.append("asked")
        await may_go_on.wait()
        await add(*args)

    red = netns.make()
    await house.supervisor.start()
    try:
        with held(red) as fd:
            spec = PairSpec(EndSpec("a", "vtsy%d", fd), EndSpec("b", "vtsy%d", fd), "inside")
            await house.supervisor.creator.newlink(spec)
        ((slot, ready),) = house.supervisor.workers.serving()
        set_method: Any = next(row for row in house.supervisor.methods.table if row.name == "sysctl.set")
        seq = house.supervisor.journal.seq
        with patch.object(Slot, "add", lambda *args: asyncio.ensure_future(add_later(*args))):
            os.kill(ready["pid"], signal.SIGKILL)
            await soon(lambda: told, bool, "the successor is told its queues")
            assert slot.child is not None
            with patch.object(slot.child, "request", wraps=slot.child.request) as asked:
                params = SysctlSetParams(values={"netdev_budget": 7, "dev_weight": 64})
                await set_method.call(params, SimpleNamespace(peer="the test"))
                assert not slot.serving.is_set()
                may_go_on.set()
                await slot.serving.wait()
        (values,) = (call.kwargs["values"] for call in asked.call_args_list if call.args[0] == "sysctl")
        assert values["netdev_budget"] == 7
        (event,) = (event for event in house.supervisor.journal.after(seq) or [] if event.topic == "daemon")
        assert (event.event, event.fields) == ("sysctl", {"values": {"net.core.netdev_budget": 7}})
    finally:
        await house.supervisor.stop()
    assert house.troubles() == []


def test_the_log_says_what_changed_and_on_whose_behalf(restored: Daemon) -> None:
    before = len(log_lines(restored, "sysctl set"))
    for _ in range(2):  # the second time nothing changes
        set_values(restored, netdev_budget=299, dev_weight=64)
    (line,) = log_lines(restored, "sysctl set")[before:]
    assert line["net.core.netdev_budget"] == 299
    assert "net.core.dev_weight" not in line
    assert line["reason"] == f"sysctl.set by uid 0, gid 0, pid {os.getpid()}"
    assert json.dumps(line)
