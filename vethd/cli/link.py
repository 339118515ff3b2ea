"""vethctl link: add, set, delete, show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from vethd.cli.grammar import LABEL, LABEL_NAME, LINK, NETNS, WORKER, UsageError, Words, garbage, once, wrong
from vethd.cli.output import Row
from vethd.cli.records import link_record, link_rows
from vethd.cli.request import Request, filter_links, require_link, select_link
from vethd.cli.session import Session

_END: Final = (
    *("netns", "address", "lladdr", "mtu", "txqueuelen", "txqlen", "qlen", "gro", "alias", "master"),
    *("up", "down"),
)
_PAIR: Final = ("placement", "numqueues", "label", "overload")
_CHANGES: Final = ("up", "down", "name", *_END[:-2], "label", "nolabel", "nomaster", "worker", "overload")


def add(words: Words, session: Session) -> None:
    """`vethctl link add`."""
    with Request() as request:
        read_add(words, request)
        pair = session.call("link.add", request)
    if session.output.json:
        session.output.value(list(link_rows([pair], {}, 0)))


def read_add(words: Words, request: Request) -> None:
    """The parameters of link.add. Raises UsageError."""
    params = request.params
    end = params["a"] = dict[str, Any]()
    typed = False
    while words:
        first = "b" not in params
        if words.exact("name", "dev"):
            once(end, "ifname", words.take(), "name")
            continue
        unnamed = "ifname" not in end and not (first and typed)
        look: Callable[..., str | None] = words.exact if unnamed else words.keyword  # `a` is no `address` there
        section = (("peer",) if typed else ("type",)) if first else ()
        word = look(*section, "placement", *_END, *_PAIR)
        if word == "type":
            if not words.exact("veth"):
                raise UsageError(f'Error: Unknown device type "{words.take()}".', "vethd makes pairs of type veth", 2)
            typed = True
        elif word == "peer":
            end = params["b"] = {}
        elif word in _PAIR:
            _of_pair(word, words, params)
        elif word is not None:
            _of_end(word, words, request, end)
        elif unnamed:
            end["ifname"] = words.take()
        else:
            raise garbage(words.take())
    if not typed:
        raise UsageError('Not enough information: "type" argument is required', "add: type veth", status=1)


def change(words: Words, session: Session) -> None:
    """`vethctl link set`."""
    with Request() as request:
        read_set(words, request)
        pair = session.call("link.set", session.here(request))
    if session.output.json:
        session.output.value(list(link_rows([pair], {}, 0)))


def read_set(words: Words, request: Request) -> None:
    """The parameters of link.set. Raises UsageError."""
    params = request.params
    changes = params["set"] = dict[str, Any]()
    while words:
        if words.exact("dev"):
            once(params, "ifname", words.take(LINK), "dev")
            continue
        named = "ifname" in params
        word = (words.keyword if named else words.exact)(*_CHANGES)
        if word is None and not named:
            params["ifname"] = words.take(LINK)
        elif word is None:
            raise garbage(words.take())
        elif word == "name":
            once(changes, "ifname", words.take(), "name")
        elif word == "nolabel":
            name = words.take(LABEL_NAME)
            once(changes.setdefault("labels", {}), name, None, f"label {name}")
        elif word == "nomaster":
            once(changes, "bridge", None, word)
        elif word == "worker":
            once(changes, "worker", words.number("worker", WORKER))
        elif word in _PAIR:
            _of_pair(word, words, changes)
        else:
            _of_end(word, words, request, changes)
    require_link(params)
    if not changes:
        raise UsageError("Not enough information: nothing to change.", hint="vethctl link set help lists what can be")


def _of_pair(word: str, words: Words, values: dict[str, Any]) -> None:
    if word == "placement":
        once(values, word, words.choice(word, "move", "inside"))
    elif word == "numqueues":
        once(values, word, words.number(word))
    elif word == "overload":
        once(values, word, words.choice(word, "drop", "backpressure"))
    else:
        label = words.take(LABEL)
        name, equals, value = label.partition("=")
        if not equals:
            raise wrong(label, "label", hint="write KEY=VALUE")
        once(values.setdefault("labels", {}), name, value, f"label {name}")


def _of_end(word: str, words: Words, request: Request, end: dict[str, Any]) -> None:
    if word == "netns":
        once(end, "netns", request.netns(words.take(NETNS)))
    elif word in ("address", "lladdr"):
        once(end, "address", words.take())
    elif word in ("txqueuelen", "txqlen", "qlen"):
        once(end, "txqueuelen", words.number("txqueuelen"))
    elif word == "mtu":
        once(end, word, words.number(word))
    elif word == "gro":
        once(end, word, words.choice(word, "on", "off") == "on")
    elif word == "alias":
        once(end, word, words.take())
    elif word == "master":
        once(end, "bridge", words.take(), word)
    else:
        once(end, "up", word == "up")


def delete(words: Words, session: Session) -> None:
    """`vethctl link delete`."""
    with Request() as request:
        select_link(words, request)
        session.call("link.del", session.here(request))


def show(words: Words, session: Session) -> None:
    """`vethctl link show`."""
    options, output = session.options, session.output
    with Request() as request:
        filter_links(words, request)
        pairs, stats = _read(session, session.here(request), bool(options.statistics))
        inode = request.inode()  # pairs lead elsewhere, only the ends that are there are meant
    rows = list(link_rows(pairs, stats, options.statistics))
    if inode is not None:
        rows = [row for row in rows if row["netns_inode"] == inode]
    if output.json:
        output.value(rows)
    else:
        for row in rows:
            output.record(link_record(row, output, options.details))


def _read(session: Session, request: Request, counters: bool) -> tuple[list[Row], dict[str, Row]]:
    """The pairs, and their counters by uuid if those are wanted."""
    if "ifname" not in request.params:
        pairs = session.call("link.list", request, stats=True) if counters else session.call("link.list", request)
        return pairs, {pair["pair"]: pair["stats"] for pair in pairs} if counters else {}
    pair = session.call("link.get", request)
    counted = session.call("stats.get", pair=pair["pair"])["pairs"] if counters else []
    return [pair], {row["uuid"]: row["ends"] for row in counted}
