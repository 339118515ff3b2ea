"""Everything that may happen in a chaos run: each function does one thing to the world, and says what before.

An action does not wait until the daemon has noticed; it returns when the command or the request has. What the world
should be like afterwards is written down in it.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from tests.chaos.world import SETTINGS, WORKERS, Wire, World
from tests.kit.commands import run
from tests.kit.netns import fresh_name
from tests.kit.processes import Process, identify
from tests.kit.rpc import RpcClient
from tests.kit.static import as_toml
from tests.kit.waiting import eventually
from vethd.rpc.client import RpcError
from vethd.rpc.conversation import Request

Action = Callable[[World], None]
MTUS = (68, 576, 1280, 1500, 9000)
BROKEN = ("nonsense = 1\n", "[worker\n", '[[pair]]\nname = "half"\n', "sysctl.dev_weight = -1\n")
#: Static pairs that the configuration file has at most, and pairs that are to be left at least.
STATIC_MOST, LEAST = 8, 40


# -- pairs are made and go --------------------------------------------------------------------------------------------


def add(world: World) -> None:
    """One pair."""
    params = world.wanted_pair()
    world.say(f"link.add {params}")
    world.made(world.ask("link.add", **params))


def add_several(world: World) -> None:
    """Some pairs at once, all or none."""
    pairs = [world.wanted_pair() for _ in range(world.random.randint(2, 4))]
    world.say(f"link.add of {len(pairs)} pairs")
    for row in world.ask("link.add", pairs=pairs):
        world.made(row)


def add_half_wrong(world: World) -> None:
    """Several pairs of which the last can't be made: none is."""
    pairs = [world.wanted_pair(), world.wanted_pair()]
    taken, _ = world.end()
    pairs[-1]["b"] |= {"netns": taken.ends[0].netns, "ifname": taken.ends[0].name}
    world.say(f"link.add of 2 pairs, with a name that is taken: {taken.ends[0]}")
    refused(world, "link_exists", "link.add", pairs=pairs)


def delete(world: World) -> None:
    """A pair, by the socket or by `ip link delete` of either end."""
    wire, end = world.end()
    by_ip = world.alone or world.likes()
    world.say(f"{'ip link delete of end ' + 'ab'[end] if by_ip else 'link.del'} of {wire}")
    if by_ip:
        run("ip", "-n", wire.ends[end].netns, "link", "delete", wire.ends[end].name)
    else:
        world.ask("link.del", pair=wire.uuid)
    world.gone(wire)


def delete_namespace(world: World) -> None:
    """A namespace, with every pair that has an end there; another one takes its place."""
    place = world.random.choice(world.places)
    there = [wire for wire in world.wires.values() if place in {end.netns for end in wire.ends} | wire.pinned]
    if len(world.wires) - len(there) < LEAST - 15:
        return add_several(world)
    world.say(f"ip netns delete {place}, with {len(there)} pairs")
    for wire in there:
        if place in wire.pinned:
            world.ask("link.del", pair=wire.uuid)
    world.netns.delete(place)
    world.places.remove(place)
    for wire in there:  # their sockets have kept it alive until now
        world.gone(wire)
    world.places.append(world.netns.make())
    return None


# -- ends change ------------------------------------------------------------------------------------------------------


def change(world: World, wire: Wire, end: int, words: list[str], **changes: Any) -> None:
    """Change an end by `ip link set`, or by link.set."""
    where = wire.ends[end]
    if world.alone or world.likes():
        world.say(f"ip -n {where.netns} link set {where.name} {' '.join(words)}: {wire}")
        run("ip", "-n", where.netns, "link", "set", where.name, *words)
    else:
        world.say(f"link.set end {'ab'[end]} {changes}: {wire}")
        world.ask("link.set", pair=wire.uuid, end="ab"[end], set=changes)


def rename(world: World) -> None:
    wire, end = world.end()
    name = fresh_name("r")
    change(world, wire, end, ["name", name], ifname=name)
    wire.ends[end].name = name


def move(world: World) -> None:
    """To another namespace; it is down there, unless link.set says otherwise."""
    wire, end = world.end()
    place = world.place()
    if place == wire.ends[end].netns:
        return rename(world)
    change(world, wire, end, ["netns", place], netns=place, up=True)
    wire.ends[end].netns = place
    return world.carry(wire)


def flip(world: World) -> None:
    """Up or down."""
    wire, end = world.end()
    up = world.likes(0.6)
    change(world, wire, end, ["up" if up else "down"], up=up)


def flip_fast(world: World) -> None:
    """Down and up many times, faster than anybody follows."""
    wire, end = world.end()
    where, times = wire.ends[end], world.random.randint(5, 40)
    world.say(f"{times} times down and up: {where.netns}/{where.name}")
    lines = f"link set {where.name} down\nlink set {where.name} up\n" * times
    run("ip", "-n", where.netns, "-batch", "-", given=lines)


