"""Placement `move` where an end belongs into the daemon's own namespace: it is opened there, and pins nothing else."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.kit.commands import ip
from tests.kit.daemon import Daemon
from tests.kit.links import sysfs_value
from tests.kit.netns import RUN_NETNS, Namespaces
from tests.kit.pairs import Pair, make_pair
from tests.kit.rpc import RpcError
from tests.pairs.faults import Fault
from tests.pairs.house import House, held
from tests.pairs.watching import followed, move, set_end, wait_gone, works
from vethd.daemon.state import _ask_the_kernel
from vethd.host import netns as host_netns
from vethd.host.rtnl import Rtnl
from vethd.pairs.pair import Placement


@pytest.fixture
def home(netns: Namespaces) -> str:
    """The namespace that `lodger` runs in."""
    return netns.make()


@pytest.fixture
def lodger(start_daemon: Callable[..., Daemon], home: str) -> Daemon:
    """A daemon in a namespace that the test may look at."""
    return start_daemon(prefix=["nsenter", f"--net={RUN_NETNS / home}"])


def test_such_a_pair_is_like_any_other(lodger: Daemon, home: str, netns: Namespaces) -> None:
    """Its names and addresses are what they would be, its ends are followed, and it keeps no namespace alive."""
    ip(home, "tuntap", "add", "mode", "tap", "name", "vtptap")
    with pytest.raises(RpcError, match="end a: name 'vtptap' exists in the namespace already") as refused:
        lodger.call("link.add", {"a": {"netns": home, "ifname": "vtptap"}, "b": {"netns": home}})
    assert refused.value.kind == "link_exists"
    ip(home, "link", "add", "name", "vtp0", "type", "bridge")

    pair = make_pair(lodger, home, netns.make(), a={"ifname": "vtp%d"})
    assert pair.a.name == "vtp1"
    assert lodger.pairs()[0]["placement"] == "move"
    assert sysfs_value(home, pair.a.name, "addr_assign_type") == "3", "udev leaves it alone"
    assert works(pair)
    netns.delete(pair.b.netns)
    wait_gone(pair)

    moved = in_a_container(lodger, home, netns.make())
    netns.delete(moved.b.netns)
    wait_gone(moved)
    assert netns.undead() == []


def in_a_container(daemon: Daemon, home: str, there: str) -> Pair:
    """A pair that is made at home altogether, and of which an end is moved then, as docker does."""
    pair = make_pair(daemon, home, home)
    move(pair.b, there)
    set_end(pair.b, "up")
    followed(pair)
    pair.wait_carrier()
    assert works(pair)
    return pair


@pytest_asyncio.fixture(loop_scope="module")
async def at_home(house: House, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Two namespaces, the first of which the house takes for its own."""
    with held(two[0]) as fd:
        identity = host_netns.identity(fd)
    monkeypatch.setattr(host_netns, "home", lambda: identity)
    return two


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("ends", "moves"), [((0, 1), 1), ((1, 0), 1), ((0, 0), 0), ((1, 1), 2)])
async def test_what_belongs_there_is_not_moved(
    house: House, at_home: tuple[str, str], ends: tuple[int, int], moves: int
) -> None:
    a, b = (at_home[which] for which in ends)
    with Fault(Rtnl, "set_link", concerns=lambda *_args, **said: "net_ns_fd" in said) as count:
        pair = await house.newlink(a, b)
    assert (count.calls, pair.placement) == (moves, "move")
    await house.assert_wire(pair, (a, b))


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("ends", [(0, 1), (1, 0), (0, 0), (1, 1)])
@pytest.mark.parametrize("placement", ["move", "inside"])
async def test_the_kernel_tells_how_a_pair_was_made(
    house: House, at_home: tuple[str, str], ends: tuple[int, int], placement: Placement
) -> None:
    """Where both ends belong into the daemon's own namespace it makes no difference."""
    pair = await house.newlink(at_home[ends[0]], at_home[ends[1]], placement=placement)
    entry = await house.supervisor.threads.follow(_ask_the_kernel, uuid4(), pair.a.fd, pair.b.fd, (0, 1))
    assert entry is not None
    assert entry.placement == ("move" if ends == (0, 0) else placement)
