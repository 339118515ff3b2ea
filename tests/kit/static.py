"""Static pairs: wishes as config.apply takes them, and what is to be seen of them."""

from __future__ import annotations

from typing import Any

import tomli_w

from tests.kit.commands import run
from tests.kit.daemon import Daemon
from tests.kit.links import LinkMonitor, LinkState
from tests.kit.netns import fresh_name

Wish = dict[str, Any]


def wish(
    a_netns: str | None, b_netns: str | None, *, a: Wish | None = None, b: Wish | None = None, **pair: Any
) -> Wish:
    """A static pair with names of its own between two namespaces (None: the default); a, b: further fields of ends."""
    ends = {
        letter: {"ifname": fresh_name(letter), **({} if netns is None else {"netns": netns}), **(more or {})}
        for letter, netns, more in (("a", a_netns, a), ("b", b_netns, b))
    }
    return {"name": fresh_name("p"), **pair, **ends}


def as_toml(*wishes: Wish) -> str:
    """The wishes as a configuration file has them."""
    return "".join("[[pair]]\n" + tomli_w.dumps(each).replace("\n[", "\n[pair.") for each in wishes)


def apply(daemon: Daemon, *wishes: Wish, **options: Any) -> dict[str, dict[str, Any]]:
    """config.apply; the rows of its plan by name."""
    answer = daemon.call("config.apply", {"pairs": list(wishes), **options})
    rows = {row["name"]: row for row in answer["plan"]}
    assert len(rows) == len(answer["plan"])
    assert answer["applied"] is not options.get("dry_run", False)
    assert answer["failed"] == sum(row["error"] is not None for row in rows.values())
    return rows


def actions(rows: dict[str, dict[str, Any]]) -> dict[str, str]:
    """What was done about each; fails if anything failed."""
    assert not [row["error"] for row in rows.values() if row["error"] is not None]
    return {name: row["action"] for name, row in rows.items()}


def static_pairs(daemon: Daemon) -> dict[str, dict[str, Any]]:
    """The static pairs by name."""
    return {pair["name"]: pair for pair in daemon.pairs() if pair["origin"] == "config"}


def heard_until_now(monitor: LinkMonitor, netns: str) -> set[str]:
    """The names of devices of which the monitor has heard something that was not asked for here."""
    marker, heard = fresh_name("m"), []

    def is_marker(_event: str, link: LinkState) -> bool:
        heard.append(link.name)
        return link.attributes.get("IFLA_IFALIAS") == marker

    run("ip", "-n", netns, "link", "set", "lo", "alias", marker)
    monitor.wait(is_marker, "the marker")
    return set(heard[:-1])
