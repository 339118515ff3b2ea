"""What `make generate` writes is up to date, and says what the schema says."""

import asyncio
import re
from functools import cache
from typing import Any, NotRequired, get_origin, get_type_hints

import pytest

from vethd.errors import KINDS
from vethd.events import EVENTS
from vethd.rpc import shapes, wire
from vethd.rpc.call import Method
from vethd.rpc.discover import document
from vethd.rpc.generate.files import PAGE, files, table
from vethd.rpc.generate.markdown import filled

METHODS = asyncio.run(table())
#: What the annotations of the client's types speak of; Netns is for type checkers alone.
NAMES = vars(shapes) | {"Netns": object}


@cache
def described() -> Any:
    """The OpenRPC document."""
    return document(METHODS)


def test_the_generated_files_are_up_to_date() -> None:
    old = [path.name for path, text in files().items() if path.read_text() != text]
    assert old == [], "run `make generate`"


# -- the page ---------------------------------------------------------------------------------------------------------


def test_what_is_written_by_hand_is_kept() -> None:
    parts = ("before", "<!-- generated: errors -->", "old", "<!-- end -->", "between")
    page = "\n".join((*parts, "<!-- generated: events -->", "<!-- end -->", "after"))
    text = filled(page, described())
    assert re.sub(r"^\|.*\n", "", text, flags=re.MULTILINE) == page.replace("old\n", "")
    assert all(f"| `{error.kind}` | {error.code} |" in text for error in KINDS)
    assert all(f"| `{topic}` | `{event}` |" in text for topic, event in EVENTS)


def test_the_page_has_every_method_with_parameters_errors_and_example() -> None:
    page = PAGE.read_text()
    sections = dict(re.findall(r"^### (\S+)\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL))
    for method in described()["methods"]:
        section = sections[method["name"]]
        assert all(f"| `{param['name']}`" in section for param in method["params"])
        assert all(param["description"].replace("|", "\\|") in section for param in method["params"])
        assert all(f"`{error['$ref'].rpartition('/')[2]}`" in section for error in method["errors"])
        assert f'> {{"jsonrpc": "2.0", "id": 1, "method": "{method["name"]}"' in section
    records = {name for name, text in sections.items() if "." not in name and "| field |" in text}
    assert {"PairResult", "EndResult", "EndParams", "LinkChanges", "NetnsRef", "Event"} <= records


def test_every_link_leads_somewhere() -> None:
    page = PAGE.read_text()
    anchors = {
        re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    }
    links = re.findall(r"\]\(([^)]+)\)", page)
    assert len(links) > 50
    for link in links:
        if link.startswith("#"):
            assert link[1:] in anchors
        elif "://" not in link:
            assert (PAGE.parent / link).exists(), link


def test_every_cell_of_a_table_stays_in_its_column() -> None:
    for line in PAGE.read_text().splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) in (4, 6), line


# -- the client's types -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, value in vars(shapes).items() if hasattr(value, "__total__")])
def test_a_type_has_the_fields_of_the_schema_and_knows_which_may_be_missing(name: str) -> None:
    hints = get_type_hints(getattr(shapes, name), NAMES, NAMES, include_extras=True)
    schema = described()["components"]["schemas"][name]
    several = {"pairs"} if name == "LinkAddParams" else set()  # a method of its own, link_add_several
    assert set(hints) == set(schema["properties"]) - several
    there = {name for name, hint in hints.items() if get_origin(hint) is not NotRequired}
    assert there == set(schema.get("required", []))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_method_is_there_for_both_clients(method: Method) -> None:
    if method.name.startswith("events."):  # `events` of the clients
        return
    records = re.findall(r"\w+Result|DaemonInfo", str(method.result)) or ["dict[str, Any]"]
    for calls in (wire.Calls, wire.AsyncCalls):
        function = getattr(calls, method.name.replace(".", "_"))
        takes, returns = function.__annotations__.get("params"), function.__annotations__["return"]
        assert takes == (f"Unpack[{method.params.__name__}]" if method.params.model_fields else None)
        assert returns in (records[0], f"list[{records[0]}]")
        assert returns.startswith("list[") == str(method.result).startswith("list[")
        assert all(error.kind in function.__doc__ for error in method.errors)
