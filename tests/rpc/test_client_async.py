"""The client's twin for asyncio against a real daemon, and against a server that breaks off where it is told to."""

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit.daemon import Daemon
from tests.kit.netns import Namespaces
from tests.rpc.scripted import Scripted, answer
from vethd.rpc.client import AsyncClient, NotRunning, RpcError


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_a_pair_is_made_looked_at_and_deleted(shared_daemon: Daemon, netns: Namespaces) -> None:
    red, blue = netns.make(), netns.make()
    before = open_fds()
    async with AsyncClient(str(shared_daemon.socket)) as client:
        pair = await client.link_add(a={"ifname": "eth0", "netns": red}, b={"ifname": "eth0", "netns": blue})
        assert (pair["a"]["netns"], pair["b"]["netns"]) == (red, blue)
        assert [row["pair"] for row in await client.link_list(netns=red)] == [pair["pair"]]
        with pytest.raises(RpcError) as raised:
            await client.link_get(ifname="eth1", netns=red)
        assert raised.value.kind == "no_such_link"
        await client.link_del(pair=pair["pair"])
        assert await client.link_list() == []
    assert open_fds() == before


async def test_tasks_take_turns(shared_daemon: Daemon) -> None:
    async with AsyncClient(str(shared_daemon.socket)) as client:
        names = [f"nosuch{number}" for number in range(20)]
        errors = await asyncio.gather(*(client.link_get(ifname=name) for name in names), return_exceptions=True)
    for name, error in zip(names, errors, strict=True):
        assert isinstance(error, RpcError)
        assert name in error.message


async def test_a_request_larger_than_the_sockets_buffer(shared_daemon: Daemon, netns: Namespaces) -> None:
    red = netns.make()
    async with AsyncClient(str(shared_daemon.socket)) as client:
        with pytest.raises(RpcError) as raised:
            await client.link_get(ifname="x" * 900_000, netns=red)
        assert raised.value.kind == "no_such_link"


async def test_the_next_call_connects_again(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon()
    client = AsyncClient(str(daemon.socket))
    first = await client.daemon_info()
    daemon.stop()
    with pytest.raises(NotRunning, match="Is vethd running"):
        await client.link_list()
    daemon.start()
    assert (await client.daemon_info())["server_id"] != first["server_id"]
    client.close()


async def test_what_is_safe_is_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with Scripted(path, [[]], [[answer([])], []], [[answer({})]]) as server:
        client = AsyncClient(str(path))
        assert await client.link_list() == []
        await client.link_del(ifname="x")
        client.close()
    assert [request["method"] for request in server.requests] == ["link.list", "link.list", "link.del", "link.del"]
    assert server.requests[2]["params"]["token"] == server.requests[3]["params"]["token"]


async def test_what_is_not_safe_is_not_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with Scripted(path, [[]]):
        with pytest.raises(NotRunning, match="whether it was done is not known") as raised:
            await AsyncClient(str(path)).call("sysctl.set", {"values": {"netdev_budget": 300}})
        assert raised.value.outcome_unknown


async def test_after_a_timeout_or_cancellation_it_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        client = AsyncClient(str(path), timeout=0.05)
        with pytest.raises(NotRunning, match="the connection broke"):
            await client.link_list()
        client.timeout = 10
        call = asyncio.create_task(client.link_list())
        connections = [listener.accept()[0]]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await call
        again = asyncio.create_task(client.call("link.list"))
        await asyncio.sleep(0)
        connections += [listener.accept()[0], listener.accept()[0]]
        for connection, words in zip(connections, ("late", "late", "this"), strict=True):
            try:
                connection.sendall(b'{"jsonrpc": "2.0", "id": 3, "result": "%s"}\n' % words.encode())
            except BrokenPipeError:
                pass
        assert await again == "this"
        client.close()
        for connection in connections:
            connection.close()


async def test_where_many_wait_to_be_accepted_it_waits_too(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as before:
        listener.bind(str(path))
        listener.listen(0)
        before.connect(str(path))
        async with asyncio.TaskGroup() as tasks:
            opening = tasks.create_task(AsyncClient(str(path)).__aenter__())
            await asyncio.sleep(0.05)
            assert not opening.done()
            listener.accept()[0].close()
        opening.result().close()
