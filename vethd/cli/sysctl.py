"""vethctl sysctl: the backlog's limits, in the manner of sysctl(8)."""

from __future__ import annotations

from vethd.cli.grammar import SYSCTL, GrammarError, UsageError, Words, once, wrong
from vethd.cli.session import Session


def sysctl(words: Words, session: Session) -> None:
    """`vethctl sysctl`."""
    names: list[str] = []
    values: dict[str, int] = {}
    verb = words.exact("get", "set")
    while words:
        word = words.take(SYSCTL)
        name, equals, value = word.partition("=")
        if not equals:
            names.append(name)
            continue
        try:
            once(values, name, int(value, 0))
        except ValueError:
            raise wrong(value, name) from None
    if names and (values or verb == "set"):
        raise UsageError(f'Error: "{names[0]}" has no value.', hint="write NAME=VALUE, for each of them")
    if verb == "set" and not values:
        raise GrammarError("Command line is not complete.")
    if values and verb == "get":
        raise UsageError("Error: get takes no values.", hint="leave out `get` to change them")
    if values:
        found = session.call("sysctl.set", values=values)["values"]
    else:
        found = session.call("sysctl.get", names=names or None)["values"]
    if session.output.json:
        session.output.value(found)
    else:
        for name, number in found.items():
            session.output.line(f"{name} = {number}")
