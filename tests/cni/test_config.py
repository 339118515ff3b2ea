"""The configuration of a network: what is read, and which code and words say what is wrong with it."""

from __future__ import annotations

from typing import Any

import pytest

from vethd.cni.config import Bandwidth, BridgeConfig, Network, Rate, decode, read, valid_attachments, version_of
from vethd.cni.errors import CniError
from vethd.cni.result import VERSIONS

NET: dict[str, Any] = {"cniVersion": "1.1.0", "name": "lab", "type": "vethd-cni"}


def network(**more: Any) -> Network:
    return read(NET | more, "ADD", {})


def bridge(**more: Any) -> BridgeConfig:
    found = network(mode="bridge", **more).bridge
    assert found is not None
    return found


def test_little_is_needed() -> None:
    assert network() == Network("1.1.0", "lab", NET, "", None, None, False, None, None, Bandwidth(None, None), {}, None)


def test_a_named_bridge_means_mode_bridge() -> None:
    assert network(bridge="br0").bridge == BridgeConfig("br0", False, False, False, False, False, None)
    assert bridge().name == "cni0"
    assert network(bridge="br0", mode="bridge").bridge == bridge(bridge="br0")


def test_what_a_bridge_is_asked_for() -> None:
    assert bridge(isGateway=True, hairpinMode=True, portIsolation=True) == BridgeConfig(
        "cni0", True, False, True, False, True, None
    )
    assert bridge(isDefaultGateway=True, promiscMode=True) == BridgeConfig("cni0", True, True, False, True, False, None)
    assert bridge(vlan=7).vlan == 7
    assert bridge(vlan=0).vlan is None


def test_null_is_as_good_as_nothing() -> None:
    said = dict.fromkeys(("mtu", "ipMasq", "bridge", "ipam", "runtimeConfig", "args", "dns", "prevResult", "vlanTrunk"))
    assert network(**said)._replace(document={}) == network()._replace(document={})


@pytest.mark.parametrize(
    ("of_runtime", "of_args", "of_environment", "mac"),
    [
        ("0A:00:00:00:00:01", "0a:00:00:00:00:02", "0a:00:00:00:00:03", "0a:00:00:00:00:01"),
        ("", "0a:00:00:00:00:02", "0a:00:00:00:00:03", "0a:00:00:00:00:02"),
        ("", "", "0a:00:00:00:00:03", "0a:00:00:00:00:03"),
        ("", "", "", None),
    ],
)
def test_the_runtime_has_the_last_word_on_the_mac(
    of_runtime: str, of_args: str, of_environment: str, mac: str | None
) -> None:
    said = NET | {"runtimeConfig": {"mac": of_runtime}, "args": {"cni": {"mac": of_args}}}
    assert read(said, "ADD", {"MAC": of_environment}).mac == mac


def test_bandwidth() -> None:
    limits = {"ingressRate": 1_000_000, "ingressBurst": 80_000, "egressRate": 0, "egressBurst": 0}
    assert network(runtimeConfig={"bandwidth": limits}).bandwidth == Bandwidth(Rate(1_000_000, 80_000), None)


def test_what_is_the_ipam_plugins_is_left_to_it() -> None:
    said = {"ips": ["10.1.0.9/16"], "ipRanges": [[{"subnet": "10.1.0.0/16"}]], "portMappings": []}
    assert network(ipam={"type": "host-local"}, runtimeConfig=said).ipam == "host-local"


def test_fields_of_the_stock_plugins_that_ask_for_nothing() -> None:
    idle = {"forceAddress": False, "macspoofchk": False, "preserveDefaultVlan": False, "ipMasqBackend": "nftables"}
    assert bridge(**idle) == bridge()


UNSUPPORTED: list[tuple[dict[str, Any], str]] = [
    ({"isDefaultGatway": True}, "isDefaultGatway: true"),
    ({"isGateway": True}, "isGateway: true"),
    ({"mode": "ptp", "bridge": "br0"}, 'bridge: "br0"'),
    ({"mode": "bridge", "forceAddress": True}, "forceAddress: true"),
    ({"mode": "bridge", "vlanTrunk": [{"id": 7}]}, 'vlanTrunk: [{"id": 7}]'),
    ({"mode": "bridge", "macspoofchk": True}, "macspoofchk: true"),
    ({"mode": "bridge", "enabledad": True}, "enabledad: true"),
    ({"mode": "bridge", "vlan": 7, "isGateway": True}, "vlan: 7"),
    ({"ipMasqBackend": "iptables"}, 'ipMasqBackend: "iptables"'),
    ({"runtimeConfig": {"portMappings": [{"hostPort": 80}]}}, 'runtimeConfig.portMappings: [{"hostPort": 80}]'),
    ({"runtimeConfig": {"ips": ["10.1.0.9/16"]}}, "runtimeConfig.ips"),
    ({"runtimeConfig": {"deviceID": "0000:00:1f.6"}}, "runtimeConfig.deviceID"),
    ({"runtimeConfig": {"bandwidth": {"ingresRate": 1}}}, "runtimeConfig.bandwidth.ingresRate: 1"),
]

