"""The client against a server of the test's own, which may misbehave."""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from vethd.rpc.client import DEFAULT_SOCKET, Client, NotRunning, RpcError, socket_path

Serve = Callable[[Callable[[socket.socket], None]], str]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """A function that serves one connection with the function given; it returns the socket's path."""
    with ExitStack() as stack:

        def begin(conversation: Callable[[socket.socket], None]) -> str:
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(tmp_path / "sock"))
            listener.listen()
            listener.settimeout(10)

            def run() -> None:
                connection, _address = listener.accept()
                listener.close()  # who connects again finds nobody
                with connection:
                    connection.settimeout(10)
                    conversation(connection)

            thread = threading.Thread(target=run)
            thread.start()
            stack.callback(thread.join)
            return str(tmp_path / "sock")

        yield begin


def answer_with(*parts: bytes) -> Callable[[socket.socket], None]:
    """Read a request, then send these parts one after the other."""

    def conversation(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        for part in parts:
            connection.send(part)

    return conversation


def result(value: Any, number: int = 1) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": number, "result": value}).encode() + b"\n"


def error(**data: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "error": {"code": -32005, "message": "no", **data}}).encode() + b"\n"


def test_the_socket_is_the_argument_or_the_variable_or_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VETHD_SOCKET", raising=False)
    assert socket_path() == DEFAULT_SOCKET == "/run/vethd/control.sock"
    monkeypatch.setenv("VETHD_SOCKET", "")
    assert socket_path() == DEFAULT_SOCKET
    monkeypatch.setenv("VETHD_SOCKET", "/from/variable")
    assert socket_path() == "/from/variable"
    assert socket_path("/from/argument") == "/from/argument"


def test_a_call_is_one_line_of_json_rpc(serve: Serve) -> None:
    heard: list[bytes] = []

    def conversation(connection: socket.socket) -> None:
        for number in (1, 2):
            heard.append(connection.recv(1 << 16))
            connection.send(result({"n": number}, number))

    with Client(serve(conversation)) as client:
        assert client.call("link.get", {"ifname": "\u00e9"}) == {"n": 1}
        assert client.call("link.list") == {"n": 2}
    assert [json.loads(line) for line in heard] == [
        {"jsonrpc": "2.0", "id": 1, "method": "link.get", "params": {"ifname": "\u00e9"}},
        {"jsonrpc": "2.0", "id": 2, "method": "link.list", "params": {}},
    ]
    assert all(line.count(b"\n") == 1 and line.endswith(b"\n") for line in heard)


def test_descriptors_go_along_and_stay_the_callers(serve: Serve, tmp_path: Path) -> None:
    seen: list[int] = []

    def conversation(connection: socket.socket) -> None:
        _data, fds, _flags, _address = socket.recv_fds(connection, 1 << 16, 4)
        for fd in fds:
            seen.append(os.fstat(fd).st_ino)
            os.close(fd)
        connection.send(result(None))

    with (
        (tmp_path / "one").open("w") as one,
        (tmp_path / "two").open("w") as two,
        Client(serve(conversation)) as client,
    ):
        client.call("link.list", {}, [one.fileno(), two.fileno()])
        assert seen == [os.fstat(file.fileno()).st_ino for file in (one, two)]


def test_an_answer_may_come_in_pieces_and_be_large(serve: Serve) -> None:
    line = result("x" * 300_000)
    with Client(serve(answer_with(line[:1], line[1:200_000], line[200_000:]))) as client:
        assert client.call("link.list") == "x" * 300_000


def test_a_large_request_is_sent_whole(serve: Serve) -> None:
    sizes: list[int] = []

    def conversation(connection: socket.socket) -> None:
        data = b""
        while not data.endswith(b"\n"):
            data += connection.recv(1 << 16)
        sizes.append(len(json.loads(data)["params"]["x"]))
        connection.send(result(None))

    with Client(serve(conversation)) as client:
        client.call("link.list", {"x": "y" * 900_000})
    assert sizes == [900_000]


def test_an_error_has_code_text_kind_errno_and_hint(serve: Serve) -> None:
    data = {"kind": "no_such_link", "errno": "ENODEV", "hint": "look"}
    with Client(serve(answer_with(error(data=data)))) as client, pytest.raises(RpcError, match=r"^no$") as raised:
        client.call("link.get")
    got = raised.value
    assert (got.code, got.message, got.kind, got.errno, got.hint) == (-32005, "no", "no_such_link", "ENODEV", "look")


def test_an_error_without_data_is_internal(serve: Serve) -> None:
    with Client(serve(answer_with(error()))) as client, pytest.raises(RpcError) as raised:
        client.call("link.get")
    assert (raised.value.kind, raised.value.errno, raised.value.hint) == ("internal", None, None)


def test_what_a_server_says_before_it_hangs_up_is_heard(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "sock"))
        listener.listen()
        with Client(str(tmp_path / "sock")) as client:
            connection, _address = listener.accept()
            connection.send(error(data={"kind": "limit_reached"}).replace(b'"id": 1', b'"id": null'))
            connection.close()
            with pytest.raises(RpcError) as raised:
                client.call("link.list")
            assert raised.value.kind == "limit_reached"


# -- no daemon --------------------------------------------------------------------------------------------------------


def test_no_socket_at_all(tmp_path: Path) -> None:
    path = tmp_path / "none"
    with pytest.raises(
        NotRunning, match=f"^{path}: No such file or directory. Is vethd running, and is this its socket"
    ):
        Client(str(path))


def test_a_socket_that_nobody_listens_on(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as unheard:
        unheard.bind(str(tmp_path / "sock"))
        with pytest.raises(NotRunning, match="Connection refused"):
            Client(str(tmp_path / "sock"))


def test_a_path_too_long_for_a_socket() -> None:
    with pytest.raises(NotRunning, match="path too long"):
        Client("/" + "x" * 200)


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ([], "the connection broke: the daemon closed it"),
        ([result(1)[:10]], "the connection broke: the daemon closed it"),
        ([b"nonsense\n"], "the connection broke: Expecting value"),
        ([b"\xff\n"], "the connection broke: 'utf-8' codec"),
    ],
)
def test_a_server_that_breaks_off_or_talks_nonsense(serve: Serve, parts: list[bytes], text: str) -> None:
    with Client(serve(answer_with(*parts))) as client, pytest.raises(NotRunning, match=text):
        client.call("link.list")


def test_a_server_that_never_answers_is_given_up_after_the_timeout(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "sock"))
        listener.listen()
        with Client(str(tmp_path / "sock"), timeout=0.1) as client, pytest.raises(NotRunning, match="timed out"):
            client.call("link.list")


def test_where_many_wait_to_be_accepted_it_waits_too(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as before:
        listener.bind(str(tmp_path / "sock"))
        listener.listen(0)
        before.connect(str(tmp_path / "sock"))
        began = time.monotonic()
        with pytest.raises(NotRunning, match="Resource temporarily unavailable"):
            Client(str(tmp_path / "sock"), timeout=1)
        assert time.monotonic() - began > 0.9
