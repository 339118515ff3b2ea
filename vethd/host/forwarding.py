"""Switch on the forwarding of packets in a network namespace, as systemd-networkd's IPMasquerade= does.

The kernel lets who has CAP_NET_ADMIN in a namespace write its sysctls net.*, and has no other way for those of IPv6.
The unit of systemd shows the daemon these sysctls alone, at a place of their own: its /proc has none.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from vethd.host import netns

#: Where sysctls net.* may be, the first one that is there.
_PLACES: Final = (Path("/run/vethd/sysctl"), Path("/proc/sys/net"))
_SYSCTLS: Final = {4: "ipv4/ip_forward", 6: "ipv6/conf/all/forwarding"}


def switch_on(place: int, staging: int, versions: Iterable[int]) -> list[str]:
    """Let a namespace forward packets of these versions of IP; the sysctls that were off.

    place: an open fd of it. Runs on a host thread. Raises OSError, with the sysctl's name as `filename`.
    """
    switched = []
    for version in versions:
        name = "net." + _SYSCTLS[version].replace("/", ".")
        try:
            with netns.inside(place, staging):
                path = next((there for there in _PLACES if (there / "ipv4").exists()), _PLACES[-1]) / _SYSCTLS[version]
                if path.read_text().strip() == "0":
                    path.write_text("1")
                    switched.append(name)
        except OSError as error:
            raise OSError(error.errno, error.strerror, name) from error
    return switched
