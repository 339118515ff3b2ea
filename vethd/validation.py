"""What pydantic finds wrong with a request or a configuration file, in words for people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError

#: Tags of the alternatives of a field (pydantic.Tag). They say which one was tried, and are no part of a field's name.
WORD: Final = "<word>"
NUMBER: Final = "<number>"
OBJECT: Final = "<object>"
_KEY: Final = "[key]"  # pydantic's, for the name of something in a table
_NO_PART: Final = frozenset({WORD, NUMBER, OBJECT, _KEY})

_MESSAGES: Final = {
    "extra_forbidden": "unknown",
    "missing": "missing",
    "model_type": "must hold named fields",
    "uuid_type": "must be a UUID",
    "uuid_parsing": "must be a UUID",
}
_LONGEST_VALUE: Final = 40


Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One wrong field. path: its place, names and numbers. text: what is wrong. hint: the names that exist, or None."""

    path: Path
    text: str
    hint: str | None = None

    @property
    def name(self) -> str:
        """The field as messages name it, "" for the whole."""
        return ".".join(map(str, self.path))


def findings(error: ValidationError, model: type[BaseModel]) -> tuple[list[str], str | None]:
    """One sentence per wrong field, beginning with its name; and the names that exist when one is unknown, or None."""
    wrong = list(problems(error, model))
    sentences = [(f"{problem.name}: " if problem.path else "") + problem.text for problem in wrong]
    return sentences, next((problem.hint for problem in wrong if problem.hint is not None), None)


def problems(error: ValidationError, model: type[BaseModel]) -> Iterator[Problem]:
    """Every wrong field of what was validated against the model."""
    for problem in error.errors(include_url=False):
        path = tuple(part for part in problem["loc"] if part not in _NO_PART)
        hint = None
        if problem["type"] == "extra_forbidden":
            if problem["loc"][-1] in _NO_PART:  # somebody's field is really called so
                path += problem["loc"][-1:]
            place = "".join(f" in {part}" for part in reversed(path[:-1]) if isinstance(part, str))
            hint = f"known{place}: {', '.join(_fields(model, path[:-1])) or 'nothing'}"
        yield Problem(path, _message(problem), hint)


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


def _fields(model: type[BaseModel], path: Path) -> list[str]:
    """Names of the fields at a place in a model."""
    for part in path:
        if isinstance(part, str):  # a number is a place in a list of models
            model = next(_models(model.model_fields[part].annotation))
    return list(model.model_fields)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
