"""Pairs say whose they are: vethd-docker asks dockerd when docker has moved an end into a container."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.docker.plugin import Dockerd
from tests.kit.daemon import Daemon
from tests.kit.waiting import eventually

CONTAINER = "c" * 64


@contextmanager
def dockerd_api(path: str, answers: dict[str, Any]) -> Iterator[list[str]]:
    """Answer GET requests at a socket; what was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            known = self.path in answers
            body = json.dumps(answers.get(self.path)).encode()
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_words: Any) -> None:
            pass

        def address_string(self) -> str:
            return "unix"

    with socketserver.ThreadingUnixStreamServer(path, Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield asked
        finally:
            server.shutdown()
            thread.join()


def labels(daemon: Daemon) -> dict[str, str]:
    (pair,) = daemon.pairs()
    found: dict[str, str] = pair["labels"]
    return found


def test_whose_it_is(dockerd: Dockerd, shared_daemon: Daemon, sandbox: str) -> None:
    network = dockerd.network()
    end = network.endpoint()
    path = f"/networks/{network.id}"
    others = {"d" * 64: {"Name": "other", "EndpointID": "d" * 64}, CONTAINER: {"Name": "web", "EndpointID": end.id}}
    with dockerd_api(str(dockerd.plugin.docker), {path: {"Name": "lan", "Containers": others}}) as asked:
        end.join(sandbox, "eth7")
        wanted = {
            "network": network.id,
            "network-name": "lan",
            "endpoint": end.id,
            "container": CONTAINER,
            "container-name": "web",
            "interface": "eth7",
        }
        eventually(lambda: labels(shared_daemon), lambda now: now == wanted, "all labels are there")
        assert asked == [path]
    dockerd.plugin.docker.unlink()
    end.leave("eth7")
    network.delete()


def test_dockerd_does_not_say(dockerd: Dockerd, shared_daemon: Daemon, sandbox: str) -> None:
    network = dockerd.network()
    end = network.endpoint()
    end.join(sandbox)
    wanted = {"network": network.id, "endpoint": end.id, "interface": "eth0"}
    eventually(lambda: labels(shared_daemon), lambda now: now == wanted, "the interface has its label")
    end.leave()
    network.delete()
