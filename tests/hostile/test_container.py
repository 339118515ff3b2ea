"""What the root of a container can do to its end: it harms the container alone; twin, daemon and others go on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile.container import (
    IFF_MULTI_QUEUE,
    IFF_NO_PI,
    IFF_TAP,
    IFF_VNET_HDR,
    Container,
    container,
)
from tests.kit.daemon import Daemon
from tests.kit.frames import frame
from tests.kit.netns import Namespaces
from tests.kit.packets import PacketSocket
from tests.kit.pairs import Pair, make_pair, make_pair_between_fresh
from tests.kit.waiting import eventually
from tests.pairs.killing import Flood
from tests.pairs.watching import followed, passes, wait_gone, works

TAP = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR


@pytest.fixture
def hostile(netns: Namespaces) -> Iterator[Container]:
    """A container."""
    with container(netns) as made:
        yield made


@pytest.fixture
def its_pair(hostile: Container, shared_daemon: Daemon, netns: Namespaces) -> Iterator[Pair]:
    """A pair, up, whose end A is in the container."""
    made = make_pair(shared_daemon, hostile.name, netns.make())
    yield made
    if made.b.exists:
        made.delete()


def test_it_can_use_its_end_as_root_uses_a_veth(hostile: Container, its_pair: Pair) -> None:
    hostile.root("ip", "address", "add", "192.0.2.1/24", "dev", its_pair.a.name)
    assert works(its_pair)


def test_it_deletes_its_end_and_the_twin_goes_too(hostile: Container, its_pair: Pair) -> None:
    hostile.root("ip", "link", "delete", its_pair.a.name)
    wait_gone(its_pair)


def test_it_flips_its_carrier_and_the_daemon_has_the_last_word(hostile: Container, its_pair: Pair) -> None:
    flips = "; ".join(f"ip link set {its_pair.a.name} carrier {word}" for word in ("off", "on") * 20)
    hostile.root("sh", "-c", f"{flips}; ip link set {its_pair.a.name} carrier off")
    eventually(lambda: works(its_pair), bool, "frames cross again")
    its_pair.wait_carrier()


def test_it_renames_its_end_again_and_again_and_is_followed(hostile: Container, its_pair: Pair) -> None:
    before = its_pair.a.name
    names = [f"x{number}" for number in range(20)]
    steps = zip([before, *names], names, strict=False)
    hostile.root("sh", "-ec", "; ".join(f"ip link set {old} name {new}" for old, new in steps))
    its_pair.a.name = names[-1]
    followed(its_pair)
    assert works(its_pair)


def test_an_mtu_of_68_limits_what_comes_in_and_nothing_else(hostile: Container, its_pair: Pair) -> None:
    hostile.root("ip", "link", "set", its_pair.a.name, "mtu", "68")
    followed(its_pair)
    assert passes(its_pair.b, its_pair.a, 86)
    with PacketSocket(its_pair.b.netns, its_pair.b.name) as sender:
        sender.send(frame(87))
    assert its_pair.wait_quiet()["b"]["drops"]["PKT_TOO_BIG"] == 1


def test_its_flood_leaves_others_their_turn(
    hostile: Container, its_pair: Pair, shared_daemon: Daemon, netns: Namespaces
) -> None:
    other = make_pair_between_fresh(shared_daemon, netns)
    flood = Flood(its_pair)
    flood.start()
    try:
        assert all(works(other) for _ in range(5))
    finally:
        flood.stop()
    its_pair.wait_quiet(within=20)


def test_it_can_add_no_queue_to_its_end(hostile: Container, its_pair: Pair) -> None:
    with hostile.queue(its_pair.a.name, TAP) as outcome:
        assert outcome == "EBUSY"
    with hostile.queue(its_pair.a.name, TAP | IFF_MULTI_QUEUE) as outcome:
        assert outcome == "EINVAL"
    assert works(its_pair)


def test_to_an_end_of_several_queues_it_can_add_one_and_harms_itself_alone(
    hostile: Container, shared_daemon: Daemon, netns: Namespaces
) -> None:
    """No owner that TUNSETOWNER could set keeps root out. What it takes are frames that it sends itself; the twin goes
    nevertheless, and the device with it."""
    pair = make_pair(shared_daemon, hostile.name, netns.make(), numqueues=2)
    other = make_pair_between_fresh(shared_daemon, netns)
    with hostile.queue(pair.a.name, TAP) as outcome:
        assert outcome == "EINVAL"
    with hostile.queue(pair.a.name, TAP | IFF_MULTI_QUEUE) as outcome:
        assert outcome == "ok"
        assert passes(pair.b, pair.a)
        assert works(other)
        pair.daemon.call("link.del", {"pair": pair.uuid})
        wait_gone(pair)
