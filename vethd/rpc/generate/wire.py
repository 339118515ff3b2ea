"""vethd/rpc/wire.py, one typed method per method of the daemon, and vethd/rpc/shapes.py, what they take and return.

They are two, because a client needs the methods when it runs, and what they take and return when its types are checked:
to make that many TypedDicts takes a fifth of what it takes to start a program.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any, Final, get_args

from vethd.events import TOPICS
from vethd.rpc.access import Role
from vethd.rpc.call import Method
from vethd.rpc.discover import about
from vethd.rpc.records import FieldRow, fields, netns_places, paragraphs, records, spelled
from vethd.rpc.schema.base import NetnsRef
from vethd.rpc.schema.link import Origin

_WIDTH: Final = 120
_HEAD: Final = '''\
"""One typed method for each of the daemon's; what they take and return is in shapes.py.

Written by `make generate` from the rows of the methods; needs nothing but the standard library.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from typing import Unpack

    from vethd.rpc.shapes import (
{names}
    )
'''
_SHAPES_HEAD: Final = '''\
"""Parameters and results of the daemon's methods, for type checkers and for who looks up a field.

Written by `make generate` from vethd/rpc/schema/; needs nothing but the standard library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypeAlias, TypedDict

if TYPE_CHECKING:
    from vethd.rpc.namespaces import Namespace
'''
#: Methods that belong to the connection that they are called on; a client's `events` is their face.
_OF_A_CONNECTION: Final = ("events.subscribe", "events.unsubscribe")


#: Methods that do for several what they do for one, and the parameter that holds them: they become two methods each.
_SEVERAL: Final = {"link.add": "pairs"}


def wire(table: Iterable[Method]) -> str:
    """The source of wire.py."""
    methods = sorted(table, key=lambda method: method.name)
    typed = [method for method in methods if method.name not in _OF_A_CONNECTION]
    calls = ["\n" + "\n".join(_calls(typed, twin)) + "\n" for twin in (False, True)]
    spoken = set(re.findall(r"\w+", "\n".join(line for line in calls[0].splitlines() if "def " in line)))
    names = "\n".join(f"        {name}," for name in sorted(spoken & _types(methods).keys(), key=str.lower))
    return "\n".join([_HEAD.format(names=names), *_tables(methods), *calls])


def shapes(table: Iterable[Method]) -> str:
    """The source of shapes.py."""
    methods = sorted(table, key=lambda method: method.name)
    types = _types(methods)
    chunks = [_SHAPES_HEAD]
    several = {method.params: _SEVERAL[method.name] for method in methods if method.name in _SEVERAL}
    for name, record in types.items():
        rows = [row for row in fields(record) if row.name != several.get(record)]
        if not rows:
            continue
        chunks.append("\n" + "\n".join(_typed_dict(name, record.__doc__, rows)) + "\n")
        if record is NetnsRef:
            chunks.append(
                "\n#: A name, or a path when it begins with a slash; opened by the client and sent along. See netns.\n"
                'Netns: TypeAlias = "str | NetnsRef | Namespace"\n'
            )
    return "\n".join(chunks)


def _types(methods: Iterable[Method]) -> dict[str, Any]:
    """All records that the methods take and return, by name, those that others need first."""
    types: dict[str, Any] = {}
    for method in methods:
        for record in (*records(method.params), *records(method.result)):
            assert types.setdefault(record.__name__, record) is record, f"two types called {record.__name__}"
    return types


def _tables(methods: list[Method]) -> Iterator[str]:
    looking = [method.name for method in methods if method.role is not Role.CHANGE]
    yield "#: Methods that change nothing: safe to repeat.\n" + _constant("LOOKING", looking)
    with_token = [method.name for method in methods if "token" in method.params.model_fields]
    yield "#: Methods that take a token, which makes them safe to repeat.\n" + _constant("WITH_TOKEN", with_token)
    yield "#: Topics of events.\n" + _words("TOPICS", TOPICS)
    yield "#: Who may have made a pair.\n" + _words("ORIGINS", get_args(Origin))
    rows = []
    for method in methods:
        places = sorted(set(netns_places(method.params)))
        if places and not method.name.startswith("config."):  # what a configuration says is the daemon's to find
            if len(places) == 1:
                rows.append(f'    "{method.name}": (({_listed(places[0])}),),')
                continue
            rows += [f'    "{method.name}": (', *(f"        ({_listed(place)})," for place in places), "    ),"]
    yield (
        "#: Where in the parameters a namespace stands that the caller means by its own names; `*`: in each item.\n"
        "NETNS: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {\n" + "\n".join(rows) + "\n}\n"
    )


def _listed(words: tuple[str, ...]) -> str:
    return ", ".join(map(json.dumps, words)) + ("," if len(words) == 1 else "")


def _constant(name: str, values: list[str]) -> str:
    return f"{name}: Final = frozenset(\n    {{\n" + "".join(f'        "{value}",\n' for value in values) + "    }\n)\n"


def _words(name: str, values: tuple[str, ...]) -> str:
    return f"{name}: Final = ({_listed(values)})\n"


def _typed_dict(name: str, text: str, rows: list[FieldRow]) -> Iterator[str]:
    yield f"class {name}(TypedDict):"
    yield from _docstring(paragraphs(text))
    yield ""
    for row in rows:
        annotation = spelled(row.annotation)
        yield f"    {row.name}: {annotation if row.required else f'NotRequired[{annotation}]'}"
        if row.about:
            yield from _docstring([row.about])


def _calls(methods: list[Method], twin: bool) -> Iterator[str]:
    """The class of typed methods. twin: the one of coroutines."""
    a_sync, wait = ("async ", "await ") if twin else ("", "")
    yield f"class {'AsyncCalls' if twin else 'Calls'}:"
    yield f'    """The daemon\'s methods{" as coroutines" if twin else ""}. Each raises RpcError and NotRunning."""'
    yield ""
    yield f"    {a_sync}def call(self, method: str, params: Mapping[str, Any] | None = None) -> Any:"
    yield '        """Call a method by name."""'
    yield "        raise NotImplementedError"
    for method in methods:
        name, of_several = method.name.replace(".", "_"), _SEVERAL.get(method.name)
        result = _spelled_one(method.result)
        texts = _about(method, [row for row in fields(method.params) if row.name != of_several])
        takes, gives = (f", **params: Unpack[{method.params.__name__}]", ", params")
        if not method.params.model_fields:
            takes = gives = ""
        yield ""
        yield f"    {a_sync}def {name}(self{takes}) -> {result}:"
        yield from _docstring(texts, 8)
        yield f'        result: {result} = {wait}self.call("{method.name}"{gives})'
        yield "        return result"
        if of_several:
            row = next(row for row in fields(method.params) if row.name == of_several)
            yield ""
            yield f"    {a_sync}def {name}_several(self, {row.name}: {_spelled_one(row.annotation)}) -> list[{result}]:"
            yield f'        """As {name}, for several: all or none."""'
            yield f'        result: list[{result}] = {wait}self.call("{method.name}", {{"{row.name}": {row.name}}})'
            yield "        return result"


