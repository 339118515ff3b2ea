"""The table of events beside the code that records them, and beside what a snapshot shows."""

import ast
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import vethd
from vethd.events import EVENTS, TOPICS
from vethd.rpc.schema.link import EndResult, PairResult

SOURCES = sorted(Path(vethd.__file__).parent.rglob("*.py"))


def recorded() -> Iterator[tuple[tuple[str, str], set[str], bool, str]]:
    """Every call that makes an event: topic and name, the fields, whether there may be more, and where it stands."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not ast.unparse(node.func).endswith(("record", "Event")):
                continue
            words = [arg.value if isinstance(arg, ast.Constant) else None for arg in node.args]
            for topic, event in pairwise(words):
                if topic in TOPICS and isinstance(event, str):
                    fields = {keyword.arg for keyword in node.keywords if keyword.arg is not None}
                    open_end = len(fields) < len(node.keywords) or len(words) > 4
                    yield (topic, event), fields, open_end, f"{path.name}:{node.lineno}"


def test_what_is_recorded_is_in_the_table_and_what_is_in_the_table_is_recorded() -> None:
    found = list(recorded())
    assert {name for name, *_others in found} == EVENTS.keys()
    for name, fields, open_end, where in found:
        row = EVENTS[name]
        assert fields <= row.fields.keys(), (where, name)
        assert open_end or row.some or fields == row.fields.keys(), (where, name)


@pytest.mark.parametrize("name", EVENTS, ids="/".join)
def test_a_row_says_what_it_means(name: tuple[str, str]) -> None:
    row = EVENTS[name]
    assert (row.topic, row.event) == name
    assert row.topic in TOPICS
    assert row.meaning
    assert all(row.fields.values())


def test_whatever_a_snapshot_shows_of_a_pair_is_told_when_it_changes() -> None:
    told = EVENTS["link", "changed"].fields.keys()
    elsewhere = {*EVENTS["link", "moved"].fields, *EVENTS["carrier", "changed"].fields, "operstate"} - {"from_inode"}
    for_life = {"pair", "placement", "numqueues"}
    assert set(EndResult.__annotations__) | {"labels", "overload", "workers", "name", "origin"} == told | elsewhere
    assert set(PairResult.__annotations__) == for_life | {"generation", "a", "b", "stats"} | {
        *("labels", "overload", "workers", "name", "origin")
    }
    assert EVENTS["link", "added"].fields.keys() == set(PairResult.__annotations__) - {"stats"}
