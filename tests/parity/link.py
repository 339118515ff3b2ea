"""The pair under test: one interface, two backends - a pair of the kernel's veth driver, and a pair of vethd.

A scenario does to either what a user would do: it creates the pair in iproute2's grammar, changes it with `ip`, sends
frames, and looks. Only creating, deleting by the tool that made it, and reading the counters differ between the two.
"""

import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

from tests.kit.commands import Answer, in_netns, ip
from tests.kit.daemon import Daemon
from tests.kit.frames import mac
from tests.kit.links import LinkMonitor, LinkState, link_exists, read_link
from tests.kit.netns import Namespaces, fresh_name, netns_inode
from tests.kit.packets import PacketSocket
from tests.kit.waiting import eventually
from tests.parity.newlink import EndWish, Wish, ask_kernel
from vethd.rpc.client import RpcError

COUNTERS = ("rx_packets", "rx_bytes", "rx_dropped", "tx_packets", "tx_bytes", "tx_dropped")
Counts = dict[str, int]


class End:
    """One end: where it is and what it is called now."""

    def __init__(self, netns: str, name: str) -> None:
        self.netns = netns
        self.name = name

    def state(self) -> LinkState:
        return read_link(self.netns, self.name)

    @property
    def exists(self) -> bool:
        return link_exists(self.netns, self.name)

    @property
    def mac(self) -> bytes:
        return mac(self.state().address)

    def set(self, *words: str, check: bool = True) -> Answer:
        """Run `ip link set dev NAME WORDS...` in the end's namespace."""
        return ip(self.netns, "link", "set", "dev", self.name, *words, check=check)

    def up(self) -> None:
        self.set("up")

    def down(self) -> None:
        self.set("down")

    def socket(self, *, vnet_hdr: bool = False, outgoing: bool = False) -> PacketSocket:
        """Open a packet socket on this end."""
        return PacketSocket(self.netns, self.name, vnet_hdr=vnet_hdr, outgoing=outgoing)

    def monitor(self) -> LinkMonitor:
        """Listen to the link events of the end's namespace."""
        return LinkMonitor(self.netns)

    def counts(self) -> Counts:
        """The kernel's counters of this device, as `ip -s link` shows them."""
        stats = self.state().stats
        return {name: stats[name] for name in COUNTERS}


class PairUnderTest(ABC):
    """A pair that a scenario creates, uses and may delete; whatever is left goes with its namespaces."""

    backend: str

    def __init__(self, netns: Namespaces) -> None:
        self.netns = netns
        self.a = End("", "")
        self.b = End("", "")

    # -- creating -----------------------------------------------------------------------------------------------

    def create(
        self,
        *,
        up: bool = True,
        same_netns: bool = False,
        ipv6: bool = False,
        inside: bool = False,
        gro: bool = False,
        queues: int = 0,
        a_options: tuple[str, ...] = (),
        b_options: tuple[str, ...] = (),
    ) -> None:
        """Create the pair between fresh namespaces, and with `up` set both ends up and wait for the carrier.

        The options are words for one end, such as ("mtu", "9000"). `inside` asks vethd for the quick placement, `gro`
        has both ends merge frames that arrive; `queues`: at both ends, 0 for the default.
        """
        a_netns = self.netns.make(ipv6=ipv6)
        b_netns = a_netns if same_netns else self.netns.make(ipv6=ipv6)
        self.a, self.b = End(a_netns, fresh_name("a")), End(b_netns, fresh_name("b"))
        self.add(self.a, self.b, a_options, b_options, inside=inside, gro=gro, queues=queues)
        if up:
            self.up()

    def up(self) -> None:
        """Set both ends up and wait until they have a carrier."""
        self.a.up()
        self.b.up()
        for _, end in self.ends():
            eventually(end.state, lambda state: state.operstate == "UP", f"{end.name} is UP")

    def up_again(self) -> None:
        """Set both ends up that had a carrier before, and wait until that of before is not taken for the new one."""
        self.a.up()
        self.b.up()
        self.followed()
        self.up()

    def ends(self) -> tuple[tuple[str, End], tuple[str, End]]:
        """Return both ends with their letters."""
        return ("a", self.a), ("b", self.b)

    @abstractmethod
    def add(
        self,
        a: End,
        b: End,
        a_options: tuple[str, ...] = (),
        b_options: tuple[str, ...] = (),
        *,
        inside: bool = False,
        gro: bool = False,
        queues: int = 0,
    ) -> None:
        """Create a pair with these names in these namespaces."""

    @abstractmethod
    def attempt(self, wish: Wish, a_netns: str, b_netns: str) -> str:
        """Ask for a pair with exact values; return `ok` or the name of the errno it is refused with."""

    @abstractmethod
    def command(self, a: End, a_words: tuple[str, ...], b: End, b_words: tuple[str, ...]) -> Answer:
        """Ask for a pair at the command line, in iproute2's grammar."""

    @abstractmethod
    def change(self, end: End, **fields: Any) -> bool:
        """Change an end in one request, by the fields of `link.set`; whether it was done."""

    @abstractmethod
    def attempt_delete(self, end: End) -> Answer:
        """Have the tool that made the pair delete it by either end's name; its answer may be a refusal."""

    def delete(self, end: End) -> None:
        """Delete the pair by naming one end to the tool that made it."""
        answer = self.attempt_delete(end)
        assert answer.ok, str(answer)

    @abstractmethod
    def forget(self) -> None:
        """Delete the pair, if it is still there, by what its maker knows it by."""

    # -- looking ------------------------------------------------------------------------------------------------

    @abstractmethod
    def followed(self) -> None:
        """Wait until a change made with `ip` has its effect on the wire."""

    @abstractmethod
    def held(self) -> AbstractContextManager[None]:
        """Keep whatever follows such changes from running; the kernel's veth cannot be kept from it."""

    @abstractmethod
    def quiet(self) -> None:
        """Wait until every frame sent so far has arrived or is accounted for."""

    @abstractmethod
    def stalled(self) -> AbstractContextManager[None]:
        """Keep whatever carries the frames from running; the kernel's veth cannot be kept from it."""

    @abstractmethod
    def charged(self, end: End) -> Counts:
        """The counters as they are charged for this end: kernel veth's `ip -s link`, vethd's `stats.get`."""


