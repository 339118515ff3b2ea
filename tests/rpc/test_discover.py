"""rpc.discover is an OpenRPC document, and every method in it is described to the last field."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from jsonschema import Draft7Validator
from referencing import Registry
from referencing.jsonschema import DRAFT7

from tests.kit.daemon import Daemon
from vethd.errors import KINDS

_META: Final = Path(__file__).parent / "openrpc"


@pytest.fixture
def document(shared_daemon: Daemon) -> Any:
    return shared_daemon.call("rpc.discover")


@pytest.fixture(scope="module")
def openrpc() -> Draft7Validator:
    """Says whether something is an OpenRPC document."""
    json_schema = DRAFT7.create_resource(json.loads((_META / "json-schema.json").read_text()))
    registry: Registry[Any] = Registry().with_resources(
        [("https://meta.json-schema.tools", json_schema), ("https://meta.json-schema.tools/", json_schema)]
    )
    return Draft7Validator(json.loads((_META / "openrpc.json").read_text()), registry=registry)


def test_it_is_valid_openrpc(document: Any, openrpc: Draft7Validator) -> None:
    assert [error.message for error in openrpc.iter_errors(document)] == []
    assert document["openrpc"] == "1.3.2"


def test_the_meta_schema_finds_faults(document: Any, openrpc: Draft7Validator) -> None:
    faults: list[Callable[[Any], object]] = [
        lambda broken: broken["methods"][0].pop("params"),
        lambda broken: broken["methods"][0]["params"][0].pop("schema"),
        lambda broken: broken["methods"][0]["params"][0]["schema"].update(type="integers"),
        lambda broken: broken.update(unknown=1),
    ]
    for spoil in faults:
        broken = copy.deepcopy(document)
        spoil(broken)
        assert not openrpc.is_valid(broken)


def test_every_schema_is_one_and_every_reference_leads_somewhere(document: Any) -> None:
    for schema in _schemas(document):
        Draft7Validator.check_schema(schema)
    for reference in _references(document):
        found = document
        assert reference.startswith("#/components/")
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]


def test_every_method_has_all_that_a_reader_needs(document: Any) -> None:
    names = [method["name"] for method in document["methods"]]
    assert len(names) == len(set(names))
    assert "rpc.discover" in names
    for method in document["methods"]:
        assert method["summary"].endswith("."), method["name"]
        assert method["description"].startswith(method["summary"].removesuffix(".")), method["name"]
        assert method["x-role"] in ("look", "change"), method["name"]
        assert method["errors"], method["name"]
        for param in method["params"]:
            assert param["description"].endswith("."), (method["name"], param["name"])
        given = {param["name"] for param in method["examples"][0]["params"]}
        needed = {param["name"] for param in method["params"] if param["required"]}
        assert needed <= given <= {param["name"] for param in method["params"]}, method["name"]


def test_every_field_is_described(document: Any) -> None:
    schemas = document["components"]["schemas"]
    for name, schema in schemas.items():
        assert schema.get("description"), name
        for field, inner in schema.get("properties", {}).items():
            assert inner.get("description", "").strip(), (name, field)


def test_examples_are_valid_parameters(document: Any) -> None:
    for method in document["methods"]:
        example = {param["name"]: param["value"] for param in method["examples"][0]["params"]}
        for param in method["params"]:
            if param["name"] in example:
                schema = {**param["schema"], "components": document["components"]}
                Draft7Validator(schema).validate(example[param["name"]])


def test_errors_are_those_of_the_table(document: Any) -> None:
    assert document["components"]["errors"] == {
        error.kind: {"code": error.code, "message": error.summary, "data": {"kind": error.kind}} for error in KINDS
    }
    by_method = {
        method["name"]: [error["$ref"].rpartition("/")[2] for error in method["errors"]]
        for method in document["methods"]
    }
    assert by_method["link.get"] == [
        "invalid_params",
        "not_permitted",
        "no_such_link",
        "ambiguous_name",
        "no_such_netns",
    ]
    assert "shutting_down" in by_method["link.del"]


def test_notifications_are_described(document: Any) -> None:
    (event,) = document["x-notifications"]
    assert event["name"] == "event"
    assert {"subscription", "seq", "topic"} <= {param["name"] for param in event["params"]}


def _schemas(document: Any) -> Iterator[Any]:
    yield from document["components"]["schemas"].values()
    for method in document["methods"]:
        yield method["result"]["schema"]
        for param in method["params"]:
            yield param["schema"]


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)
