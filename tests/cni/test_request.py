"""What a runtime says in the environment, and what is wrong with it."""

from __future__ import annotations

import pytest

from vethd.cni.errors import CniError
from vethd.cni.request import Request, read

ADD = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c1", "CNI_NETNS": "/run/netns/c1", "CNI_IFNAME": "eth0"}


def test_everything_that_add_needs() -> None:
    said = ADD | {"CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAME=web;X=a=b;", "CNI_PATH": "/opt/cni/bin::/usr/lib/cni"}
    args = {"IgnoreUnknown": "1", "K8S_POD_NAME": "web", "X": "a=b"}
    assert read(said) == Request("ADD", "c1", "/run/netns/c1", "eth0", args, ("/opt/cni/bin", "/usr/lib/cni"))


def test_del_does_without_a_namespace() -> None:
    assert read({"CNI_COMMAND": "DEL", "CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0", "CNI_NETNS": ""}).netns == ""


@pytest.mark.parametrize("command", ["GC", "STATUS", "VERSION"])
def test_commands_about_no_container_need_none_and_read_nothing_of_it(command: str) -> None:
    said = {"CNI_COMMAND": command, "CNI_CONTAINERID": "*", "CNI_IFNAME": "", "CNI_ARGS": "nonsense"}
    assert read(said) == Request(command)


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ({}, ["CNI_COMMAND is missing", "STATUS"]),
        ({"CNI_COMMAND": ""}, ["CNI_COMMAND is missing"]),
        ({"CNI_COMMAND": "add"}, ["CNI_COMMAND is 'add'"]),
        ({"CNI_COMMAND": "ADD"}, ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"]),
        ({"CNI_COMMAND": "CHECK", "CNI_CONTAINERID": "c1"}, ["CNI_NETNS", "CNI_IFNAME"]),
        ({"CNI_COMMAND": "DEL"}, ["CNI_CONTAINERID", "CNI_IFNAME"]),
        (ADD | {"CNI_NETNS": ""}, ["CNI_NETNS"]),
        (ADD | {"CNI_CONTAINERID": "-c"}, ["CNI_CONTAINERID '-c'"]),
        (ADD | {"CNI_CONTAINERID": "c/1"}, ["CNI_CONTAINERID 'c/1'"]),
        (ADD | {"CNI_CONTAINERID": "c\n"}, ["CNI_CONTAINERID"]),
        (ADD | {"CNI_CONTAINERID": "c" * 256}, ["CNI_CONTAINERID", "256"]),
        (ADD | {"CNI_IFNAME": "interface0123456"}, ["CNI_IFNAME 'interface0123456'"]),
        (ADD | {"CNI_IFNAME": ".."}, ["CNI_IFNAME '..'"]),
        (ADD | {"CNI_IFNAME": "a/b"}, ["CNI_IFNAME 'a/b'"]),
        (ADD | {"CNI_IFNAME": "a:b"}, ["CNI_IFNAME 'a:b'"]),
        (ADD | {"CNI_IFNAME": "a b"}, ["CNI_IFNAME 'a b'"]),
        (ADD | {"CNI_ARGS": "A=1;B"}, ["CNI_ARGS", "'B'"]),
        (ADD | {"CNI_ARGS": "=1"}, ["CNI_ARGS", "'=1'"]),
    ],
)
def test_what_is_wrong_is_named(said: dict[str, str], names: list[str]) -> None:
    with pytest.raises(CniError) as raised:
        read(said)
    assert raised.value.code == 4
    for name in names:
        assert name in raised.value.msg