class KernelVeth(PairUnderTest):
    """The reference: `ip link add ... type veth`. A frame is at its destination when `send` returns."""

    backend = "veth"

    def add(
        self,
        a: End,
        b: End,
        a_options: tuple[str, ...] = (),
        b_options: tuple[str, ...] = (),
        *,
        inside: bool = False,
        gro: bool = False,
        queues: int = 0,
    ) -> None:
        both = ("numtxqueues", str(queues), "numrxqueues", str(queues)) if queues else ()
        words = ["link", "add", "name", a.name, *both, *a_options, "type", "veth"]
        ip(a.netns, *words, "peer", "name", b.name, "netns", b.netns, *both, *b_options)
        for end in (a, b) if gro else ():
            in_netns(end.netns, "ethtool", "-K", end.name, "gro", "on")

    def attempt(self, wish: Wish, a_netns: str, b_netns: str) -> str:
        return ask_kernel(wish, a_netns, b_netns)

    def command(self, a: End, a_words: tuple[str, ...], b: End, b_words: tuple[str, ...]) -> Answer:
        words = ("link", "add", a.name, *a_words, "type", "veth", "peer", b.name, "netns", b.netns, *b_words)
        return ip(a.netns, *words, check=False)

    def change(self, end: End, **fields: Any) -> bool:
        words: list[str] = []
        for name, value in fields.items():
            if name == "up":
                words.append("up" if value else "down")
            else:
                words += ["name" if name == "ifname" else name, str(value)]
        return end.set(*words, check=False).ok

    def attempt_delete(self, end: End) -> Answer:
        return ip(end.netns, "link", "del", "dev", end.name, check=False)

    def forget(self) -> None:
        """A veth pair is known by its devices alone."""
        for end in (self.a, self.b):
            if end.exists:
                self.delete(end)

    def followed(self) -> None:
        """Nothing to wait for: the change is the effect."""

    def held(self) -> AbstractContextManager[None]:
        return nullcontext()

    def quiet(self) -> None:
        """Nothing to wait for: receiving runs before the sender goes on, or at worst in the next softirq."""

    def stalled(self) -> AbstractContextManager[None]:
        return nullcontext()

    def charged(self, end: End) -> Counts:
        return end.counts()


