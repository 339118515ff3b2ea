"""Published ports: which ones, and a socket for each, so that nobody else on the machine takes it.

The sockets listen to nothing: the firewall leads to the container what arrives at them.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterable, Sequence
from typing import Final

from vethd.docker.options import Binding, PortTaken, Refused
from vethd.docker.place import Place
from vethd.docker.state import Published

#: How often a free port is asked for until it is free for all protocols and addresses that share it.
_TRIES: Final = 64
_ANY: Final = {4: "0.0.0.0", 6: "::"}
_KINDS: Final = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_STREAM, 132),
}


class Ports:
    """The sockets, by endpoint."""

    def __init__(self) -> None:
        self._held: dict[str, list[socket.socket]] = {}

    async def take(
        self, place: Place, endpoint: str, wanted: Sequence[Binding], addresses: Sequence[str], default: str
    ) -> list[Published]:
        """Take a port of the machine for each binding, all or none, in place of what the endpoint has.

        addresses: the endpoint's. default: the host's address of bindings that name none; empty, all of them.
        Raises Refused.
        """
        self.release(endpoint)
        published, self._held[endpoint] = await asyncio.to_thread(
            place.run, lambda: _take_all(wanted, addresses, default)
        )
        return published

    async def hold(self, place: Place, endpoint: str, published: Sequence[Published]) -> list[str]:
        """Hold ports that are published already; those that somebody else has, and why."""
        if endpoint in self._held or not published:
            return []
        self._held[endpoint], lost = await asyncio.to_thread(place.run, lambda: _hold_all(published))
        return lost

    def release(self, endpoint: str) -> None:
        """Let go of an endpoint's ports."""
        _close(self._held.pop(endpoint, []))

    def close(self) -> None:
        """Let go of all."""
        for endpoint in list(self._held):
            self.release(endpoint)


def _targets(binding: Binding, addresses: Sequence[str], default: str) -> list[tuple[str, str]]:
    """Pairs of the host's address and the container's, one per IP version in which it is published. Raises Refused."""
    host = binding.host or default
    targets = []
    for address in addresses:
        version = 6 if ":" in address else 4
        if not host or version == (6 if ":" in host else 4):
            targets.append((host or _ANY[version], address))
    if not targets:
        raise Refused(
            f"port {binding}: the container has no IPv{6 if ':' in host else 4} address; "
            "make the network with --ipv6 and a --subnet of that kind, or publish at another address"
        )
    return targets


def _take_all(
    wanted: Iterable[Binding], addresses: Sequence[str], default: str
) -> tuple[list[Published], list[socket.socket]]:
    """Ports for all bindings, and what holds them. Raises Refused."""
    published: list[Published] = []
    sockets: list[socket.socket] = []
    try:
        for binding in wanted:
            targets = _targets(binding, addresses, default)
            port, taken = _take(binding, [host for host, _address in targets])
            sockets += taken
            published += [Published(binding.protocol, host, port, address, binding.port) for host, address in targets]
    except BaseException:
        _close(sockets)
        raise
    return published, sockets


def _hold_all(published: Iterable[Published]) -> tuple[list[socket.socket], list[str]]:
    held: list[socket.socket] = []
    lost: list[str] = []
    for each in published:
        try:
            held.append(_bound(each.protocol, each.host, each.host_port))
        except OSError as error:
            lost.append(f"{each}: {error.strerror}")
    return held, lost


def _take(binding: Binding, hosts: Sequence[str]) -> tuple[int, list[socket.socket]]:
    """A port of the range that is free at all of these addresses, and what holds it there. Raises Refused."""
    where, chosen = "", 0
    for port in range(binding.first, binding.last + 1) if binding.first else [0] * _TRIES:
        chosen = port
        taken: list[socket.socket] = []
        try:
            for host in hosts:
                where = f"{host}:{chosen}"
                taken.append(_bound(binding.protocol, host, chosen))
                chosen = taken[0].getsockname()[1]
        except OSError as error:
            _close(taken)
            if error.errno == errno.EADDRNOTAVAIL:
                raise Refused(f"port {binding}: {where} is not at an address of this machine") from error
            if error.errno != errno.EADDRINUSE:
                raise Refused(f"port {binding}: {error.strerror}") from error
        else:
            return chosen, taken
    text = f"port {binding}: in use already on this machine ({where}); `ss -lntup` says by whom"
    raise PortTaken(text, binding.protocol, chosen)


def _bound(protocol: str, host: str, port: int) -> socket.socket:
    """A socket that has the port, which nobody else can have then. Raises OSError."""
    kind, number = _KINDS[protocol]
    version = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(version, kind | socket.SOCK_CLOEXEC, number)
    try:
        if version == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:  # connections of a former owner that linger don't matter
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except BaseException:
        sock.close()
        raise
    return sock


def _close(sockets: Iterable[socket.socket]) -> None:
    for sock in sockets:
        sock.close()
