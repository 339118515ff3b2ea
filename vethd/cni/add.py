"""ADD: a container gets an interface, all of it or nothing."""

from __future__ import annotations

import os
import sys
from typing import Any, Final

from vethd.cni import plan
from vethd.cni.config import Network
from vethd.cni.control import connected
from vethd.cni.errors import INVALID_ENVIRONMENT, REFUSED, CniError
from vethd.cni.ipam import Ipam
from vethd.cni.remove import remove
from vethd.cni.request import Request
from vethd.cni.result import printed
from vethd.rpc.client import Client, Namespace, netns, own_netns

_FORWARDING: Final = {"4": "/proc/sys/net/ipv4/ip_forward", "6": "/proc/sys/net/ipv6/conf/all/forwarding"}


def add(request: Request, network: Network) -> dict[str, Any]:
    """Attach a container; returns the result to print. Raises CniError, and then nothing is left of it."""
    with connected(network.socket) as client, netns(request.netns) as place:
        if os.fstat(place.fd).st_ino == own_netns():
            raise CniError(INVALID_ENVIRONMENT, f"CNI_NETNS {request.netns!r} is the namespace of the host itself")
        if client.link_list(origin="cni", labels=plan.labels(network.name, request)):
            raise CniError(
                REFUSED, f"{request.container} is in network {network.name} by {request.ifname} (CNI_IFNAME) already"
            )
        try:
            return _attach(request, network, client, place)
        except BaseException:
            _undo(request, network)
            raise


def _attach(request: Request, network: Network, client: Client, place: Namespace) -> dict[str, Any]:
    planned = plan.plan(request, network, Ipam(request, network).add())
    for family in planned.families:
        _forward(_FORWARDING[family])
    bridge = None if planned.bridge is None else client.call("bridge.set", planned.bridge)
    labels = plan.labels(network.name, request) | plan.pod_labels(request)
    ends = {"a": planned.host, "b": {**planned.container, "netns": place}}
    pair = client.call("link.add", {**ends, "origin": "cni", "labels": labels})
    if network.bandwidth.ingress or network.bandwidth.egress:
        from vethd.cni.bandwidth import limit

        limit(pair, place, network.bandwidth)
    if planned.sources:
        from vethd.cni.masquerade import masquerade

        masquerade(network.name, request.container, request.ifname, planned.sources)
    return printed(plan.finished(planned, request, network, bridge, pair), network.version)


def _forward(setting: str) -> None:
    """Let the host forward packets; nothing is written when it does. Raises CniError."""
    try:
        with open(setting) as file:
            if file.read() != "0\n":
                return
        with open(setting, "w") as file:
            file.write("1")
    except OSError as error:
        raise CniError(REFUSED, f"{setting}: {error.strerror}") from error


def _undo(request: Request, network: Network) -> None:
    """As DEL; what that says is of interest to people alone, the runtime hears why ADD failed."""
    try:
        remove(request, network)
    except CniError as error:
        sys.stderr.write(f"vethd-cni: undoing ADD: {error}\n")
