"""setlink is all or nothing: whichever call to the kernel fails, at whichever time, both ends are as they were.

For each function that talks to the kernel a successful change is counted first; then there is one run per call in which
just that call fails.
"""

from __future__ import annotations

import asyncio
import errno
import re
from typing import Any
from unittest.mock import patch

import pytest

from tests.kit.commands import ip
from tests.kit.links import all_links, read_link
from tests.kit.netns import Namespaces
from tests.pairs.faults import Fault, refuse
from tests.pairs.house import House, held, soon
from vethd.errors import KernelRefused, LimitReached, LinkExists, VethdError
from vethd.host import netns as host_netns
from vethd.host import tap
from vethd.host.rtnl import Rtnl
from vethd.pairs import carrier, follow
from vethd.pairs.change import EndChange, PairChange
from vethd.pairs.pair import Pair

pytestmark = pytest.mark.asyncio(loop_scope="module")

RETRIED = ("carrier not set, trying again", "end not reached, trying again", "following a link failed")
SEAMS = {
    "setns": (host_netns, "setns"),
    "RTM_GETLINK": (Rtnl, "get_link"),
    "RTM_SETLINK": (Rtnl, "set_link"),
    "RTM_NEWQDISC": (Rtnl, "set_noqueue"),
    "TUNGETDEVNETNS": (tap, "current_netns"),
}
A: dict[str, Any] = {
    "ifname": "vtpnewa",
    "address": "02:76:74:70:00:0a",
    "mtu": 9000,
    "txqueuelen": 64,
    "alias": "new a",
}
B: dict[str, Any] = {"ifname": "vtpnewb", "address": "02:76:74:70:00:0b", "mtu": 8000, "txqueuelen": 65}


def fault(house: House, seam: str, nth: int = 0, number: int = errno.ENOMEM) -> Fault:
    owner, name = SEAMS[seam]
    staging = house.supervisor.threads.staging
    # The setns that brings a thread home is not made to fail: there would be no home left to fail in.
    return Fault(owner, name, nth, refuse(number), lambda *args, **_kwargs: args[:1] != (staging,))


def looks(*places: str) -> dict[tuple[str, str], Any]:
    """Everything that a change may change, as the kernel has it; by device."""
    found: dict[tuple[str, str], Any] = {}
    for where in places:
        for name, state in all_links(where).items():
            if name == "lo":
                continue
            found[where, name] = (state.address, state.mtu, state.txqlen, state.up, state.carrier, state.qdisc)
            found[where, name] += (state.attributes.get("IFLA_IFALIAS"),)
    return found


def assert_picture(pair: Pair, places: tuple[str, str]) -> None:
    """The picture is that of the kernel."""
    for end, where in zip(pair.ends, places, strict=True):
        state = read_link(where, end.ifname)
        assert (end.address, end.mtu, end.txqlen, end.up) == (state.address, state.mtu, state.txqlen, state.up)
        assert (end.alias, pair.carrier) == (state.attributes["IFLA_IFALIAS"], state.carrier)


async def change_and_undo(
    house: House, pair: Pair, there: str, seam: str, nth: int, number: int = errno.ENOMEM
) -> VethdError | None:
    """Change everything while call `nth` fails: the error, or None when the change was made all the same."""
    with held(there) as fd, fault(house, seam, nth, number) as failing:
        change = PairChange(EndChange(netns=fd, up=True, **A), EndChange(up=False, **B))
        (outcome,) = await asyncio.gather(
            house.supervisor.changer.setlink(pair, change, "the test wants it"), return_exceptions=True
        )
    assert failing.happened or outcome is None
    assert outcome is None or isinstance(outcome, VethdError), f"call {nth} failed, and the client was told {outcome!r}"
    return outcome


async def put_back(
    house: House, pair: Pair, two: tuple[str, str], names: tuple[str, str], first: tuple[str, ...]
) -> None:
    """Change everything back to what it was at first."""
    with held(two[0]) as fd:
        a = EndChange(names[0], fd, first[0], 1500, 1000, "", up=True)
        b = EndChange(names[1], None, first[1], 1500, 1000, "", up=True)
        await house.supervisor.changer.setlink(pair, PairChange(a, b), "back")


