"""DEL and GC: what containers leave behind is removed.

The address is free for others last, when nothing on the host leads to it any more.

While no daemon answers DEL deletes the devices itself: a runtime that can't detach would keep the container's remains,
or forget them. The daemon that comes back sees that they are gone. Their names tell which they are; that they are
pairs' ends, their alias.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Final

from vethd.cni import plan
from vethd.cni.config import Network
from vethd.cni.control import Unreachable, connected
from vethd.cni.errors import TRY_AGAIN, CniError
from vethd.cni.ipam import Ipam
from vethd.cni.request import Request
from vethd.rpc.client import Client, RpcError

#: What the daemon writes into the alias of each end.
_ALIAS: Final = "vethd "


def remove(request: Request, network: Network) -> None:
    """DEL: detach a container; what is gone already is no error. Raises CniError when something is left."""
    try:
        with connected(network.socket) as client:
            for pair in client.link_list(origin="cni", labels=plan.labels(network.name, request)):
                _delete(client, pair["pair"])
    except Unreachable as unreachable:
        _delete_devices(request, network, unreachable)
    if network.masquerade:
        _forget(network, request.container, request.ifname)
    Ipam(request, network).free()


def collect(request: Request, network: Network, valid: set[tuple[str, str]]) -> None:
    """GC: remove all attachments of a network but the valid ones. Raises CniError when something is left."""
    failures: list[CniError] = []
    ipam = Ipam(request, network)
    try:
        with connected(network.socket) as client:
            for pair in client.link_list(origin="cni", labels={"network": network.name}):
                labels = pair["labels"]
                container, ifname = labels.get("container", ""), labels.get("interface", "")
                if (container, ifname) in valid:
                    continue
                try:
                    _delete(client, pair["pair"])
                    ipam.free(container, ifname)
                except CniError as error:
                    failures.append(error)
    except CniError as error:
        failures.append(error)
    steps: tuple[Callable[[], None], ...] = (lambda: _forget_all_but(network, valid), lambda: ipam.pass_on("GC"))
    for step in steps:
        try:
            step()
        except CniError as error:
            failures.append(error)
    if failures:
        raise CniError(failures[0].code, "; ".join(map(str, failures)), failures[0].details)


def _delete(client: Client, uuid: str) -> None:
    try:
        client.link_del(pair=uuid)
    except RpcError as error:
        if error.kind != "no_such_link":  # its container died at this moment
            raise


def _forget(network: Network, container: str, ifname: str) -> None:
    from vethd.cni.masquerade import forget

    forget(network.name, container, ifname)


def _forget_all_but(network: Network, valid: set[tuple[str, str]]) -> None:
    from vethd.cni.masquerade import forget_all_but

    forget_all_but(network.name, valid)


def _delete_devices(request: Request, network: Network, unreachable: CniError) -> None:
    """Delete both ends without the daemon. Raises CniError: unreachable, with the reason why that did not work."""
    from vethd.host import netns

    try:
        _delete_device(plan.host_ifname(network.name, request.container, request.ifname))
        if not request.netns:
            return
        try:
            place = os.open(request.netns, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return
        home = netns.current()
        try:
            with netns.inside(place, home):
                _delete_device(request.ifname)
        finally:
            os.close(place)
            os.close(home)
    except OSError as error:
        raise CniError(TRY_AGAIN, unreachable.msg, f"and without it: {error}") from error


def _delete_device(name: str) -> None:
    """Delete a device of this namespace, if it is the end of a pair. Raises RtnlError."""
    from vethd.host.rtnl import Rtnl

    with Rtnl() as rtnl:
        try:
            link = rtnl.get_link(name=name)
            if link.alias.startswith(_ALIAS):
                rtnl.del_link(name)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
