"""What pydantic finds wrong with a request or a configuration file, in words for people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError

#: Tags of the alternatives of a field (pydantic.Tag). They say which one was tried, and are no part of a field's name.
WORD: Final = "<word>"
NUMBER: Final = "<number>"
OBJECT: Final = "<object>"
_TAGS: Final = frozenset({WORD, NUMBER, OBJECT})

_MESSAGES: Final = {
    "extra_forbidden": "unknown",
    "missing": "missing",
    "model_type": "must hold named fields",
    "uuid_type": "must be a UUID",
    "uuid_parsing": "must be a UUID",
}
_LONGEST_VALUE: Final = 40


def findings(error: ValidationError, model: type[BaseModel]) -> tuple[list[str], str | None]:
    """One sentence per wrong field, beginning with its name; and the names that exist when one is unknown, or None."""
    sentences: list[str] = []
    hint = None
    for problem in error.errors(include_url=False):
        path = [part for part in problem["loc"] if part not in _TAGS]
        name = ".".join(str(part) for part in path)
        sentences.append((f"{name}: " if name else "") + _message(problem))
        if problem["type"] == "extra_forbidden" and hint is None:
            holders = [part for part in path[:-1] if isinstance(part, str)]  # a number is a position in a list
            place = "".join(f" in {part}" for part in reversed(holders))
            hint = f"known{place}: {', '.join(_fields(model, holders)) or 'nothing'}"
    return sentences, hint


def _message(problem: Any) -> str:
    kind: str = problem["type"]
    if kind == "value_error":
        return str(problem["ctx"]["error"])
    if kind == "literal_error":
        text = f"must be {problem['ctx']['expected']}"
    else:
        text = _MESSAGES.get(kind) or problem["msg"].replace("Input should", "must").replace("String should", "must")
    value = problem["input"]
    if kind not in ("extra_forbidden", "missing") and isinstance(value, str | int | float | None):
        shown = json.dumps(value)
        text += f", not {shown}" if len(shown) <= _LONGEST_VALUE else f", not {shown[:_LONGEST_VALUE]}..."
    return text


def _fields(model: type[BaseModel], path: list[str]) -> list[str]:
    """Names of the fields at a place in a model."""
    for part in path:
        model = next(_models(model.model_fields[part].annotation))
    return list(model.model_fields)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
