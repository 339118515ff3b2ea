"""Whatever anybody does to an end with `ip`, the daemon's picture, the carrier and the twin follow."""

from __future__ import annotations

import pytest

from tests.kit.commands import ip, run
from tests.kit.daemon import Daemon
from tests.kit.netns import Namespaces, fresh_name
from tests.kit.pairs import Pair, make_pair, make_pair_between_fresh
from tests.kit.rpc import RpcError
from tests.kit.waiting import eventually
from tests.pairs.watching import ends_of, followed, move, passes, set_end, told, wait_gone, works

LETTERS = ["a", "b"]


@pytest.mark.parametrize("letter", LETTERS)
def test_a_rename_is_followed(pair: Pair, letter: str) -> None:
    end = ends_of(pair)[letter]
    before, new = end.name, fresh_name("r")
    set_end(end, "name", new)
    end.name = new
    followed(pair)
    assert pair.daemon.call("link.get", {"ifname": new})["end"] == letter
    with pytest.raises(RpcError, match="Cannot find device"):
        pair.daemon.call("link.get", {"ifname": before})
    assert works(pair)


def test_two_ends_that_swap_their_names_are_told_apart(shared_daemon: Daemon, netns: Namespaces) -> None:
    """Ends are their descriptors: with names as keys the two would be taken for each other."""
    where = netns.make()
    pair = make_pair(shared_daemon, where, where)
    before = {letter: told(pair, letter)["address"] for letter in LETTERS}
    first, second = pair.a.name, pair.b.name
    set_end(pair.a, "name", "vtpswap")
    ip(where, "link", "set", "dev", second, "name", first)
    ip(where, "link", "set", "dev", "vtpswap", "name", second)
    pair.a.name, pair.b.name = second, first
    followed(pair)
    assert {letter: told(pair, letter)["address"] for letter in LETTERS} == before


@pytest.mark.parametrize("letter", LETTERS)
def test_a_new_address_is_followed(pair: Pair, letter: str) -> None:
    set_end(ends_of(pair)[letter], "address", "02:76:74:70:00:09")
    followed(pair)
    assert told(pair, letter)["address"] == "02:76:74:70:00:09"


def test_the_length_limit_follows_the_mtu_of_the_receiver(pair: Pair) -> None:
    assert passes(pair.a, pair.b, 1514)
    set_end(pair.b, "mtu", "1000")
    followed(pair)
    assert passes(pair.a, pair.b, 1018)
    assert not passes(pair.a, pair.b, 1019)
    assert passes(pair.b, pair.a, 1014)
    for end in (pair.a, pair.b):
        set_end(end, "mtu", "9000")
    followed(pair)
    assert passes(pair.a, pair.b, 9014)
    assert pair.wait_quiet()["a"]["drops"]["PKT_TOO_BIG"] == 1


@pytest.mark.parametrize("letter", LETTERS)
def test_a_move_is_followed(pair: Pair, netns: Namespaces, letter: str) -> None:
    end = ends_of(pair)[letter]
    move(end, netns.make())
    followed(pair)
    pair.wait_carrier(False)
    set_end(end, "up")
    pair.wait_carrier()
    followed(pair)
    eventually(lambda: end.state().qdisc, lambda qdisc: qdisc == "noqueue", "the qdisc is noqueue again")
    assert works(pair)


@pytest.mark.parametrize("letter", LETTERS)
def test_a_move_there_and_back_is_followed(pair: Pair, netns: Namespaces, letter: str) -> None:
    """So quick that the daemon may see nothing but the end where it was before - down, and without its qdisc."""
    end = ends_of(pair)[letter]
    home, away = end.netns, netns.make()
    for _ in range(2):
        move(end, away)
        move(end, home)
    set_end(end, "up")
    followed(pair)
    pair.wait_carrier()
    eventually(lambda: end.state().qdisc, lambda qdisc: qdisc == "noqueue", "the qdisc is noqueue again")
    assert works(pair)


def test_a_move_with_a_new_name_is_followed(pair: Pair, netns: Namespaces) -> None:
    move(pair.a, netns.make(), name=fresh_name("m"))
    set_end(pair.a, "up")
    followed(pair)
    pair.wait_carrier()
    assert works(pair)


def test_a_move_to_where_the_index_is_taken_is_followed(pair: Pair, netns: Namespaces) -> None:
    taken, index = netns.make(), pair.a.state().ifindex
    ip(taken, "link", "add", "name", "vtptaken", "index", str(index), "type", "veth")
    move(pair.a, taken)
    set_end(pair.a, "up")
    followed(pair)
    assert told(pair, "a")["ifindex"] != index
    pair.wait_carrier()
    assert works(pair)


def test_both_ends_may_move_to_one_namespace(pair: Pair, netns: Namespaces) -> None:
    together = netns.make()
    for end in (pair.a, pair.b):
        move(end, together)
        set_end(end, "up")
    followed(pair)
    pair.wait_carrier()
    assert works(pair)


