"""vethd-docker as a process, and one that speaks to it as dockerd does, from a namespace of its own."""

from __future__ import annotations

import http.client
import itertools
import json
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

from tests.kit.commands import ip
from tests.kit.daemon import DIE_WITH_THE_TESTS, PROGRAMS, TROUBLE
from tests.kit.netns import fresh_name, socket_in
from tests.kit.processes import identify, survivors
from tests.kit.waiting import eventually

PORTMAP = "com.docker.network.portmap"
GENERIC = "com.docker.network.generic"
_numbers = itertools.count(1)


class Plugin:
    """One vethd-docker. control: vethd's socket."""

    def __init__(self, workdir: Path, control: Path) -> None:
        self.workdir = workdir
        self.control = control
        self.path = workdir / "vethd.sock"
        self.state = workdir / "state"
        self.docker = workdir / "docker.sock"
        self._log = workdir / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; returns when its socket is there."""
        options = ["--socket", self.control, "--plugin", self.path, "--state", self.state, "--docker", self.docker]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*DIE_WITH_THE_TESTS, str(PROGRAMS / "vethd-docker"), *map(str, options)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        eventually(self._answers, bool, "vethd-docker answers", within=20)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.path)) == 0

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it, and what it started."""
        assert self._process is not None
        itself = identify(self._process.pid)
        self._process.send_signal(number)
        code = self._process.wait(20)
        self._process = None
        assert code == (0 if number == signal.SIGTERM else -number), self.log()
        assert not survivors([itself])

    def restart(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Stop it by a signal, and start another."""
        self.stop(number)
        self.start()

    def close(self) -> None:
        """Stop it if it runs, and insist that its log has no trouble and its socket is gone."""
        if self._process is not None:
            self.stop()
            assert not self.path.exists()
        bad = [line for line in self.log().splitlines() if any(sign in line for sign in TROUBLE)]
        assert not bad, "\n".join(bad)

    def log(self) -> str:
        return self._log.read_text()

    def files(self) -> list[str]:
        """What it keeps on disk."""
        return sorted(path.name for path in self.state.iterdir())


class Refusal(Exception):
    """What the plugin answered in `Err`."""


class Dockerd:
    """Speaks to the plugin from a namespace. It does to a TAP what docker does. outside: a namespace beside it."""

    def __init__(self, plugin: Plugin, netns: str) -> None:
        self.plugin = plugin
        self.netns = netns
        self.outside = ""
        self._connection: http.client.HTTPConnection | None = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def ask(self, path: str, body: bytes = b"", method: str = "POST") -> tuple[int, Any]:
        """Status and JSON of an answer."""
        if self._connection is None:
            sock = socket_in(self.netns, socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(30)
            try:
                sock.connect(str(self.plugin.path))
            except OSError:
                sock.close()
                raise
            self._connection = http.client.HTTPConnection("plugin")
            self._connection.sock = sock
        try:
            self._connection.request(method, path, body)
            answer = self._connection.getresponse()
            status, body = answer.status, json.loads(answer.read())
            if answer.will_close:
                self.close()
            return status, body
        except (OSError, http.client.HTTPException):
            self.close()
            raise

    def call(self, name: str, **fields: Any) -> dict[str, Any]:
        """Make a call of the network driver. Raises Refusal."""
        path = name if name.startswith("Plugin.") else f"NetworkDriver.{name}"
        _status, answer = self.ask(f"/{path}", json.dumps(fields).encode())
        if "Err" in answer:
            raise Refusal(answer["Err"])
        assert isinstance(answer, dict)
        return answer

    def network(self, subnet: str = "10.88.0", v6: str = "", *, internal: bool = False, **options: str) -> Network:
        """Create a network. subnet, v6: of it, without the last part."""
        name = f"{next(_numbers):012x}".ljust(64, "f")
        spelled = {f"com.docker.network.{key.replace('__', '.')}": value for key, value in options.items()}
        asked: dict[str, Any] = {"com.docker.network.enable_ipv6": bool(v6), GENERIC: spelled}
        if internal:
            asked["com.docker.network.internal"] = True
        network = Network(self, name, subnet, v6)
        self.call("CreateNetwork", NetworkID=name, Options=asked, **network.data())
        return network


class Network:
    """A network that was created."""

    def __init__(self, dockerd: Dockerd, name: str, subnet: str, v6: str) -> None:
        self.dockerd = dockerd
        self.id = name
        self.subnet = subnet
        self.v6 = v6
        self.bridge = f"br-{name[:12]}"

    def data(self) -> dict[str, Any]:
        four = {"AddressSpace": "Local", "Gateway": f"{self.subnet}.1/24", "Pool": f"{self.subnet}.0/24"}
        six = {"AddressSpace": "Local", "Gateway": f"{self.v6}::1/64", "Pool": f"{self.v6}::/64"}
        return {"IPv4Data": [four], "IPv6Data": [six] if self.v6 else []}

    def delete(self) -> None:
        self.dockerd.call("DeleteNetwork", NetworkID=self.id)

    def endpoint(self, *ports: dict[str, Any], mac: str = "", number: int | None = None) -> Endpoint:
        """Create an endpoint that shall publish ports."""
        at = next(_numbers)
        endpoint = Endpoint(self, f"{at:012x}".ljust(64, "e"), number or 2 + at % 250, list(ports))
        endpoint.create(mac)
        return endpoint


class Endpoint:
    """An endpoint that was created. sandbox: the namespace in which it is, once it has joined."""

    def __init__(self, network: Network, name: str, number: int, ports: list[dict[str, Any]]) -> None:
        self.network = network
        self.dockerd = network.dockerd
        self.id = name
        self.address = f"{network.subnet}.{number}"
        self.address6 = f"{network.v6}::{number:x}" if network.v6 else ""
        self.options = {PORTMAP: ports, "com.docker.network.endpoint.exposedports": []}
        self.sandbox = ""
        self.source = ""
        self.mac = ""

    def call(self, name: str, **more: Any) -> dict[str, Any]:
        return self.dockerd.call(name, NetworkID=self.network.id, EndpointID=self.id, **more)

    def create(self, mac: str = "") -> None:
        six = f"{self.address6}/64" if self.address6 else ""
        interface = {"Address": f"{self.address}/24", "AddressIPv6": six, "MacAddress": mac}
        answer = self.call("CreateEndpoint", Interface=interface, Options=self.options)
        self.mac = mac or answer["Interface"]["MacAddress"]

    def join(self, sandbox: str, ifname: str = "eth0", *, publish: bool = True) -> dict[str, Any]:
        """Join as docker does: the TAP is moved, renamed, set up, and gets addresses and routes."""
        answer = self.call("Join", SandboxKey=f"/run/netns/{sandbox}", Options={})
        self.source, self.sandbox = answer["InterfaceName"]["SrcName"], sandbox
        here = self.dockerd.netns
        ip(here, "link", "set", self.source, "netns", sandbox)
        ip(sandbox, "link", "set", self.source, "name", ifname)
        ip(sandbox, "link", "set", ifname, "address", self.mac)
        ip(sandbox, "address", "add", f"{self.address}/24", "dev", ifname)
        if self.address6:
            ip(sandbox, "address", "add", f"{self.address6}/64", "dev", ifname, "nodad")
        ip(sandbox, "link", "set", ifname, "up")
        for gateway in ("Gateway", "GatewayIPv6"):
            if gateway in answer:
                ip(sandbox, "route", "add", "default", "via", answer[gateway])
        if publish:
            self.publish()
        return answer

    def publish(self) -> None:
        self.call("ProgramExternalConnectivity", Options=self.options)

    def leave(self, ifname: str = "eth0") -> None:
        """Leave as docker does: the TAP comes back under its old name, down, before the endpoint is deleted."""
        self.call("RevokeExternalConnectivity")
        ip(self.sandbox, "link", "set", ifname, "down")
        ip(self.sandbox, "link", "set", ifname, "name", self.source)
        ip(self.sandbox, "link", "set", self.source, "netns", self.dockerd.netns)
        self.call("Leave")
        self.call("DeleteEndpoint")


def port(number: int, host_port: int = 0, last: int = 0, *, host: str = "", proto: int = 6) -> dict[str, Any]:
    """One of docker's port bindings."""
    spelled = {"Proto": proto, "IP": "", "Port": number, "HostIP": host}
    return {**spelled, "HostPort": host_port, "HostPortEnd": last or host_port}


def sandbox_name() -> str:
    return fresh_name("s")
