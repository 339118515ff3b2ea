"""GRO as users ask for it: per end, off by default, told by link.get, and kept when a worker is replaced."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import closing

from tests.datapath.flows import Packet
from tests.kit.books import imbalance
from tests.kit.daemon import Daemon
from tests.kit.frames import mac
from tests.kit.netns import Namespaces
from tests.kit.packets import PacketSocket
from tests.kit.pairs import End, Pair, make_pair
from tests.pairs.killing import kill_worker, wait_spare, wait_workers

COUNT = 50


def send_at_once(pair: Pair, source: End, target: End) -> None:
    """COUNT packets of a TCP stream that wait together before the worker reads the first."""
    addresses = {"source_mac": mac(source.state().address), "destination_mac": mac(target.state().address)}
    workers = pair.daemon.workers()
    with closing(PacketSocket(source.netns, source.name, vnet_hdr=True)) as sender:
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        for number in range(COUNT):
            packet = Packet(bytes(100), seq=1 + 100 * number, ident=number, **addresses)  # type: ignore[arg-type]
            sender.send(packet.frame(), packet.header())
        for pid in workers:
            os.kill(pid, signal.SIGCONT)


def test_each_end_decides_what_arrives_at_it(shared_daemon: Daemon, netns: Namespaces) -> None:
    pair = make_pair(shared_daemon, netns.make(), netns.make(), b={"gro": True})
    shown = shared_daemon.call("link.get", {"pair": pair.uuid})
    assert (shown["a"]["gro"], shown["b"]["gro"]) == (False, True)
    send_at_once(pair, pair.a, pair.b)
    ends = pair.wait_quiet()
    assert ends["a"]["merged"] >= COUNT - 3, "two batches at most, of which each is one frame"
    assert ends["a"]["delivered"] + ends["a"]["merged"] == ends["a"]["read"] == ends["a"]["tx_packets"]
    assert ends["b"]["rx_packets"] == ends["a"]["delivered"] == pair.b.state().stats["rx_packets"]
    assert ends["b"]["rx_bytes"] == pair.b.state().stats["rx_bytes"]
    before = ends["a"]["delivered"], ends["b"]["delivered"]
    send_at_once(pair, pair.b, pair.a)
    ends = pair.wait_quiet()
    assert ends["b"]["merged"] == 0
    assert ends["b"]["delivered"] - before[1] >= COUNT
    pair.delete()


def test_it_is_off_unless_asked_for(shared_daemon: Daemon, netns: Namespaces) -> None:
    pair = make_pair(shared_daemon, netns.make(), netns.make())
    send_at_once(pair, pair.a, pair.b)
    assert pair.wait_quiet()["a"]["merged"] == 0
    pair.delete()


def test_the_peer_without_words_of_its_own_does_not_take_it(shared_daemon: Daemon, netns: Namespaces) -> None:
    where = netns.make()
    made = shared_daemon.call("link.add", {"a": {"netns": where, "gro": True}, "placement": "inside"})
    assert (made["a"]["gro"], made["b"]["gro"]) == (True, False)
    shared_daemon.call("link.del", {"pair": made["pair"]})


def test_a_successor_goes_on_merging(killable: Callable[[int], Daemon], netns: Namespaces) -> None:
    pair = make_pair(killable(1), netns.make(), netns.make(), b={"gro": True})
    for _ in range(3):
        wait_spare(pair.daemon)
        before = pair.wait_quiet()["a"]["merged"]
        send_at_once(pair, pair.a, pair.b)
        victim = kill_worker(pair.daemon)
        wait_workers(pair.daemon, 1, {victim})
        send_at_once(pair, pair.a, pair.b)
        assert pair.wait_quiet()["a"]["merged"] - before >= COUNT - 3
        assert imbalance(pair.daemon.call("stats.get")) == []