@pytest.mark.parametrize("seam", SEAMS)
async def test_each_call_that_fails_leaves_everything_as_it_was(
    house: House, two: tuple[str, str], netns: Namespaces, seam: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.expect(*RETRIED)
    for module in (carrier, follow):
        monkeypatch.setattr(module, "RETRY", 0.01)
    there = netns.make()
    pair = await house.newlink(*two)
    places = (*two, there)
    before = looks(*places)
    names, addresses = (pair.a.ifname, pair.b.ifname), (pair.a.address, pair.b.address)

    with fault(house, seam) as count:
        assert await change_and_undo(house, pair, there, seam, 0) is None
    after = looks(*places)
    assert after != before
    await put_back(house, pair, two, names, addresses)
    assert looks(*places) == before
    inventory = await house.inventory(*places)
    assert count.calls > 0, "setlink does not use this function"

    failures = 0
    for nth in range(1, count.calls + 1):
        error = await change_and_undo(house, pair, there, seam, nth)
        if error is None:
            await house.handled_events()
            assert looks(*places) == after
            assert_picture(pair, (there, two[1]))
            await put_back(house, pair, two, names, addresses)
        else:
            failures += 1
            assert re.match(r"(end [ab]: [a-z ]+|following the change): Cannot allocate memory", error.message)
            assert (error.errno, bool(error.hint)) == (errno.ENOMEM, True)
            await house.handled_events()
        assert looks(*places) == before, f"something stayed after call {nth} failed: {error}"
        assert_picture(pair, two)
        assert await house.inventory(*places) == inventory
    assert failures > 0
    assert house.lines("change not undone") == []
    await house.assert_wire(pair, two)


async def test_a_carrier_that_can_not_be_set_fails_the_change(
    house: House, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    house.expect(*RETRIED)
    monkeypatch.setattr(carrier, "RETRY", 0.01)
    pair = await house.newlink(*two)
    before = looks(*two)

    def refused(_fd: int, _on: bool) -> None:
        refuse(errno.EPERM)()

    with monkeypatch.context() as patched:
        patched.setattr(tap, "set_carrier", refused)
        with pytest.raises(KernelRefused, match="following the change: Operation not permitted"):
            await house.supervisor.changer.setlink(pair, PairChange(EndChange(mtu=9000, up=False)), "")
        assert (read_link(two[0], pair.a.ifname).up, pair.a.mtu) == (True, 1500)
    await soon(lambda: looks(*two), lambda now: now == before, "all is as before")
    await house.handled_events()
    await house.assert_wire(pair, two)


async def test_one_refusal_of_the_carrier_is_no_reason_to_fail(
    house: House, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    house.expect(*RETRIED)
    pair = await house.newlink(*two)
    with Fault(tap, "set_carrier", 1) as failing:
        await house.supervisor.changer.setlink(pair, PairChange(EndChange(up=False)), "")
    assert failing.happened
    assert [read_link(where, end.ifname).carrier for where, end in zip(two, pair.ends, strict=True)] == [False, False]


@pytest.mark.parametrize(("number", "limit"), [(errno.EMFILE, "RLIMIT_NOFILE"), (errno.ENFILE, "on this machine")])
async def test_descriptors_that_run_out_are_a_limit_with_a_remedy(
    house: House, two: tuple[str, str], number: int, limit: str
) -> None:
    pair = await house.newlink(*two)
    with fault(house, "RTM_SETLINK", 1, number), pytest.raises(LimitReached) as refused:
        await house.supervisor.changer.setlink(pair, PairChange(b=EndChange(mtu=9000)), "")
    assert refused.value.message.startswith("end b: setting its mtu: no file descriptor is free")
    assert limit in refused.value.message
    assert (refused.value.hint or "").startswith("raise ")


@pytest.mark.parametrize(
    ("fields", "nth", "message"),
    [
        ({"address": "02:76:74:70:00:0a"}, 1, "setting its address"),
        ({"mtu": 9000}, 1, "setting its mtu"),
        ({"alias": "x"}, 1, "setting its alias"),
        ({"txqueuelen": 64}, 1, "setting its txqueuelen"),
        ({"ifname": "vtpnew"}, 1, "renaming it"),
        ({"netns": ""}, 1, "moving it"),
        ({"netns": "", "up": True}, 2, "setting it up"),
        ({"mtu": 9000, "up": False}, 2, "setting it down"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
async def test_the_error_names_end_and_step(
    house: House, two: tuple[str, str], fields: dict[str, Any], nth: int, message: str
) -> None:
    pair = await house.newlink(*two)
    before = looks(*two)
    with held(two[1]) as fd, fault(house, "RTM_SETLINK", nth, errno.EBUSY):
        change = PairChange(EndChange(**fields | ({"netns": fd} if "netns" in fields else {})))
        with pytest.raises(KernelRefused) as refused:
            await house.supervisor.changer.setlink(pair, change, "")
    assert refused.value.message == f"end a: {message}: Device or resource busy"
    assert (refused.value.hint, refused.value.errno) == ("nothing was changed", errno.EBUSY)
    assert looks(*two) == before
    await house.assert_wire(pair, two)


async def test_a_name_that_is_taken_between_look_and_move_undoes_the_move(
    house: House, two: tuple[str, str], netns: Namespaces
) -> None:
    """The kernel moves first and renames then; what it says to that is not what it has done."""
    pair, there = await house.newlink(*two), netns.make()
    before = looks(two[0], two[1])

    def take_it() -> None:
        ip(there, "link", "add", "name", "vtptaken", "type", "bridge")

    meanwhile = Fault(Rtnl, "set_link", 1, take_it, lambda *_args, **fields: fields.get("net_ns_fd") is not None)
    with held(there) as fd, meanwhile:
        change = PairChange(EndChange("vtptaken", fd, mtu=9000, up=True))
        with pytest.raises(LinkExists) as refused:
            await house.supervisor.changer.setlink(pair, change, "")
    assert refused.value.message == "end a: name 'vtptaken' exists in the namespace already"
    await house.handled_events()
    assert looks(two[0], two[1]) == before
    await house.assert_wire(pair, two)


async def test_what_can_not_be_undone_is_logged(house: House, two: tuple[str, str]) -> None:
    house.expect("change not undone")
    pair = await house.newlink(*two)
    really, calls = Rtnl.set_link, 0

    def only_the_first(rtnl: Rtnl, *args: Any, **fields: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            refuse(errno.EPERM)()
        really(rtnl, *args, **fields)

    change = PairChange(EndChange(mtu=9000), EndChange(mtu=9000))
    with patch.object(Rtnl, "set_link", only_the_first), pytest.raises(KernelRefused, match="end b: setting its mtu"):
        await house.supervisor.changer.setlink(pair, change, "")
    (line,) = house.lines("change not undone")
    assert (line["pair"], line["step"]) == (str(pair.uuid), "end a: mtu")
    assert (pair.a.mtu, pair.b.mtu) == (9000, 1500)
