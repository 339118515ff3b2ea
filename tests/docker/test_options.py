"""What docker says, checked: words of `docker network create -o`, addresses, ports."""

from __future__ import annotations

from typing import Any

import pytest

from vethd.docker import options
from vethd.docker.options import Binding, NetworkOptions, Refused, bindings, identifier, network_options

ID = "0123456789ab" + "f" * 52
LABEL = "com.docker.network."


def asked(words: Any = None, **more: Any) -> dict[str, Any]:
    return {"NetworkID": ID, "Options": {f"{LABEL}generic": words, **more}}


def test_a_network_without_a_word_is_as_dockers_bridge_is() -> None:
    four = {"AddressSpace": "Local", "Pool": "10.1.0.0/16", "Gateway": "10.1.0.1/16", "AuxAddresses": {}}
    six = {"Pool": "fd00:1::/64", "Gateway": "fd00:1::1/64"}
    assert network_options(ID, {"IPv4Data": [four], "IPv6Data": [six], "Options": None}) == NetworkOptions(
        bridge="br-0123456789ab",
        gateways=("10.1.0.1/16", "fd00:1::1/64"),
        pools=("10.1.0.0/16", "fd00:1::/64"),
        mtu=None,
        icc=True,
        masquerade=True,
        host_binding="",
        prefix="eth",
        internal=False,
    )


def test_every_word() -> None:
    words = {
        options.BRIDGE_NAME: "lan0",
        options.MTU: "9000",
        options.ICC: "false",
        options.MASQUERADE: "0",
        options.HOST_BINDING: "192.0.2.1",
        options.IFACE_PREFIX: "net",
    }
    assert set(words) == set(options.KNOWN)
    assert network_options(ID, asked(words, **{f"{LABEL}internal": True})) == NetworkOptions(
        "lan0", (), (), 9000, icc=False, masquerade=False, host_binding="192.0.2.1", prefix="net", internal=True
    )


def test_a_network_without_addresses() -> None:
    request = {"IPv4Data": [{"Pool": "0.0.0.0/0", "Gateway": ""}], "IPv6Data": None}
    assert network_options(ID, request) == NetworkOptions("br-0123456789ab")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"colour": "red"}, f"option colour is not known; those that are: {options.BRIDGE_NAME}"),
        ({options.MTU: "67"}, f"{options.MTU} '67' is not a number of bytes from 68 to 65521"),
        ({options.MTU: "large"}, "'large' is not a number"),
        ({options.MTU: "１５００"}, "is not a number"),
        ({options.ICC: "maybe"}, f"{options.ICC} 'maybe' is neither true nor false"),
        ({options.MASQUERADE: 3}, f"{options.MASQUERADE} 3 is neither"),
        ({options.HOST_BINDING: "fd00::1"}, f"{options.HOST_BINDING} 'fd00::1' is not an IPv4 address"),
        ({options.HOST_BINDING: ["x"]}, "is not an IPv4 address"),
        ({options.BRIDGE_NAME: "a-name-that-is-long"}, f"{options.BRIDGE_NAME} 'a-name-that-is-long' is not the name"),
        ({options.BRIDGE_NAME: 'a"b'}, "is not the name"),
        ({options.BRIDGE_NAME: "../x"}, "is not the name"),
        ({options.BRIDGE_NAME: ["x"]}, "is not the name"),
        ({options.IFACE_PREFIX: "eth%d"}, f"{options.IFACE_PREFIX} 'eth%d' does not begin"),
        (["x"], f"{LABEL}generic is not an object"),
    ],
)
def test_words_that_can_not_be(words: Any, says: str) -> None:
    with pytest.raises(Refused) as told:
        network_options(ID, asked(words))
    assert says in str(told.value)


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"IPv4Data": "10.0.0.0/8"}, "IPv4Data is not a list of objects"),
        ({"IPv4Data": [{"Pool": "10.0.0.1/8"}]}, "IPv4Data: Pool '10.0.0.1/8'"),
        ({"IPv6Data": [{"Pool": "fd00::/64", "Gateway": "near"}]}, "IPv6Data: Gateway 'near'"),
        ({"IPv4Data": [{"Pool": 10}]}, "Pool is missing or not a string"),
        ({"Options": []}, "Options is not an object"),
    ],
)
def test_addresses_that_can_not_be(request_: dict[str, Any], says: str) -> None:
    with pytest.raises(Refused) as told:
        network_options(ID, request_)
    assert says in str(told.value)


@pytest.mark.parametrize("value", [None, "", 5, "../../etc/passwd", "short", "g" * 65, "0123456789ab\n"])
def test_an_identifier_names_files(value: Any) -> None:
    with pytest.raises(Refused, match="NetworkID"):
        identifier({"NetworkID": value}, "NetworkID")


def ports(*each: Any) -> dict[str, Any]:
    return {"Options": {f"{LABEL}portmap": list(each)}}


def test_ports() -> None:
    assert bindings({"Options": {}}) is None
    assert bindings(ports()) == []
    assert bindings(
        ports(
            {"Proto": 6, "IP": "", "Port": 80, "HostIP": "", "HostPort": 8080, "HostPortEnd": 8090},
            {"Proto": 17, "Port": 53, "HostIP": "FD00::0001"},
            {"Proto": 132, "Port": 9, "HostPort": 9},
        )
    ) == [Binding("tcp", 80, "", 8080, 8090), Binding("udp", 53, "fd00::1", 0, 0), Binding("sctp", 9, "", 9, 9)]


@pytest.mark.parametrize(
    ("each", "says"),
    [
        ({"Proto": 1, "Port": 80}, "protocol 1 can't be published: only tcp, udp and sctp"),
        ({"Proto": 6}, "port 0 of a container"),
        ({"Proto": 6, "Port": 65536}, "Port 65536 is not a number from 0 to 65535"),
        ({"Proto": 6, "Port": "80"}, "Port '80' is not a number"),
        ({"Proto": 6, "Port": True}, "Port True is not a number"),
        ({"Proto": 6, "Port": 80, "HostIP": "example.org"}, "port 80/tcp: 'example.org' is not an IP address"),
        ({"Proto": 6, "Port": 80, "HostPort": 9, "HostPortEnd": 8}, "port 80/tcp: the range 9-8 is empty"),
        ("80", "portmap is not a list of objects"),
    ],
)
def test_ports_that_can_not_be(each: Any, says: str) -> None:
    with pytest.raises(Refused) as told:
        bindings(ports(each))
    assert says in str(told.value)
