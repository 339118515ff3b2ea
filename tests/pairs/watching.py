"""What a daemon says of a pair beside what the kernel says, and whether the wire works."""

from __future__ import annotations

from typing import Any

from tests.kit.commands import ip
from tests.kit.daemon import Daemon
from tests.kit.frames import frame
from tests.kit.netns import netns_inode
from tests.kit.packets import PacketSocket
from tests.kit.pairs import End, Pair
from tests.kit.waiting import eventually


def ends_of(pair: Pair) -> dict[str, End]:
    return {"a": pair.a, "b": pair.b}


def told(pair: Pair, letter: str) -> dict[str, Any]:
    """What `link.get` says of an end."""
    answer: dict[str, Any] = pair.daemon.call("link.get", {"pair": pair.uuid})[letter]
    return answer


def seen(end: End) -> dict[str, Any]:
    """What the kernel says of an end, under the same names."""
    state = end.state()
    return {
        "ifname": state.name,
        "ifindex": state.ifindex,
        "netns": end.netns,
        "netns_inode": netns_inode(end.netns),
        "address": state.address,
        "mtu": state.mtu,
        "txqueuelen": state.txqlen,
        "up": state.up,
        "carrier": state.carrier,
        "operstate": state.operstate,
    }


def stale(pair: Pair) -> dict[str, tuple[Any, Any]]:
    """Where the daemon's picture of a pair differs from the kernel's: field by (told, seen)."""
    found: dict[str, tuple[Any, Any]] = {}
    for letter, end in ends_of(pair).items():
        picture, kernel = told(pair, letter), seen(end)
        found |= {
            f"{letter}.{name}": (picture[name], value) for name, value in kernel.items() if picture[name] != value
        }
    return found


def followed(pair: Pair, within: float = 5.0) -> None:
    """Wait until the daemon's picture is the kernel's."""
    eventually(lambda: stale(pair), lambda found: not found, "the picture is that of the kernel", within)


def passes(source: End, target: End, size: int = 60) -> bool:
    """Whether a frame of this size gets from one end to the other."""
    with PacketSocket(source.netns, source.name) as sender, PacketSocket(target.netns, target.name) as receiver:
        sender.send(frame(size))
        return any(len(arrival.data) == size for arrival in receiver.collect(1, within=1.0))


def works(pair: Pair) -> bool:
    """Whether a frame crosses in each direction."""
    return passes(pair.a, pair.b) and passes(pair.b, pair.a)


def set_end(end: End, *words: str) -> None:
    """Run `ip link set dev NAME WORDS...` in the end's namespace."""
    ip(end.netns, "link", "set", "dev", end.name, *words)


def move(end: End, to: str, *, name: str | None = None) -> None:
    """Move an end as anybody would; it comes down, and the caller sets it up again."""
    set_end(end, "netns", to, *(("name", name) if name else ()))
    end.netns = to
    end.name = name or end.name


def wait_gone(pair: Pair, within: float = 5.0) -> None:
    """Wait until no device and no entry of a pair is left."""
    for end in ends_of(pair).values():
        eventually(lambda e=end: e.exists, lambda there: not there, f"{end} is gone", within)  # type: ignore[misc]
    eventually(lambda: uuids(pair.daemon), lambda listed: pair.uuid not in listed, "the entry is gone", within)


def uuids(daemon: Daemon) -> list[str]:
    """The pairs that a daemon knows."""
    return [str(pair["pair"]) for pair in daemon.pairs()]
