"""A vethd pair as a link under test: one engine, one configuration, over a daemon of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from benchmarks.daemon import Daemon, private_daemon
from benchmarks.generators import BenchmarkError
from benchmarks.topology import End, Link, address, namespaces

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True)
class Engine:
    """What a worker runs, as `daemon.info` says: `datapath` compiled or interpreted, `frameio` uring or syscalls."""

    datapath: str
    frameio: str

    def environment(self) -> dict[str, str]:
        """What makes a daemon run this engine, or not start."""
        speed = "VETHD_REQUIRE_EXTENSIONS" if self.datapath == "compiled" else "VETHD_NO_EXTENSIONS"
        return {speed: "1", "VETHD_FRAMEIO": self.frameio}


class VethdPair(Link):
    """A vethd pair, asked through its daemon."""

    def __init__(self, name: str, a: End, b: End, daemon: Daemon) -> None:
        """`daemon` made the pair."""
        super().__init__(name, daemon.engine(), a, b, daemon.pids())
        self._daemon = daemon

    def drops(self) -> dict[str, int]:
        return self._daemon.drops()


@contextmanager
def vethd_pair(
    index: int,
    directory: Path,
    *,
    name: str,
    engine: Engine,
    env: Mapping[str, str] = _NOTHING,
    config: str = "",
    link_words: Sequence[str] = (),
) -> Iterator[Link]:
    """A vethd pair between two fresh namespaces, by a private daemon that keeps its files in `directory`.

    name: what stands in the table. env: on top of the engine's. config: the daemon's configuration, TOML. link_words:
    more words for each end of `vethctl link add`. BenchmarkError when another engine runs.
    """
    with ExitStack() as stack:
        a, b = stack.enter_context(namespaces(index))
        daemon = stack.enter_context(private_daemon(directory, engine.environment() | dict(env), config))
        require(engine, daemon)
        daemon.vethctl(
            *("link", "add", a.netns, "netns", a.netns, "up", *link_words),
            *("type", "veth", "peer", "name", b.netns, "netns", b.netns, "up", *link_words),
        )
        address(a, b)
        yield VethdPair(name, a, b, daemon)
        # Not after an error, which it would hide when the daemon is what failed: the namespaces take the ends along.
        daemon.vethctl("link", "del", a.netns, "netns", a.netns)


def require(engine: Engine, daemon: Daemon) -> None:
    """BenchmarkError unless every worker of `daemon` runs `engine`."""
    workers = daemon.workers()
    if not workers:
        raise BenchmarkError(f"asked for {engine.datapath} and {engine.frameio}, but no worker runs")
    for worker in workers:
        if (worker["datapath"], worker["frameio"]) != (engine.datapath, engine.frameio):
            raise BenchmarkError(
                f"asked for {engine.datapath} and {engine.frameio}, "
                f"but {worker['datapath']} and {worker['frameio']} runs ({worker['why']})"
            )