def _spelled_one(annotation: Any) -> str:
    """The type as Python source; of a union the first."""
    return spelled(annotation).partition(" | ")[0]


def _about(method: Method, rows: list[FieldRow]) -> list[str]:
    """Paragraphs that say what a method does, takes and raises."""
    texts = about(method)
    texts += [f"{row.name}: {row.about}" for row in rows]
    if method.errors:
        texts.append(f"Raises RpcError: {', '.join(error.kind for error in dict.fromkeys(method.errors))}.")
    return texts


def _docstring(paragraphs: list[str], indent: int = 4) -> Iterator[str]:
    """A docstring: one line where it fits. A paragraph like `name: text` stands close to the one before."""
    space = " " * indent
    if len(paragraphs) == 1:
        lines = textwrap.wrap(paragraphs[0], _WIDTH - indent - 3)
        if len(lines) == 1 and len(lines[0]) <= _WIDTH - indent - 6:
            yield f'{space}"""{lines[0]}"""'
            return
    else:
        lines = []
        for at, paragraph in enumerate(paragraphs):
            if at == 0 or not _is_entry(paragraph) or not _is_entry(paragraphs[at - 1]):
                lines += [""] if at else []
            hanging = "    " * (_is_entry(paragraph) or paragraph.startswith("Raises "))
            lines += textwrap.wrap(paragraph, _WIDTH - indent - (0 if at else 3), subsequent_indent=hanging)
    yield f'{space}"""{lines[0]}'
    for line in lines[1:]:
        yield f"{space}{line}" if line else ""
    yield f'{space}"""'


def _is_entry(paragraph: str) -> bool:
    return paragraph.partition(": ")[0].isidentifier()
