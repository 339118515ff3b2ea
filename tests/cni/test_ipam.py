"""The IPAM plugin: what it is told, what becomes of what it says, and of what it does not understand."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from vethd.cni.config import read
from vethd.cni.errors import CniError
from vethd.cni.ipam import Ipam
from vethd.cni.request import Request

NET: dict[str, Any] = {"cniVersion": "1.1.0", "name": "lab", "type": "vethd-cni", "ipam": {"type": "made-up"}}
IPS = '{"cniVersion": "1.1.0", "ips": [{"address": "10.1.0.5/24"}]}'


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the plugin `made-up`: it keeps what it is told, and does what `answer`, `answer.COMMAND` say."""
    script = tmp_path / "made-up"
    script.write_text(
        f"""#!/bin/sh
cd {tmp_path}
cat >stdin.$CNI_COMMAND
env >environment.$CNI_COMMAND
echo $CNI_COMMAND >>commands
. ./answer
[ ! -e answer.$CNI_COMMAND ] || . ./answer.$CNI_COMMAND
"""
    )
    script.chmod(0o755)
    monkeypatch.setenv("CNI_CONTAINERID", "c1")
    monkeypatch.setenv("CNI_IFNAME", "eth0")
    return tmp_path


def answers(plugin: Path, text: str, status: int = 0, command: str = "") -> None:
    name = f"answer.{command}" if command else "answer"
    (plugin / name).write_text(f"cat <<'E'\n{text}\nE\nexit {status}\n")


def ipam(plugin: Path, **more: Any) -> Ipam:
    return Ipam(
        Request("ADD", "c1", "/run/netns/c1", "eth0", {}, ("/nowhere", str(plugin))), read(NET | more, "ADD", {})
    )


def told(plugin: Path, command: str) -> dict[str, str]:
    lines = (plugin / f"environment.{command}").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_it_hears_what_the_runtime_said(plugin: Path) -> None:
    answers(plugin, IPS)
    assert ipam(plugin).add()["ips"] == [{"address": "10.1.0.5/24"}]
    assert json.loads((plugin / "stdin.ADD").read_text()) == NET
    assert told(plugin, "ADD")["CNI_CONTAINERID"] == "c1"
    assert told(plugin, "ADD")["CNI_COMMAND"] == "ADD"


@pytest.mark.parametrize(
    "said",
    [
        '{"ip4": {"ip": "10.1.0.5/24"}}',
        '{"cniVersion": "0.3.1", "ips": [{"version": "4", "address": "10.1.0.5/24"}]}',
        IPS,
    ],
)
def test_results_of_all_versions_are_understood(plugin: Path, said: str) -> None:
    answers(plugin, said)
    assert ipam(plugin).add()["ips"] == [{"address": "10.1.0.5/24"}]


def test_del_names_the_attachment(plugin: Path) -> None:
    answers(plugin, "")
    ipam(plugin).free()
    assert told(plugin, "DEL")["CNI_CONTAINERID"] == "c1"
    ipam(plugin).free("orphan", "net1")
    assert (told(plugin, "DEL")["CNI_CONTAINERID"], told(plugin, "DEL")["CNI_IFNAME"]) == ("orphan", "net1")
    assert told(plugin, "DEL")["CNI_NETNS"] == ""


def test_its_errors_are_passed_on(plugin: Path) -> None:
    answers(plugin, '{"code": 17, "msg": "no address left", "details": "of 10.1.0.0/24"}', 1)
    with pytest.raises(CniError) as raised:
        ipam(plugin).add()
    error = raised.value
    assert (error.code, error.msg, error.details) == (17, "made-up: no address left", "of 10.1.0.0/24")


@pytest.mark.parametrize(
    ("text", "status", "code", "words"),
    [
        ("nonsense", 0, 6, "made-up printed no JSON"),
        ("Segmentation fault", 139, 6, "ended with 139"),
        ("", 1, 5, "made-up ended with 1 and gave no error"),
        ('{"msg": "half an error"}', 2, 5, "made-up ended with 2"),
        ('{"cniVersion": "1.1.0"}', 0, 6, "made-up gave no address"),
        ("[]", 0, 6, "not a JSON object"),
    ],
)
def test_nonsense(plugin: Path, text: str, status: int, code: int, words: str) -> None:
    answers(plugin, text, status)
    with pytest.raises(CniError) as raised:
        ipam(plugin).add()
    assert (raised.value.code, words in raised.value.msg) == (code, True), raised.value.msg


