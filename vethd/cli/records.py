"""An end as vethctl shows it: a record in the manner of `ip -s -d link`, or a row with `ip -j link`'s names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vethd.cli.output import Output, Row, columns, netns_name, plain, table


def link_rows(pairs: list[Row], stats: dict[str, Row], detail: int) -> Iterator[Row]:
    """One row per end, with `ip -j link`'s names where it has them; of a pair that names one `end`, just that.

    stats: the `ends` of stats.get by pair, or empty. detail: 1 for -s, 2 for -s -s.
    """
    for pair in pairs:
        for letter, other in (("a", "b"), ("b", "a")):
            if pair.get("end", letter) == letter:
                yield _row(pair, letter, other, stats.get(pair["pair"]), detail)


def _row(pair: Row, letter: str, other: str, counters: Row | None, detail: int) -> Row:
    end, peer = pair[letter], pair[other]
    row: Row = {
        "ifindex": end["ifindex"],
        "ifname": end["ifname"],
        "netns": end["netns"],
        "netns_inode": end["netns_inode"],
        "flags": _flags(end),
        "mtu": end["mtu"],
        "operstate": end["operstate"],
        "txqlen": end["txqueuelen"],
        "link_type": "ether",
        "address": end["address"],
        "broadcast": "ff:ff:ff:ff:ff:ff",
        "ifalias": end["alias"],
        "pair": pair["pair"],
        "end": letter,
        "peer": {"ifname": peer["ifname"], "netns": peer["netns"], "netns_inode": peer["netns_inode"]},
        "name": pair["name"],
        "origin": pair["origin"],
        "generation": pair["generation"],
        "labels": pair["labels"],
        "placement": pair["placement"],
        "numqueues": pair["numqueues"],
        "overload": pair["overload"],
        "workers": pair["workers"],
        "offload": end["offload"],
        "offload_why": end["offload_why"],
        "gro": end["gro"],
    }
    if end.get("master") is not None:
        row["master"] = end["master"]
    if counters is not None and detail:
        mine = counters[letter]
        row["stats64"] = {
            way: {name: mine.get(f"{way}_{name}", 0) for name in names} for way, names in _STATS64.items()
        }
        if detail > 1:
            row["wire"] = {name: mine[name] for name in ("read", "delivered", "merged", "dropped", "queued")}
            row["drops"] = mine["drops"]
            row["queues"] = mine["queues"]
    return row


def link_record(row: Row, output: Output, details: bool) -> list[str]:
    """The lines of `ip link`, with the peer, the pair and the worker beside it."""
    peer = row["peer"]
    other = f"{plain(peer['ifname'])} netns {netns_name(peer)}"
    master = f" master {plain(row['master'])}" if "master" in row else ""
    lines = [
        f"{row['ifindex']}: {output.paint(plain(row['ifname']), 'ifname')}: <{','.join(row['flags'])}>"
        f" mtu {row['mtu']}{master} state {output.paint(row['operstate'], row['operstate'])} qlen {row['txqlen']}"
        f" netns {netns_name(row)}",
        f"    link/ether {output.paint(row['address'], 'address')}"
        f" brd {output.paint(row['broadcast'], 'address')} peer {other}",
    ]
    if row["labels"]:
        lines.append("    label " + " ".join(plain(f"{name}={value}") for name, value in row["labels"].items()))
    given = row["ifalias"].startswith(f"vethd {row['pair']} ")  # by the daemon
    if row["ifalias"] and (details or not given):
        lines.append(f"    alias {plain(row['ifalias'])}")
    if details:
        lines += _details(row)
    if "stats64" in row:
        rx, tx = (row["stats64"][way].values() for way in ("rx", "tx"))
        lines += table({"RX:": dict(zip(_RX_COLUMNS, rx, strict=True)), "TX:": dict(zip(_TX_COLUMNS, tx, strict=True))})
    if "wire" in row:
        lines.append(f"    to {other}")
        lines += table({"wire:": row["wire"]})
        lost = {name: frames for name, frames in row["drops"].items() if frames}
        lines += table({"drops:": lost}) if lost else ["    drops: none"]
        if details and row["numqueues"] > 1:
            lines += columns(_QUEUE_COLUMNS, [_queue_columns(queue) for queue in row["queues"]])
    return lines


def _details(row: Row) -> list[str]:
    name = f" name {plain(row['name'])}" if row["name"] is not None else ""
    why = f" ({row['offload_why']})" if row["offload_why"] else ""
    return [
        f"    vethd pair {row['pair']} end {row['end']} generation {row['generation']} origin {row['origin']}{name}",
        f"    placement {row['placement']} numqueues {row['numqueues']} workers {' '.join(map(str, row['workers']))}"
        f" overload {row['overload']} gro {'on' if row['gro'] else 'off'}",
        f"    offload {' '.join(row['offload']) or 'none'}{why}",
    ]


#: As `ip -j -s link` has them; what is neither bytes, packets nor dropped is always 0, as with kernel veth.
_STATS64 = {
    "rx": ("bytes", "packets", "errors", "dropped", "over_errors", "multicast"),
    "tx": ("bytes", "packets", "errors", "dropped", "carrier_errors", "collisions"),
}
_RX_COLUMNS = ("bytes", "packets", "errors", "dropped", "missed", "mcast")
_TX_COLUMNS = ("bytes", "packets", "errors", "dropped", "carrier", "collsns")
_QUEUE_COLUMNS = ("queue", "worker", "read", "delivered", "merged", "dropped")


def _queue_columns(queue: Row) -> tuple[str, ...]:
    values = {**queue, "dropped": sum(queue["drops"].values())}
    return tuple(str(values[name]) for name in _QUEUE_COLUMNS)


def _flags(end: dict[str, Any]) -> list[str]:
    """As `ip link` prints them."""
    flags = ["NO-CARRIER"] if end["up"] and not end["carrier"] else []
    flags += ["BROADCAST", "MULTICAST"]
    if end["up"]:
        flags.append("UP")
    if end["carrier"]:
        flags.append("LOWER_UP")
    return flags
