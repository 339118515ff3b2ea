"""vethctl link with labels, aliases and link set; vethctl stats and sysctl: with a real daemon."""

import json
from typing import Any

import pytest

from tests.cli.outcome import refused
from tests.kit.commands import in_netns, ip
from tests.kit.daemon import Daemon
from tests.kit.links import link_exists, read_link
from tests.kit.netns import Namespaces, fresh_name
from tests.kit.pairs import Pair, make_pair


@pytest.fixture
def quiet_pair(shared_daemon: Daemon, netns: Namespaces) -> Pair:
    """A pair that is down, so that nothing in it changes."""
    return make_pair(shared_daemon, netns.make(), netns.make(), up=False, placement="inside")


def rows(daemon: Daemon, *words: str) -> list[dict[str, Any]]:
    """What `vethctl -j WORDS...` prints."""
    decoded: list[dict[str, Any]] = json.loads(daemon.ctl("-j", *words).out)
    return decoded


# -- link set ---------------------------------------------------------------------------------------------------------


def test_everything_is_changed_by_one_command(shared_daemon: Daemon, quiet_pair: Pair) -> None:
    a, name = quiet_pair.a, fresh_name("c")
    words = [a.name, "up", "name", name, "mtu", "1400", "address", "02:00:00:00:00:0c", "txqueuelen", "50"]
    words += ["alias", "to the lab", "gro", "on", "label", "role=web", "label", "tier=1", "overload", "backpressure"]
    words += ["worker", "0"]
    answer = shared_daemon.ctl("-n", a.netns, "link", "set", *words)
    assert (answer.out, answer.err) == ("", "")
    state = read_link(a.netns, name)
    assert (state.mtu, state.address) == (1400, "02:00:00:00:00:0c")
    (row,) = rows(shared_daemon, "link", "show", name)
    assert "UP" in row["flags"]
    assert row["txqlen"] == 50
    assert (row["ifalias"], row["gro"], row["overload"]) == ("to the lab", True, "backpressure")
    assert row["labels"] == {"role": "web", "tier": "1"}
    shown = shared_daemon.ctl("link", "show", name).out
    assert "    label role=web tier=1\n    alias to the lab\n" in shown
    (changed,) = rows(shared_daemon, "link", "set", name, "nolabel", "tier", "alias", "", "down")
    assert changed["labels"] == {"role": "web"}
    assert changed["generation"] > row["generation"]
    assert changed["ifalias"].startswith(f"vethd {quiet_pair.uuid} peer ")
    assert "UP" not in changed["flags"]


def test_netns_is_where_it_goes_and_option_n_where_it_is(
    shared_daemon: Daemon, quiet_pair: Pair, netns: Namespaces
) -> None:
    red, green = quiet_pair.a.netns, netns.make()
    name = quiet_pair.a.name
    shared_daemon.ctl("-n", red, "link", "set", name, "netns", green)
    assert link_exists(green, name)
    refused(
        shared_daemon.ctl("-n", red, "link", "set", name, "up", check=False),
        1,
        f'Error: Cannot find device "{name}"',
        "hint: `vethctl link show` lists the links",
    )
    shared_daemon.ctl("link", "set", name, "netns", red, "up")
    assert link_exists(red, name)


def test_what_the_daemon_refuses_to_change_stays(shared_daemon: Daemon, quiet_pair: Pair) -> None:
    name = quiet_pair.a.name
    before = rows(shared_daemon, "link", "show", name)
    answer = shared_daemon.ctl("link", "set", name, "mtu", "1400", "worker", "99", check=False)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("Error: worker 99: ")
    assert rows(shared_daemon, "link", "show", name) == before


# -- filters ----------------------------------------------------------------------------------------------------------


def test_labels_and_origins_select(shared_daemon: Daemon, netns: Namespaces) -> None:
    red = netns.make()
    web, db, other = fresh_name("w"), fresh_name("d"), fresh_name("o")
    for name, labels in ((web, "label role=web label tier=1"), (db, "label role=db"), (other, "")):
        ends = f"{name} netns {red} type veth peer {name}p netns {red} placement inside {labels}"
        shared_daemon.ctl("link", "add", *ends.split())

    def names(*words: str) -> set[str]:
        return {row["ifname"] for row in rows(shared_daemon, *words) if not row["ifname"].endswith("p")}

    for words, found in (
        (("label", "role=web"), {web}),
        (("label", "role"), {web, db}),
        (("label", "role", "label", "tier=1"), {web}),
        (("label", "role=none"), set()),
        (("netns", red, "label", "role=db"), {db}),
        (("origin", "api"), {web, db, other}),
        (("origin", "cni"), set()),
    ):
        assert names("link", "show", *words) == found, words
        assert names("stats", *words) == found, words


# -- stats ------------------------------------------------------------------------------------------------------------


def test_stats_in_text_and_json(shared_daemon: Daemon, quiet_pair: Pair) -> None:
    name, place = quiet_pair.a.name, quiet_pair.a.netns
    counters = ["rx_packets", "rx_bytes", "rx_dropped", "tx_packets", "tx_bytes", "tx_dropped", "queued"]
    head, line = shared_daemon.ctl("stats", name).out.splitlines()
    assert head.split() == ["link", "netns", *counters]
    assert line.split() == [name, place, *["0"] * 7]
    head, line = shared_daemon.ctl("-s", "stats", "dev", name, "netns", place).out.splitlines()
    assert (head.split()[-1], line.split()[-1]) == ("drops", "-")
    (row,) = rows(shared_daemon, "stats", name)
    assert [row[counter] for counter in counters] == [0] * 7
    assert (row["ifname"], row["netns"], row["pair"], row["end"], row["interval"]) == (
        name,
        place,
        quiet_pair.uuid,
        "a",
        None,
    )
    assert len(rows(shared_daemon, "stats")) == 2


