"""newlink is all or nothing: whichever call to the kernel fails, at whichever time, no trace of the pair stays.

For each function that talks to the kernel a successful newlink is counted first; then there is one run per call in
which just that call fails.
"""

from __future__ import annotations

import asyncio
import errno
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.kit.commands import ip
from tests.kit.links import all_links, read_link
from tests.pairs.faults import Fault, refuse
from tests.pairs.house import House, held
from vethd.errors import KernelRefused, LimitReached, TunMissing, VethdError
from vethd.host import netns as host_netns
from vethd.host import steering, tap
from vethd.host.rtnl import Rtnl
from vethd.pairs.pair import Pair, Placement

pytestmark = pytest.mark.asyncio(loop_scope="module")

PLACEMENTS: tuple[Placement, ...] = ("move", "inside")
RETRIED = "carrier not set, trying again"


@dataclass(frozen=True)
class Seam:
    """A function that talks to the kernel, as newlink uses it."""

    owner: Any
    name: str

    def fault(self, house: House, nth: int = 0, instead: Callable[[], None] | None = None) -> Fault:
        staging = house.supervisor.threads.staging
        # The setns that brings a thread home is not made to fail: there would be no home left to fail in.
        return Fault(self.owner, self.name, nth, instead, lambda *args, **_kwargs: args[:1] != (staging,))


SEAMS = {
    "setns": Seam(host_netns, "setns"),
    "rtnetlink socket": Seam(Rtnl, "__init__"),
    "RTM_GETLINK": Seam(Rtnl, "get_link"),
    "RTM_SETLINK": Seam(Rtnl, "set_link"),
    "RTM_NEWQDISC": Seam(Rtnl, "set_noqueue"),
    "RTM_GETNSID": Seam(Rtnl, "assign_nsid"),
    "TUNSETIFF": Seam(tap, "open_queue"),
    "TUNSETOFFLOAD": Seam(tap, "set_offload"),
    "TUNGETIFF": Seam(tap, "current_name"),
    "TUNSETCARRIER": Seam(tap, "set_carrier"),
}
#: Those that a pair of several queues uses in another way, or alone does.
SEVERAL = {
    "TUNSETIFF": SEAMS["TUNSETIFF"],
    "TUNGETIFF": SEAMS["TUNGETIFF"],
    "SIOCGIFHWADDR": Seam(tap, "_address"),
    "BPF_PROG_LOAD": Seam(steering, "_load"),
    "TUNSETSTEERINGEBPF": Seam(steering, "steer"),
}
#: Those that placement `inside` uses in another way than `move`.
DIFFERENT_INSIDE = ("setns", "rtnetlink socket", "RTM_GETLINK", "RTM_SETLINK", "TUNSETIFF")


def assert_whole(house: House, pair: Pair, two: tuple[str, str]) -> None:
    """The pair is what was asked for, in the kernel, in the picture and in the tables."""
    assert pair.carrier
    assert list(house.supervisor.registry) == [pair]
    for end, netns in zip(pair.ends, two, strict=True):
        state = read_link(netns, end.ifname)
        assert (state.up, state.carrier, state.qdisc) == (True, True, "noqueue")
        assert (end.ifindex, end.address, end.mtu, end.up) == (state.ifindex, state.address, state.mtu, True)
        assert state.attributes["IFLA_IFALIAS"] == f"vethd {pair.uuid} peer {end.peer.ifname}"


@pytest.mark.parametrize(
    ("seam", "placement"), [*((seam, "move") for seam in SEAMS), *((seam, "inside") for seam in DIFFERENT_INSIDE)]
)
async def test_each_call_that_fails_leaves_nothing(
    house: House, two: tuple[str, str], seam: str, placement: Placement
) -> None:
    await fail_each_call(house, two, SEAMS[seam], placement, numqueues=1)