INVALID: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "name ''"),
    ({"name": None}, "name ''"),
    ({"name": "-lab"}, "name '-lab'"),
    ({"name": "a/b"}, "name 'a/b'"),
    ({"name": 7}, "name must be a string, not 7"),
    ({"name": "n" * 256}, "at most 255"),
    ({"mode": "macvlan"}, "mode must be bridge or ptp, not 'macvlan'"),
    ({"bridge": ""}, "bridge ''"),
    ({"bridge": "b" * 16}, "bridge 'bbbb"),
    ({"mtu": "1500"}, 'mtu must be a whole number from 0 to 65521, not "1500"'),
    ({"mtu": True}, "mtu must be a whole number"),
    ({"mtu": 65522}, "mtu must be a whole number from 0 to 65521"),
    ({"ipMasq": "yes"}, 'ipMasq must be true or false, not "yes"'),
    ({"ipam": "host-local"}, 'ipam must be an object, not "host-local"'),
    ({"ipam": {"type": "../sh"}}, "ipam.type '../sh'"),
    ({"ipam": {"type": 1}}, "ipam.type must be a string, not 1"),
    ({"socket": 1}, "socket must be a string"),
    ({"mode": "bridge", "vlan": 4095}, "vlan must be a whole number from 0 to 4094"),
    ({"mode": "bridge", "hairpinMode": True, "promiscMode": True}, "exclude each other"),
    ({"runtimeConfig": {"mac": "nonsense"}}, "mac 'nonsense'"),
    ({"runtimeConfig": {"bandwidth": 7}}, "runtimeConfig.bandwidth must be an object"),
    ({"runtimeConfig": {"bandwidth": {"ingressRate": 8}}}, "ingressRate needs ingressBurst"),
    ({"runtimeConfig": {"bandwidth": {"egressBurst": 8}}}, "egressBurst needs egressRate"),
    ({"runtimeConfig": {"bandwidth": {"egressBurst": 8, "egressRate": 7}}}, "egress is less than a byte"),
    ({"runtimeConfig": {"bandwidth": {"ingressRate": -1}}}, "runtimeConfig.bandwidth.ingressRate must be a whole"),
]


@pytest.mark.parametrize(
    ("code", "more", "words"),
    [
        *((2, *row) for row in UNSUPPORTED),
        *((7, *row) for row in INVALID),
        (6, {"prevResult": []}, "prevResult is not a JSON object"),
        (6, {"cniVersion": 1}, "cniVersion is not a string: 1"),
        (1, {"cniVersion": "9.9.9"}, "cniVersion '9.9.9'"),
    ],
)
def test_what_is_wrong_is_named(code: int, more: dict[str, Any], words: str) -> None:
    with pytest.raises(CniError) as raised:
        network(**more)
    assert (raised.value.code, words in raised.value.msg) == (code, True), raised.value.msg


@pytest.mark.parametrize("command", ["DEL", "CHECK", "GC", "STATUS"])
@pytest.mark.parametrize("more", [more for more, _words in UNSUPPORTED if "vlan" not in more][:6])
def test_other_commands_do_not_insist_on_what_they_have_no_use_for(command: str, more: dict[str, Any]) -> None:
    assert read(NET | more, command, {}).name == "lab"


@pytest.mark.parametrize(
    ("text", "words"), [(b"", "not JSON"), (b"{", "not JSON"), (b"\xff", "not JSON"), (b"[]", "not a JSON object")]
)
def test_what_is_no_configuration(text: bytes, words: str) -> None:
    with pytest.raises(CniError) as raised:
        decode(text)
    assert raised.value.code == 6
    assert words in raised.value.msg


@pytest.mark.parametrize("command", ["ADD", "DEL", "CHECK", "GC", "STATUS"])
@pytest.mark.parametrize("version", VERSIONS)
def test_commands_are_as_old_as_the_specification_says(version: str, command: str) -> None:
    since = {"CHECK": 4, "GC": 6, "STATUS": 6}.get(command, 0)
    if VERSIONS.index(version) >= since:
        assert version_of({"cniVersion": version}, command) == version
        return
    with pytest.raises(CniError) as raised:
        version_of({"cniVersion": version}, command)
    assert (raised.value.code, command in raised.value.msg) == (1, True)


def test_no_version_is_the_first() -> None:
    assert version_of({}, "ADD") == "0.1.0"


@pytest.mark.parametrize("key", ["cni.dev/valid-attachments", "cni.dev/attachments"])
def test_attachments_that_stay(key: str) -> None:
    assert valid_attachments({key: [{"containerID": "c1", "ifname": "eth0"}]}) == {("c1", "eth0")}
    assert valid_attachments({key: []}) == set()


@pytest.mark.parametrize("said", [None, {}, [{}], [{"containerID": "c1"}], ["c1"]])
def test_gc_without_them_removes_nothing(said: Any) -> None:
    with pytest.raises(CniError) as raised:
        valid_attachments({"cni.dev/valid-attachments": said})
    assert raised.value.code == 7
    assert "cni.dev/valid-attachments" in raised.value.msg