def change_mtu(world: World) -> None:
    wire, end = world.end()
    mtu = world.random.choice(MTUS)
    change(world, wire, end, ["mtu", str(mtu)], mtu=mtu)


def change_address(world: World) -> None:
    wire, end = world.end()
    address = f"02:76:{world.random.randrange(256):02x}:{world.random.randrange(256):02x}:00:01"
    change(world, wire, end, ["address", address], address=address)


def change_txqueuelen(world: World) -> None:
    wire, end = world.end()
    length = world.random.choice((10, 500, 1000, 2000))
    change(world, wire, end, ["txqueuelen", str(length)], txqueuelen=length)


def change_alias(world: World) -> None:
    wire, end = world.end()
    alias = fresh_name("words ")
    change(world, wire, end, ["alias", alias], alias=alias)


def change_pair(world: World) -> None:
    """What only the daemon knows of: the worker, gro, overload, labels."""
    wire, end = world.end()
    changes: dict[str, Any] = world.random.choice(
        (
            {"worker": world.random.randrange(WORKERS)},
            {"gro": world.likes()},
            {"overload": world.random.choice(("drop", "backpressure"))},
            {"labels": {"rack": str(world.random.randrange(9)), "old": None}},
        )
    )
    world.say(f"link.set end {'ab'[end]} {changes}: {wire}")
    world.ask("link.set", pair=wire.uuid, end="ab"[end], set=changes)


# -- processes --------------------------------------------------------------------------------------------------------


def kill_worker(world: World) -> None:
    """At once, or after it has stood still for a moment."""
    number = world.random.randrange(WORKERS)
    if world.likes():
        world.say(f"SIGKILL to worker {number}")
        world.send(world.worker(number), signal.SIGKILL)
    else:
        world.say(f"SIGSTOP to worker {number}, SIGKILL later")
        world.send(world.worker(number), signal.SIGSTOP, back=signal.SIGKILL)


def stop_worker(world: World) -> None:
    """It stands still for a moment."""
    number = world.random.randrange(WORKERS)
    world.say(f"SIGSTOP to worker {number}, SIGCONT later")
    world.send(world.worker(number), signal.SIGSTOP, back=signal.SIGCONT)


def hang_worker(world: World) -> None:
    """It stands still for good: it is for the daemon to notice."""
    number = world.random.randrange(WORKERS)
    world.say(f"SIGSTOP to worker {number}")
    world.send(world.worker(number), signal.SIGSTOP)


def hold_busy_worker(world: World, number: int) -> Process:
    """Let a worker stand still with frames in hand, for sure: it says so itself. Or it has died of something else."""
    world.ask("sysctl.set", values={"netdev_budget": 1})  # so much is delivered per turn, and 64 are read of each end
    worker = identify(world.worker(number))
    with suppress(ProcessLookupError):
        worker.send(signal.SIGSTOP)
        while not _in_hand(world, number):
            world.traffic.turns(5)  # the rings fill
            worker.send(signal.SIGCONT)
            worker.send(signal.SIGSTOP)
    return worker


def _in_hand(world: World, number: int) -> int:
    row = world.ask("softnet.get")["workers"][number]
    frames: int = row["input_queue_len"] + row["process_queue_len"]
    return frames


def kill_busy_worker(world: World) -> None:
    """What it had in hand is lost, and counted."""
    number = world.random.randrange(WORKERS)
    world.say(f"SIGKILL to worker {number}, with frames in hand")
    with suppress(ProcessLookupError):
        hold_busy_worker(world, number).send(signal.SIGKILL)


def kill_all_workers(world: World) -> None:
    """And the spare, at once."""
    world.say("SIGKILL to all workers and the spare")
    for process in world.daemon.family():
        if process.pid != world.daemon.pid:
            world.send(process.pid, signal.SIGKILL)


def kill_supervisor(world: World) -> None:
    """Or end it. What happens before there is another one, that has to find out."""
    number = world.random.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
    world.say(f"{number.name} to the supervisor")
    with world.without_daemon(number):
        for action in world.random.choices((rename, move, flip, change_mtu, delete), k=world.random.randrange(4)):
            action(world)


def kill_all_busy(world: World) -> None:
    """The supervisor, and a worker with frames in hand: the next daemon counts them."""
    number = world.random.randrange(WORKERS)
    world.say(f"worker {number} stands still, with frames in hand")
    hold_busy_worker(world, number)
    kill_supervisor(world)


