"""Every link that is measured, by the word that chooses it; the first is the one the others are compared with.

Another engine, another configuration or another neighbour is one more entry.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from benchmarks import peers
from benchmarks.peers import Cable, Program, tap_cable
from benchmarks.topology import Link, kernel_veth
from benchmarks.vethd import Engine, vethd_pair

#: Takes a number that keeps the names of several links apart, and a directory for the link's own files.
LinkFactory: TypeAlias = Callable[[int, Path], AbstractContextManager[Link]]


@dataclass(frozen=True)
class LinkKind:
    """build: makes the link. program: what has to be installed for it, beyond what `make setup` does; None for ours."""

    build: LinkFactory
    program: Program | None = None


def _peer(name: str, cable: Cable, program: Program) -> LinkKind:
    return LinkKind(partial(tap_cable, name=name, program=program, cable=cable), program)


OVS_COMMANDS: Final = ("ovsdb-tool", "ovsdb-server", "ovs-vswitchd", "ovs-vsctl")
FASTEST: Final = Engine("compiled", "uring")

LINKS: Final[dict[str, LinkKind]] = {
    "kernel": LinkKind(kernel_veth),
    "uring": LinkKind(partial(vethd_pair, name="vethd", engine=FASTEST)),
    "syscalls": LinkKind(partial(vethd_pair, name="vethd, syscalls", engine=Engine("compiled", "syscalls"))),
    "interpreted": LinkKind(partial(vethd_pair, name="vethd, interpreted", engine=Engine("interpreted", "syscalls"))),
    "gro": LinkKind(partial(vethd_pair, name="vethd, gro on", engine=FASTEST, link_words=("gro", "on"))),
    "busy_poll": LinkKind(
        partial(vethd_pair, name="vethd, busy_poll 100", engine=FASTEST, config="sysctl.busy_poll = 100")
    ),
    "vde": _peer("vde_plug", peers.vde_plug, Program(("vde_plug",), "vdeplug")),
    "socat": _peer("socat", peers.socat, Program(("socat",), "socat")),
    "ovs": _peer("OVS userspace", peers.ovs, Program(OVS_COMMANDS, "openvswitch-switch")),
}
