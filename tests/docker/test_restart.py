"""What outlives vethd-docker, a machine and vethd: networks, endpoints and published ports."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.docker.plugin import Dockerd, Plugin, Refusal, port
from tests.kit.commands import in_netns, ip, ip_json, run
from tests.kit.daemon import PROGRAMS, Daemon
from tests.kit.netns import Namespaces, inside
from tests.kit.waiting import eventually


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_of_the_driver(dockerd: Dockerd, sandbox: str, number: signal.Signals) -> None:
    network = dockerd.network()
    end = network.endpoint(port(80, 8080))
    dockerd.close()
    dockerd.plugin.restart(number)
    end.join(sandbox)
    dockerd.close()
    dockerd.plugin.restart(number)
    in_netns(sandbox, "ping", "-c1", "-W5", "10.88.0.1")
    assert "8080 : " in in_netns(dockerd.netns, "nft", "list", "table", "inet", "vethd_docker").out
    end.leave()
    assert "8080 : " not in in_netns(dockerd.netns, "nft", "list", "table", "inet", "vethd_docker").out
    network.delete()


def test_no_call_is_lost(dockerd: Dockerd) -> None:
    """Docker dials again, but can't repeat a call that broke off."""
    stop, answered = threading.Event(), Counter[int]()
    others = [Dockerd(dockerd.plugin, dockerd.netns) for _each in range(4)]

    def ask(number: int) -> None:
        while not stop.is_set():
            try:
                others[number].call("GetCapabilities")
            except (FileNotFoundError, ConnectionRefusedError):  # nobody has heard it
                continue
            answered[number] += 1

    with ThreadPoolExecutor(len(others)) as pool:
        asking = [pool.submit(ask, number) for number in range(len(others))]
        try:
            eventually(lambda: len(answered), lambda count: count == len(others), "all of them ask")
            dockerd.plugin.restart()
            answered.clear()
            eventually(lambda: len(answered), lambda count: count == len(others), "the next one answers all of them")
        finally:
            stop.set()
            for each in asking:
                each.result()
    for other in others:
        other.close()


def test_a_published_port_is_held_again(dockerd: Dockerd) -> None:
    network = dockerd.network()
    end = network.endpoint(port(80, 8080))
    end.publish()
    dockerd.close()
    dockerd.plugin.restart()
    dockerd.call("Plugin.Activate")
    with pytest.raises(OSError, match="in use"):
        inside(dockerd.netns, lambda: socket.create_server(("0.0.0.0", 8080)).close())
    end.call("RevokeExternalConnectivity")
    inside(dockerd.netns, lambda: socket.create_server(("0.0.0.0", 8080)).close())
    network.delete()


def test_of_the_machine(dockerd: Dockerd, sandbox: str) -> None:
    """Docker still knows the network, and nothing else is left of it."""
    network = dockerd.network(v6="fd00:88")
    ip(dockerd.netns, "link", "del", network.bridge)
    in_netns(dockerd.netns, "nft", "flush", "ruleset")
    in_netns(dockerd.netns, "sysctl", "-q", "net.ipv4.ip_forward=0")
    dockerd.close()
    dockerd.plugin.restart()
    dockerd.call("Plugin.Activate")
    end = network.endpoint()
    end.join(sandbox)
    for gateway in ("10.88.0.1", "fd00:88::1"):
        in_netns(sandbox, "ping", "-c1", "-W5", gateway)
    assert network.bridge in in_netns(dockerd.netns, "nft", "list", "ruleset").out
    assert in_netns(dockerd.netns, "sysctl", "-n", "net.ipv4.ip_forward").out.strip() == "1"
    end.leave()
    network.delete()


def test_of_dockerd(dockerd: Dockerd) -> None:
    """It asks for the driver again; whether anybody has touched the rules meanwhile is not known."""
    network = dockerd.network()
    in_netns(dockerd.netns, "nft", "flush", "ruleset")
    dockerd.call("Plugin.Activate")
    network.endpoint()
    assert network.bridge in in_netns(dockerd.netns, "nft", "list", "ruleset").out
    network.delete()


def test_of_dockerd_in_another_namespace(dockerd: Dockerd, netns: Namespaces, sandbox: str) -> None:
    """As after a restart of the machine, when namespaces have other inodes."""
    network = dockerd.network()
    other = Dockerd(dockerd.plugin, netns.make())
    there = type(network)(other, network.id, network.subnet, "")
    end = there.endpoint()
    end.join(sandbox)
    in_netns(sandbox, "ping", "-c1", "-W5", "10.88.0.1")
    end.leave()
    there.delete()
    other.close()
    ip(dockerd.netns, "link", "del", network.bridge)
    in_netns(dockerd.netns, "nft", "flush", "ruleset")


