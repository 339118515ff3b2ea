"""`python -m benchmarks.measure_cni`: what it takes to attach a container, beside the stock plugins on kernel veth.

The plugins are run as a runtime runs them: one after the other, ADD and DEL in turn, each plugin once per round, in
the namespace that plays the host; then many ADDs at once. All let host-local give out the addresses, and vethd-cni is
started the way `make install` has it. No threshold is asserted: figures are printed, in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.daemon import private_daemon
from benchmarks.generators import BenchmarkError, call
from benchmarks.measure_pairs import run
from benchmarks.topology import PREFIX
from vethd.host import netns

STOCK: Final = Path("/usr/lib/cni")
HOST: Final = f"{PREFIX}-host"


@dataclass
class Plugin:
    """A plugin and a network of it. seconds: what its calls took, by command."""

    name: str
    program: Path
    config: dict[str, Any]
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"ADD": [], "DEL": []})

    def ask(self, command: str, container: str, result: Any = None) -> Any:
        """Run the plugin for a container, which is in the namespace of that name; what it printed."""
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": f"/run/netns/{container}",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(STOCK),
        }
        stdin = json.dumps(self.config | ({"prevResult": result} if result else {})).encode()
        done = subprocess.run(
            [self.program], input=stdin, capture_output=True, env=environment, check=False, timeout=60
        )
        if done.returncode:
            raise BenchmarkError(f"{self.name}: {command}: {done.stdout.decode()}{done.stderr.decode()}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def timed(self, command: str, container: str, result: Any = None) -> Any:
        """Ask, and keep how long it took."""
        began = time.perf_counter()
        said = self.ask(command, container, result)
        self.seconds[command].append(time.perf_counter() - began)
        return said


def main() -> int:
    """Parse the arguments, measure, print; the exit status is 0 unless something could not be done."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measure_cni", description="What attaching costs.")
    parser.add_argument("--rounds", type=int, default=100, help="ADDs and DELs of each plugin (default: 100)")
    parser.add_argument("--parallel", type=int, default=50, help="ADDs at once (default: 50)")
    arguments = parser.parse_args()
    return run(lambda: _measure(arguments.rounds, arguments.parallel))


def _measure(rounds: int, parallel: int) -> None:
    if not STOCK.is_dir():
        raise BenchmarkError(f"{STOCK} is missing: apt-get install containernetworking-plugins")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vethd-bench.")))
        daemon = stack.enter_context(private_daemon(directory, {}))
        containers = [_netns(stack, f"{PREFIX}-c{number}") for number in range(parallel)]
        _netns(stack, HOST)
        home = netns.current()
        stack.callback(os.close, home)
        there = netns.open_name(HOST)
        stack.callback(os.close, there)
        stack.enter_context(netns.inside(there, home))
        plugins = _plugins(directory, daemon.path)
        print(daemon.engine())
        for number in range(rounds):
            for plugin in plugins:
                container = containers[number % len(containers)]
                plugin.timed("DEL", container, plugin.timed("ADD", container))
        for plugin in plugins:
            for command, seconds in plugin.seconds.items():
                _report(f"{plugin.name}: {command}", seconds)
        for plugin in plugins:
            for command in ("ADD", "DEL"):
                took = _at_once(lambda name, p=plugin, c=command: p.ask(c, name), containers)  # type: ignore[misc]
                print(f"{plugin.name + ': ' + command:<32}{parallel} at once in {took:.2f} s", flush=True)


def _plugins(directory: Path, socket: Path) -> list[Plugin]:
    program = directory / "vethd-cni"
    checkout = Path(__file__).parents[1]
    program.write_text(
        f"#!{sys.executable} -IS\nimport sys\n\nsys.path.append({str(checkout)!r})\n"
        "from vethd.cni.main import main\n\nmain()\n"
    )
    program.chmod(0o755)
    modes: dict[str, dict[str, Any]] = {"ptp": {}, "bridge": {"bridge": "br", "isDefaultGateway": True}}
    plugins = []
    for number, (mode, more) in enumerate(modes.items()):
        for whose, path in (("vethd-cni", program), ("stock", STOCK / mode)):
            ranges = [[{"subnet": f"10.{90 + 2 * number + (whose == 'stock')}.0.0/16"}]]
            ipam = {"type": "host-local", "dataDir": str(directory / "leases"), "ranges": ranges}
            config = {"cniVersion": "1.0.0", "name": f"{whose}-{mode}", "type": mode, "ipam": ipam} | more
            if "bridge" in more:
                config["bridge"] = f"br-{whose}"
            if whose == "vethd-cni":
                config["socket"] = str(socket)
            plugins.append(Plugin(f"{whose} {mode}", path, config))
    return plugins


def _netns(stack: ExitStack, name: str) -> str:
    call("ip", "netns", "add", name)
    stack.callback(call, "ip", "netns", "del", name)
    return name


def _at_once(ask: Callable[[str], Any], containers: list[str]) -> float:
    """Ask for all containers at the same time; seconds until the last is done."""
    with ThreadPoolExecutor(len(containers)) as threads:
        began = time.perf_counter()
        list(threads.map(ask, containers))
        return time.perf_counter() - began


def _report(what: str, seconds: list[float]) -> None:
    ordered = sorted(seconds)
    p50, p99 = (ordered[min(len(ordered) * part // 100, len(ordered) - 1)] * 1e3 for part in (50, 99))
    print(f"{what:<32}p50 {p50:7.1f}   p99 {p99:7.1f}   of {len(ordered)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