def test_stats_count_what_link_show_counts(shared_daemon: Daemon, pair: Pair) -> None:
    in_netns(pair.a.netns, "ip", "address", "add", "192.0.2.1/24", "dev", pair.a.name)
    in_netns(pair.b.netns, "ip", "address", "add", "192.0.2.2/24", "dev", pair.b.name)
    in_netns(pair.a.netns, "ping", "-q", "-c", "2", "-i", "0.01", "192.0.2.2")
    pair.wait_quiet()
    (row,) = rows(shared_daemon, "stats", pair.a.name)
    (shown,) = rows(shared_daemon, "-s", "-s", "link", "show", pair.a.name)
    for way in ("rx", "tx"):
        for name in ("bytes", "packets", "dropped"):
            assert row[f"{way}_{name}"] == shown["stats64"][way][name]
    assert row["tx_packets"] >= 3
    assert {name: row[name] for name in ("read", "delivered", "merged", "dropped", "queued")} == shown["wire"]
    assert row["drops"] == shown["drops"]
    (later,) = rows(shared_daemon, "stats", pair.a.name, "interval", "0.1")
    assert (later["tx_packets"], later["drops"]) == (0, dict.fromkeys(row["drops"], 0))
    assert later["interval"] >= 0.1


# -- sysctl -----------------------------------------------------------------------------------------------------------


def test_sysctl_reads_and_writes_as_sysctl_does(shared_daemon: Daemon) -> None:
    everything = shared_daemon.ctl("sysctl").out
    assert "net.core.netdev_max_backlog = 1000\n" in everything
    values = json.loads(shared_daemon.ctl("-j", "sysctl", "get").out)
    assert everything == "".join(f"{name} = {value}\n" for name, value in values.items())
    one = "net.core.netdev_budget = 300\n"
    assert shared_daemon.ctl("sysctl", "netdev_budget").out == one
    assert shared_daemon.ctl("sysctl", "get", "net.core.netdev_budget").out == one
    try:
        changed = shared_daemon.ctl("sysctl", "netdev_budget=200", "net.core.dev_weight=32").out
        assert sorted(changed.splitlines()) == ["net.core.dev_weight = 32", "net.core.netdev_budget = 200"]
        assert json.loads(shared_daemon.ctl("-j", "sysctl", "set", "netdev_budget=0x64").out) == {
            "net.core.netdev_budget": 100
        }
    finally:
        shared_daemon.ctl("sysctl", *(f"{name}={value}" for name, value in values.items()))
    assert json.loads(shared_daemon.ctl("-j", "sysctl").out) == values


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (("dev_weight=many",), ['Error: argument "many" is wrong: Invalid "dev_weight" value']),
        (
            ("dev_weight", "netdev_budget=1"),
            ['Error: "dev_weight" has no value.', "hint: write NAME=VALUE, for each of them"],
        ),
        (("set", "dev_weight"), ['Error: "dev_weight" has no value.', "hint: write NAME=VALUE, for each of them"]),
        (("get", "dev_weight=1"), ["Error: get takes no values.", "hint: leave out `get` to change them"]),
        (("dev_weight=1", "dev_weight=2"), ['Error: duplicate "dev_weight".', "hint: give it once"]),
        (("set",), ["Command line is not complete.", "hint: vethctl sysctl help shows the grammar"]),
    ],
)
def test_sysctl_without_sense(shared_daemon: Daemon, words: tuple[str, ...], lines: list[str]) -> None:
    refused(shared_daemon.ctl("sysctl", *words, check=False), 255, *lines)


def test_a_sysctl_that_is_none(shared_daemon: Daemon) -> None:
    for word in ("netdev_none", "netdev_none=1"):
        answer = shared_daemon.ctl("sysctl", word, check=False)
        assert (answer.code, answer.out) == (2, "")
        assert "netdev_none" in answer.err


def test_a_bridge_is_a_master_as_with_ip(shared_daemon: Daemon, netns: Namespaces) -> None:
    where = netns.make()
    ip(where, "link", "add", "br0", "type", "bridge")
    shared_daemon.ctl("-n", where, "link", "add", "vm0", "master", "br0", "type", "veth", "peer", "vm1")
    (shown, *_peer) = shared_daemon.ctl("-n", where, "link", "show", "vm0").out.splitlines()
    assert " mtu 1500 master br0 state DOWN " in shown
    (row,) = rows(shared_daemon, "-n", where, "link", "show", "vm0")
    assert row["master"] == ip(where, "-j", "link", "show", "vm0").json()[0]["master"] == "br0"
    shared_daemon.ctl("-n", where, "link", "set", "vm0", "nomaster")
    assert "master" not in shared_daemon.ctl("-n", where, "link", "show", "vm0").out
    shared_daemon.ctl("-n", where, "link", "set", "vm0", "master", "br0")
    assert "vm0" in ip(where, "link", "show", "master", "br0").out