def test_bridge_and_pair_that_somebody_has_deleted(dockerd: Dockerd, shared_daemon: Daemon, sandbox: str) -> None:
    network = dockerd.network()
    end = network.endpoint()
    shared_daemon.clear()
    with pytest.raises(Refusal, match=r"endpoint .* is not there, or no more: connect the container again"):
        end.join(sandbox)
    end.call("DeleteEndpoint")
    ip(dockerd.netns, "link", "del", network.bridge)
    other = network.endpoint()
    other.join(sandbox)
    in_netns(sandbox, "ping", "-c1", "-W5", "10.88.0.1")
    other.leave()
    network.delete()


def test_of_dockerd_that_crashed(dockerd: Dockerd, shared_daemon: Daemon, netns: Namespaces) -> None:
    """It tells drivers nothing of the endpoints that it finds; the next container publishes the same port."""
    network, place = dockerd.network(), netns.make()
    before, after = network.endpoint(port(80, 8080)), network.endpoint(port(80, 8080))
    before.join(place)
    netns.delete(place)
    eventually(lambda: len(shared_daemon.pairs()), lambda count: count == 1, "the first one's pair is gone")
    after.publish()
    (file,) = dockerd.plugin.state.iterdir()
    assert before.id not in file.read_text()
    for end in (before, after):
        end.call("RevokeExternalConnectivity")
        end.call("DeleteEndpoint")
    network.delete()


def test_state_that_was_removed(dockerd: Dockerd) -> None:
    network = dockerd.network()
    (file,) = dockerd.plugin.state.iterdir()
    content = file.read_text()
    dockerd.close()
    dockerd.plugin.stop()
    file.unlink()
    dockerd.plugin.start()
    with pytest.raises(Refusal, match="`docker network rm` it and create it again"):
        network.endpoint()
    network.delete()
    dockerd.close()
    dockerd.plugin.stop()
    file.write_text(content)
    dockerd.plugin.start()
    network.delete()


@pytest.fixture
def own(start_daemon: Callable[..., Daemon], tmp_path: Path, netns: Namespaces) -> tuple[Daemon, Plugin, Dockerd]:
    """A daemon and a driver that a test may end."""
    daemon = start_daemon()
    (tmp_path / "plugin").mkdir()
    plugin = Plugin(tmp_path / "plugin", daemon.socket)
    plugin.start()
    return daemon, plugin, Dockerd(plugin, netns.make())


def test_vethd_does_not_answer(own: tuple[Daemon, Plugin, Dockerd]) -> None:
    daemon, plugin, dockerd = own
    network = dockerd.network()
    end = network.endpoint()
    daemon.stop()
    for call in (
        lambda: dockerd.network("10.89.0"),
        network.endpoint,
        lambda: end.call("DeleteEndpoint"),
        network.delete,
    ):
        with pytest.raises(Refusal, match=f"{daemon.socket}.*Is vethd running"):
            call()
    daemon.start()
    eventually(plugin.files, lambda files: files == [f"{network.id}.json"], "what was not made is forgotten", within=10)
    (file,) = plugin.state.iterdir()
    eventually(file.read_text, lambda text: '"endpoints": {}' in text, "both endpoints are gone", within=10)
    network.endpoint()
    network.delete()
    assert plugin.files() == []
    dockerd.close()
    plugin.close()


def test_a_crash_while_a_pair_is_made(own: tuple[Daemon, Plugin, Dockerd]) -> None:
    daemon, plugin, dockerd = own
    network = dockerd.network()
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        asking = threading.Thread(target=_ignore, args=(network.endpoint,))
        asking.start()
        (file,) = plugin.state.iterdir()
        eventually(file.read_text, lambda text: '"leaving": true' in text, "it is written before", within=10)
        plugin.stop(signal.SIGKILL)
        asking.join()
    finally:
        os.kill(daemon.pid, signal.SIGCONT)
    plugin.start()
    eventually(file.read_text, lambda text: '"endpoints": {}' in text, "the endpoint is gone", within=10)
    eventually(daemon.pairs, lambda pairs: not pairs, "its pair is gone", within=10)
    network.delete()
    assert [link["ifname"] for link in ip_json(dockerd.netns, "link", "show")] == ["lo"]
    dockerd.close()
    plugin.close()


def _ignore(function: Callable[[], object]) -> None:
    try:
        function()
    except (OSError, Refusal):
        pass


def test_nobody_but_root_may_call_it(plugin: Plugin) -> None:
    status = plugin.path.stat()
    assert (status.st_uid, status.st_mode & 0o777) == (0, 0o600)


def test_a_second_one_does_not_take_the_socket(plugin: Plugin) -> None:
    words = ("--plugin", str(plugin.path), "--state", str(plugin.state), "--socket", str(plugin.control))
    answer = run(str(PROGRAMS / "vethd-docker"), *words, check=False)
    assert (answer.code, answer.err) == (1, f"vethd-docker: {plugin.path}: another vethd-docker listens there\n")


def test_what_is_no_socket_is_kept(plugin: Plugin, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    words = ("--plugin", str(path), "--state", str(tmp_path / "state"), "--socket", str(plugin.control))
    answer = run(str(PROGRAMS / "vethd-docker"), *words, check=False)
    assert (answer.code, path.read_text()) == (1, "precious")
    assert "is not a socket: remove it, or choose another path with --plugin" in answer.err
