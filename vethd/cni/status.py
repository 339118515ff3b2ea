"""STATUS: whether containers can be attached now."""

from __future__ import annotations

import socket
from typing import Final

from vethd.cni.config import Network
from vethd.cni.control import Unreachable, connected
from vethd.cni.errors import LIMITED, NOT_AVAILABLE, CniError
from vethd.cni.ipam import Ipam
from vethd.cni.plan import is_host_ifname
from vethd.cni.request import Request

_TUN: Final = "/dev/net/tun"


def status(request: Request, network: Network) -> None:
    """Raises CniError: 50 when ADD would fail, 51 when containers that are attached may be cut off as well."""
    try:
        with connected(network.socket) as client:
            info = client.daemon_info()
    except Unreachable as error:
        attached = any(is_host_ifname(name) for _index, name in socket.if_nameindex())
        raise CniError(LIMITED if attached else NOT_AVAILABLE, error.msg) from error
    except CniError as error:
        raise CniError(NOT_AVAILABLE, error.msg, error.details) from error
    if missing := [str(worker["id"]) for worker in info["workers"] if worker["pid"] is None]:
        raise CniError(LIMITED, f"worker {', '.join(missing)} of vethd is being replaced")
    if info["pairs"] >= info["max_pairs"]:
        raise CniError(NOT_AVAILABLE, f"vethd has {info['pairs']} pairs, and may have no more")
    tun = info["kernel"]["features"].get(_TUN, "yes")
    if tun != "yes":
        raise CniError(NOT_AVAILABLE, f"{_TUN}: {tun}")
    Ipam(request, network).pass_on("STATUS")
