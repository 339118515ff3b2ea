"""A field that a method does not know is refused by its name, wherever it stands, and nothing has happened."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.kit.daemon import Daemon
from tests.kit.rpc import RpcError
from vethd.rpc.discover import document
from vethd.rpc.generate.files import table

DOCUMENT: Final = document(asyncio.run(table()))
RECORDS: Final = DOCUMENT["components"]["schemas"]
Path = tuple[str, ...]


def places(schema: Any, path: Path = ()) -> Iterator[tuple[Path, set[str]]]:
    """Where in a value of this schema objects with named fields stand, and their fields; `*`: in a list's items."""
    for either in (*schema.get("anyOf", []), *schema.get("oneOf", [])):
        yield from places(either, path)
    if "items" in schema:
        yield from places(schema["items"], (*path, "*"))
    if "$ref" in schema:
        record = RECORDS[schema["$ref"].rpartition("/")[2]]
        yield path, set(record["properties"])
        for name, field in record["properties"].items():
            yield from places(field, (*path, name))


def places_of(method: Any) -> list[tuple[Path, set[str]]]:
    """Those of a method's parameters, which are one themselves."""
    params = {param["name"]: param["schema"] for param in method["params"]}
    return [((), set(params)), *(place for name, schema in params.items() for place in places(schema, (name,)))]


def holding(path: Path, value: Any) -> Any:
    """Parameters that hold the value there and little else."""
    for part in reversed(path):
        value = [value] if part == "*" else {part: value}
    return value


def state(daemon: Daemon) -> Any:
    """All that a method can change."""
    info = daemon.call("daemon.info")
    return info["server_id"], info["seq"], daemon.pairs(), daemon.call("sysctl.get")


def test_places_are_found_at_every_depth() -> None:
    (link_add,) = (method for method in DOCUMENT["methods"] if method["name"] == "link.add")
    found = {path for path, _names in places_of(link_add)}
    assert {(), ("a",), ("b", "netns"), ("pairs", "*"), ("pairs", "*", "b", "netns")} <= found


@pytest.mark.parametrize("method", DOCUMENT["methods"], ids=lambda method: method["name"])
def test_an_unknown_field_is_refused_by_name_and_changes_nothing(shared_daemon: Daemon, method: Any) -> None:
    complete = {param["name"]: param["value"] for param in method["examples"][0]["params"]}
    before = state(shared_daemon)

    @settings(
        max_examples=30, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(place=st.sampled_from(places_of(method)), name=st.text(max_size=20), value=st.sampled_from((None, 1, {})))
    @example(place=places_of(method)[0], name="__class__", value="x")
    @example(place=places_of(method)[0], name="<object>", value=None)
    def refuse(place: tuple[Path, set[str]], name: str, value: Any) -> None:
        path, known = place
        if name in known:
            return
        params = holding(path, {name: value})
        if not path or path[0] not in complete:
            params = complete | params
        with pytest.raises(RpcError) as raised:
            shared_daemon.call(method["name"], params)
        assert raised.value.kind == "invalid_params"
        field = ".".join((*("0" if part == "*" else part for part in path), name))
        assert f"; {field}: unknown; " in f"; {raised.value.message}; "
        assert raised.value.data["hint"].startswith("known")

    refuse()
    assert state(shared_daemon) == before
