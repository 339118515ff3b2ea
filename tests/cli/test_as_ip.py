"""vethctl beside the real ip: the same words about a pair of ours and about a kernel veth pair."""

import re
from typing import NamedTuple

import pytest

from tests.kit.commands import Answer, ip, run
from tests.kit.daemon import PROGRAMS, Daemon
from tests.kit.netns import Namespaces
from tests.kit.pairs import make_pair

VETHCTL = str(PROGRAMS / "vethctl")


class Places(NamedTuple):
    """A namespace with veth0 and veth1 of ours, and one with those of the kernel."""

    daemon: Daemon
    ours: str
    kernel: str

    def both(self, *words: str, given: str = "") -> tuple[Answer, Answer]:
        """What ip says, and what vethctl says."""
        ctl = (VETHCTL, "-S", str(self.daemon.socket), "-n", self.ours)
        return (
            run("ip", "-n", self.kernel, *words, check=False, given=given),
            run(*ctl, *words, check=False, given=given),
        )


@pytest.fixture
def places(shared_daemon: Daemon, netns: Namespaces) -> Places:
    ours, kernel = netns.make(), netns.make()
    make_pair(shared_daemon, ours, ours, up=False, placement="inside", a={"ifname": "veth0"}, b={"ifname": "veth1"})
    ip(kernel, "link", "add", "veth0", "type", "veth", "peer", "name", "veth1")
    return Places(shared_daemon, ours, kernel)


def test_the_exit_status_is_ips(places: Places) -> None:
    for line in (
        "link",
        "l l",
        "lin lst veth0",
        "link ls veth0",
        "link sh dev veth0",
        "-V",
        "-foo",
        "foo",
        "lnk",
        "link foo",
        "link show dev",
        "link show nosuch",
        "link show veth0 garbage",
        "link show veth0 dev veth1",
        "link add",
        "link add x type",
        "link add x type bogus",
        "link add veth0 type veth peer name x",
        "link add waytoolongnameforalink type veth",
        "link add x mtu abc type veth",
        "link add x mtu 99999999 type veth",
        "link add x mtuu 1400 type veth",
        "link add x type veth peer name veth0",
        "link set",
        "link s",
        "link set nosuch up",
        "link set veth0 mtu abc",
        "link set veth0 mtu",
        "link set veth0 mtu 5",
        "link set veth0 netns nosuch",
        "link set veth0 name veth1",
        "link set veth0 up garbage",
        "link set veth0 address 01:00:00:00:00:00",
        "link set veth0 mtu 1400",
        "link s veth0 up",
        "link del",
        "link del nosuch",
        "link del veth0 garbage",
        "-n nosuch link",
        "-n",
        "-c=foo link",
        "-b /nowhere",
        "-b",
        "",
        "link d veth0",
        "link d veth0",
    ):
        its, ours = places.both(*line.split())
        assert ours.code == its.code, (line, its.err, ours.err)
        assert (ours.out == "") == (its.out == ""), line
        assert (ours.err == "") == (its.err == ""), (line, its.err, ours.err)


@pytest.mark.parametrize("options", [(), ("-force",)])
def test_the_exit_status_of_a_batch_is_ips(places: Places, options: tuple[str, ...]) -> None:
    for line in (
        "link show veth0",
        "# nothing",
        "",
        "foo",
        "link set nosuch up",
        "link set veth0 mtu 5",
        "link set veth0 mtu abc",
    ):
        its, ours = places.both(*options, "-b", "-", given=f"{line}\nlink set veth0 mtu 1300\n")
        assert ours.code == its.code, (line, its.err, ours.err)


def counters(text: str) -> list[list[str]]:
    """The words of the tables that -s adds, names and numbers."""
    return [line.split() for line in text.splitlines()[2:]]


def test_the_table_of_counters_has_ips_columns(places: Places) -> None:
    its, ours = places.both("-s", "link", "show", "veth0")
    assert counters(ours.out) == counters(its.out)
    its, ours = places.both("-o", "-s", "link", "show", "veth0")
    assert [line.split()[0] for line in re.split(r"\\ +", ours.out.strip())][1:] == [
        "link/ether",
        "RX:",
        "0",
        "TX:",
        "0",
    ]
    assert [line.split()[0] for line in re.split(r"\\ +", its.out.strip())][1:] == [
        "link/ether",
        "RX:",
        "0",
        "TX:",
        "0",
    ]


def test_colours_are_ips(places: Places) -> None:
    """-c alone means always, as with ip."""
    its, ours = places.both("-c", "link", "show", "veth0")
    for color in (r"\033\[36mveth0", r"state \033\[31mDOWN", r"link/ether \033\[33m", r"brd \033\[33m"):
        assert re.search(color, its.out), color
        assert re.search(color, ours.out), color
