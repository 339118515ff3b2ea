"""Parameters of a request, the namespaces that go with it, and the words that several commands share."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any, Self

from vethd.cli.grammar import LABEL, LINK, NETNS, GrammarError, UsageError, Words, garbage, once, wrong
from vethd.rpc.wire import ORIGINS


class Request:
    """Parameters of a method, and the namespace fds that go with them, open until it is closed."""

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}
        self.fds: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def netns(self, word: str) -> dict[str, int]:
        """Open a namespace and return the reference to it; see open_netns. Raises UsageError."""
        self.fds.append(open_netns(word))
        return {"fd": len(self.fds) - 1}

    def inode(self) -> int | None:
        """The inode of the namespace that `netns` of the parameters names, or None."""
        netns = self.params.get("netns")
        return None if netns is None else os.fstat(self.fds[netns["fd"]]).st_ino

    def close(self) -> None:
        """Close the namespaces again."""
        for fd in self.fds:
            os.close(fd)
        self.fds.clear()


def open_netns(word: str) -> int:
    """Open a namespace with the caller's rights; the fd is the caller's.

    word: a name from `ip netns`, a pid, or a path, as with `ip link set netns`. Raises UsageError.
    """
    path, hint = word, None
    if "/" not in word:
        path, hint = f"/run/netns/{word}", f"create it first: ip netns add {word}"
        if word.isdecimal() and not os.path.exists(path):
            path, hint = f"/proc/{word}/ns/net", "is that process still running?"
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:  # ValueError: a null byte, which a batch may hold
        raise wrong(word, "netns", getattr(error, "strerror", str(error)), hint) from None


def select_link(words: Words, request: Request) -> None:
    """One link: `[ dev ] NAME [ netns NETNS ]`, in any order. Raises UsageError."""
    while words:
        if not _link(words, request):
            raise garbage(words.peek())
    require_link(request.params)


def require_link(params: dict[str, Any]) -> None:
    """Raises UsageError unless a link was named."""
    if "ifname" not in params:
        raise UsageError('Not enough information: "dev" argument is required.', hint="name one end")


def filter_links(words: Words, request: Request, *others: str) -> str | None:
    """Which links: `[ [ dev ] NAME ] [ netns NETNS ] [ label KEY[=VALUE] ]... [ origin ORIGIN ]`, in any order.

    others: further keywords; the first that is met is taken and returned, and at the end of the line None is. Raises
    UsageError.
    """
    params = request.params
    while words:
        named = "ifname" in params
        word = (words.keyword if named else words.exact)("label", "origin", *others)
        if word == "label":
            name, equals, value = words.take(LABEL).partition("=")
            once(params.setdefault("labels", {}), name, value if equals else None, f"label {name}")
        elif word == "origin":
            once(params, "origin", words.choice("origin", *ORIGINS))
        elif word is not None:
            return word
        elif not _link(words, request):
            raise garbage(words.peek())
    if "ifname" in params and (beside := [name for name in ("labels", "origin") if name in params]):
        raise GrammarError(f'Error: "{beside[0].rstrip("s")}" selects among all links, not of a NAME.')
    return None


def _link(words: Words, request: Request) -> bool:
    """Take what `[ dev ] NAME` and `netns NETNS` are made of; false when the next word is nothing of that."""
    params = request.params
    named = "ifname" in params
    if (words.keyword if named else words.exact)("netns"):
        once(params, "netns", request.netns(words.take(NETNS)))
    elif words.exact("dev") or not named:
        once(params, "ifname", words.take(LINK), "dev")
    else:
        return False
    return True
