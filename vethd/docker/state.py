"""Networks and endpoints on disk: docker tells of a network once, and forgets an endpoint whatever became of it.

One JSON file for each network, replaced as a whole. What is about to be made is written before, so that nothing is ever
there that no file knows of.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from vethd.docker.options import NetworkOptions

_VERSION: Final = 1


@dataclass(frozen=True)
class Published:
    """A port that is published. protocol: tcp, udp or sctp. host, host_port: where, an address of one IP version.

    address, port: the container's.
    """

    protocol: str
    host: str
    host_port: int
    address: str
    port: int

    def __str__(self) -> str:
        where = f"[{self.host}]" if ":" in self.host else self.host
        return f"{where}:{self.host_port}->{self.port}/{self.protocol}"


@dataclass
class Endpoint:
    """An endpoint of a network. mac: the container's. addresses: of it, without prefix, at most one per IP version.

    published: ports that are published now. leaving: as of a network.
    """

    id: str
    mac: str
    addresses: tuple[str, ...] = ()
    published: list[Published] = field(default_factory=list)
    leaving: bool = False


@dataclass
class Network:
    """A network. made: its bridge is ours and goes with it. netns: inode of dockerd's network namespace.

    leaving: docker was not told that it is there, or was told that it is not, and what there is is still to be deleted.
    """

    id: str
    options: NetworkOptions
    netns: int
    made: bool = False
    leaving: bool = False
    endpoints: dict[str, Endpoint] = field(default_factory=dict)

    def gateway(self, version: int) -> str:
        """Where the network's default route of IP 4 or 6 goes; empty when there is none."""
        if self.options.internal:
            return ""
        return next((each.split("/")[0] for each in self.options.gateways if (":" in each) == (version == 6)), "")


class Store:
    """The networks by id, and the directory that has them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.networks: dict[str, Network] = {}

    def load(self) -> Iterator[tuple[Path, str]]:
        """Read what is there; gives the files that can't be read, and why. Raises OSError."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in sorted(self._directory.glob("*.json")):
            try:
                network = _read(json.loads(path.read_text()))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                yield path, str(error) or repr(error)
            else:
                self.networks[network.id] = network

    def save(self, network: Network) -> None:
        """Write a network; it is on disk when this returns. Raises OSError."""
        self.networks[network.id] = network
        path = self._path(network.id)
        new = path.with_suffix(".new")
        with new.open("w") as file:
            json.dump({"version": _VERSION, **asdict(network)}, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        self._sync()

    def forget(self, network: Network) -> None:
        """Remove a network. Raises OSError."""
        self._path(network.id).unlink(missing_ok=True)
        self._sync()
        self.networks.pop(network.id, None)

    def _path(self, network: str) -> Path:
        return self._directory / f"{network}.json"

    def _sync(self) -> None:
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _read(data: Mapping[str, Any]) -> Network:
    if data["version"] != _VERSION:
        raise ValueError(f"written by another version: {data['version']}")
    options = dict(data["options"])
    for name in ("gateways", "pools"):
        options[name] = tuple(options[name])
    endpoints = {}
    for name, each in data["endpoints"].items():
        published = [Published(**port) for port in each["published"]]
        endpoints[name] = Endpoint(**{**each, "addresses": tuple(each["addresses"]), "published": published})
    return Network(data["id"], NetworkOptions(**options), data["netns"], data["made"], data["leaving"], endpoints)
