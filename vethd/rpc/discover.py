"""rpc.discover: the methods as an OpenRPC document, from the rows and models by which they are called and checked.

Source: spec.open-rpc.org, version 1.3.2. What it has no word for stands in `x-role` (what the caller must be allowed)
and `x-notifications` (what the daemon says unasked).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

from pydantic import TypeAdapter
from typing_extensions import is_typeddict

from vethd import __version__
from vethd.errors import KINDS, InvalidParams, NotPermitted, ShuttingDown, VethdError
from vethd.rpc.access import Role
from vethd.rpc.call import Call, Method
from vethd.rpc.examples import RESULTS
from vethd.rpc.records import descriptions, one_line, paragraphs, records, summary
from vethd.rpc.schema.base import NoParams
from vethd.rpc.schema.events import Event

_VERSION: Final = "1.3.2"
_SCHEMAS: Final = "#/components/schemas/"
#: What a listener hears: the method of the notification, and what it means.
EVENT: Final = ("event", "Something happened that the subscription is about.")
_ABOUT: Final = (
    "JSON-RPC 2.0 over a unix socket, one JSON text per line. "
    "docs/rpc.md says how lines, file descriptors, batches and time-outs work."
)

Schema = dict[str, Any]


class DiscoverMethods:
    """rpc.discover. others: the rows of all other methods."""

    def __init__(self, others: Iterable[Method]) -> None:
        self.table = (Method("rpc.discover", NoParams, dict[str, Any], Role.LOOK, self.rpc_discover),)
        self._all = (*others, *self.table)
        self._document: dict[str, Any] | None = None

    async def rpc_discover(self, _params: NoParams, _call: Call) -> dict[str, Any]:
        """This description of all methods, as an OpenRPC document."""
        if self._document is None:  # building it takes long enough to make other clients wait
            self._document = await asyncio.to_thread(document, self._all)
        return self._document


def document(table: Iterable[Method]) -> dict[str, Any]:
    """The OpenRPC document of these methods."""
    methods = list(table)
    schemas, components = _schemas(methods)
    return {
        "openrpc": _VERSION,
        "info": {"title": "vethd", "version": __version__, "description": _ABOUT, "license": {"name": "MIT"}},
        "methods": [
            {
                "name": method.name,
                "summary": summary(method.call.__doc__),
                "description": "\n\n".join(about(method)),
                "paramStructure": "by-name",
                "params": _params(components[method.params.__name__]),
                "result": {"name": "result", "schema": schemas[method.name, "validation"]},
                "errors": [{"$ref": f"#/components/errors/{error.kind}"} for error in errors(method)],
                "examples": [_example(method)],
                "x-role": method.role.name.lower(),
            }
            for method in methods
        ],
        "components": {
            "schemas": components,
            "errors": {
                error.kind: {"code": error.code, "message": error.summary, "data": {"kind": error.kind}}
                for error in KINDS
            },
        },
        "x-notifications": [
            {
                "name": EVENT[0],
                "summary": EVENT[1],
                "params": [
                    {
                        "name": "subscription",
                        "description": "Which subscription of this connection.",
                        "required": True,
                        "schema": {"type": "integer"},
                    },
                    *_params(components[Event.__name__]),
                ],
            }
        ],
    }


def about(method: Method) -> list[str]:
    """Paragraphs that say what a method does, beginning with its summary, which the first one may go on from."""
    first = summary(method.call.__doc__)
    if method.params is NoParams:
        return [first]
    more = paragraphs(method.params.__doc__)
    return more if more[0].startswith(first.removesuffix(".")) else [first, *more]


def errors(method: Method) -> tuple[type[VethdError], ...]:
    """The errors that a method may be answered with, those of every method included."""
    every: list[type[VethdError]] = [InvalidParams, NotPermitted]
    if method.role is Role.CHANGE:
        every.append(ShuttingDown)
    return tuple(dict.fromkeys((*every, *method.errors)))


def _example(method: Method) -> dict[str, Any]:
    example: dict[str, Any] = {
        "name": "example",
        "params": [{"name": name, "value": value} for name, value in method.example.items()],
    }
    if method.name in RESULTS:
        example["result"] = {"name": "result", "value": RESULTS[method.name]}
    return example


def _schemas(methods: list[Method]) -> tuple[Mapping[tuple[str, str], Schema], dict[str, Schema]]:
    """Schemas of results by method, and of all records by name."""
    mode: Literal["validation"] = "validation"
    adapters = [(method.name, mode, TypeAdapter(method.result)) for method in methods]
    adapters += [(f"params of {method.name}", mode, TypeAdapter(method.params)) for method in methods]
    adapters.append(("event", mode, TypeAdapter(Event)))
    schemas, rest = TypeAdapter.json_schemas(adapters, ref_template=_SCHEMAS + "{model}")
    components: dict[str, Schema] = rest["$defs"]
    for method in methods:
        for record in records(method.result):
            if is_typeddict(record):
                for name, text in descriptions(record).items():
                    components[record.__name__]["properties"][name].setdefault("description", text)
    return _tidy(schemas), _tidy(components)


def _tidy(schema: Any) -> Any:
    """The schema with its descriptions on one line each, and without the titles that pydantic makes of names."""
    if isinstance(schema, list):
        return [_tidy(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: one_line(value) if name == "description" and isinstance(value, str) else _tidy(value)
        for name, value in schema.items()
        if not (name == "title" and isinstance(value, str))
    }


def _params(schema: Schema) -> list[dict[str, Any]]:
    """The fields of a record as OpenRPC's content descriptors."""
    required = schema.get("required", [])
    return [
        {
            "name": name,
            "description": field.get("description", ""),
            "required": name in required,
            "schema": {key: value for key, value in field.items() if key != "description"},
        }
        for name, field in schema.get("properties", {}).items()
    ]
