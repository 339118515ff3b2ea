"""Every example of the documentation is asked of a daemon, and answered as documented."""

import asyncio
import copy
import json
import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final

import pytest
from jsonschema import Draft7Validator

from tests.kit.daemon import Daemon
from tests.kit.netns import Namespaces, inside
from tests.kit.rpc import RpcClient
from tests.rpc.talk import Talk
from vethd.rpc.discover import document
from vethd.rpc.examples import RESULTS
from vethd.rpc.generate.files import PAGE, table

DOCUMENT: Final = document(asyncio.run(table()))
#: Answered with exactly what is documented; in the others there are numbers that differ from daemon to daemon.
EXACT: Final = {"sysctl.get", "sysctl.set", "events.unsubscribe", "config.apply"}
#: Fields that differ from daemon to daemon.
OWN: Final = {"server_id", "seq", "time", "pid", "datapath", "frameio", "why"}


def strictly(schema: Any) -> Draft7Validator:
    """Tells whether something has the fields of the schema, and no other."""
    schemas = copy.deepcopy(DOCUMENT["components"]["schemas"])
    for record in schemas.values():
        if "properties" in record:
            record["additionalProperties"] = False
    return Draft7Validator({**schema, "components": {"schemas": schemas}})


def test_every_method_has_an_answer() -> None:
    names = {method["name"] for method in DOCUMENT["methods"]}
    assert names - {"rpc.discover"} <= set(RESULTS)


@pytest.mark.parametrize("method", DOCUMENT["methods"], ids=lambda method: method["name"])
def test_a_documented_answer_is_one_that_the_method_gives(method: Any) -> None:
    if method["name"] in RESULTS:
        strictly(method["result"]["schema"]).validate(method["examples"][0]["result"]["value"])


def test_every_example_is_answered_as_documented(daemon: Daemon, netns: Namespaces) -> None:
    red, blue = netns.make(), netns.make()
    with closing(inside(red, daemon.connect)) as connection:
        assert connection.call("rpc.discover")["methods"] == DOCUMENT["methods"]
    for method in sorted(DOCUMENT["methods"], key=lambda method: str(method["name"]) == "daemon.reexec"):
        name, example = method["name"], method["examples"][0]
        with closing(inside(red, daemon.connect)) as connection:
            begin(connection, blue)
            if name == "events.unsubscribe":
                connection.call("events.subscribe")
            answer = connection.call(name, {param["name"]: param["value"] for param in example["params"]})
        problems = [
            f"{name}: {problem.message}" for problem in strictly(method["result"]["schema"]).iter_errors(answer)
        ]
        assert problems == []
        if name in EXACT:
            assert answer == example["result"]["value"]
    if "daemon.reexec" in {method["name"] for method in DOCUMENT["methods"]}:
        with closing(daemon.connect()) as connection:
            assert connection.call("daemon.info")["server_id"] != answer["server_id"]


def begin(connection: RpcClient, blue: str) -> None:
    """Make the pair of the documentation the only one; the caller's own namespace is red."""
    for pair in connection.call("link.list"):
        connection.call("link.del", {"pair": pair["pair"]})
    ends = {"a": {"ifname": "veth0", "up": True}, "b": {"ifname": "veth1", "netns": blue, "up": True}}
    connection.call("link.add", {**ends, "placement": "inside"})


# -- the conversations of the page ------------------------------------------------------------------------------------


def conversations() -> Iterator[list[str]]:
    """What is written by hand."""
    text = re.sub(r"<!-- generated.*?<!-- end -->", "", PAGE.read_text(), flags=re.DOTALL)
    for block in re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if block.startswith("> "):
            yield block.splitlines()


def steady(value: Any) -> Any:
    """The value without what differs from daemon to daemon; of the workers, as many as CPUs allow, the first."""
    if isinstance(value, dict):
        if isinstance(value.get("workers"), list):
            value = {**value, "workers": value["workers"][:1]}
        return {name: "..." if name in OWN else steady(member) for name, member in value.items()}
    return list(map(steady, value)) if isinstance(value, list) else value


@pytest.fixture
def _budget_as_before(shared_daemon: Daemon) -> Iterator[None]:
    yield
    shared_daemon.call("sysctl.set", {"values": {"netdev_budget": 300}})


@pytest.mark.usefixtures("_budget_as_before")
def test_the_conversations_of_the_page_go_as_they_stand_there(shared_daemon: Daemon) -> None:
    talks = list(conversations())
    assert len(talks) == 3
    for lines in talks:
        with closing(Talk(shared_daemon.socket)) as talk:
            for line in lines:
                if line.startswith("> "):
                    talk.say(line[2:])
                else:
                    talk.hear(Steady(json.loads(line[2:])))


class Steady:
    """Equal to what is the same but for what differs from daemon to daemon."""

    def __init__(self, value: Any) -> None:
        self._value = steady(value)

    def __eq__(self, other: object) -> bool:
        return bool(steady(other) == self._value)

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return repr(self._value)
