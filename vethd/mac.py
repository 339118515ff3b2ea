"""The MAC address of a container's interface for which nobody asked for one."""

from __future__ import annotations

import socket
from typing import Final

#: Locally administered, and with "v" as its second byte.
_OURS: Final = b"\x02v"


def mac_of(address: str) -> str | None:
    """The MAC address that goes with an IP address, of which a prefix length is ignored; None when it is none.

    Always the same, so that a container that takes over an address is found by those who knew the former one: they
    believe what they learned by ARP for half a minute, and the new one sends nothing that would tell them better.
    """
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            packed = socket.inet_pton(family, address.partition("/")[0])
        except (OSError, ValueError):  # ValueError: a NUL in it
            continue
        return (_OURS + packed[-4:]).hex(":")
    return None
