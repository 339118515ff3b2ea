"""Events as the client gives them, over a server of the test's own that breaks off where it is told to."""

import os
from pathlib import Path
from typing import Any, Final

import pytest

from tests.rpc.scripted import Script, Scripted, answer
from vethd.rpc.aio import AsyncClient
from vethd.rpc.client import Client, Events, NotRunning, RpcError, State

#: Lets a client connect, which it does before it is asked for events.
IDLE: Final[Script] = []


def subscribed(seq: int, events: list[int] | None = None, server_id: str = "s1", subscription: int = 1) -> Any:
    """The answer to a subscription: events that were missed, or a snapshot."""
    found = events is not None
    return answer(
        {
            "subscription": subscription,
            "server_id": server_id,
            "seq": seq,
            "found": found,
            "events": [body(number) for number in events or []],
            "snapshot": None if found else {"pairs": [], "workers": [{"id": seq}]},
        }
    )


def body(seq: int) -> dict[str, Any]:
    return {"seq": seq, "time": 0.0, "topic": "link", "event": "added", "fields": {}}


def event(seq: int, subscription: int = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": "event", "params": {"subscription": subscription, **body(seq)}}


def brief(item: Any) -> Any:
    """What tells items apart: the number of an event; of a state whether something was missed, and its number."""
    return (item.missed, item.since["seq"]) if isinstance(item, State) else item["seq"]


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def take(events: Events, count: int) -> list[Any]:
    return [brief(next(events)) for _ in range(count)]


def test_it_begins_with_the_state_and_goes_on_with_events(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    script: Script = [[subscribed(7), event(8), event(9, subscription=2), event(9)]]
    with Scripted(path, IDLE, script) as server, Client(str(path)) as client, client.events(topics=["link"]) as events:
        state = next(events)
        assert isinstance(state, State)
        assert not state.missed
        assert [row["id"] for row in state.workers] == [7]
        assert state.since == {"server_id": "s1", "seq": 7}
        assert take(events, 1) == [8]
        assert next(events) == body(9)
    assert [(line["method"], line["params"]) for line in server.requests] == [
        ("events.subscribe", {"topics": ["link"]})
    ]


@pytest.mark.parametrize(
    ("second", "heard"),
    [
        ([subscribed(10, [9, 10], subscription=3), event(11, subscription=3)], [9, 10, 11]),
        ([subscribed(2, server_id="s2"), event(3)], [(True, 2), 3]),
    ],
)
def test_it_goes_on_where_it_was(tmp_path: Path, second: list[Any], heard: list[Any]) -> None:
    path = tmp_path / "sock"
    with (
        Scripted(path, IDLE, [[subscribed(7), event(8)]], [second]) as server,
        Client(str(path)) as client,
        client.events(interval=2) as events,
    ):
        assert take(events, 5 if len(heard) == 3 else 4) == [(False, 7), 8, *heard]
    assert [line["params"] for line in server.requests] == [
        {"interval": 2},
        {"interval": 2, "since": {"server_id": "s1", "seq": 8}},
    ]


def test_a_listener_that_was_too_slow_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    slow = {"jsonrpc": "2.0", "id": None, "error": {"code": -32017, "message": "slow", "data": {}}}
    with (
        Scripted(path, IDLE, [[subscribed(7), slow]], [[subscribed(8, [8])]]),
        Client(str(path)) as client,
        client.events() as events,
    ):
        assert take(events, 2) == [(False, 7), 8]


def test_since_is_the_last_event_that_was_given(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with (
        Scripted(path, IDLE, [[subscribed(9, [8, 9])]]) as server,
        Client(str(path)) as client,
        client.events(since={"server_id": "s1", "seq": 7}) as events,
    ):
        assert events.since == {"server_id": "s1", "seq": 7}
        assert take(events, 1) == [8]
        assert events.since == {"server_id": "s1", "seq": 8}
    assert server.requests[0]["params"] == {"since": {"server_id": "s1", "seq": 7}}


def test_patience_ends(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with Scripted(path, IDLE, [[subscribed(7)]]) as server, Client(str(path)) as client:
        events = client.events(patience=0.2)
        assert take(events, 1) == [(False, 7)]
    assert server.requests
    with pytest.raises(NotRunning, match="Is vethd running"):
        next(events)


REFUSED: Final = {"jsonrpc": "2.0", "id": None, "error": {"code": -32008, "message": "refused", "data": {}}}


def test_a_refused_subscription_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    before = open_fds()
    with Scripted(path, IDLE, [[REFUSED]]), Client(str(path)) as client, pytest.raises(RpcError, match="refused"):
        client.events()
    assert open_fds() == before


async def test_of_the_asynchronous_client_too(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    before = open_fds()
    with Scripted(path, [[REFUSED]]), pytest.raises(RpcError, match="refused"):
        await anext(AsyncClient(str(path)).events())
    assert open_fds() == before


async def test_the_asynchronous_client_does_the_same(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    second = [subscribed(10, [9, 10], subscription=3), event(11, subscription=3)]
    third = [subscribed(2, server_id="s2"), event(3)]
    with Scripted(path, [[subscribed(7), event(8)]], [second], [third]) as server:
        events = AsyncClient(str(path)).events(topics=["link"], patience=0.2)
        heard = [brief(await anext(events)) for _ in range(7)]
        assert events.since == {"server_id": "s2", "seq": 3}
    assert heard == [(False, 7), 8, 9, 10, 11, (True, 2), 3]
    assert server.requests[2]["params"] == {"topics": ["link"], "since": {"server_id": "s1", "seq": 11}}
    with pytest.raises(NotRunning, match="Is vethd running"):
        await anext(events)
