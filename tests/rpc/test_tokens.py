"""Tokens: a request that is sent again is done once, and nobody gets the result of another request."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tests.kit.daemon import Daemon
from tests.kit.links import all_links
from tests.kit.netns import RUN_NETNS, Namespaces, inside
from tests.kit.rpc import RpcError
from tests.rpc.talk import Talk, refused, request, result
from vethd.errors import LinkExists, TokenReused, VethdError
from vethd.rpc.tokens import Tokens, fingerprint

REUSED = "token 'T' came with another request before"
HINT = "choose a new token for each new request"


class Work:
    """Something to be done, which ends when the test says so; counts how often it was begun."""

    def __init__(self, *outcomes: Any) -> None:
        self.begun = 0
        self.may_end = asyncio.Event()
        self._outcomes = list(outcomes)

    async def __call__(self) -> Any:
        self.begun += 1
        await self.may_end.wait()
        outcome = self._outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def at_once(value: Any) -> Callable[[], Awaitable[Any]]:
    work = Work(value)
    work.may_end.set()
    return work


# -- the table --------------------------------------------------------------------------------------------------------


async def test_a_retry_gets_the_result_of_the_first_and_does_nothing() -> None:
    tokens, never = Tokens(), Work()
    assert await tokens.once(0, "T", b"x", at_once({"pair": 1})) == {"pair": 1}
    for _ in range(2):
        assert await tokens.once(0, "T", b"x", never) == {"pair": 1}
    assert never.begun == 0


async def test_a_retry_while_the_first_runs_waits_for_its_outcome() -> None:
    tokens = Tokens()
    for number, outcome in enumerate(([1], LinkExists("taken"))):
        work, never = Work(outcome), Work()
        calls = [tokens.once(0, f"T{number}", b"x", do) for do in (work, never, never)]
        tasks = [asyncio.ensure_future(call) for call in calls]
        await asyncio.sleep(0)
        assert not any(task.done() for task in tasks)
        work.may_end.set()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert ends == [outcome] * 3
        assert (work.begun, never.begun) == (1, 0)


async def test_who_stops_waiting_stops_nobody_else() -> None:
    tokens, work = Tokens(), Work("done")
    first, second, third = (asyncio.ensure_future(tokens.once(0, "T", b"x", work)) for _ in range(3))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.sleep(0)
    work.may_end.set()
    assert (await first, await third, work.begun) == ("done", "done", 1)


@pytest.mark.parametrize("error", [VethdError("no"), ValueError("a bug")])
async def test_what_failed_is_forgotten(error: Exception) -> None:
    tokens = Tokens()
    with pytest.raises(type(error)):
        await tokens.once(0, "T", b"x", at_once(error))
    assert await tokens.once(0, "T", b"another", at_once(2)) == 2


async def test_another_request_with_the_token_is_refused_also_while_the_first_runs() -> None:
    tokens, work = Tokens(), Work(1)
    first = asyncio.ensure_future(tokens.once(0, "T", b"x", work))
    await asyncio.sleep(0)
    for running in (True, False):
        assert first.done() is not running
        with pytest.raises(TokenReused, match=REUSED) as caught:
            await tokens.once(0, "T", b"y", Work())
        assert caught.value.hint == HINT
        work.may_end.set()
        assert await first == 1


async def test_results_are_handed_on_oldest_first() -> None:
    old, new, never = Tokens(), Tokens(kept=1), Work()
    for number in range(2):
        await old.once(number, "T", b"x", at_once([number]))
    new.adopt(old.answered())
    assert await new.once(1, "T", b"x", never) == [1]
    with pytest.raises(TokenReused):
        await new.once(1, "T", b"y", never)
    assert await new.once(0, "T", b"x", at_once("done again")) == "done again"
    assert never.begun == 0


async def test_users_have_tokens_of_their_own() -> None:
    tokens = Tokens()
    assert await tokens.once(0, "T", b"x", at_once("root's")) == "root's"
    assert await tokens.once(1, "T", b"y", at_once("daemon's")) == "daemon's"
    assert await tokens.once(0, "T", b"x", Work()) == "root's"


async def test_the_oldest_results_are_forgotten_when_there_are_too_many_or_too_much() -> None:
    few = Tokens(kept=3)
    for number in range(4):
        await few.once(0, str(number), b"x", at_once(number))
    assert [await few.once(0, str(number), b"x", at_once("again")) for number in (1, 2, 3)] == [1, 2, 3]
    assert await few.once(0, "0", b"x", at_once("again")) == "again"
    small = Tokens(room=100)
    for number in range(3):
        await small.once(0, str(number), b"x", at_once("x" * 48))
    assert await small.once(0, "2", b"x", Work()) == "x" * 48
    assert await small.once(0, "1", b"x", Work()) == "x" * 48
    assert await small.once(0, "0", b"x", at_once("again")) == "again"
    await small.once(0, "large", b"x", at_once("y" * 500))
    assert await small.once(0, "large", b"x", Work()) == "y" * 500, "the last one is kept whatever its size"


async def test_a_result_is_not_changed_by_who_got_it() -> None:
    tokens = Tokens()
    first = await tokens.once(0, "T", b"x", at_once({"labels": {}}))
    first["labels"]["mine"] = "x"
    assert await tokens.once(0, "T", b"x", Work()) == {"labels": {}}


def test_the_fingerprint_is_that_of_method_parameters_and_what_they_stand_for() -> None:
    with open("/proc/self/ns/net") as one, open("/proc/self/ns/uts") as other:
        calls = [SimpleNamespace(fds=[file.fileno()], own_netns=lambda: (4, 1)) for file in (one, one, other)]
        calls.append(SimpleNamespace(fds=[one.fileno()], own_netns=lambda: (4, 2)))
        first: Any = calls[0]
        marks = {fingerprint("link.add", {"a": 1, "b": 2}, call) for call in calls}  # type: ignore[arg-type]
        marks |= {fingerprint(*asked, first) for asked in (("link.del", {"a": 1, "b": 2}), ("link.add", {"a": 1}))}
        assert len(marks) == 5
        assert fingerprint("link.add", {"b": 2, "a": 1}, first) in marks


# -- a daemon ---------------------------------------------------------------------------------------------------------


def test_link_add_and_link_del_are_done_once(shared_daemon: Daemon, netns: Namespaces) -> None:
    red = netns.make()
    add = {"a": {"netns": red}, "b": {"netns": red}, "placement": "inside", "token": "test-add"}
    with shared_daemon.connect() as one, shared_daemon.connect() as another:
        made = one.call("link.add", add)
        assert another.call("link.add", dict(reversed(add.items()))) == made
    assert [pair["pair"] for pair in shared_daemon.pairs()] == [made["pair"]]
    delete = {"pair": made["pair"], "token": "test-del"}
    for _ in range(2):
        assert shared_daemon.call("link.del", delete) == {"pair": made["pair"]}
    assert all_links(red).keys() == {"lo"}
    with pytest.raises(RpcError, match="no_such_link"):
        shared_daemon.call("link.del", {"pair": made["pair"]})
    with shared_daemon.connect() as one:
        assert one.call("link.add", add) == made, "a retry makes nothing, also when the pair is gone"
    assert shared_daemon.pairs() == []


def test_two_clients_with_one_token_get_one_pair(talker: Callable[..., Talk], netns: Namespaces) -> None:
    red = netns.make()
    talks = [talker() for _ in range(4)]
    for talk in talks:
        talk.say(request(1, "link.add", a={"netns": red}, b={"netns": red}, token="test-at-once"))
    answers = [talk.hear(result(1))["result"] for talk in talks]
    assert all(answer == answers[0] for answer in answers)
    assert len(all_links(red)) == 3


def test_a_token_of_a_failed_request_is_free_again(talk: Talk, netns: Namespaces) -> None:
    red = netns.make()
    failing = {"a": {"netns": red, "ifname": "lo"}, "b": {"netns": red}, "token": "test-failed"}
    talk.say(request(1, "link.add", **failing))
    talk.hear(refused(1, "link_exists"))
    talk.say(request(2, "link.add", **failing | {"a": {"netns": red}}, placement="inside"))
    talk.hear(result(2))


def test_another_request_with_a_token_is_refused_and_changes_nothing(talk: Talk, netns: Namespaces) -> None:
    red = netns.make()
    ends = {"a": {"netns": red}, "b": {"netns": red}, "placement": "inside"}
    talk.say(request(1, "link.add", **ends, token="T"))
    uuid = talk.hear(result(1))["result"]["pair"]
    for number, (method, params) in enumerate(
        (("link.add", {**ends, "numqueues": 2}), ("link.del", {"pair": uuid})), start=2
    ):
        talk.say(request(number, method, **params, token="T"))
        talk.hear(refused(number, "token_reused", REUSED, hint=HINT))
    assert len(all_links(red)) == 3


def test_a_namespace_behind_a_descriptor_and_the_callers_own_belong_to_the_request(
    shared_daemon: Daemon, talk: Talk, netns: Namespaces
) -> None:
    red, blue = netns.make(), netns.make()
    by_fd = {"a": {"netns": {"fd": 0}}, "b": {"netns": {"fd": 0}}, "placement": "inside", "token": "test-fd"}
    answers = []
    for number, place in enumerate((red, red, blue)):
        fd = os.open(RUN_NETNS / place, os.O_RDONLY)
        try:
            talk.say(request(number, "link.add", **by_fd), [fd])
        finally:
            os.close(fd)
        answers.append(talk.hear(result(number) if place == red else refused(number, "token_reused")))
    assert answers[0]["result"] == answers[1]["result"]
    for place, expected in ((red, result(1)), (blue, refused(1, "token_reused"))):
        there = inside(place, Talk, shared_daemon.socket)
        try:
            there.say(request(1, "link.add", placement="inside", token="test-own"))
            there.hear(expected)
        finally:
            there.close()


def test_a_token_is_a_short_text(talk: Talk) -> None:
    for token in ("", "x" * 129, 5):
        talk.say(json.dumps(request(1, "link.del", ifname="x", token=token)))
        answer = talk.hear(refused(1, "invalid_params"))
        assert answer["error"]["message"].startswith("token: must ")
