"""link.add of several pairs: all of them or none, and the answer says which one could not be."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import pytest_asyncio

from tests.kit.daemon import Daemon
from tests.kit.links import all_links, read_link
from tests.kit.netns import RUN_NETNS, Namespaces
from tests.kit.rpc import RpcError
from tests.pairs.faults import Fault
from tests.pairs.house import House, held
from tests.pairs.killing import log_lines
from tests.rpc.talk import Talk, refused, request, result
from vethd.errors import InvalidName, KernelRefused, LinkExists
from vethd.host import tap
from vethd.host.rtnl import Rtnl
from vethd.pairs.create import Creator
from vethd.pairs.pair import Pair
from vethd.pairs.several import newlinks
from vethd.pairs.spec import EndSpec, PairSpec

TWO = tuple[str, str]


@pytest.fixture
def two(netns: Namespaces) -> TWO:
    """The names of two fresh namespaces."""
    return netns.make(), netns.make()


def pairs_between(two: TWO, count: int, **more: Any) -> list[dict[str, Any]]:
    """What link.add is asked for; their ends are called vtma0, vtmb0, vtma1 ..."""
    return [
        {
            "a": {"ifname": f"vtma{number}", "netns": two[0], "up": True},
            "b": {"ifname": f"vtmb{number}", "netns": two[1], "up": True},
            "placement": "inside",
            **more,
        }
        for number in range(count)
    ]


def with_end(pairs: list[dict[str, Any]], index: int, letter: str, **fields: Any) -> list[dict[str, Any]]:
    pairs[index][letter] = pairs[index][letter] | fields
    return pairs


def assert_nothing_made(daemon: Daemon, two: TWO) -> None:
    assert daemon.pairs() == []
    assert all_links(two[0]).keys() == all_links(two[1]).keys() == {"lo"}


def test_several_pairs_are_made_in_order(shared_daemon: Daemon, two: TWO) -> None:
    asked = with_end(pairs_between(two, 10), 3, "b", mtu=9000, address="02:00:00:00:00:03")
    asked[4] = {"a": {"netns": two[0], "mtu": 2000}, "placement": "inside"}
    made = shared_daemon.call("link.add", {"pairs": asked})
    assert [pair["pair"] for pair in made] == [
        pair["pair"] for pair in sorted(made, key=lambda pair: pair["generation"])
    ]
    listed = {pair["pair"]: pair for pair in shared_daemon.pairs()}
    assert [listed[pair["pair"]] for pair in made] == made
    for number, pair in enumerate(made):
        assert pair["a"]["netns"] == two[0]
        if number != 4:
            assert (pair["a"]["ifname"], pair["b"]["ifname"]) == (f"vtma{number}", f"vtmb{number}")
            assert pair["a"]["carrier"]
            assert read_link(two[1], f"vtmb{number}").carrier
    assert (made[3]["b"]["mtu"], made[3]["b"]["address"]) == (9000, "02:00:00:00:00:03")
    assert (made[4]["b"]["mtu"], made[4]["a"]["up"], made[4]["a"]["ifname"]) == (2000, False, "veth0")


def test_one_pair_in_a_list_is_answered_with_a_list(shared_daemon: Daemon, two: TWO) -> None:
    (made,) = shared_daemon.call("link.add", {"pairs": pairs_between(two, 1)})
    assert shared_daemon.pairs() == [made]


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"ifname": "a/b"}, "invalid_name", "pairs.3: end b: name 'a/b' is not valid"),
        ({"mtu": 1}, "mtu_out_of_range", "pairs.3: end b: mtu 1 is not in 68..65521: as with kernel veth"),
        ({"ifname": "lo"}, "link_exists", "pairs.3: end b: name 'lo' exists in the namespace already"),
        ({"ifname": "vtmb1"}, "link_exists", "pairs.3: end b: name 'vtmb1' is that of pairs.1: end b"),
        ({"netns": "vtm-none"}, "no_such_netns", "pairs.3: end b: netns 'vtm-none': No such file or directory"),
        ({"netns": {"fd": 0}}, "invalid_params", "pairs.3: end b: netns: netns.fd 0, but 0 file descriptors came with"),
        ({"netns": {"pid": "1"}}, "invalid_params", 'pairs.3.b.netns.pid: must be a valid integer, not "1"'),
    ],
)
def test_a_pair_that_can_not_be_is_named_before_anything_is_made(
    shared_daemon: Daemon, two: TWO, change: dict[str, Any], kind: str, message: str
) -> None:
    before = len(log_lines(shared_daemon, "link added"))
    with pytest.raises(RpcError) as caught:
        shared_daemon.call("link.add", {"pairs": with_end(pairs_between(two, 5), 3, "b", **change)})
    assert caught.value.kind == kind
    assert caught.value.message.startswith(message)
    assert_nothing_made(shared_daemon, two)
    assert len(log_lines(shared_daemon, "link added")) == before


def test_a_namespace_is_the_same_however_it_is_named(shared_daemon: Daemon, two: TWO) -> None:
    asked = with_end(pairs_between(two, 3), 2, "a", netns=str(RUN_NETNS / two[1]), ifname="vtmb0")
    with pytest.raises(RpcError, match=r"pairs\.2: end a: name 'vtmb0' is that of pairs\.0: end b"):
        shared_daemon.call("link.add", {"pairs": asked})
    assert_nothing_made(shared_daemon, two)


def test_one_name_in_two_namespaces_and_patterns_are_no_conflict(shared_daemon: Daemon, two: TWO) -> None:
    asked = [
        {"a": {"ifname": "vtmsame", "netns": two[0]}, "b": {"ifname": "vtmsame", "netns": two[1]}},
        {"a": {"ifname": "vtm%d", "netns": two[0]}, "b": {"ifname": "vtm%d", "netns": two[0]}},
    ]
    made = shared_daemon.call("link.add", {"pairs": [{**pair, "placement": "inside"} for pair in asked]})
    assert {made[1][letter]["ifname"] for letter in "ab"} == {"vtm0", "vtm1"}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"pairs": []}, "pairs: "),
        ({"pairs": [{}] * 1001}, "pairs: "),
        ({"pairs": [{}], "placement": "inside", "a": {}}, "a, placement: goes into each of pairs, not beside it"),
        ({"pairs": [{}, {"token": "x"}]}, "pairs.1.token: unknown"),
        ({"pairs": [{}, {"b": {"nme": "x"}}]}, "pairs.1.b.nme: unknown"),
    ],
)
def test_what_goes_beside_and_into_pairs(shared_daemon: Daemon, talk: Talk, params: Any, message: str) -> None:
    talk.say(request(1, "link.add", **params))
    assert talk.hear(refused(1, "invalid_params"))["error"]["message"].startswith(message)
    assert shared_daemon.pairs() == []


def test_the_limit_is_that_of_all_of_them(start_daemon: Callable[..., Daemon], two: TWO) -> None:
    daemon = start_daemon(config="[limits]\nmax_pairs = 4\n")
    for asked, queues in ((pairs_between(two, 5), 5), (pairs_between(two, 3, numqueues=2), 6)):
        with pytest.raises(RpcError, match="limit_reached") as caught:
            daemon.call("link.add", {"pairs": asked})
        assert caught.value.message == f"pairs: {len(asked)} pairs need {queues} queues, 4 are left"
        assert_nothing_made(daemon, two)
    for _ in range(3):  # also when those before have only just gone
        made = daemon.call("link.add", {"pairs": pairs_between(two, 4)})
        for pair in made:
            daemon.call("link.del", {"pair": pair["pair"]})


def test_those_that_were_made_go_again_when_one_fails(shared_daemon: Daemon, two: TWO) -> None:
    """The name that the pattern finds is asked for by the last one: nobody knows before it is there."""
    for placement in ("inside", "move"):
        asked = pairs_between(two, 6, placement=placement)
        asked = with_end(with_end(asked, 0, "a", ifname="vtmx%d"), 5, "a", ifname="vtmx0")
        with pytest.raises(RpcError, match="link_exists") as caught:
            shared_daemon.call("link.add", {"pairs": asked})
        assert caught.value.message == "pairs.5: end a: name 'vtmx0' exists in the namespace already"
        assert_nothing_made(shared_daemon, two)


def test_of_two_that_want_the_same_names_one_gets_all(talker: Callable[..., Talk], two: TWO) -> None:
    talks = talker(), talker()
    for turn in range(10):
        for talk, order in zip(talks, (1, -1), strict=True):
            talk.say(request(turn, "link.add", pairs=pairs_between(two, 8)[::order]))
        answers = [talk.hear(_Either(turn)) for talk in talks]
        won = [answer["result"] for answer in answers if "result" in answer]
        assert len(won) <= 1
        made = {pair[letter]["ifname"] for pairs in won for pair in pairs for letter in "ab"}
        assert (all_links(two[0]).keys() | all_links(two[1]).keys()) - {"lo"} == made
        for pair in won[0] if won else []:
            talks[0].say(request("del", "link.del", pair=pair["pair"]))
            talks[0].hear(result("del"))


class _Either:
    """Equal to a result, and to the refusal of a name."""

    def __init__(self, number: int) -> None:
        self._answers = result(number), refused(number, "link_exists")

    def __eq__(self, other: object) -> bool:
        return other in self._answers

    def __hash__(self) -> int:
        return 0


# -- whatever fails ---------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def house(tmp_path: Path, two: TWO) -> AsyncIterator[House]:
    """A supervisor that stops before the namespaces are looked at: its pairs hold them."""
    built = House(tmp_path)
    await built.supervisor.start()
    try:
        yield built
    finally:
        await built.supervisor.stop()
    assert built.troubles() == []


async def make(house: House, two: TWO, count: int) -> list[Pair]:
    with ExitStack() as fds:
        a, b = (fds.enter_context(held(place)) for place in two)
        specs = [
            PairSpec(EndSpec("a", f"vtma{n}", a, up=True), EndSpec("b", f"vtmb{n}", b, up=True), "inside")
            for n in range(count)
        ]
        parts = house.supervisor
        return await newlinks(specs, parts.creator, parts.deleter, parts.registry, parts.threads)


async def test_whichever_call_fails_nothing_is_left(house: House, two: TWO) -> None:
    for pair in await make(house, two, 2):  # what the first pair leaves for ever: ids of the namespaces
        await house.dellink(pair)
    before = await house.inventory(*two)
    for owner, name, calls in (
        (Rtnl, "set_noqueue", (1, 7, 20)),
        (tap, "set_carrier", (1, 12)),
        (Rtnl, "__init__", (2, 9)),
    ):
        for nth in calls:
            with Fault(owner, name, nth) as fault, pytest.raises(KernelRefused, match=r"pairs\.\d+: end [ab]: "):
                await make(house, two, 10)
            assert fault.happened
            assert await house.inventory(*two) == before
    assert len(await make(house, two, 10)) == 10


async def test_a_pair_that_somebody_deletes_meanwhile_takes_the_others_along(house: House, two: TWO) -> None:
    creator_make = Creator.make

    async def make_and_delete_the_second(creator: Creator, spec: PairSpec, numbers: tuple[int, ...]) -> Pair:
        pair = await creator_make(creator, spec, numbers)
        if spec.a.ifname == "vtma1":
            house.supervisor.deleter.start(pair, "somebody deletes it")
        return pair

    with patch.object(Creator, "make", make_and_delete_the_second), pytest.raises(KernelRefused) as caught:
        await make(house, two, 6)
    assert caught.value.message == "pairs.1: one of the ends was deleted while the pair was made"
    await house.closed()
    assert len(house.supervisor.registry) == 0
    assert all_links(two[0]).keys() == {"lo"}


async def test_the_first_that_fails_is_named_and_no_more_are_begun(house: House, two: TWO) -> None:
    begun: list[str] = []

    async def fail(_creator: Creator, spec: PairSpec, _numbers: tuple[int, ...]) -> Pair:
        begun.append(spec.a.ifname)
        raise (InvalidName if spec.a.ifname == "vtma0" else LinkExists)("no")

    with patch.object(Creator, "make", fail), pytest.raises(InvalidName, match=r"pairs\.0: no"):
        await make(house, two, 50)
    assert len(begun) < 10
