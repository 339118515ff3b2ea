"""The generated parts of docs/rpc.md: the OpenRPC document, the tables of errors and events, and the limits, to read.

Such a part stands between `<!-- generated: NAME -->` and `<!-- end -->`; what is around them is written by hand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from vethd.config import LimitConfig
from vethd.errors import KINDS, InvalidRequest
from vethd.events import EVENTS, EventRow
from vethd.pairs import journal
from vethd.rpc import connection, cursors, envelope, events, tokens
from vethd.worker.channel import MAX_FDS

_PART: Final = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_WIDTH: Final = 110
_REFERENCE: Final = "#/components/schemas/"

Schema = dict[str, Any]


def filled(page: str, document: Schema) -> str:
    """The page with its generated parts made anew. document: the OpenRPC one."""
    parts = {
        "contents": _contents(document),
        "errors": _errors(),
        "events": _events(),
        "limits": _limits(),
        "methods": _methods(document),
        "records": _records(document),
    }
    return _PART.sub(lambda part: part[1] + "\n".join(parts[part[2]]) + "\n" + part[3], page)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    for cells in (head, ("---",) * len(head), *rows):
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _limits() -> Iterator[str]:
    limits = LimitConfig()
    mib = 1 << 20
    yield from _table(
        ("limit", "value", "beyond it"),
        [
            ("length of a request's line", f"{connection.MAX_REQUEST // mib} MiB", "`invalid_request`, disconnected"),
            ("length of an answer", "none", ""),
            ("levels of arrays and objects in a request", f"{envelope.MAX_DEPTH}", "`parse_error`"),
            ("requests in a batch", f"{envelope.MAX_BATCH}", "`invalid_request`"),
            ("file descriptors with a request", f"{MAX_FDS}", "`invalid_params`"),
            ("clients at a time", f"{limits.clients} (`clients` in `[limits]`)", "`limit_reached`, disconnected"),
            (
                "requests of a client that wait for their turn",
                f"{connection.MAX_WAITING}",
                "no more is read from it until they are fewer",
            ),
            (
                "answers that a client does not read",
                f"{connection.MAX_UNSENT // mib} MiB",
                "nothing more is done for it until it reads",
            ),
            (
                "time in which it reads none of them",
                f"{limits.write_timeout:g} s (`write_timeout`)",
                "disconnected",
            ),
            (
                "time in which it asks nothing, unless it listens to events",
                f"{limits.idle_timeout:g} s (`idle_timeout`; 0: no limit)",
                "`timed_out`, disconnected",
            ),
            ("subscriptions of a connection", f"{events.MAX_SUBSCRIPTIONS}", "`limit_reached`"),
            (
                "events that a listener does not read",
                f"{events.MAX_BEHIND // mib} MiB",
                "`listener_too_slow`, disconnected",
            ),
            ("events that `since` can go back", f"{journal.HISTORY}", "the answer holds a snapshot"),
            ("cursors of `stats.get`", f"the last {cursors.KEPT}", "`cursor_expired`"),
            ("results of requests with a token", f"the last {tokens.KEPT}", "the request is done again"),
        ],
    )


def _errors() -> Iterator[str]:
    kinds = sorted(KINDS, key=lambda error: (error.code > InvalidRequest.code, -error.code))  # JSON-RPC's own first
    yield from _table(
        ("kind", "code", "meaning"), ((f"`{error.kind}`", str(error.code), error.summary) for error in kinds)
    )


def _events() -> Iterator[str]:
    rows = ((f"`{row.topic}`", f"`{row.event}`", row.about, row.meaning, _fields_of(row)) for row in EVENTS.values())
    yield from _table(("topic", "event", "about", "when", "fields"), rows)


def _fields_of(row: EventRow) -> str:
    """What the fields of an event are, those of one meaning together."""
    by_meaning: dict[str, list[str]] = {}
    for name, meaning in row.fields.items():
        by_meaning.setdefault(meaning, []).append(f"`{name}`")
    text = "; ".join(f"{', '.join(names)}: {meaning}" for meaning, names in by_meaning.items()) or "none"
    return f"of these, those that changed: {text}" if row.some else text


def _contents(document: Schema) -> Iterator[str]:
    rows = ((_link(method["name"]), method["x-role"], method["summary"]) for method in _sorted(document))
    yield from _table(("method", "who", "what"), rows)


def _sorted(document: Schema) -> list[Schema]:
    """The methods, by name."""
    return sorted(document["methods"], key=lambda method: str(method["name"]))


def _link(name: str) -> str:
    """A link to the section of that name, as GitHub calls its anchor."""
    return f"[{name}](#{name.lower().replace('.', '')})"


def _methods(document: Schema) -> Iterator[str]:
    own = _own_results(document)
    for method in _sorted(document):
        yield f"### {method['name']}"
        yield ""
        yield method["description"]
        yield ""
        if method["params"]:
            yield from _table(
                ("parameter", "type", "meaning"),
                (
                    (
                        f"`{param['name']}`{' (required)' if param['required'] else ''}",
                        _type(param["schema"]),
                        param["description"],
                    )
                    for param in method["params"]
                ),
            )
        else:
            yield "No parameters."
        yield ""
        schema = method["result"]["schema"]
        record = schema.get("$ref", "").removeprefix(_REFERENCE)
        if record in own:
            yield "Result:"
            yield ""
            yield from _fields(document["components"]["schemas"][record])
        else:
            yield f"Result: {_type(schema)}."
        yield ""
        errors = ", ".join(f"`{error['$ref'].rpartition('/')[2]}`" for error in method["errors"])
        yield f"Who: {method['x-role']}. Errors: {errors}."
        yield ""
        yield from _example(method)


def _example(method: Schema) -> Iterator[str]:
    example = method["examples"][0]
    params = {param["name"]: param["value"] for param in example["params"]}
    request = {"jsonrpc": "2.0", "id": 1, "method": method["name"], **({"params": params} if params else {})}
    yield "```"
    yield f"> {json.dumps(request)}"
    if "result" in example:
        yield f"< {_shown({'jsonrpc': '2.0', 'id': 1, 'result': example['result']['value']}, 2)}"
    yield "```"
    yield ""


def _shown(value: Any, indent: int) -> str:
    """JSON for people: what is short stands on one line, also several members together."""
    text = json.dumps(value)
    if indent + len(text) <= _WIDTH or not isinstance(value, dict | list):
        return text
    opening, closing = ("{", "}") if isinstance(value, dict) else ("[", "]")
    inner = indent + 2
    if isinstance(value, dict):
        items = [f"{json.dumps(name)}: {_shown(member, inner)}" for name, member in value.items()]
    else:
        items = [_shown(item, inner) for item in value]
    lines = [""]
    for at, item in enumerate(items):
        piece = item + ("," if at < len(items) - 1 else "")
        if "\n" in piece or "\n" in lines[-1] or inner + len(lines[-1]) + len(piece) >= _WIDTH:
            lines.append(piece)
        else:
            lines[-1] = f"{lines[-1]} {piece}".strip()
    body = "\n".join(" " * inner + line for line in lines if line)
    return f"{opening}\n{body}\n{' ' * indent}{closing}"


def _records(document: Schema) -> Iterator[str]:
    """The records that parameters and results are made of, but those that stand with their method."""
    used = set(_references([method[part] for method in document["methods"] for part in ("params", "result")]))
    schemas = document["components"]["schemas"]
    while more := set(_references([schemas[name] for name in used])) - used:
        used |= more
    for name in sorted(used - _own_results(document)):
        yield f"### {name}"
        yield ""
        yield schemas[name]["description"]
        yield ""
        yield from _fields(schemas[name])
        yield ""


def _own_results(document: Schema) -> set[str]:
    """Records that are the result of one method and nothing else."""
    methods, schemas = document["methods"], document["components"]["schemas"]
    everywhere = list(_references([methods, schemas]))
    results = {method["result"]["schema"].get("$ref", "").removeprefix(_REFERENCE) for method in methods}
    return {name for name in results if everywhere.count(name) == 1}


def _references(value: Any) -> Iterator[str]:
    """Names of the records that a schema mentions; each may come several times."""
    if isinstance(value, list):
        for item in value:
            yield from _references(item)
    elif isinstance(value, dict):
        if str(value.get("$ref")).startswith(_REFERENCE):
            yield value["$ref"].removeprefix(_REFERENCE)
        for item in value.values():
            yield from _references(item)


def _fields(schema: Schema) -> Iterator[str]:
    """The fields of a record: of parameters it is worth saying which must be there, of results which may not."""
    required, is_result = schema.get("required", []), schema.get("additionalProperties") is not False
    mark = " (not always)" if is_result else " (required)"
    yield from _table(
        ("field", "type", "meaning"),
        (
            (
                f"`{name}`{mark if (name in required) is not is_result else ''}",
                _type(field),
                field.get("description", ""),
            )
            for name, field in schema["properties"].items()
        ),
    )


def _type(schema: Schema) -> str:
    """A JSON schema in words."""
    text, default = _words(schema), schema.get("default")
    return text if default is None or isinstance(default, dict | list) else f"{text}; default `{json.dumps(default)}`"


def _words(schema: Schema) -> str:
    if "$ref" in schema:
        return _link(schema["$ref"].removeprefix(_REFERENCE))
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return " or ".join(map(_words, schema[union]))
    if "enum" in schema:
        return " or ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {_in_one(schema['items'])}{_range(schema, 'minItems', 'maxItems', ' items')}"
    if kind == "object":
        members = [*schema.get("patternProperties", {}).values(), schema.get("additionalProperties")]
        return f"object of {_in_one(members[0])} by name" if isinstance(members[0], dict) else "object"
    if kind == "string":
        return f"{schema.get('format', kind)}{_range(schema, 'minLength', 'maxLength', ' characters')}"
    return f"{kind}{_range(schema, 'minimum', 'maximum', '')}"


def _in_one(schema: Schema) -> str:
    """In words, kept together."""
    text = _words(schema)
    return f"({text})" if " or " in text else text


def _range(schema: Schema, least: str, most: str, unit: str) -> str:
    low, high = schema.get(least), schema.get(most)
    if high is not None:
        return f" ({low} to {high}{unit})" if low is not None else f" (at most {high}{unit})"
    return "" if low in (None, 0) else f" (at least {low}{unit})"
