"""The calls of docker's remote network driver, and what each does. Source: libnetwork, docs/remote.md.

    CreateNetwork    bridge, gateway's addresses, sysctls, firewall
    CreateEndpoint   pair: `vd...` in the bridge, `vc...` for the container
    Join             docker moves `vc...` into the container, as eth0, and gives it addresses and routes
    ProgramExternalConnectivity, RevokeExternalConnectivity    published ports, when docker has chosen the network
                     that has the container's default route
    Leave            docker has brought `vc...` back, or it went with the container's namespace
    DeleteEndpoint, DeleteNetwork

Every call may come twice: docker repeats those of which it lost the answer. What is deleted already is no error.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from contextlib import AsyncExitStack
from ipaddress import ip_interface
from typing import Any, Final
from weakref import WeakValueDictionary

from structlog.typing import FilteringBoundLogger

from vethd.docker import conntrack, options
from vethd.docker.host import Firewall, prepare
from vethd.docker.options import PortTaken, Refused
from vethd.docker.place import Place
from vethd.docker.ports import Ports
from vethd.docker.state import Endpoint, Network, Published, Store
from vethd.rpc.aio import AsyncClient
from vethd.rpc.conversation import NotRunning, RpcError

Request = Mapping[str, Any]
Answer = dict[str, Any]

_MAC: Final = "com.docker.network.endpoint.macaddress"
_LABEL_SIZE: Final = 255
#: Seconds for a container that has ended to be gone altogether.
_PATIENCE: Final = 2.0


class Driver:
    """The driver `vethd`. Its methods raise Refused, RpcError, NotRunning and OSError.

    client: of the control socket. store: loaded.
    """

    def __init__(self, client: AsyncClient, store: Store, log: FilteringBoundLogger) -> None:
        self._client = client
        self._store = store
        self._log = log
        self._firewall = Firewall()
        self._ports = Ports()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._complete: dict[str, tuple[int, int]] = {}
        self._seen: set[int] = set()
        self._released = asyncio.Event()

    def close(self) -> None:
        """Let go of published ports; they stay published."""
        self._ports.close()

    async def arrive(self, place: Place) -> None:
        """Take up what was left in a namespace; does nothing when it has been done."""
        if place.inode in self._seen:
            return
        self._seen.add(place.inode)
        networks = self._networks(place)
        for network in networks:
            for endpoint in network.endpoints.values():
                for lost in await self._ports.hold(place, endpoint.id, endpoint.published):
                    self._log.warning("published port not held", port=lost, network=network.id)
        if networks:
            try:
                await self._firewall.set(place, networks)
            except Refused as error:
                self._log.error("rules not set", error=str(error))

    # -- the calls --------------------------------------------------------------------------------------------------

    async def activate(self, _request: Request, place: Place) -> Answer:
        """Docker was started, or asks for the driver for the first time: nothing in its namespace is sure."""
        self._firewall.forget(place)
        for network in self._networks(place):
            self._complete.pop(network.id, None)
        return {"Implements": ["NetworkDriver"]}

    async def capabilities(self, _request: Request, _place: Place) -> Answer:
        """Networks are of one machine."""
        return {"Scope": "local", "ConnectivityScope": "local"}

    async def nothing(self, _request: Request, _place: Place) -> Answer:
        """What only drivers of several machines have to do, or docker does."""
        return {}

    async def create_network(self, request: Request, place: Place) -> Answer:
        """Make a network, or nothing."""
        name = options.identifier(request, "NetworkID")
        wanted = options.network_options(name, request)
        for other in self._networks(place):
            if other.id != name and other.options.bridge == wanted.bridge:
                raise Refused(
                    f"bridge {wanted.bridge} belongs to network {other.id[:12]}: "
                    f"give another name with -o {options.BRIDGE_NAME}=NAME"
                )
        async with self._turn(name), AsyncExitStack() as undo:
            network = self._store.networks.get(name)
            if network is None:
                own_name = wanted.bridge == f"br-{name[:12]}"
                network = Network(name, wanted, place.inode, made=own_name, leaving=True)
                undo.push_async_callback(self._undo_network, network, place)
            elif network.options != wanted:
                raise Refused(f"network {name[:12]} is there already, and is another one")
            await self._make_complete(network, place)
            if network.leaving:
                network.leaving = False
                self._store.save(network)
            undo.pop_all()
        return {}

    async def delete_network(self, request: Request, place: Place) -> Answer:
        """Remove a network, and endpoints of which docker knows no more."""
        name = options.identifier(request, "NetworkID")
        async with self._turn(name):
            network = self._store.networks.get(name)
            if network is not None:
                await self._delete_network(network, place)
        return {}

    async def create_endpoint(self, request: Request, place: Place) -> Answer:
        """Make a pair, or nothing; its MAC address is told where docker has chosen none."""
        name = options.identifier(request, "EndpointID")
        interface = options.mapping(request, "Interface")
        addresses = [
            _address(value, field)
            for field in ("Address", "AddressIPv6")
            if (value := options.text(interface, field, empty=True)) not in ("", "0.0.0.0/0", "::/0")
        ]
        given = options.text(interface, "MacAddress", empty=True)
        publishes = bool(options.bindings(request))
        async with self._turn_of(request):
            network = self._network(request)
            endpoint = Endpoint(name, given or _mac(addresses), tuple(addresses), leaving=True)
            network.endpoints[name] = endpoint
            self._store.save(network)
            try:
                await self._make_complete(network, place)
                await self._make_pair(network, endpoint, place, hairpin=publishes)
                endpoint.leaving = False
                self._store.save(network)
            except BaseException:
                endpoint.leaving = True
                await self._try_to_leave(network, endpoint, place)
                raise
        return {"Interface": {} if given else {"MacAddress": endpoint.mac}}

    async def delete_endpoint(self, request: Request, place: Place) -> Answer:
        """Delete a pair."""
        name = options.identifier(request, "EndpointID")
        async with self._turn_of(request):
            network = self._store.networks.get(options.identifier(request, "NetworkID"))
            endpoint = network and network.endpoints.get(name)
            if network and endpoint:
                endpoint.leaving = True  # docker forgets it, whatever the answer is
                self._store.save(network)
                await self._leave(network, endpoint, place)
        return {}

    async def endpoint_info(self, request: Request, _place: Place) -> Answer:
        """What `docker inspect` could show."""
        _network, endpoint = self._endpoint(request)
        return {"Value": {_MAC: endpoint.mac}}

    async def join(self, request: Request, place: Place) -> Answer:
        """Say which interface docker is to take, and where its default route goes."""
        async with self._turn_of(request):
            network, endpoint = self._endpoint(request)
            for pair in await self._client.link_list(origin="docker", labels={"endpoint": endpoint.id}):
                if pair["b"]["netns_inode"] == place.inode:
                    name = pair["b"]["ifname"]
                    break
            else:
                raise _gone(endpoint.id)
        answer: Answer = {"InterfaceName": {"SrcName": name, "DstPrefix": network.options.prefix}}
        if network.options.internal:
            return {**answer, "DisableGatewayService": True}
        for field, version in (("Gateway", 4), ("GatewayIPv6", 6)):
            if gateway := network.gateway(version):
                answer[field] = gateway
        return answer

    async def publish(self, request: Request, place: Place) -> Answer:
        """Publish the ports of an endpoint, all or none."""
        try:
            return await self._publish(request, place)
        except PortTaken as taken:  # perhaps by a container of before a crash of dockerd
            await self.finish(place)
            await self._until_free(taken)
            return await self._publish(request, place)

    async def _until_free(self, taken: PortTaken) -> None:
        """Wait for an endpoint of ours that has the port to be gone: namespaces take their time. Raises PortTaken."""
        deadline = asyncio.get_running_loop().time() + _PATIENCE
        while any(
            (port.protocol, port.host_port) == (taken.protocol, taken.port)
            for network in self._store.networks.values()
            for endpoint in network.endpoints.values()
            for port in endpoint.published
        ):
            released = self._released
            try:
                async with asyncio.timeout_at(deadline):
                    await released.wait()
            except TimeoutError:
                raise taken from None

    async def _publish(self, request: Request, place: Place) -> Answer:
        wanted = options.bindings(request)
        async with self._turn_of(request):
            network, endpoint = self._endpoint(request)
            if not wanted:
                return {}
            if network.options.internal:
                raise Refused("an internal network publishes no ports: make one without --internal, or don't publish")
            default = network.options.host_binding
            try:
                endpoint.published = await self._ports.take(place, endpoint.id, wanted, endpoint.addresses, default)
                self._store.save(network)
                await self._firewall.set(place, self._networks(place))
                await self._forget_flows(place, endpoint.published)
            except BaseException:
                self._ports.release(endpoint.id)
                endpoint.published = []
                self._store.save(network)
                raise
            await self._label(endpoint, ports=", ".join(map(str, endpoint.published))[:_LABEL_SIZE])
        return {}

    async def withdraw(self, request: Request, place: Place) -> Answer:
        """Publish no port of an endpoint any more."""
        name = options.identifier(request, "EndpointID")
        async with self._turn_of(request):
            network = self._network(request)
            endpoint = network.endpoints.get(name)
            if endpoint and endpoint.published:
                await self._withdraw(network, endpoint, place)
                await self._label(endpoint, ports=None)
        return {}

    # -- what docker does not tell ------------------------------------------------------------------------------------

    async def finish(self, place: Place) -> None:
        """Delete what docker has forgotten: while vethd did not answer, or since it crashed. place: any that is open.

        Docker does not tell drivers of endpoints that it finds after a crash, but their ends of pairs have gone with
        the containers.
        """
        for name in list(self._store.networks):
            await self._finish(name, place)

    async def lost(self, labels: Mapping[str, str], place: Place) -> None:
        """A pair with these labels is no more; see finish."""
        network = self._store.networks.get(labels.get("network", ""))
        if network is not None and labels.get("endpoint") in network.endpoints:
            await self._finish(network.id, place)

    async def _finish(self, name: str, place: Place) -> None:
        async with self._turn(name):
            network = self._store.networks.get(name)
            if network is None:
                return
            if network.leaving:
                await self._delete_network(network, place)
                return
            pairs = await self._client.link_list(origin="docker", labels={"network": name})
            there = {pair["labels"].get("endpoint") for pair in pairs}
            for endpoint in list(network.endpoints.values()):
                if endpoint.leaving or endpoint.id not in there:
                    await self._leave(network, endpoint, place)

    # -- networks and endpoints ---------------------------------------------------------------------------------------

    def _turn(self, network: str) -> asyncio.Lock:
        """Held while a network, by its id, is looked at and changed."""
        return self._turns.setdefault(network, asyncio.Lock())

    def _turn_of(self, request: Request) -> asyncio.Lock:
        """Raises Refused."""
        return self._turn(options.identifier(request, "NetworkID"))

    def _networks(self, place: Place) -> list[Network]:
        return [each for each in self._store.networks.values() if each.netns == place.inode]

    def _network(self, request: Request) -> Network:
        """The network that a request is about. Raises Refused."""
        name = options.identifier(request, "NetworkID")
        network = self._store.networks.get(name)
        if network is None:
            raise Refused(
                f"network {name[:12]} is not known to vethd-docker, whose state must have been removed: "
                "`docker network rm` it and create it again"
            )
        return network

    def _endpoint(self, request: Request) -> tuple[Network, Endpoint]:
        """The endpoint that a request is about, and its network. Raises Refused."""
        network, name = self._network(request), options.identifier(request, "EndpointID")
        endpoint = network.endpoints.get(name)
        if endpoint is None:
            raise _gone(name)
        return network, endpoint

    async def _make_complete(self, network: Network, place: Place) -> None:
        """Make what is missing of a network: all of it, where the machine was restarted."""
        wanted = network.options
        if network.netns != place.inode or network.id not in self._store.networks:
            network.netns = place.inode
            self._store.save(network)
        bridge = await self._client.bridge_set(
            name=wanted.bridge, netns=place, addresses=list(wanted.gateways), mtu=wanted.mtu
        )
        if bridge["created"] and not network.made:
            network.made = True
            self._store.save(network)
        here = place.inode, bridge["ifindex"]
        if self._complete.get(network.id) != here:
            await asyncio.to_thread(place.run, lambda: prepare(network))
            await self._firewall.set(place, self._networks(place))
            self._complete[network.id] = here

    async def _undo_network(self, network: Network, place: Place) -> None:
        """After a failure: remove what was made of a network, as far as that goes."""
        try:
            await self._delete_network(network, place)
        except (Refused, RpcError, NotRunning, OSError) as error:
            self._log.warning("network not undone yet", network=network.id, error=str(error))

    async def _delete_network(self, network: Network, place: Place) -> None:
        for pair in await self._client.link_list(origin="docker", labels={"network": network.id}):
            await self._delete_pair(pair["pair"])
        for endpoint in network.endpoints.values():
            self._ports.release(endpoint.id)
        if network.made and network.netns == place.inode:
            await self._client.bridge_del(name=network.options.bridge, netns=place)
        self._complete.pop(network.id, None)
        others = [each for each in self._networks(place) if each.id != network.id]
        await self._firewall.set(place, others)
        self._store.forget(network)

    async def _make_pair(self, network: Network, endpoint: Endpoint, place: Place, *, hairpin: bool) -> None:
        await self._delete_pairs(endpoint)
        wanted = network.options
        await self._client.link_add(
            a={
                "ifname": f"vd{endpoint.id[:12]}",
                "netns": place,
                "mtu": wanted.mtu,
                "up": True,
                # Where br_netfilter is, a frame to a port that its sender has published goes back where it came from.
                "bridge": {"name": wanted.bridge, "hairpin": hairpin, "isolated": not wanted.icc},
            },
            b={"ifname": source_name(endpoint.id), "netns": place, "address": endpoint.mac, "mtu": wanted.mtu},
            labels={"network": network.id, "endpoint": endpoint.id},
            origin="docker",
        )

    async def _delete_pairs(self, endpoint: Endpoint) -> None:
        for pair in await self._client.link_list(origin="docker", labels={"endpoint": endpoint.id}):
            await self._delete_pair(pair["pair"])

    async def _label(self, endpoint: Endpoint, **labels: str | None) -> None:
        for pair in await self._client.link_list(origin="docker", labels={"endpoint": endpoint.id}):
            try:
                await self._client.link_set(pair=pair["pair"], set={"labels": labels})
            except RpcError as error:
                if error.kind != "no_such_link":
                    raise

    async def _delete_pair(self, uuid: str) -> None:
        try:
            await self._client.link_del(pair=uuid)
        except RpcError as error:
            if error.kind != "no_such_link":  # it went with the container's namespace
                raise

    async def _withdraw(self, network: Network, endpoint: Endpoint, place: Place) -> None:
        before, endpoint.published = endpoint.published, []
        self._ports.release(endpoint.id)
        self._released.set()
        self._released = asyncio.Event()
        if before:
            self._store.save(network)
            if network.netns == place.inode:
                await self._firewall.set(place, self._networks(place))
                await self._forget_flows(place, before)

    async def _forget_flows(self, place: Place, published: list[Published]) -> None:
        try:
            await asyncio.to_thread(place.run, lambda: conntrack.forget(published))
        except OSError as error:  # it has none of its own, then
            self._log.warning("flows not forgotten", error=str(error))

    async def _leave(self, network: Network, endpoint: Endpoint, place: Place) -> None:
        """Delete all that there is of an endpoint, then forget it."""
        await self._withdraw(network, endpoint, place)
        await self._delete_pairs(endpoint)
        del network.endpoints[endpoint.id]
        self._store.save(network)

    async def _try_to_leave(self, network: Network, endpoint: Endpoint, place: Place) -> None:
        try:
            await self._leave(network, endpoint, place)
        except (Refused, RpcError, NotRunning, OSError) as error:
            self._log.warning("endpoint not undone yet", endpoint=endpoint.id, error=str(error))


def source_name(endpoint: str) -> str:
    """The name of an endpoint's interface before docker takes it into the container."""
    return f"vc{endpoint[:12]}"


def _gone(endpoint: str) -> Refused:
    return Refused(
        f"endpoint {endpoint[:12]} is not there, or no more: "
        "connect the container again, with `docker network disconnect` and `connect`"
    )


def _address(value: str, field: str) -> str:
    """An address without its prefix. Raises Refused."""
    try:
        return str(ip_interface(value).ip)
    except ValueError as error:
        raise Refused(f"Interface: {field} {value!r}: {error}") from error


def _mac(addresses: list[str]) -> str:
    """As docker's bridge has them: from the IPv4 address, so that a container that comes back has its old one."""
    four = next((each for each in addresses if ":" not in each), None)
    tail = bytes(map(int, four.split("."))) if four else random.randbytes(4)
    return ":".join(f"{byte:02x}" for byte in b"\x02\x42" + tail)