class VethdPair(PairUnderTest):
    """The candidate: `link.add` of a running daemon, asked by the Python client, and vethctl where words count."""

    backend = "vethd"

    def __init__(self, netns: Namespaces, daemon: Daemon) -> None:
        super().__init__(netns)
        self.daemon = daemon
        self.uuid = ""
        self._marker: tuple[End, str] | None = None

    def add(
        self,
        a: End,
        b: End,
        a_options: tuple[str, ...] = (),
        b_options: tuple[str, ...] = (),
        *,
        inside: bool = False,
        gro: bool = False,
        queues: int = 0,
    ) -> None:
        pair = {"placement": "inside" if inside else "move", **({"numqueues": queues} if queues else {})}
        ends = {"a": _params(a, a_options) | {"gro": gro}, "b": _params(b, b_options) | {"gro": gro}}
        made = self.daemon.ask("link.add", {**ends, **pair})
        self.uuid = made["pair"]

    def attempt(self, wish: Wish, a_netns: str, b_netns: str) -> str:
        def params(end: EndWish, netns: str) -> dict[str, object]:
            fields = {"ifname": end.name, "address": end.address, "mtu": end.mtu, "txqueuelen": end.txqueuelen}
            given = {name: value for name, value in fields.items() if value is not None}
            return {"netns": netns, "up": end.up, **given}

        try:
            self.daemon.ask("link.add", {"a": params(wish.a, a_netns), "b": params(wish.b, b_netns)})
        except RpcError as error:
            return error.errno or error.kind
        return "ok"

    def command(self, a: End, a_words: tuple[str, ...], b: End, b_words: tuple[str, ...]) -> Answer:
        words = ("link", "add", a.name, *a_words, "type", "veth", "peer", b.name, "netns", b.netns, *b_words)
        return self.daemon.ctl(*words, netns=a.netns, check=False)

    def change(self, end: End, **fields: Any) -> bool:
        try:
            self.daemon.ask("link.set", {"ifname": end.name, "netns": end.netns, "set": fields})
        except RpcError:
            return False
        return True

    def attempt_delete(self, end: End) -> Answer:
        return self.daemon.ctl("link", "del", end.name, "netns", end.netns, check=False)

    def forget(self) -> None:
        with suppress(RpcError):
            self.daemon.ask("link.del", {"pair": self.uuid})

    def followed(self) -> None:
        """Events come in the order of the changes: when the last of them is known, so are all before it."""
        if self._marker is None:
            netns = self.netns.make()
            marker = End(netns, fresh_name("m"))
            ends = {"a": _params(marker, ()), "b": _params(End(netns, fresh_name("m")), ())}
            self._marker = marker, self.daemon.ask("link.add", {**ends, "placement": "inside"})["pair"]
        marker, uuid = self._marker
        mtu = marker.state().mtu + 1
        marker.set("mtu", str(mtu))

        def marked() -> bool:
            return bool(self.daemon.ask("link.get", {"pair": uuid})["a"]["mtu"] == mtu)

        def same() -> bool:
            shown = self.daemon.ask("link.get", {"pair": self.uuid})
            return all(_seen(end) == {name: shown[key][name] for name in _seen(end)} for key, end in self.ends())

        eventually(marked, bool, "vethd has heard of every change")
        eventually(same, bool, "what vethd knows of the ends is so")

    @contextmanager
    def held(self) -> Iterator[None]:
        with _stopped([self.daemon.pid]):
            yield

    def quiet(self) -> None:
        def settled() -> bool:
            with suppress(KeyError):
                ends = self.daemon.stats(self.uuid).values()
                still = all(end["queued"] == 0 and end["read"] == end["kernel"]["tx_packets"] for end in ends)
                return self.daemon.workers_sleep() and still
            return True  # the pair is gone

        eventually(settled, bool, "the worker is quiet")

    @contextmanager
    def stalled(self) -> Iterator[None]:
        with _stopped(self.daemon.workers()):
            yield

    def charged(self, end: End) -> Counts:
        key = "a" if end is self.a else "b"
        stats = self.daemon.stats(self.uuid)[key]
        return {name: stats[name] for name in COUNTERS}


def _seen(end: End) -> dict[str, object]:
    """Return an end as the kernel has it now, under the names of `link.get`."""
    state = end.state()
    return {
        "ifname": state.name,
        "netns_inode": netns_inode(end.netns),
        "ifindex": state.ifindex,
        "mtu": state.mtu,
        "address": state.address,
        "up": state.up,
        "carrier": state.carrier,
    }


def _params(end: End, options: tuple[str, ...]) -> dict[str, object]:
    """Turn words of iproute2's grammar into parameters of `link.add`."""
    words = dict(zip(options[::2], options[1::2], strict=True))
    given = {name: int(value) if value.isdigit() else value for name, value in words.items()}
    return {"ifname": end.name, "netns": end.netns, **given}


@contextmanager
def _stopped(pids: list[int]) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def ping(source: End, destination: str, count: int = 3, size: int = 56, within: int = 5) -> Answer:
    """Ping through one end, quickly; exit 0 means that every request was answered within so many seconds."""
    options = ("-n", "-q", "-c", str(count), "-i", "0.02", "-w", str(within), "-s", str(size))
    return in_netns(source.netns, "ping", *options, destination, check=False)


def give_addresses(link: PairUnderTest) -> tuple[str, str]:
    """Give both ends IPv4 addresses and fixed neighbour entries, so that no ARP frame disturbs the counters."""
    a, b = "192.0.2.1", "192.0.2.2"
    ip(link.a.netns, "addr", "add", f"{a}/24", "dev", link.a.name)
    ip(link.b.netns, "addr", "add", f"{b}/24", "dev", link.b.name)
    ip(link.a.netns, "neigh", "replace", b, "lladdr", link.b.state().address, "dev", link.a.name)
    ip(link.b.netns, "neigh", "replace", a, "lladdr", link.a.state().address, "dev", link.b.name)
    return a, b
