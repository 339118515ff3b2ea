"""CHECK: whether a container's interface is still as ADD left it.

From prevResult follows what ADD asked for, and that is looked for: the pair, as the daemon knows it; addresses, routes
and limits, as the kernel does. What other plugins of the chain have added is theirs to check.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

from vethd.cni import plan
from vethd.cni.bandwidth import QDISC
from vethd.cni.config import Network, Rate
from vethd.cni.control import connected
from vethd.cni.errors import CHANGED, INVALID_CONFIG, CniError
from vethd.cni.ipam import Ipam
from vethd.cni.request import Request
from vethd.cni.result import Result
from vethd.host import netns
from vethd.host.address import addresses, routes
from vethd.host.rtnl import Rtnl
from vethd.rpc.client import Namespace
from vethd.rpc.client import netns as opened


def check(request: Request, network: Network) -> None:
    """Raises CniError when something is not as ADD left it (101), or no daemon carries its frames (11)."""
    if network.previous is None:
        raise CniError(INVALID_CONFIG, "prevResult is missing, and CHECK compares with it")
    own = _own_interface(network.previous, request)
    ips = [each for each in network.previous["ips"] if each.get("interface") == own]
    expected = plan.plan(request, network, {**network.previous, "ips": ips})
    with connected(network.socket) as client, opened(request.netns) as place:
        pairs = client.link_list(origin="cni", labels=plan.labels(network.name, request))
        if not pairs:
            raise _changed(f"vethd has no pair for {request.container} in network {network.name}")
        pair = pairs[0]
        _check_pair(pair, network, request, place)
        _check_interfaces(pair, network.previous, own)
        _check_end(pair["a"], expected.host, network.bandwidth.ingress)
        home = netns.current()
        try:
            with netns.inside(place.fd, home):
                _check_end(pair["b"], expected.container, network.bandwidth.egress)
        finally:
            os.close(home)
    if expected.sources:
        from vethd.cni.masquerade import is_masqueraded

        if not is_masqueraded(network.name, request.container, request.ifname):
            raise _changed(f"what {request.container} sends is not masqueraded")
    Ipam(request, network).check()


def _changed(what: str) -> CniError:
    return CniError(CHANGED, what)


def _own_interface(previous: Result, request: Request) -> int:
    """The index in prevResult of the interface that ADD made."""
    for index, each in enumerate(previous["interfaces"]):
        if each["name"] == request.ifname and each.get("sandbox") == request.netns:
            return index
    raise _changed(f"prevResult has no interface {request.ifname} in {request.netns}")


def _check_pair(pair: Mapping[str, Any], network: Network, request: Request, place: Namespace) -> None:
    """The ends are where they were put, and up."""
    host, container = pair["a"], pair["b"]
    if container["netns_inode"] != os.fstat(place.fd).st_ino:
        raise _changed(f"{container['ifname']} is not in {request.netns} any more")
    if container["ifname"] != request.ifname:
        raise _changed(f"{request.ifname} is called {container['ifname']} now")
    for end in (host, container):
        if not end["up"]:
            raise _changed(f"{end['ifname']} is down")
    if network.bridge is not None and host["master"] != network.bridge.name:
        raise _changed(f"{host['ifname']} is a port of {host['master'] or 'no bridge'}, not of {network.bridge.name}")


def _check_interfaces(pair: Mapping[str, Any], previous: Result, own: int) -> None:
    """The ends are those of prevResult."""
    host, container = pair["a"], pair["b"]
    said = previous["interfaces"][own].get("mac")
    if said and said.lower() != container["address"]:
        raise _changed(f"{container['ifname']} has the MAC address {container['address']}, not {said}")
    if not any(each["name"] == host["ifname"] and not each.get("sandbox") for each in previous["interfaces"]):
        raise _changed(f"prevResult has no {host['ifname']}, which is the end of {container['ifname']} on the host")


def _check_end(end: Mapping[str, Any], expected: Mapping[str, Any], rate: Rate | None) -> None:
    """An end in the namespace where we are has the addresses, routes and limit that it was given. Raises CniError."""
    with Rtnl() as rtnl:
        there = {address.ip for address, _by_vethd in addresses(rtnl, end["ifindex"])}
        leads = {(route.dst, route.gw) for route in routes(rtnl, end["ifindex"])}
        qdisc = rtnl.get_link(index=end["ifindex"]).qdisc if rate is not None else QDISC
    for each in expected.get("addresses", ()):
        address = each if isinstance(each, str) else each["address"]
        if ip_interface(address) not in there:
            raise _changed(f"{end['ifname']} does not have the address {address}")
    for each in expected.get("routes", ()):
        gateway = each.get("gw")
        if (ip_network(each["dst"]), ip_address(gateway) if gateway else None) not in leads:
            raise _changed(
                f"{end['ifname']} does not have the route to {each['dst']}" + (f" via {gateway}" if gateway else "")
            )
    if qdisc != QDISC:
        raise _changed(f"{end['ifname']} has no limit any more: its qdisc is {qdisc or 'none'}")
