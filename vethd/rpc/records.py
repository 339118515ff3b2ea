"""Models and TypedDicts of the schema as plain tables: what each field is called, holds and means."""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints
from uuid import UUID

from pydantic import BaseModel, TypeAdapter
from typing_extensions import is_typeddict

from vethd.rpc.schema.base import Netns


@dataclass(frozen=True, slots=True)
class FieldRow:
    """A field. annotation: its type. required: must be there. about: its description, on one line."""

    name: str
    annotation: Any
    required: bool
    about: str


def is_record(annotation: Any) -> bool:
    """Whether it is a model or a TypedDict."""
    return is_typeddict(annotation) or (inspect.isclass(annotation) and issubclass(annotation, BaseModel))


def one_line(text: str | None) -> str:
    """The text without line breaks."""
    return " ".join((text or "").split())


def summary(text: str | None) -> str:
    """The first paragraph of a docstring, on one line."""
    return paragraphs(text)[0]


def paragraphs(text: str | None) -> list[str]:
    """The paragraphs of a docstring, each on one line."""
    return [one_line(paragraph) for paragraph in inspect.cleandoc(text or "").split("\n\n")]


def fields(record: Any) -> list[FieldRow]:
    """The fields of a model or TypedDict, inherited ones first."""
    hints = get_type_hints(record, include_extras=True)
    if is_typeddict(record):
        about = descriptions(record)
        return [
            FieldRow(name, hint, get_origin(hint) is not NotRequired, one_line(about.get(name)))
            for name, hint in hints.items()
        ]
    return [
        FieldRow(name, hints[name], field.is_required(), one_line(field.description))
        for name, field in record.model_fields.items()
    ]


@cache
def descriptions(record: Any) -> dict[str, str]:
    """The texts under the fields of a TypedDict and of those that it extends; pydantic knows a class's own alone."""
    found: dict[str, str] = {}
    for base in record.__orig_bases__:
        if is_typeddict(base):
            found |= descriptions(base)
    properties = TypeAdapter(record).json_schema()["properties"]
    return found | {name: field["description"] for name, field in properties.items() if "description" in field}


def parts(annotation: Any) -> tuple[Any, ...]:
    """The types that another one consists of: of a union its members, of a list its items; none of a simple one."""
    origin = get_origin(annotation)
    if origin is Literal:
        return ()
    arguments = get_args(annotation)
    return arguments[:1] if hasattr(annotation, "__metadata__") else arguments


def records(annotation: Any) -> Iterator[Any]:
    """The models and TypedDicts that a type is made of, those it needs first; each may come several times."""
    if is_record(annotation):
        for field in fields(annotation):
            yield from records(field.annotation)
        yield annotation
    for part in parts(annotation):
        yield from records(part)


def netns_places(annotation: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Where in a type a request names a namespace: names of fields, and `*` for each item of a list."""
    if annotation == Netns:
        yield place
    elif is_record(annotation):
        for field in fields(annotation):
            yield from netns_places(field.annotation, (*place, field.name))
    else:
        inner = (*place, "*") if get_origin(annotation) is list else place
        for part in parts(annotation):
            yield from netns_places(part, inner)


def spelled(annotation: Any) -> str:
    """The type as Python source."""
    if annotation == Netns:
        return "Netns"
    if annotation is None or annotation is type(None):
        return "None"
    if annotation is UUID:
        return "str"
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Required, NotRequired) or hasattr(annotation, "__metadata__"):
        return spelled(arguments[0])
    if origin is Literal:
        return "Literal[" + ", ".join(json.dumps(value) for value in arguments) + "]"
    if origin in (Union, types.UnionType):
        return " | ".join(dict.fromkeys(spelled(argument) for argument in arguments))
    if origin is not None:
        return f"{origin.__name__}[{', '.join(spelled(argument) for argument in arguments)}]"
    return str(annotation.__name__)