def test_nobody_of_that_name(plugin: Path) -> None:
    with pytest.raises(CniError) as raised:
        ipam(plugin, ipam={"type": "nosuch"}).add()
    assert (raised.value.code, "'nosuch'" in raised.value.msg, str(plugin) in raised.value.details) == (7, True, True)


def test_no_path_to_look_in(plugin: Path) -> None:
    with pytest.raises(CniError) as raised:
        Ipam(Request("ADD"), read(NET, "ADD", {})).add()
    assert (raised.value.code, "CNI_PATH" in raised.value.msg) == (4, True)


def test_a_program_that_can_not_be_run(plugin: Path) -> None:
    (plugin / "made-up").write_text("no program")
    with pytest.raises(CniError) as raised:
        ipam(plugin).add()
    assert (raised.value.code, "made-up" in raised.value.msg) == (5, True)


def older(plugin: Path, *spoken: str) -> None:
    """The plugin speaks only these versions."""
    answers(plugin, json.dumps({"cniVersion": "1.0.0", "supportedVersions": spoken}), command="VERSION")
    result = json.dumps({"cniVersion": spoken[-1], "ips": [{"address": "10.1.0.5/24"}]})
    patterns = "|".join(f'*\'"cniVersion": "{version}"\'*' for version in spoken)
    (plugin / "answer").write_text(
        f"""case $CNI_COMMAND$(cat stdin.$CNI_COMMAND) in
VERSION*) ;;
{patterns}) [ $CNI_COMMAND != ADD ] || echo '{result}'; exit 0;;
*) echo '{{"code": 1, "msg": "incompatible CNI versions"}}'; exit 1;;
esac
"""
    )


def commands(plugin: Path) -> list[str]:
    return (plugin / "commands").read_text().split()


def test_an_older_one_is_asked_in_the_latest_version_that_it_speaks(plugin: Path) -> None:
    older(plugin, "0.4.0", "1.0.0")
    previous = {"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "mtu": 1500}], "dns": {}}
    assert ipam(plugin, prevResult=previous).add()["ips"] == [{"address": "10.1.0.5/24"}]
    assert commands(plugin) == ["ADD", "VERSION", "ADD"]
    heard = json.loads((plugin / "stdin.ADD").read_text())
    assert heard["cniVersion"] == "1.0.0"
    assert heard["prevResult"] == {"cniVersion": "1.0.0", "interfaces": [{"name": "eth0"}], "dns": {}}


def test_an_older_one_is_not_asked_for_what_it_does_not_know(plugin: Path) -> None:
    older(plugin, "1.0.0")
    ipam(plugin).pass_on("GC")
    assert commands(plugin) == ["VERSION"]


def test_one_that_knows_gc_hears_of_it(plugin: Path) -> None:
    older(plugin, "1.0.0", "1.1.0")
    ipam(plugin).pass_on("GC")
    assert commands(plugin) == ["VERSION", "GC"]


def test_one_that_speaks_nothing_that_we_do(plugin: Path) -> None:
    older(plugin, "9.0.0")
    with pytest.raises(CniError) as raised:
        ipam(plugin).add()
    assert (raised.value.code, raised.value.msg) == (1, "made-up: incompatible CNI versions")


def test_one_that_speaks_our_version_and_refuses_it_is_not_asked_again(plugin: Path) -> None:
    answers(plugin, json.dumps({"supportedVersions": ["1.1.0"]}), command="VERSION")
    answers(plugin, '{"code": 1, "msg": "not so"}', 1)
    with pytest.raises(CniError) as raised:
        ipam(plugin).add()
    assert raised.value.code == 1
    assert commands(plugin) == ["ADD", "VERSION"]


def test_none_is_configured() -> None:
    none = Ipam(Request("ADD"), read({**NET, "ipam": {}}, "ADD", {}))
    assert none.add() == {"interfaces": [], "ips": [], "routes": [], "dns": {}}
    none.free()
    none.check()
    none.pass_on("GC")


def test_nothing_stays_open(plugin: Path) -> None:
    answers(plugin, IPS)
    one = ipam(plugin)
    one.add()
    before = len(os.listdir("/proc/self/fd"))
    one.add()
    assert len(os.listdir("/proc/self/fd")) == before
