"""Reading a link as rtnetlink reports it, and hearing about its changes.

Every read is one request on a socket of its own that is closed at once, so that looking at a link never keeps its
namespace alive.
"""

import os
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

from tests.kit.commands import in_netns
from tests.kit.netns import inside, socket_in

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, NLMSG_ERROR = 16, 17, 18, 2
NLM_F_REQUEST, NLM_F_DUMP = 0x1, 0x300
RTMGRP_LINK = 0x1
IFF_UP, IFF_RUNNING, IFF_LOWER_UP = 0x1, 0x40, 0x10000
OPERSTATES = ("UNKNOWN", "NOTPRESENT", "DOWN", "LOWERLAYERDOWN", "TESTING", "DORMANT", "UP")


@dataclass(frozen=True)
class LinkState:
    """One link at one moment; `attributes` holds everything else the kernel said, under rtnetlink's names."""

    name: str
    ifindex: int
    flags: int
    attributes: dict[str, Any]

    @property
    def up(self) -> bool:
        """Administratively up."""
        return bool(self.flags & IFF_UP)

    @property
    def running(self) -> bool:
        return bool(self.flags & IFF_RUNNING)

    @property
    def lower_up(self) -> bool:
        return bool(self.flags & IFF_LOWER_UP)

    @property
    def carrier(self) -> bool:
        return bool(self.attributes["IFLA_CARRIER"])

    @property
    def carrier_counts(self) -> tuple[int, int, int]:
        """How often the carrier changed, came up and went down."""
        attributes = self.attributes
        return (
            attributes["IFLA_CARRIER_CHANGES"],
            attributes["IFLA_CARRIER_UP_COUNT"],
            attributes["IFLA_CARRIER_DOWN_COUNT"],
        )

    @property
    def operstate(self) -> str:
        state = self.attributes["IFLA_OPERSTATE"]
        return state if isinstance(state, str) else OPERSTATES[state]

    @property
    def mtu(self) -> int:
        return int(self.attributes["IFLA_MTU"])

    @property
    def txqlen(self) -> int:
        return int(self.attributes["IFLA_TXQLEN"])

    @property
    def address(self) -> str:
        return str(self.attributes["IFLA_ADDRESS"])

    @property
    def qdisc(self) -> str:
        return str(self.attributes["IFLA_QDISC"])

    @property
    def kind(self) -> str | None:
        """What `ip -d link` shows as the kind, such as `veth` or `tun`; None for a device that has none."""
        info = self.attributes.get("IFLA_LINKINFO")
        kind = dict(info["attrs"]).get("IFLA_INFO_KIND") if info else None
        return None if kind is None else str(kind)

    @property
    def stats(self) -> dict[str, int]:
        """The kernel's own 64-bit counters (`rx_packets`, `tx_dropped`, ...)."""
        return dict(self.attributes["IFLA_STATS64"])


def _state_of(message: Any) -> LinkState:
    attributes = dict(message["attrs"])
    return LinkState(attributes.get("IFLA_IFNAME", ""), message["index"], message["flags"], attributes)


def _ask(netns: str | None, name: str | None) -> list[LinkState]:
    request = ifinfmsg()
    flags = NLM_F_REQUEST if name else NLM_F_REQUEST | NLM_F_DUMP
    request["header"] = {"type": RTM_GETLINK, "flags": flags, "sequence_number": 1, "pid": 0}
    request["attrs"] = [("IFLA_IFNAME", name)] if name else []
    request.encode()
    states: list[LinkState] = []
    with socket_in(netns, socket.AF_NETLINK, socket.SOCK_RAW) as link:
        link.bind((0, 0))
        link.send(request.data)
        while True:
            data = link.recv(1 << 18)
            kind = struct.unpack_from("=H", data, 4)[0]
            if kind == NLMSG_ERROR:
                number = -struct.unpack_from("=i", data, 16)[0]
                raise OSError(number, f"{name}: {os.strerror(number)}")
            messages = list(MarshalRtnl().parse(data))
            states += [_state_of(message) for message in messages if message["header"]["type"] == RTM_NEWLINK]
            if name or any(message["header"]["type"] == 3 for message in messages):  # NLMSG_DONE ends a dump
                return states


def read_link(netns: str | None, name: str) -> LinkState:
    """Return the link NAME of NETNS (None: our own); OSError with ENODEV when there is none."""
    return _ask(netns, name)[0]


def all_links(netns: str | None) -> dict[str, LinkState]:
    """Return every link of NETNS (None: our own) by name."""
    return {state.name: state for state in _ask(netns, None)}


def link_exists(netns: str | None, name: str) -> bool:
    """Whether NETNS has a link of this name now; a namespace that is gone has none."""
    try:
        read_link(netns, name)
    except OSError:
        return False
    return True


def sysfs_value(netns: str, name: str, entry: str) -> str:
    """Return one `/sys/class/net/NAME/ENTRY` of NETNS, for what rtnetlink does not tell."""
    return in_netns(netns, "cat", f"/sys/class/net/{name}/{entry}").out.strip()


class LinkMonitor:
    """A subscription to the link events of one namespace; the namespace lives at least as long as this is open."""

    def __init__(self, netns: str | None) -> None:
        self._socket = inside(netns, self._subscribe)

    @staticmethod
    def _subscribe() -> socket.socket:
        link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        link.bind((0, RTMGRP_LINK))
        return link

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def wait(self, wanted: Callable[[str, LinkState], bool], what: str, within: float = 5.0) -> LinkState:
        """Return the first event that `wanted(kind, state)` accepts; kind is `new` or `del`."""
        deadline = time.monotonic() + within
        seen: list[str] = []
        while (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                data = self._socket.recv(1 << 18)
            except TimeoutError:
                break
            for message in MarshalRtnl().parse(data):
                kind = "del" if message["header"]["type"] == RTM_DELLINK else "new"
                state = _state_of(message)
                if wanted(kind, state):
                    return state
                seen.append(f"{kind} {state.name} flags {state.flags:#x}")
        raise AssertionError(f"no event within {within} s: {what}; seen: {seen}")
