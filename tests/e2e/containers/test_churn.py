"""Containers come and go, ten at a time, each with a checked request: none fails, nothing is left or slows down.

CHURN says how many there are; `make churn` runs 500, and looks at the times, which fewer say nothing about.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.containers.bundle import bridge, write_bundle
from tests.e2e.containers.test_oci import ETH0, HOOKS
from tests.kit.containers import NoAnswer, body, serving
from tests.kit.host import ContainerHost
from tests.kit.netns import socket_in
from tests.kit.processes import open_files, status_field
from tests.kit.waiting import settled

CYCLES = int(os.environ.get("CHURN", "10"))
SLOTS = 10
#: Cycles that show whether times change.
MANY = 200


class Slot:
    """One of those that run at the same time; it has an address and a bundle, and its containers have them in turn."""

    def __init__(self, host: ContainerHost, rootfs: Path, port_of: str, number: int) -> None:
        self._host = host
        self._address = f"10.98.0.{number + 1}"
        self._name = host.name("s")
        self._bundle = host.workdir / self._name
        said = {f"{ETH0}bridge": port_of, f"{ETH0}addresses": f"{self._address}/24"}
        write_bundle(host, "runc", self._bundle, rootfs, [], None, said, HOOKS)

    def cycle(self, number: int) -> float:
        """Create a container, fetch its page and remove it; returns the seconds that it took to create."""
        word = f"{self._name}-{number}"
        config = json.loads((self._bundle / "config.json").read_text())
        config["process"]["args"] = serving(word)
        (self._bundle / "config.json").write_text(json.dumps(config))
        identity = f"{self._host.id}-{word}"
        begin = time.monotonic()
        self._host.launch(
            *("runc", "run", "--detach", "--bundle", str(self._bundle), identity), log=self._bundle / "log"
        )
        took = time.monotonic() - begin
        try:
            assert self._fetch() == body(word)
        finally:
            self._host.run("runc", "delete", "--force", identity)
        return took

    def _fetch(self) -> str:
        """The page of the container, from the host. Raises NoAnswer."""
        where = str(self._host.path("/proc/1/ns/net"))

        def connect() -> socket.socket | None:
            sock = socket_in(where, socket.AF_INET, socket.SOCK_STREAM)
            sock.settimeout(1 if self._host.cut else 20)
            try:
                sock.connect((self._address, 80))
            except ConnectionRefusedError:  # its server is about to start
                sock.close()
                return None
            except OSError as error:
                sock.close()
                raise NoAnswer(str(error)) from error
            return sock

        connection = http.client.HTTPConnection(self._address)
        connection.sock = settled(connect, lambda sock: sock is not None, within=20)
        try:
            connection.request("GET", "/")
            return connection.getresponse().read().decode()
        finally:
            connection.close()


def test_churn(whole_host: ContainerHost, rootfs: Path) -> None:
    with bridge(whole_host) as name:
        whole_host.run("ip", "address", "add", "10.98.0.254/24", "dev", name)
        slots = [Slot(whole_host, rootfs, name, number) for number in range(SLOTS)]
        slots[0].cycle(0)  # what is there from the first one on is no leak
        files, memory = (
            len(open_files(whole_host.daemon.pid)),
            int(status_field(whole_host.daemon.pid, "VmRSS").split()[0]),
        )

        def work(slot: Slot) -> list[float]:
            return [slot.cycle(number) for number in range(1, CYCLES // SLOTS + 1)]

        with ThreadPoolExecutor(SLOTS) as pool:
            times = [took for one in zip(*pool.map(work, slots), strict=True) for took in one]
        assert whole_host.daemon.pairs() == []
        left = settled(lambda: len(open_files(whole_host.daemon.pid)), lambda now: now <= files)
        assert left <= files, f"{left - files} more descriptors than after the first container"
        whole_host.cut_wire(True)
        with pytest.raises(NoAnswer):
            slots[0].cycle(CYCLES)
        whole_host.cut_wire(False)
    if CYCLES >= MANY:
        tenth = len(times) // 10
        first, last = statistics.median(times[:tenth]), statistics.median(times[-tenth:])
        grown = int(status_field(whole_host.daemon.pid, "VmRSS").split()[0]) - memory
        print(
            f"{len(times)} containers, {SLOTS} at a time; created in (median) {first * 1e3:.0f} ms the first tenth, "
            f"{statistics.median(times) * 1e3:.0f} ms all, {last * 1e3:.0f} ms the last; vethd grew by {grown} KiB"
        )
        assert last < 1.5 * first
        assert grown < 20_000
