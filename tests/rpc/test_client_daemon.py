"""The client against a real daemon: typed calls, namespaces opened and sent along, and a daemon that goes away."""

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.kit.daemon import Daemon
from tests.kit.netns import Namespaces, fresh_name, inside, netns_inode
from tests.rpc.scripted import Scripted, answer
from vethd.rpc.client import Client, NotRunning, RpcError, State, netns
from vethd.rpc.conversation import Request


@pytest.fixture
def client(shared_daemon: Daemon) -> Iterator[Client]:
    """A client of the shared daemon, which leaves no descriptor open in the test."""
    before = _open_fds()
    with Client(str(shared_daemon.socket)) as made:
        yield made
    assert _open_fds() <= before


def _open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def lines_sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What clients send from now on."""
    sent: list[Any] = []
    ask = Client._ask

    def noted(client: Client, request: Request) -> Any:
        sent.append(json.loads(request.text))
        return ask(client, request)

    monkeypatch.setattr(Client, "_ask", noted)
    return sent


# -- calls ------------------------------------------------------------------------------------------------------------


def test_a_pair_is_made_looked_at_and_deleted(client: Client, netns: Namespaces) -> None:
    red, blue = netns.make(), netns.make()
    pair = client.link_add(a={"ifname": "eth0", "netns": red, "up": True}, b={"ifname": "eth0", "netns": blue})
    assert (pair["a"]["netns"], pair["b"]["netns"]) == (red, blue)
    assert [row["pair"] for row in client.link_list(netns=red)] == [pair["pair"]]
    assert client.link_get(ifname="eth0", netns=blue)["end"] == "b"
    assert client.stats_get(pair=pair["pair"])["pairs"][0]["ends"]["a"]["read"] == 0
    assert client.link_del(pair=pair["pair"]) == {"pair": pair["pair"]}
    assert client.link_list(netns=red) == []


def test_what_is_typed_is_what_is_sent(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = lines_sent(monkeypatch)
    client.link_list(ifname="x", stats=False)
    client.softnet_get()
    assert [(line["method"], line["params"]) for line in sent] == [
        ("link.list", {"ifname": "x", "stats": False}),
        ("softnet.get", {}),
    ]


def test_methods_without_parameters(client: Client, shared_daemon: Daemon) -> None:
    assert client.daemon_info()["pid"] == shared_daemon.pid
    ids = [row["id"] for row in client.daemon_info()["workers"]]
    assert [row["worker"] for row in client.softnet_get()["workers"]] == ids != []


def test_a_refusal_is_an_rpc_error_and_the_connection_goes_on(client: Client) -> None:
    with pytest.raises(RpcError) as raised:
        client.link_get(ifname="nosuch0")
    assert (raised.value.kind, raised.value.code) == ("no_such_link", -32005)
    assert client.link_list() == []


# -- namespaces -------------------------------------------------------------------------------------------------------


def test_namespaces_are_opened_by_the_client(
    client: Client, netns: Namespaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    red, blue = netns.make(), netns.make()
    sent = lines_sent(monkeypatch)
    pair = client.link_add(a={"netns": red}, b={"netns": f"/run/netns/{blue}"})
    assert (pair["a"]["netns_inode"], pair["b"]["netns_inode"]) == (netns_inode(red), netns_inode(blue))
    (params,) = [line["params"] for line in sent]
    assert (params["a"]["netns"], params["b"]["netns"]) == ({"fd": 1}, {"fd": 0})  # paths come first
    client.link_del(ifname=pair["a"]["ifname"], netns=red)


def test_one_that_occurs_twice_is_sent_once(client: Client, netns: Namespaces, monkeypatch: pytest.MonkeyPatch) -> None:
    red = netns.make()
    sent = lines_sent(monkeypatch)
    client.link_add(a={"netns": red}, b={"netns": red})
    assert [sent[0]["params"][end]["netns"] for end in "ab"] == [{"fd": 0}, {"fd": 0}]


def test_an_open_namespace_outlives_its_name(client: Client, netns: Namespaces) -> None:
    red = netns.make()
    inode = netns_inode(red)
    with opened(red) as there:
        netns.delete(red)
        pair = client.link_add(a={"ifname": "eth0", "netns": there}, b={"ifname": "eth1", "netns": there})
        assert (pair["a"]["netns"], pair["a"]["netns_inode"]) == (None, inode)
        assert client.link_get(ifname="eth1", netns=there)["end"] == "b"
        client.link_del(pair=pair["pair"])


opened = netns  # the fixture of that name hides it inside the tests


def test_a_namespace_by_pid(client: Client) -> None:
    with opened(os.getpid()) as here:
        assert os.fstat(here.fd).st_ino == os.stat("/proc/self/ns/net").st_ino
    assert here.fd == -1


def test_the_callers_own_descriptors_come_first(client: Client, netns: Namespaces) -> None:
    red, blue = netns.make(), netns.make()
    with opened(red) as there:
        pair = client.call("link.add", {"a": {"netns": {"fd": 0}}, "b": {"netns": blue}}, [there.fd])
    assert (pair["a"]["netns"], pair["b"]["netns"]) == (red, blue)


@pytest.mark.parametrize(
    ("where", "text", "hint"),
    [
        ("nosuch", "a.netns: 'nosuch': No such file or directory", "create it first: ip netns add nosuch"),
        ("/nosuch", "a.netns: '/nosuch': No such file or directory", "give the path of a namespace file"),
    ],
)
def test_one_that_is_not_there_is_refused_as_by_the_daemon(client: Client, where: str, text: str, hint: str) -> None:
    with pytest.raises(RpcError) as raised:
        client.link_add(a={"netns": where})
    error = raised.value
    assert (error.code, error.kind, error.errno, error.message) == (-32007, "no_such_netns", "ENOENT", text)
    assert error.hint is not None
    assert error.hint.startswith(hint)
    assert client.link_list() == []


def test_labels_are_not_mistaken_for_namespaces(client: Client) -> None:
    assert client.link_list(labels={"netns": "red"}) == []


def test_more_names_than_descriptors_go_along_are_left_to_the_daemon(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(Client, "_ask", lambda _self, request: asked.append((json.loads(request.text), request.fds)))
    monkeypatch.setattr("vethd.rpc.namespaces._open", lambda _where, _what: os.open("/dev/null", os.O_RDONLY))
    client.link_add_several([{"a": {"netns": f"n{number}"}, "b": {"netns": "/path"}} for number in range(20)])
    request, fds = asked[0]
    pairs = request["params"]["pairs"]
    assert {pair["b"]["netns"]["fd"] for pair in pairs} == {0}
    assert [pair["a"]["netns"] for pair in pairs] == [{"fd": n + 1} for n in range(15)] + [
        f"n{n}" for n in range(15, 20)
    ]
    assert len(fds) == 16
    with pytest.raises(ValueError, match="at most 16 namespaces"):
        client.link_add_several([{"a": {"netns": f"/path{number}"}} for number in range(17)])


# -- a daemon that goes away ------------------------------------------------------------------------------------------


def test_the_next_call_connects_again(start_daemon: Callable[..., Daemon], netns: Namespaces) -> None:
    daemon = start_daemon()
    red = netns.make()
    with Client(str(daemon.socket)) as client:
        first = client.daemon_info()
        daemon.stop()
        with pytest.raises(NotRunning, match="Is vethd running") as raised:
            client.link_list()
        assert not raised.value.outcome_unknown
        daemon.start()
        assert client.daemon_info()["server_id"] != first["server_id"]
        daemon.stop()
        daemon.start()
        client.link_add(a={"ifname": "eth0", "netns": red}, b={"ifname": "eth1", "netns": red})  # connects by itself
        assert [pair["a"]["ifname"] for pair in client.link_list()] == ["eth0"]


def test_a_change_whose_answer_was_lost_is_made_once(shared_daemon: Daemon, netns: Namespaces, tmp_path: Path) -> None:
    red, proxy = netns.make(), tmp_path / "proxy"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(proxy))
        listener.listen()
        thread = threading.Thread(target=lose_every_other_answer, args=(listener, shared_daemon.socket, 6))
        thread.start()
        with Client(str(proxy)) as client, Client(str(shared_daemon.socket)) as direct:
            made = client.link_add(a={"ifname": "eth0", "netns": red}, b={"ifname": "eth1", "netns": red})
            assert [pair["pair"] for pair in direct.link_list(netns=red)] == [made["pair"]]
            client.close()
            changed = client.link_set(ifname="eth0", netns=red, set={"ifname": "eth2"}, generation=made["generation"])
            assert direct.link_get(ifname="eth2", netns=red) == changed
            client.close()
            assert client.link_del(ifname="eth2", netns=red) == {"pair": made["pair"]}
            assert direct.link_list(netns=red) == []
        thread.join()


def lose_every_other_answer(listener: socket.socket, daemon: Path, connections: int) -> None:
    """Pass on one request of each connection, and what the daemon answers to every second of them."""
    listener.settimeout(10)
    for number in range(connections):
        client, _address = listener.accept()
        with client, socket.socket(socket.AF_UNIX) as upstream:
            client.settimeout(10)
            upstream.settimeout(10)
            upstream.connect(str(daemon))
            request, fds, _flags, _address = socket.recv_fds(client, 1 << 16, 16)
            socket.send_fds(upstream, [request], fds)
            for fd in fds:
                os.close(fd)
            answer = upstream.recv(1 << 16)
            if number % 2:
                client.sendall(answer)


def test_events_go_on_with_the_next_daemon(start_daemon: Callable[..., Daemon], netns: Namespaces) -> None:
    daemon = start_daemon()
    red = netns.make()
    with Client(str(daemon.socket)) as client, client.events(topics=["link"]) as events:
        first = next(events)
        assert isinstance(first, State)
        assert (first.missed, first.pairs) == (False, [])
        pair = client.link_add(a={"netns": red}, b={"netns": red})
        added = next(events)
        assert not isinstance(added, State)
        assert (added["event"], added["fields"]["pair"]) == ("added", pair["pair"])
        daemon.stop()
        daemon.start()
        heard = next(item for item in events if isinstance(item, State))
        assert (heard.missed, heard.pairs) == (True, [])
        assert heard.since["server_id"] == client.daemon_info()["server_id"] != first.since["server_id"]
        again = client.link_add(a={"netns": red}, b={"netns": red})
        after = next(events)
        assert not isinstance(after, State)
        assert (after["event"], after.get("pair")) == ("added", again["pair"])


IDLE: Final = {
    "jsonrpc": "2.0",
    "id": None,
    "error": {"code": -32018, "message": "idle", "data": {"kind": "timed_out"}},
}


def test_a_client_that_was_idle_for_too_long_connects_again(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with Scripted(path, [[answer([]), IDLE]], [[answer({})]]) as server, Client(str(path)) as client:
        client.link_list()
        server.hung_up.wait(10)
        client.call("sysctl.set", {"values": {"netdev_budget": 300}})
    assert [request["method"] for request in server.requests] == ["link.list", "sysctl.set"]


def test_what_only_looks_is_asked_again(tmp_path: Path) -> None:
    with Scripted(tmp_path / "sock", [[]], [[answer(["answer"])]]) as server, Client(str(tmp_path / "sock")) as client:
        assert client.call("link.list", {"ifname": "x"}) == ["answer"]
    assert [request["method"] for request in server.requests] == ["link.list", "link.list"]


def test_a_change_is_asked_again_with_the_same_token(tmp_path: Path) -> None:
    with (
        Scripted(tmp_path / "sock", [[]], [[answer({})], [answer({})]]) as server,
        Client(str(tmp_path / "sock")) as client,
    ):
        client.link_del(ifname="x")
        client.link_del(ifname="x")
    first, second, another = [request["params"]["token"] for request in server.requests]
    assert first == second != another
    assert len(first) == 32


def test_the_callers_own_token_is_kept(tmp_path: Path) -> None:
    with Scripted(tmp_path / "sock", [[answer({})]]) as server, Client(str(tmp_path / "sock")) as client:
        client.link_del(ifname="x", token="mine")
    assert server.requests[0]["params"] == {"ifname": "x", "token": "mine"}


def test_a_change_without_token_is_not_asked_again(tmp_path: Path) -> None:
    with Scripted(tmp_path / "sock", [[]]) as server, Client(str(tmp_path / "sock")) as client:
        with pytest.raises(NotRunning, match=r"the connection broke: .*; whether it was done is not known") as raised:
            client.call("sysctl.set", {"values": {"netdev_budget": 300}})
        assert raised.value.outcome_unknown
    assert len(server.requests) == 1


def test_a_change_that_fails_twice_has_an_unknown_outcome(tmp_path: Path) -> None:
    with Scripted(tmp_path / "sock", [[]], [[]]), Client(str(tmp_path / "sock")) as client:
        with pytest.raises(NotRunning) as raised:
            client.link_del(ifname="x")
        assert raised.value.outcome_unknown


def test_after_a_timeout_it_begins_anew_so_that_no_late_answer_is_taken_for_another_ones(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with Client(str(path), timeout=0.05) as client:
            with pytest.raises(NotRunning, match="timed out"):
                client.link_list()
            connection, _address = listener.accept()
            with connection, connection.makefile("rb") as lines:
                assert len(lines.readlines()) == 1  # then it hung up
            with pytest.raises(NotRunning, match="timed out"):
                client.link_list()
            listener.accept()[0].close()


def test_it_does_not_connect_again_from_another_namespace(shared_daemon: Daemon, netns: Namespaces) -> None:
    red = netns.make()
    with Client(str(shared_daemon.socket)) as client:
        client.close()

        def ask() -> None:
            with pytest.raises(NotRunning, match="made in another network namespace"):
                client.link_list()

        inside(red, ask)
        assert client.link_list() == []


def test_what_can_not_be_said_in_json_is_refused_here(client: Client) -> None:
    with pytest.raises(TypeError):
        client.call("link.get", {"ifname": fresh_name, "netns": "/proc/self/ns/net"})
    assert client.link_list() == []
