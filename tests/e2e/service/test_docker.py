"""vethd-docker as a service: what docker asks of it works in its sandbox, and while it is restarted docker waits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.service.unit import Unit
from tests.kit.waiting import eventually

NETWORK, ENDPOINT = "a" * 64, "e" * 64
IDS = {"NetworkID": NETWORK, "EndpointID": ENDPOINT}
FOUR = {"Pool": "10.88.0.0/24", "Gateway": "10.88.0.1/24"}
SIX = {"Pool": "fd00:88::/64", "Gateway": "fd00:88::1/64"}
PORTS = {"com.docker.network.portmap": [{"Proto": 6, "Port": 80, "HostPort": 80, "HostPortEnd": 80}]}
STATE = f"/var/lib/vethd/docker/{NETWORK}.json"

#: Asks as dockerd does, in the machine: the driver looks at where a connection comes from.
ASK = """
import http.client, json, socket, sys
connection = http.client.HTTPConnection("plugin")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect("/run/docker/plugins/vethd.sock")
for line in sys.stdin:
    name, fields = json.loads(line)
    connection.request("POST", name, json.dumps(fields))
    print(connection.getresponse().read().decode())
"""


@pytest.fixture
def service(unit: Unit) -> Iterator[Unit]:
    """The service, not started yet; its socket is open."""
    unit.ctl("start", "vethd-docker.socket")
    yield unit
    unit.ctl("stop", "vethd-docker.service", "vethd-docker.socket")
    unit.machine.run("rm", "-rf", "/var/lib/vethd")


def ask(unit: Unit, *calls: tuple[str, dict[str, Any]]) -> list[Any]:
    """Answers to calls of the network driver; an error is none."""
    lines = "".join(json.dumps([f"/NetworkDriver.{name}", fields]) + "\n" for name, fields in calls)
    unit.machine.write("/tmp/calls", lines)
    unit.machine.write("/tmp/ask.py", ASK)
    answers = [
        json.loads(line) for line in unit.machine.run("sh", "-c", "python3 /tmp/ask.py </tmp/calls").out.splitlines()
    ]
    assert not [answer for answer in answers if "Err" in answer], answers
    return answers


@pytest.mark.parametrize("user", ["vethd"], indirect=True)
def test_the_sandbox_leaves_it_what_it_needs(service: Unit) -> None:
    show = service.machine.show
    service.machine.run("sh", "-ec", "iptables -N DOCKER-USER; iptables -A DOCKER-USER -j RETURN")
    ask(
        service,
        ("CreateNetwork", {"NetworkID": NETWORK, "Options": {}, "IPv4Data": [FOUR], "IPv6Data": [SIX]}),
        ("CreateEndpoint", {**IDS, "Interface": {"Address": "10.88.0.2/24"}, "Options": PORTS}),
        ("Join", IDS),
        ("ProgramExternalConnectivity", {**IDS, "Options": PORTS}),
    )
    assert show("vethd-docker.service", "ActiveState") == "active"  # its socket started it
    assert sorted(service.links()) == ["br-aaaaaaaaaaaa", "vceeeeeeeeeeee", "vdeeeeeeeeeeee"]
    assert "80 : 10.88.0.2 . 80" in service.machine.run("nft", "list", "table", "inet", "vethd_docker").out
    assert "-j VETHD-DOCKER" in service.machine.run("iptables", "-S", "DOCKER-USER").out
    assert service.machine.run("sysctl", "-n", "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding").out == "1\n1\n"
    pid = show("vethd-docker.service", "MainPID")
    assert service.machine.path(f"/proc/{pid}/status").read_text().count("NoNewPrivs:\t1") == 1

    service.ctl("kill", "-s", "KILL", "vethd-docker.service")
    eventually(lambda: show("vethd-docker.service", "NRestarts"), lambda now: now == "1", "it is started anew")
    ask(service, ("RevokeExternalConnectivity", IDS), ("DeleteEndpoint", IDS))
    assert "80 : 10.88.0.2" not in service.machine.run("nft", "list", "ruleset").out
    ask(service, ("DeleteNetwork", {"NetworkID": NETWORK}))
    assert service.links() == []
    assert not service.machine.path(STATE).exists()
    assert [
        line for line in service.machine.journal("_SYSTEMD_UNIT=vethd-docker.service") if line["PRIORITY"] < "4"
    ] == []