def stop_supervisor(world: World) -> None:
    """It stands still for a moment, and has much to catch up with."""
    wire, end = world.end()
    where = wire.ends[end]
    world.say(f"SIGSTOP to the supervisor, SIGCONT later, {where.netns}/{where.name} goes down and up meanwhile")
    world.send(world.daemon.pid, signal.SIGSTOP, back=signal.SIGCONT)
    run("ip", "-n", where.netns, "-batch", "-", given=f"link set {where.name} down\nlink set {where.name} up\n" * 20)


def reexec(world: World) -> None:
    world.say("daemon.reexec")
    world.replaced()
    world.released()  # a worker that stands still would be waited for
    world.daemon.reexec()


def reexec_by_signal(world: World) -> None:
    """Not waited for."""
    world.say("SIGUSR2")
    world.will_be_replaced()
    os.kill(world.daemon.pid, signal.SIGUSR2)


# -- configuration ----------------------------------------------------------------------------------------------------


def reload(world: World) -> None:
    """The file says something else: a pair less, one changed, one more."""
    world.random.shuffle(world.wishes)
    if len(world.wishes) > 2 and world.likes():
        world.wishes.pop()
    world.wishes[0]["a"]["mtu"] = world.random.choice((1300, 1400, 1500, 9000))
    if len(world.wishes) < STATIC_MOST and world.likes():
        world.wishes.append(world.new_wish())
    world.say(f"SIGHUP, with the static pairs {', '.join(str(each['name']) for each in world.wishes)}")
    world.replaced()
    world.file.write_text(world.text())
    before = world.logged("static pairs applied")
    os.kill(world.daemon.pid, signal.SIGHUP)
    eventually(lambda: world.logged("static pairs applied"), lambda count: count > before, "it is reloaded", 30)
    world.reloaded()


def reload_broken(world: World) -> None:
    """Something in the file is wrong: nothing changes, and no program is started with it."""
    broken = world.random.choice(BROKEN)
    world.say(f"SIGHUP and daemon.reexec with a file that says {broken!r}")
    world.replaced()
    world.file.write_text(broken + SETTINGS + as_toml(*world.wishes))
    before = world.logged("configuration not valid, nothing was changed")
    os.kill(world.daemon.pid, signal.SIGHUP)
    eventually(
        lambda: world.logged("configuration not valid, nothing was changed"),
        lambda count: count > before,
        "the file is refused",
        30,
    )
    refused(world, "reexec_failed", "daemon.reexec")
    world.file.write_text(world.text())


def set_sysctl(world: World) -> None:
    values = {"netdev_max_backlog": world.random.choice((100, 1000)), "dev_weight": world.random.choice((1, 16, 64))}
    values["netdev_budget"] = world.random.choice((1, 300))
    world.say(f"sysctl.set {values}")
    world.ask("sysctl.set", values=values)


# -- clients that misbehave -------------------------------------------------------------------------------------------


def hang_up_after_asking(world: World) -> None:
    """A client asks for a pair and is gone; who asks again with its token gets this pair, and there is only one."""
    params = world.wanted_pair() | {"token": fresh_name("token")}
    world.say(f"a client hangs up after link.add {params}")
    request = Request(1, "link.add", params)
    with RpcClient(world.daemon.socket) as client:
        client.send_text(request.text, tuple(request.fds))
    request.close()
    world.made(world.ask("link.add", **params))


def hang_up_half_way(world: World) -> None:
    """A client sends half a request, others never read what they asked for."""
    world.say("clients hang up half-way, and without reading")
    with RpcClient(world.daemon.socket) as client:
        client.send_text(_line("link.add", world.wanted_pair())[:-20])
    for _ in range(5):
        with RpcClient(world.daemon.socket) as client:
            client.send_text(_line("link.list", {"stats": True}) * 10 + _line("events.subscribe", {}))


def refused(world: World, kind: str, method: str, **params: Any) -> None:
    """Call a method that must be refused with this kind of error."""
    with pytest.raises(RpcError) as told:
        world.ask(method, **params)
    assert told.value.kind == kind, f"refused with {told.value!r}"


def _line(method: str, params: dict[str, Any]) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}) + "\n"


#: How often each happens, relative to the others.
ACTIONS: dict[Action, int] = {
    add: 8,
    add_several: 2,
    add_half_wrong: 2,
    delete: 8,
    delete_namespace: 3,
    rename: 8,
    move: 8,
    flip: 10,
    flip_fast: 4,
    change_mtu: 8,
    change_address: 2,
    change_txqueuelen: 2,
    change_alias: 2,
    change_pair: 8,
    kill_worker: 6,
    stop_worker: 4,
    kill_all_workers: 1,
    kill_busy_worker: 2,
    hang_worker: 2,
    kill_supervisor: 3,
    kill_all_busy: 1,
    stop_supervisor: 3,
    reexec: 2,
    reexec_by_signal: 2,
    reload: 3,
    reload_broken: 2,
    set_sysctl: 2,
    hang_up_after_asking: 3,
    hang_up_half_way: 2,
}
