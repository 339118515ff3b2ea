"""Every call of the protocol, in docker's order and out of it: what it makes, what it answers, what it refuses."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.docker.conftest import nothing_left
from tests.docker.plugin import Dockerd, Refusal, port
from tests.kit.commands import in_netns, ip, ip_json
from tests.kit.daemon import Daemon
from tests.kit.netns import Namespaces

UNKNOWN = "0" * 64


def addresses(netns: str, ifname: str) -> set[str]:
    (link,) = ip_json(netns, "address", "show", "dev", ifname)
    return {f"{each['local']}/{each['prefixlen']}" for each in link["addr_info"] if each["scope"] == "global"}


def test_what_it_is(dockerd: Dockerd) -> None:
    assert dockerd.ask("/Plugin.Activate") == (200, {"Implements": ["NetworkDriver"]})
    assert dockerd.call("GetCapabilities") == {"Scope": "local", "ConnectivityScope": "local"}


@pytest.mark.parametrize("call", ["AllocateNetwork", "FreeNetwork", "DiscoverNew", "DiscoverDelete"])
def test_what_is_for_drivers_of_several_machines(dockerd: Dockerd, call: str) -> None:
    assert dockerd.call(call, NetworkID=UNKNOWN, DiscoveryType=1, DiscoveryData={}) == {}


def test_a_life(dockerd: Dockerd, shared_daemon: Daemon, netns: Namespaces) -> None:
    network = dockerd.network(v6="fd00:88", driver__mtu="1400")
    assert addresses(dockerd.netns, network.bridge) == {"10.88.0.1/24", "fd00:88::1/64"}
    ends = [network.endpoint(), network.endpoint(mac="02:42:00:00:00:99")]
    assert [end.mac for end in ends] == [
        f"02:42:0a:58:00:{int(ends[0].address.split('.')[-1]):02x}",
        "02:42:00:00:00:99",
    ]
    places = [netns.make(ipv6=True), netns.make(ipv6=True)]
    for end, place in zip(ends, places, strict=True):
        assert end.join(place) == {
            "InterfaceName": {"SrcName": f"vc{end.id[:12]}", "DstPrefix": "eth"},
            "Gateway": "10.88.0.1",
            "GatewayIPv6": "fd00:88::1",
        }
        value = end.call("EndpointOperInfo")["Value"]
        assert value == {"com.docker.network.endpoint.macaddress": end.mac}
        (link,) = ip_json(dockerd.netns, "link", "show", "dev", f"vd{end.id[:12]}")
        assert (link["master"], link["mtu"]) == (network.bridge, 1400)
        (link,) = ip_json(place, "link", "show", "dev", "eth0")
        assert (link["address"], link["mtu"]) == (end.mac, 1400)
    for target in (ends[1].address, ends[1].address6, "10.88.0.1", "fd00:88::1"):
        in_netns(places[0], "ping", "-c1", "-W5", target)
    (pair,) = shared_daemon.call("link.list", {"labels": {"endpoint": ends[0].id}, "origin": "docker"})
    assert pair["labels"]["network"] == network.id
    for end in ends:
        end.leave()
    network.delete()


def test_an_internal_network_has_no_gateway(dockerd: Dockerd, sandbox: str) -> None:
    network = dockerd.network(internal=True)
    end = network.endpoint()
    assert end.join(sandbox) == {
        "InterfaceName": {"SrcName": f"vc{end.id[:12]}", "DstPrefix": "eth"},
        "DisableGatewayService": True,
    }
    assert addresses(dockerd.netns, network.bridge) == {"10.88.0.1/24"}
    end.leave()
    network.delete()


def test_names_of_interfaces(dockerd: Dockerd, sandbox: str) -> None:
    network = dockerd.network(container_iface_prefix="net")
    end = network.endpoint()
    assert end.join(sandbox)["InterfaceName"]["DstPrefix"] == "net"
    end.leave()
    network.delete()


def test_every_call_may_come_twice(dockerd: Dockerd, shared_daemon: Daemon, sandbox: str) -> None:
    network = dockerd.network()
    dockerd.call("CreateNetwork", NetworkID=network.id, Options={}, **network.data())
    end = network.endpoint(port(80, 8080))
    end.create()
    assert len(shared_daemon.pairs()) == 1
    assert end.call("Join", SandboxKey="/x") == end.join(sandbox)
    end.publish()
    end.call("RevokeExternalConnectivity")
    end.leave()
    for _again in range(2):
        end.call("Leave")
        end.call("DeleteEndpoint")
        network.delete()


def test_a_container_that_was_killed_takes_its_end_along(
    dockerd: Dockerd, shared_daemon: Daemon, netns: Namespaces
) -> None:
    network, place = dockerd.network(), netns.make()
    end = network.endpoint(port(80))
    end.join(place)
    netns.delete(place)
    assert not netns.undead()
    for call in ("RevokeExternalConnectivity", "Leave", "DeleteEndpoint"):
        end.call(call)
    assert shared_daemon.pairs() == []
    network.delete()


def test_an_endpoint_of_which_docker_knows_no_more_goes_with_its_network(
    dockerd: Dockerd, shared_daemon: Daemon
) -> None:
    network = dockerd.network()
    network.endpoint()
    assert len(shared_daemon.pairs()) == 1
    network.delete()


def test_a_bridge_that_is_there_is_used_and_kept(dockerd: Dockerd) -> None:
    ip(dockerd.netns, "link", "add", "lan0", "type", "bridge")
    ip(dockerd.netns, "address", "add", "10.9.9.9/24", "dev", "lan0")
    network = dockerd.network(bridge__name="lan0")
    assert addresses(dockerd.netns, "lan0") == {"10.9.9.9/24", "10.88.0.1/24"}
    with pytest.raises(Refusal, match=f"bridge lan0 belongs to network {network.id[:12]}: give another name"):
        dockerd.network("10.99.0", bridge__name="lan0")
    network.endpoint()
    network.delete()
    ip(dockerd.netns, "link", "del", "lan0")


def test_what_can_not_be_made_leaves_nothing(dockerd: Dockerd, shared_daemon: Daemon) -> None:
    ip(dockerd.netns, "link", "add", "lan0", "type", "veth", "peer", "name", "lan1")
    with pytest.raises(Refusal, match=r"vethd: .*lan0"):
        dockerd.network(bridge__name="lan0")
    ip(dockerd.netns, "link", "del", "lan0")
    assert nothing_left(dockerd) == []
    network = dockerd.network()
    with pytest.raises(Refusal, match=r"vethd: .*not a unicast address"):
        network.endpoint(mac="01:00:00:00:00:01")
    assert shared_daemon.pairs() == []
    assert '"endpoints": {}' in (dockerd.plugin.state / f"{network.id}.json").read_text()
    network.delete()


def call_of(name: str, **fields: Any) -> tuple[str, bytes]:
    return f"/NetworkDriver.{name}", json.dumps(fields).encode()


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        (*call_of("CreateEndpoint", NetworkID=UNKNOWN, EndpointID=UNKNOWN), "network 000000000000 is not known"),
        (*call_of("Join", NetworkID=UNKNOWN, EndpointID=UNKNOWN), "`docker network rm` it and create it again"),
        (*call_of("CreateNetwork", NetworkID="../x"), "NetworkID '../x' is not one of docker's"),
        (*call_of("CreateNetwork"), "NetworkID is missing or not a string"),
        (*call_of("DeleteEndpoint", NetworkID=UNKNOWN), "EndpointID is missing"),
        ("/NetworkDriver.CreateNetwork", b"", "the driver ended before it answered: try again"),
        ("/NetworkDriver.CreateNetwork", b"{", "the request is not JSON"),
        ("/NetworkDriver.CreateNetwork", b"\xff", "the request is not JSON"),
        ("/NetworkDriver.CreateNetwork", b"[" * 100_000, "the request is not JSON"),
        ("/NetworkDriver.CreateNetwork", b"[]", "the request is not a JSON object"),
    ],
)
def test_bad_calls(dockerd: Dockerd, path: str, body: bytes, says: str) -> None:
    status, answer = dockerd.ask(path, body)
    assert status == 200
    assert says in answer["Err"]


def test_calls_that_there_are_not(dockerd: Dockerd) -> None:
    assert dockerd.ask("/NetworkDriver.Fly") == (404, {"Err": "vethd-docker has no call POST /NetworkDriver.Fly"})
    assert dockerd.ask("/Plugin.Activate", method="GET")[0] == 404


def test_bad_fields_of_an_endpoint(dockerd: Dockerd, shared_daemon: Daemon) -> None:
    network = dockerd.network()
    ids = {"NetworkID": network.id, "EndpointID": "e" * 64}
    with pytest.raises(Refusal, match="Interface: Address 'near'"):
        dockerd.call("CreateEndpoint", **ids, Interface={"Address": "near"})
    with pytest.raises(Refusal, match="Interface is not an object"):
        dockerd.call("CreateEndpoint", **ids, Interface=[])
    with pytest.raises(Refusal, match="protocol 1 can't be published"):
        network.endpoint(port(80, proto=1))
    with pytest.raises(Refusal, match="endpoint eeeeeeeeeeee is not there, or no more"):
        dockerd.call("EndpointOperInfo", **ids)
    assert shared_daemon.pairs() == []
    network.delete()


def test_many_at_once(dockerd: Dockerd, shared_daemon: Daemon) -> None:
    network = dockerd.network()
    several = [Dockerd(dockerd.plugin, dockerd.netns) for _each in range(8)]

    def one(other: Dockerd) -> None:
        network_there = type(network)(other, network.id, network.subnet, "")
        for _again in range(3):
            end = network_there.endpoint(port(80))
            end.publish()
            end.call("RevokeExternalConnectivity")
            end.call("DeleteEndpoint")
        other.close()

    with ThreadPoolExecutor(len(several)) as pool:
        list(pool.map(one, several))
    assert shared_daemon.pairs() == []
    network.delete()
