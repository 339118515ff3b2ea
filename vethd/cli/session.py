"""One run of vethctl: its options, its output, and the one connection that all its commands share."""

from __future__ import annotations

import os
from typing import Any

from vethd.cli.grammar import UsageError
from vethd.cli.options import Options
from vethd.cli.output import Output
from vethd.cli.request import Request, open_netns
from vethd.rpc.client import Client, NotRunning

_CLONE_NEWNET = 0x40000000


class Session:
    """What a command needs beside its words. within: seconds for an answer. close() when done."""

    def __init__(self, options: Options, within: float = 60.0) -> None:
        self.options = options
        self._within = within
        self.output = Output(options)
        self._client: Client | None = None

    def call(self, method: str, request: Request | None = None, **params: Any) -> Any:
        """Call a method, with the request or these parameters. Raises RpcError, NotRunning, UsageError."""
        try:
            if request is None:
                return self.client().call(method, params)
            return self.client().call(method, request.params | params, request.fds)
        except NotRunning:
            self.close()  # the next command of a batch tries anew
            raise

    def client(self) -> Client:
        """The connection, made when it is first needed. Raises NotRunning, UsageError."""
        if self._client is None:
            if self.options.netns is not None:
                _enter(self.options.netns)
            self._client = Client(self.options.socket, self._within)
        return self._client

    def here(self, request: Request) -> Request:
        """The request, its links looked for only in the namespace of -n, if that was given. Raises UsageError."""
        if self.options.netns is not None and "netns" not in request.params:
            request.params["netns"] = request.netns(self.options.netns)
        return request

    def close(self) -> None:
        """Disconnect."""
        if self._client is not None:
            self._client.close()
            self._client = None


def _enter(netns: str) -> None:
    """As `ip -n`: from here on we are in it, and the daemon sees that. Raises UsageError."""
    import ctypes  # a tenth of what a start costs, and only needed here

    fd = open_netns(netns)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(fd, _CLONE_NEWNET):
            reason = os.strerror(ctypes.get_errno())
            raise UsageError(f'setting the network namespace "{netns}" failed: {reason}')
    finally:
        os.close(fd)
