"""What passes and what does not: published ports, masquerading, and networks that are kept apart, as seen by TCP.

dockerd's namespace is a router with DROP as the policy of FORWARD and br_netfilter at work, as docker has it, between
containers and one that is outside.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import pytest

from tests.docker.plugin import Dockerd, Endpoint, Network, Refusal, port
from tests.kit.commands import in_netns, ip, run
from tests.kit.netns import Namespaces, inside, socket_in

OUTSIDE, OUTSIDE6 = "192.0.2.2", "2001:db8::2"
ROUTER, ROUTER6 = "192.0.2.1", "2001:db8::1"
QUIET = 0.3  # seconds after which nothing more is expected of a path that drops
RULES = """*filter
:FORWARD DROP [0:0]
:DOCKER-USER - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
-A FORWARD -j DOCKER-USER
-A DOCKER-USER -d 203.0.113.0/24 -j REJECT
-A DOCKER-USER -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
COMMIT
"""


@pytest.fixture
def router(dockerd: Dockerd, netns: Namespaces) -> Dockerd:
    """dockerd's namespace, with a wire of the kernel's to one that is outside."""
    here, there = dockerd.netns, netns.make(ipv6=True)
    ip(here, "link", "add", "up0", "type", "veth", "peer", "name", "up0", "netns", there)
    for where, number in ((here, 1), (there, 2)):
        ip(where, "address", "add", f"192.0.2.{number}/24", "dev", "up0")
        ip(where, "address", "add", f"2001:db8::{number}/64", "dev", "up0", "nodad")
        ip(where, "link", "set", "up0", "up")
    ip(here, "route", "add", "203.0.113.0/24", "via", OUTSIDE)
    ip(there, "route", "add", "10.88.0.0/16", "via", ROUTER)  # a neighbour that would go past what is published
    ip(there, "route", "add", "fd00::/16", "via", ROUTER6)
    for program in ("iptables-restore", "ip6tables-restore"):
        rules = RULES if program == "iptables-restore" else RULES.replace("203.0.113.0/24", "2001:db8:f::/48")
        run("nsenter", f"--net=/run/netns/{here}", program, given=rules)
    dockerd.outside = there
    return dockerd


@contextmanager
def serving(netns: str, address: str, at: int = 80) -> Iterator[None]:
    """Answer every connection with the address that it comes from."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    server = inside(netns, lambda: socket.create_server((address, at), family=family))

    def serve() -> None:
        while True:
            try:
                connection, client = server.accept()
            except OSError:
                return
            with connection:
                connection.sendall(client[0].encode())

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


