"""The execution protocol of the specification, row by row, with no daemon: what is asked, and which code answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cni.plugin import STOCK, call
from vethd.cni.result import LATEST, VERSIONS

NET: dict[str, Any] = {"cniVersion": "1.1.0", "name": "lab", "type": "vethd-cni", "socket": "/nonexistent/control.sock"}
ATTACHMENT = {"CNI_CONTAINERID": "c1", "CNI_NETNS": "/proc/self/ns/net", "CNI_IFNAME": "eth0", "CNI_PATH": str(STOCK)}


def net(**more: Any) -> str:
    return json.dumps(NET | more)


def test_version_names_all_that_are_spoken() -> None:
    spoken = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]
    assert call("VERSION", '{"cniVersion": "1.0.0"}').document == {"cniVersion": "1.0.0", "supportedVersions": spoken}
    assert list(VERSIONS) == spoken


@pytest.mark.parametrize("stdin", ["", "{}", " \n"])
def test_version_needs_neither_input_nor_anything_else(stdin: str) -> None:
    """Some runtimes send none."""
    assert call("VERSION", stdin).document["cniVersion"] == LATEST


def test_version_as_podman_asks() -> None:
    dummies = dict.fromkeys(("CNI_NETNS", "CNI_IFNAME", "CNI_PATH"), "dummy")
    assert call("VERSION", '{"cniVersion":"1.0.0"}', dummies).status == 0


ROWS: list[tuple[str, str | None, dict[str, str], str, int, str]] = [
    ("no command", None, {}, net(), 4, "CNI_COMMAND"),
    ("a command of the future", "FLUSH", {}, net(), 4, "CNI_COMMAND"),
    ("ADD of nothing", "ADD", {}, net(), 4, "CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME"),
    ("a container of no name", "ADD", ATTACHMENT | {"CNI_CONTAINERID": ".x"}, net(), 4, "CNI_CONTAINERID"),
    ("an interface of no name", "ADD", ATTACHMENT | {"CNI_IFNAME": "."}, net(), 4, "CNI_IFNAME"),
    ("arguments that are none", "ADD", ATTACHMENT | {"CNI_ARGS": "x"}, net(), 4, "CNI_ARGS"),
    ("no input", "ADD", ATTACHMENT, "", 6, "not JSON"),
    ("not JSON", "DEL", ATTACHMENT, "{", 6, "not JSON"),
    ("not an object", "CHECK", ATTACHMENT, "[]", 6, "not a JSON object"),
    ("a version of the future", "ADD", ATTACHMENT, net(cniVersion="2.0.0"), 1, "2.0.0"),
    ("a version that is none", "STATUS", {}, net(cniVersion=[]), 6, "cniVersion"),
    ("CHECK before it was there", "CHECK", ATTACHMENT, net(cniVersion="0.3.1"), 1, "CHECK"),
    ("GC before it was there", "GC", {}, net(cniVersion="1.0.0"), 1, "GC"),
    ("STATUS before it was there", "STATUS", {}, net(cniVersion="1.0.0"), 1, "STATUS"),
    ("a field that nobody knows", "ADD", ATTACHMENT, net(ipMask=True), 2, "ipMask: true"),
    ("no network's name", "ADD", ATTACHMENT, json.dumps({"cniVersion": "1.0.0"}), 7, "name"),
    ("a value that can't be", "ADD", ATTACHMENT, net(mtu=-1), 7, "mtu"),
    ("CHECK without a result", "CHECK", ATTACHMENT, net(), 7, "prevResult"),
    ("a result that is none", "ADD", ATTACHMENT, net(prevResult={"cniVersion": "1.1.0", "ips": 7}), 6, "prevResult"),
    ("GC of what?", "GC", {}, net(), 7, "cni.dev/valid-attachments"),
    ("ADD without a daemon", "ADD", ATTACHMENT, net(), 11, "/nonexistent/control.sock"),
    ("GC without a daemon", "GC", {}, net(**{"cni.dev/valid-attachments": []}), 11, "/nonexistent/control.sock"),
    (
        "CHECK without a daemon",
        "CHECK",
        ATTACHMENT,
        net(prevResult={"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": "/proc/self/ns/net"}]}),
        11,
        "/nonexistent/control.sock",
    ),
    ("STATUS without a daemon", "STATUS", {}, net(), 50, "/nonexistent/control.sock"),
]


@pytest.mark.parametrize(
    ("command", "environment", "stdin", "code", "words"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_errors(command: str | None, environment: dict[str, str], stdin: str, code: int, words: str) -> None:
    said = call(command, stdin, environment)
    assert said.status == 1
    assert (said.code, words in said.msg) == (code, True), said.document
    assert said.document.keys() <= {"cniVersion", "code", "msg", "details"}
    assert said.document["cniVersion"] in VERSIONS


@pytest.mark.parametrize("version", VERSIONS)
def test_errors_are_in_the_version_that_was_asked_in(version: str) -> None:
    assert call("ADD", net(cniVersion=version), ATTACHMENT).document["cniVersion"] == version


@pytest.mark.parametrize(("version", "netns"), [*((version, "") for version in VERSIONS), (LATEST, "/run/netns/gone")])
def test_del_of_what_was_never_there_is_done_even_without_a_daemon(version: str, netns: str, tmp_path: Path) -> None:
    ipam = {"type": "host-local", "dataDir": str(tmp_path), "ranges": [[{"subnet": "10.1.0.0/24"}]]}
    said = call("DEL", net(cniVersion=version, ipam=ipam), ATTACHMENT | {"CNI_NETNS": netns})
    assert (said.status, said.document) == (0, None)


def test_del_says_when_the_address_stays_taken() -> None:
    said = call("DEL", net(ipam={"type": "no-such-plugin"}), ATTACHMENT | {"CNI_NETNS": ""})
    assert (said.code, "no-such-plugin" in said.msg) == (7, True)
