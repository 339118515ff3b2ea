"""The line of every key of a TOML file, however it is written."""

from __future__ import annotations

import json
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from vethd.configlines import Lines

TEXT = '''\
# a comment
socket = "x" # with = signs
[log]

level = """
level = "not a key"
[worker]
"""
format.deep.er = 1
[ "wor\\u006ber" ]  # quoted
'count' = [
  1, # [x]
  2,
]
[[pair]]
name = "one"
a = { ifname = "a" }
labels.rack = "7"
[pair.b]
ifname = "b"
[[pair.b.c]]
d = 1
[[pair.b.c]]
d = 2
[[pair]]
b.ifname = "c"
list = [{ x = 1 }, { x = 2 }]
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("socket",), 2),
        (("log",), 3),
        (("log", "level"), 5),
        (("log", "format", "deep", "er"), 9),
        (("worker",), 10),
        (("worker", "count"), 11),
        (("worker", "count", 1), 11),
        (("pair",), 15),
        (("pair", 0), 15),
        (("pair", 0, "name"), 16),
        (("pair", 0, "a", "ifname"), 17),
        (("pair", 0, "labels", "rack"), 18),
        (("pair", 0, "b"), 19),
        (("pair", 0, "b", "ifname"), 20),
        (("pair", 0, "b", "c", 1, "d"), 24),
        (("pair", 1, "b", "ifname"), 26),
        (("pair", 1, "list", 1, "x"), 27),
        # what is not there: where it would have to be
        (("log", "none"), 3),
        (("pair", 1, "name"), 25),
        (("none", "at", "all"), 1),
        ((), 1),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_keys_in_every_form(path: tuple[str | int, ...], line: int, end: str) -> None:
    assert Lines(TEXT.replace("\n", end)).of(path) == line


names = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=5)
scalars = st.integers(-5, 5) | st.booleans() | st.text(st.characters(codec="utf-8"), max_size=9)
tables = st.recursive(
    st.dictionaries(names, scalars, max_size=4), lambda inner: st.dictionaries(names, scalars | inner, max_size=4)
)


@given(tables, st.lists(tables, max_size=3))
def test_every_key_stands_in_its_line(table: dict[str, Any], array: list[dict[str, Any]]) -> None:
    tall = [{**element, "long": "x" * 120} for element in array]  # else they are written inline, in one statement
    content = table | {"an array": tall}
    text = tomli_w.dumps(content, multiline_strings=True)
    lines, where = text.split("\n"), Lines(text)

    def check(path: tuple[str | int, ...], value: Any) -> None:
        if isinstance(value, dict):
            for key, child in value.items():
                check((*path, key), child)
        elif isinstance(value, list):
            for number, child in enumerate(value):
                check((*path, number), child)
        else:
            line = lines[where.of(path) - 1]
            assert str(path[-1]) in line or json.dumps(path[-1], ensure_ascii=False) in line

    check((), content)