def seen(netns: str, address: str, at: int, within: float = 5.0) -> str:
    """As whom a server sees one that connects from a namespace; empty when it does not get there."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with closing(socket_in(netns, family, socket.SOCK_STREAM)) as sock:
        sock.settimeout(within)
        try:
            sock.connect((address, at))
            return sock.recv(100).decode()
        except (TimeoutError, ConnectionRefusedError):
            return ""


@pytest.fixture
def two(router: Dockerd, netns: Namespaces) -> Iterator[tuple[Endpoint, Endpoint, Network]]:
    """Two containers in a network; the first one publishes port 80 as 8080."""
    network = router.network(v6="fd00:88")
    ends = network.endpoint(port(80, 8080)), network.endpoint()
    for end in ends:
        end.join(netns.make(ipv6=True))
    yield *ends, network
    for end in ends:
        end.leave()
    network.delete()


def test_published_ports(router: Dockerd, two: tuple[Endpoint, Endpoint, Network]) -> None:
    a, b, _network = two
    with serving(a.sandbox, a.address), serving(a.sandbox, a.address6):
        assert seen(router.outside, ROUTER, 8080) == OUTSIDE
        assert seen(router.outside, ROUTER6, 8080) == OUTSIDE6
        assert seen(router.netns, ROUTER, 8080) == ROUTER
        assert seen(router.netns, "127.0.0.1", 8080) == "10.88.0.1"
        for target in (ROUTER, "10.88.0.1"):
            assert seen(b.sandbox, target, 8080) == "10.88.0.1"
            assert seen(a.sandbox, target, 8080) == "10.88.0.1"
        assert seen(b.sandbox, ROUTER6, 8080) == "fd00:88::1"
        a.call("RevokeExternalConnectivity")
        for target in (ROUTER, ROUTER6):
            assert seen(router.outside, target, 8080) == ""
        a.publish()
        assert seen(router.outside, ROUTER, 8080) == OUTSIDE


def test_what_leaves_and_what_does_not_come_in(router: Dockerd, two: tuple[Endpoint, Endpoint, Network]) -> None:
    a, b, _network = two
    with serving(router.outside, OUTSIDE), serving(router.outside, OUTSIDE6):
        assert seen(a.sandbox, OUTSIDE, 80) == ROUTER
        assert seen(a.sandbox, OUTSIDE6, 80) == ROUTER6
    with serving(a.sandbox, a.address), serving(a.sandbox, a.address6):
        assert seen(b.sandbox, a.address, 80) == b.address
        assert seen(b.sandbox, a.address6, 80) == b.address6
        assert seen(router.netns, a.address, 80) == "10.88.0.1"
        assert seen(router.outside, a.address, 80, QUIET) == ""
        assert seen(router.outside, a.address6, 80, QUIET) == ""


def test_a_container_does_not_reach_what_listens_to_loopback(
    router: Dockerd, two: tuple[Endpoint, Endpoint, Network]
) -> None:
    a = two[0]
    ip(a.sandbox, "link", "set", "lo", "down")
    ip(a.sandbox, "route", "add", "127.0.0.2/32", "via", "10.88.0.1")
    in_netns(a.sandbox, "sysctl", "-qw", "net.ipv4.conf.eth0.route_localnet=1")
    with serving(router.netns, "127.0.0.2"):
        assert seen(router.netns, "127.0.0.2", 80) == "127.0.0.1"
        assert seen(a.sandbox, "127.0.0.2", 80, QUIET) == ""


def test_networks_are_kept_apart(router: Dockerd, two: tuple[Endpoint, Endpoint, Network], netns: Namespaces) -> None:
    a = two[0]
    inner = router.network("10.99.0", internal=True)
    c, d = inner.endpoint(), inner.endpoint()
    for end in (c, d):
        end.join(netns.make())
        ip(end.sandbox, "route", "add", "default", "via", "10.99.0.1")  # it is not told of one
    with serving(a.sandbox, a.address), serving(c.sandbox, c.address), serving(router.outside, OUTSIDE):
        assert seen(d.sandbox, c.address, 80) == d.address
        assert seen(c.sandbox, OUTSIDE, 80, QUIET) == ""
        assert seen(c.sandbox, a.address, 80, QUIET) == ""
        assert seen(a.sandbox, c.address, 80, QUIET) == ""
    with pytest.raises(Refusal, match="an internal network publishes no ports: make one without --internal"):
        c.call("ProgramExternalConnectivity", Options={"com.docker.network.portmap": [port(80)]})
    for end in (c, d):
        end.leave()
    inner.delete()


def test_words_of_a_network(router: Dockerd, netns: Namespaces) -> None:
    """No traffic between containers, no masquerading, ports at one address."""
    network = router.network(
        bridge__enable_icc="false", bridge__enable_ip_masquerade="false", bridge__host_binding_ipv4="127.0.0.1"
    )
    ends = network.endpoint(port(80, 8080)), network.endpoint()
    for end in ends:
        end.join(netns.make())
    a, b = ends
    with serving(a.sandbox, a.address), serving(router.outside, OUTSIDE):
        assert seen(b.sandbox, a.address, 80, QUIET) == ""
        assert seen(a.sandbox, OUTSIDE, 80) == a.address
        assert seen(router.outside, ROUTER, 8080) == ""
        assert seen(router.netns, "127.0.0.1", 8080) == "10.88.0.1"
    for end in ends:
        end.leave()
    network.delete()


@pytest.mark.parametrize("v6", [False, True])
def test_a_client_that_goes_on_sending_reaches_the_next_container(
    router: Dockerd, two: tuple[Endpoint, Endpoint, Network], v6: bool
) -> None:
    """UDP: a flow is led where the first datagram went until it is forgotten."""
    target, family = (ROUTER6, socket.AF_INET6) if v6 else (ROUTER, socket.AF_INET)
    options = {"com.docker.network.portmap": [port(53, 5353, proto=17)]}
    with closing(socket_in(router.outside, family, socket.SOCK_DGRAM)) as client:
        client.connect((target, 5353))
        for end in two[:2]:
            for _each in range(2):  # before anybody publishes it, and then to each in turn
                with suppress(ConnectionRefusedError):
                    client.send(b"hello")
            end.call("ProgramExternalConnectivity", Options=options)
            with closing(socket_in(end.sandbox, family, socket.SOCK_DGRAM)) as server:
                server.bind((end.address6 if v6 else end.address, 53))
                server.settimeout(5)
                with suppress(ConnectionRefusedError):
                    client.send(b"again")
                client.send(b"again")
                assert server.recv(100) == b"again"
            end.call("RevokeExternalConnectivity")


def test_rules_of_the_administrator_come_first(router: Dockerd, two: tuple[Endpoint, Endpoint, Network]) -> None:
    user = in_netns(router.netns, "iptables", "-S", "DOCKER-USER").out.splitlines()
    assert user[1:] == [
        "-A DOCKER-USER -d 203.0.113.0/24 -j REJECT --reject-with icmp-port-unreachable",
        "-A DOCKER-USER -j VETHD-DOCKER",
        "-A DOCKER-USER -j RETURN",
    ]
    assert seen(two[0].sandbox, "203.0.113.5", 80) == ""  # refused, not waited for


def test_the_chains_go_with_the_last_network(router: Dockerd) -> None:
    before = in_netns(router.netns, "iptables", "-S").out
    networks = [router.network("10.88.0"), router.network("10.89.0")]
    for network in networks:
        network.delete()
    assert in_netns(router.netns, "iptables", "-S").out == before


def test_ports_that_are_taken(router: Dockerd) -> None:
    network = router.network()
    a, b, c = (network.endpoint(each) for each in (port(80, 8080), port(80, 8080, 8082), port(80)))
    with closing(inside(router.netns, lambda: socket.create_server(("", 8080)))):
        with pytest.raises(Refusal, match=r"port \*:8080->80/tcp: in use already on this machine \(0.0.0.0:8080\)"):
            a.publish()
        b.publish()
    a.publish()
    c.publish()
    listed = in_netns(router.netns, "nft", "list", "map", "inet", "vethd_docker", "anywhere4").out
    for end, host in ((a, "8080"), (b, "8081")):
        assert f"tcp . {host} : {end.address} . 80" in listed
    assert f" : {c.address} . 80" in listed
    other = network.endpoint(port(80, 8081), port(53, 5353, proto=17))
    with pytest.raises(Refusal, match="in use already"):
        other.publish()
    inside(router.netns, lambda: socket.create_server(("", 5353)).close())
    with pytest.raises(Refusal, match=r"port 198.51.100.1:99->80/tcp: 198.51.100.1:99 is not at an address of this"):
        other.call(
            "ProgramExternalConnectivity", Options={"com.docker.network.portmap": [port(80, 99, host="198.51.100.1")]}
        )
    with pytest.raises(Refusal, match="the container has no IPv6 address; make the network with --ipv6"):
        other.call("ProgramExternalConnectivity", Options={"com.docker.network.portmap": [port(80, 99, host="::")]})
    for end in (a, b, c, other):
        end.call("RevokeExternalConnectivity")
        end.call("DeleteEndpoint")
    inside(router.netns, lambda: socket.create_server(("", 8081)).close())
    network.delete()
