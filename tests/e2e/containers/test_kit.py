"""The kit of these tests: what it says about a host that was not left as it was."""

from __future__ import annotations

import pytest

from tests.e2e.containers.wire import wire
from tests.kit.containers import NoAnswer
from tests.kit.host import ContainerHost

LEFT_BEHIND = {
    "pairs": ("vethctl link add left0 type veth peer name left1", "vethctl link del left0"),
    "links": ("ip link add leftbr type bridge", "ip link del leftbr"),
    "addresses": ("ip address add 127.1.2.3/32 dev lo", "ip address del 127.1.2.3/32 dev lo"),
    "routes": ("ip route add 10.9.9.0/24 dev lo", "ip route del 10.9.9.0/24 dev lo"),
    "rules": ("nft add table inet left", "nft delete table inet left"),
    "namespaces": ("ip netns add left", "ip netns del left"),
    "mounts": ("mount -t tmpfs left /mnt", "umount /mnt"),
    "leases": ("mkdir -p /var/lib/cni/left; echo >/var/lib/cni/left/10.0.0.2", "rm -r /var/lib/cni/left"),
    "processes": ("sleep 1000 >/dev/null 2>&1 & echo $! >/run/left", "kill $(cat /run/left)"),
}


def test_what_is_left_is_named(whole_host: ContainerHost) -> None:
    before = whole_host.inventory()
    for leave, _take_away in LEFT_BEHIND.values():
        whole_host.run("sh", "-ec", leave)
    with pytest.raises(AssertionError) as told:
        whole_host.check_nothing_left(before, within=0)
    kinds = {line.split(":")[0] for line in str(told.value).splitlines() if ": left " in line}
    for _leave, take_away in LEFT_BEHIND.values():
        whole_host.run("sh", "-ec", take_away)
    assert kinds == LEFT_BEHIND.keys() == before.keys()


@pytest.mark.parametrize("host", ["cut"], indirect=True)
def test_where_the_wire_is_cut_every_frame_is_dropped_by_the_daemon(host: ContainerHost) -> None:
    with wire(host) as (red, blue):
        ping = ("nsenter", f"--net={red.path}", "timeout", "0.3", "busybox", "ping", "-c1", blue.addresses[0])
        assert not host.run(*ping, check=False).ok
        (pair,) = host.daemon.call("stats.get")["pairs"]
        for end in pair["ends"].values():
            assert end["read"] == end["drops"]["CPU_BACKLOG"] == end["dropped"]
        assert sum(end["dropped"] for end in pair["ends"].values()) > 0
    raise NoAnswer("as every test does that is run here")
