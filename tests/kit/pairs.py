"""A vethd pair between two namespaces, as most tests want one: made over the control socket, checked before it goes."""

from dataclasses import dataclass
from typing import Any

from tests.kit.daemon import Daemon
from tests.kit.links import LinkState, link_exists, read_link
from tests.kit.netns import Namespaces, fresh_name
from tests.kit.waiting import eventually


@dataclass
class End:
    """One end of a pair: where it is and what it is called, as far as the test knows."""

    netns: str
    name: str

    def state(self) -> LinkState:
        return read_link(self.netns, self.name)

    @property
    def exists(self) -> bool:
        return link_exists(self.netns, self.name)


@dataclass
class Pair:
    """A pair made by `make_pair`."""

    daemon: Daemon
    a: End
    b: End
    uuid: str

    def stats(self) -> dict[str, Any]:
        """Return the two ends' counters as the daemon tells them."""
        return self.daemon.stats(self.uuid)

    def wait_carrier(self, on: bool = True, within: float = 5.0) -> None:
        """Wait until both ends report the carrier wanted."""
        for end in (self.a, self.b):
            eventually(lambda e=end: e.state().carrier, lambda now: now is on, f"carrier of {end} is {on}", within)  # type: ignore[misc]

    def wait_quiet(self, within: float = 5.0) -> dict[str, Any]:
        """Wait until everything transmitted so far is read and nothing is queued; return the counters then."""

        def quiet(ends: dict[str, Any]) -> bool:
            return self.daemon.workers_sleep() and all(
                end["queued"] == 0
                and end["read"] == end["kernel"]["tx_packets"]
                and end["read"] == end["delivered"] + end["merged"] + end["dropped"]
                for end in ends.values()
            )

        eventually(self.stats, quiet, "the pair is quiet", within)
        return self.stats()

    def delete(self) -> None:
        """Check the books one last time, delete the pair, and wait until both ends are gone."""
        self.daemon.check_books()
        self.daemon.ask("link.del", {"pair": self.uuid})
        for end in (self.a, self.b):
            assert not end.exists, f"{end} is still there after the pair was deleted"


def make_pair(
    daemon: Daemon,
    a_netns: str,
    b_netns: str,
    *,
    up: bool = True,
    a: dict[str, Any] | None = None,
    b: dict[str, Any] | None = None,
    placement: str = "move",
    numqueues: int = 1,
) -> Pair:
    """Create a pair between two namespaces (they may be the same) and, if `up`, wait for the carrier.

    `a` and `b` are further parameters of `link.add` for one end, such as {"mtu": 9000}.
    """
    names = fresh_name("a"), fresh_name("b")
    a_params = {"ifname": names[0], "netns": a_netns, "up": up, **(a or {})}
    b_params = {"ifname": names[1], "netns": b_netns, "up": up, **(b or {})}
    made = daemon.ask("link.add", {"a": a_params, "b": b_params, "placement": placement, "numqueues": numqueues})
    pair = Pair(daemon, End(a_netns, made["a"]["ifname"]), End(b_netns, made["b"]["ifname"]), made["pair"])
    if up:
        pair.wait_carrier()
    return pair


def make_pair_between_fresh(daemon: Daemon, netns: Namespaces, *, ipv6: bool = False, numqueues: int = 1) -> Pair:
    """Create a pair, up, between two namespaces made for it."""
    return make_pair(daemon, netns.make(ipv6=ipv6), netns.make(ipv6=ipv6), numqueues=numqueues)
