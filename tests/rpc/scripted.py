"""A server that says what a test tells it to, for clients to be tested with."""

import json
import socket
import threading
from pathlib import Path
from typing import Any, Self

#: What is said to each request of one connection: any number of messages. After the last it hangs up.
Script = list[list[dict[str, Any]]]


def answer(value: Any) -> dict[str, Any]:
    """The answer to the request that it is said to."""
    return {"jsonrpc": "2.0", "result": value}


class Scripted:
    """Serves one connection after the other, each with its script, at `path`.

    requests: what it heard. hung_up: set when it first did.
    """

    def __init__(self, path: Path, *scripts: Script) -> None:
        self.requests: list[Any] = []
        self.hung_up = threading.Event()
        self._scripts = scripts
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._listener.settimeout(10)
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        for script in self._scripts:
            connection, _address = self._listener.accept()
            with connection, connection.makefile("r") as lines:
                for messages in script:
                    self.requests.append(json.loads(lines.readline()))
                    for message in messages:
                        said = {**message, "id": self.requests[-1]["id"]} if "result" in message else message
                        connection.sendall(json.dumps(said).encode() + b"\n")
            self.hung_up.set()