def test_ends_of_two_pairs_may_change_places(shared_daemon: Daemon, netns: Namespaces) -> None:
    """Each gets the other's namespace and index, where events of the other used to come from."""
    first, second = (make_pair_between_fresh(shared_daemon, netns) for _ in range(2))
    there, other, middle = first.a.netns, second.a.netns, netns.make()
    move(first.a, middle)
    move(second.a, there)
    move(first.a, other)
    for end in (first.a, second.a):
        set_end(end, "up")
    for pair in (first, second):
        followed(pair)
        pair.wait_carrier()
        assert works(pair)
    ip(second.a.netns, "link", "del", second.a.name)
    wait_gone(second)
    assert works(first)


def test_a_namespace_that_dies_after_a_move_takes_the_pair_along(pair: Pair, netns: Namespaces) -> None:
    grave = netns.make()
    move(pair.a, grave)
    netns.delete(grave)
    wait_gone(pair)
    assert netns.undead() == []


@pytest.mark.parametrize("letter", LETTERS)
def test_the_carrier_follows_both_ends(pair: Pair, letter: str) -> None:
    end = ends_of(pair)[letter]
    for _ in range(3):
        set_end(end, "down")
        pair.wait_carrier(False)
        set_end(end, "up")
        pair.wait_carrier(True)
    followed(pair)
    assert works(pair)


def test_flapping_ends_come_to_rest_with_the_right_carrier(pair: Pair) -> None:
    lines = "".join(f"link set dev {{}} {state}\n" for state in ("down", "up") * 25)
    for end in (pair.a, pair.b):
        run("ip", "-n", end.netns, "-batch", "-", given=lines.replace("{}", end.name))
    followed(pair)
    pair.wait_carrier(True)
    for end in (pair.b, pair.a):
        run("ip", "-n", end.netns, "-batch", "-", given=(lines + "link set dev {} down\n").replace("{}", end.name))
    followed(pair)
    pair.wait_carrier(False)


@pytest.mark.parametrize("letter", LETTERS)
def test_a_carrier_that_a_user_takes_away_is_set_again(pair: Pair, letter: str) -> None:
    end = ends_of(pair)[letter]
    before = end.state().carrier_counts
    set_end(end, "carrier", "off")
    eventually(lambda: end.state().carrier_counts, lambda now: now[1] > before[1], "the carrier came up again")
    assert end.state().carrier_counts[2] > before[2], "it was never taken away"
    pair.wait_carrier(True)
    followed(pair)
    assert works(pair)


def test_a_carrier_that_a_user_makes_up_is_taken_away_again(pair: Pair) -> None:
    set_end(pair.b, "down")
    pair.wait_carrier(False)
    before = pair.a.state().carrier_counts
    set_end(pair.a, "carrier", "on")
    eventually(lambda: pair.a.state().carrier_counts, lambda now: now[2] > before[2], "the carrier went down again")
    assert pair.a.state().carrier_counts[1] > before[1], "it was never set"
    pair.wait_carrier(False)
    followed(pair)


@pytest.mark.parametrize("letter", LETTERS)
def test_a_ring_of_nothing_is_put_back(pair: Pair, letter: str) -> None:
    end = ends_of(pair)[letter]
    set_end(end, "txqueuelen", "0")
    eventually(lambda: end.state().txqlen, lambda length: length == 1000, "txqueuelen is 1000 again")
    followed(pair)
    assert works(pair)


def test_a_ring_of_another_length_is_left_alone(pair: Pair) -> None:
    set_end(pair.a, "txqueuelen", "64")
    followed(pair)
    assert (told(pair, "a")["txqueuelen"], pair.a.state().txqlen) == (64, 64)


def test_a_qdisc_of_the_user_is_left_alone(pair: Pair) -> None:
    run("tc", "-n", pair.a.netns, "qdisc", "replace", "dev", pair.a.name, "root", "pfifo")
    set_end(pair.a, "mtu", "1400")
    set_end(pair.a, "down")
    set_end(pair.a, "up")
    followed(pair)
    pair.wait_carrier()
    assert pair.a.state().qdisc == "pfifo"


@pytest.mark.parametrize("letter", LETTERS)
def test_deleting_one_end_removes_the_twin(pair: Pair, letter: str) -> None:
    end = ends_of(pair)[letter]
    ip(end.netns, "link", "del", end.name)
    wait_gone(pair)


@pytest.mark.parametrize("letter", LETTERS)
def test_deleting_a_namespace_removes_the_twin(pair: Pair, netns: Namespaces, letter: str) -> None:
    netns.delete(ends_of(pair)[letter].netns)
    wait_gone(pair)
    assert netns.undead() == []


def test_deleting_both_namespaces_at_once_leaves_nothing(pair: Pair, netns: Namespaces) -> None:
    for end in (pair.a, pair.b):
        netns.delete(end.netns)
    wait_gone(pair)
    assert netns.undead() == []