@pytest.mark.parametrize("seam", ["setns", "RTM_SETLINK", "TUNSETIFF"])
async def test_nor_does_one_about_an_end_in_the_daemons_own_namespace(
    house: House, two: tuple[str, str], seam: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with held(two[0]) as fd:
        identity = host_netns.identity(fd)
    monkeypatch.setattr(host_netns, "home", lambda: identity)
    await fail_each_call(house, two, SEAMS[seam], "move", numqueues=1)


@pytest.mark.parametrize("seam", SEVERAL)
@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_each_call_that_fails_leaves_no_queue(
    house: House, two: tuple[str, str], seam: str, placement: Placement
) -> None:
    await fail_each_call(house, two, SEVERAL[seam], placement, numqueues=3)


async def fail_each_call(
    house: House, two: tuple[str, str], seam: Seam, placement: Placement, *, numqueues: int
) -> None:
    """One call after the other: a clear error and no trace - or, where the step was done again, a whole pair."""
    house.expect(RETRIED)
    await house.dellink(await house.newlink(*two, placement=placement, numqueues=numqueues))
    before = await house.inventory(*two)
    with seam.fault(house) as count:
        whole = await house.newlink(*two, placement=placement, numqueues=numqueues)
    await house.dellink(whole)
    assert count.calls > 0, "newlink does not use this function"

    failures = 0
    for nth in range(1, count.calls + 1):
        with seam.fault(house, nth) as fault:
            (outcome,) = await asyncio.gather(
                house.newlink(*two, placement=placement, numqueues=numqueues), return_exceptions=True
            )
        if isinstance(outcome, Pair):
            assert not fault.happened or house.lines(RETRIED), f"call {nth} failed and nobody noticed"
            assert_whole(house, outcome, two)
            await house.dellink(outcome)
        else:
            failures += 1
            assert fault.happened
            assert isinstance(outcome, VethdError), f"call {nth} failed, and the client was told {outcome!r}"
            assert outcome.errno == errno.ENOMEM
            assert re.match(r"end [ab]: .*Cannot allocate memory", outcome.message)
            assert outcome.hint
        assert await house.inventory(*two) == before, f"something of the pair stayed after call {nth} failed"
    assert failures > 0
    assert_whole(house, await house.newlink(*two, placement=placement, numqueues=numqueues), two)


@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_a_carrier_that_can_never_be_set_fails_the_creation(
    house: House, two: tuple[str, str], placement: Placement, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.expect(RETRIED)
    await house.dellink(await house.newlink(*two, placement=placement))
    before = await house.inventory(*two)

    def refused(_fd: int, _on: bool) -> None:
        refuse(errno.EPERM)()

    with monkeypatch.context() as patched:
        patched.setattr(tap, "set_carrier", refused)
        with pytest.raises(KernelRefused, match=r"end a: setting the carrier: Operation not permitted"):
            await house.newlink(*two, placement=placement)
    assert await house.inventory(*two) == before


@pytest.mark.parametrize(("number", "remedy"), [(errno.EMFILE, "LimitNOFILE"), (errno.ENFILE, "fs.file-max")])
@pytest.mark.parametrize("seam", ["rtnetlink socket", "RTM_GETNSID", "RTM_SETLINK"])
async def test_descriptors_that_run_out_are_a_limit_with_a_remedy(
    house: House, two: tuple[str, str], seam: str, number: int, remedy: str
) -> None:
    with SEAMS[seam].fault(house, 1, refuse(number)), pytest.raises(LimitReached, match=r"end [ab]: ") as caught:
        await house.newlink(*two)
    assert caught.value.hint is not None
    assert remedy in caught.value.hint
    assert caught.value.errno == number


async def test_without_bpf_there_is_one_queue(house: House, two: tuple[str, str]) -> None:
    """A flow would change queues, and its frames overtake one another."""
    before = await house.inventory(*two)

    def refused() -> None:
        raise KernelRefused("bpf(BPF_PROG_LOAD): Operation not permitted", hint="numqueues 1", errno=errno.EPERM)

    with Fault(steering, "_load", 1, refused), pytest.raises(KernelRefused) as caught:
        await house.newlink(*two, numqueues=2)
    assert caught.value.message == "end b: steering its queues: bpf(BPF_PROG_LOAD): Operation not permitted"
    assert await house.inventory(*two) == before
    with Fault(steering, "_load", 1, refused) as fault:
        assert_whole(house, await house.newlink(*two), two)
    assert fault.calls == 0


async def test_a_device_that_is_swapped_while_it_is_opened_is_not_taken(house: House, two: tuple[str, str]) -> None:
    """Somebody in the namespace renames it: the next queue would be a device of its own under the old name."""
    before = await house.inventory(*two)

    def rename() -> None:
        (name,) = (name for name, state in all_links(two[1]).items() if state.kind == "tun")
        ip(two[1], "link", "set", "dev", name, "name", f"{name[:9]}x")

    with Fault(tap, "open_queue", 2, rename) as fault, pytest.raises(KernelRefused, match="end b: creating it: "):
        await house.newlink(*two, placement="inside", numqueues=2)
    assert fault.happened
    assert await house.inventory(*two) == before


async def test_the_error_of_the_tun_driver_names_end_and_step(house: House, two: tuple[str, str]) -> None:
    def missing() -> None:
        raise TunMissing("/dev/net/tun: No such file or directory", hint="load the tun module", errno=errno.ENOENT)

    with SEAMS["TUNSETIFF"].fault(house, 2, missing), pytest.raises(TunMissing) as caught:
        await house.newlink(*two)
    assert caught.value.message == "end a: creating it: /dev/net/tun: No such file or directory"
    assert (caught.value.hint, caught.value.errno) == ("load the tun module", errno.ENOENT)
