"""Names are bytes to the kernel: what a container's root writes there does not unsettle the daemon."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kit.commands import ip
from tests.kit.daemon import Daemon
from tests.kit.netns import Namespaces, netns_inode
from tests.kit.pairs import Pair
from tests.kit.waiting import eventually
from tests.pairs.asking import IFLA_IFALIAS, IFLA_IFNAME, IFLA_NET_NS_FD, Kernel, attribute
from tests.pairs.watching import told, uuids

NAMES = [b"vtp\xff", b"\xc3\x28", b"\xed\xb2\x80", "vtpé".encode(), b"vtp\x1b[31m", b"'\"\\", b"vtp\xe2\x80\xae", b"{}"]


@pytest.fixture
def beside_a(pair: Pair) -> Iterator[Kernel]:
    """Requests in the namespace of end a."""
    asked = Kernel(pair.a.netns)
    yield asked
    asked.close()


def name_of(pair: Pair, letter: str) -> bytes:
    return str(told(pair, letter)["ifname"]).encode(errors="surrogateescape")


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_any_name_that_the_kernel_takes_is_followed(pair: Pair, beside_a: Kernel, name: bytes) -> None:
    index = told(pair, "a")["ifindex"]
    assert beside_a.setlink(index, attribute(IFLA_IFALIAS, b"\xff\xfe")) == "ok"
    assert beside_a.setlink(index, attribute(IFLA_IFNAME, name + b"\0")) == "ok"
    eventually(lambda: name_of(pair, "a"), lambda seen: seen == name, "the name is seen")
    ip(pair.b.netns, "link", "set", pair.b.name, "mtu", "1300")
    eventually(lambda: told(pair, "b")["mtu"], lambda mtu: mtu == 1300, "other events are heard")
    assert pair.daemon.call("link.get", {"ifname": told(pair, "a")["ifname"]})["pair"] == pair.uuid
    assert pair.uuid in uuids(pair.daemon)
    assert pair.daemon.ctl("link", "show").ok
    pair.daemon.check_books()
    pair.daemon.call("link.del", {"pair": pair.uuid})
    assert not pair.b.exists


@pytest.mark.parametrize("placement", ["move", "inside"])
@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_a_pair_may_be_made_with_any_name(
    shared_daemon: Daemon, netns: Namespaces, name: bytes, placement: str
) -> None:
    where = netns.make()
    ends = {"a": {"ifname": name.decode(errors="surrogateescape"), "netns": where}, "b": {"netns": where}}
    made = shared_daemon.call("link.add", {**ends, "placement": placement})
    assert made["a"]["ifname"].encode(errors="surrogateescape") == name


def test_a_name_of_any_bytes_moves_along(pair: Pair, netns: Namespaces, beside_a: Kernel) -> None:
    away, index = netns.make(), told(pair, "a")["ifindex"]
    assert beside_a.setlink(index, attribute(IFLA_IFNAME, NAMES[0] + b"\0")) == "ok"
    with open(f"/run/netns/{away}") as target:
        assert beside_a.setlink(index, attribute(IFLA_NET_NS_FD, target.fileno().to_bytes(4, "little"))) == "ok"
    eventually(lambda: told(pair, "a")["netns_inode"], lambda inode: inode == netns_inode(away), "the move is seen")
    assert name_of(pair, "a") == NAMES[0]
    pair.daemon.call("link.del", {"pair": pair.uuid})
    assert not pair.b.exists
