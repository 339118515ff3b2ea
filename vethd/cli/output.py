"""What vethctl prints: tables that read like `ip -s link`, or JSON with `ip -j`'s names."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

_COLORS = {"ifname": "\033[36m", "address": "\033[33m", "UP": "\033[32m", "DOWN": "\033[31m"}
_RESET = "\033[0m"

Row = dict[str, Any]


class Output:
    """Where and how to print. json, pretty: as -j and -p of `ip`; colours only on a terminal, and without $NO_COLOR."""

    def __init__(self, json: bool = False, pretty: bool = False, stream: TextIO | None = None) -> None:
        self.json = json
        self._pretty = pretty
        self._stream = stream if stream is not None else sys.stdout
        self._color = not json and self._stream.isatty() and not os.environ.get("NO_COLOR")

    def value(self, value: Any) -> None:
        """Print one JSON text."""
        print(json.dumps(value, indent=4 if self._pretty else None), file=self._stream)

    def line(self, text: str) -> None:
        """Print one line."""
        print(text, file=self._stream)

    def paint(self, text: str, color: str) -> str:
        """The text in a colour, or as it is."""
        return f"{_COLORS[color]}{text}{_RESET}" if self._color and color in _COLORS else text


def link_rows(pairs: list[Row], stats: dict[str, Row], detail: int) -> Iterator[Row]:
    """One row per end, with `ip -j link`'s names where it has them; of a pair that names one `end`, just that.

    stats: the `ends` of stats.get by pair, or empty. detail: 1 for -s, 2 for -s -s.
    """
    for pair in pairs:
        for letter, other in (("a", "b"), ("b", "a")):
            if pair.get("end", letter) != letter:
                continue
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
                "pair": pair["pair"],
                "end": letter,
                "peer": {"ifname": peer["ifname"], "netns": peer["netns"], "netns_inode": peer["netns_inode"]},
                "origin": pair["origin"],
                "placement": pair["placement"],
                "numqueues": pair["numqueues"],
                "workers": pair["workers"],
                "offload": end["offload"],
                "offload_why": end["offload_why"],
                "gro": end["gro"],
            }
            counters = stats.get(pair["pair"])
            if counters is not None and detail:
                mine = counters[letter]
                row["stats64"] = {
                    "rx": {name: mine[f"rx_{name}"] for name in ("bytes", "packets", "dropped")},
                    "tx": {name: mine[f"tx_{name}"] for name in ("bytes", "packets", "dropped")},
                }
                if detail > 1:
                    row["wire"] = {name: mine[name] for name in ("read", "delivered", "merged", "dropped", "queued")}
                    row["drops"] = mine["drops"]
                    row["queues"] = mine["queues"]
            yield row


def print_links(rows: Iterator[Row], output: Output, details: bool) -> None:
    """`ip link`, with the peer, the pair and the worker beside it."""
    for row in rows:
        peer = row["peer"]
        other = f"{_plain(peer['ifname'])} netns {_netns(peer)}"
        output.line(
            f"{row['ifindex']}: {output.paint(_plain(row['ifname']), 'ifname')}: <{','.join(row['flags'])}>"
            f" mtu {row['mtu']} state {output.paint(row['operstate'], row['operstate'])} qlen {row['txqlen']}"
            f" netns {_netns(row)}"
        )
        output.line(f"    link/ether {output.paint(row['address'], 'address')} brd {row['broadcast']} peer {other}")
        if details:
            output.line(
                f"    vethd pair {row['pair']} end {row['end']} placement {row['placement']} origin {row['origin']}"
                f" numqueues {row['numqueues']} workers {' '.join(map(str, row['workers']))}"
                f" gro {'on' if row['gro'] else 'off'}"
            )
            why = f" ({row['offload_why']})" if row["offload_why"] else ""
            output.line(f"    offload {' '.join(row['offload']) or 'none'}{why}")
        if "stats64" in row:
            _print_table(output, {"RX:": row["stats64"]["rx"], "TX:": row["stats64"]["tx"]})
        if "wire" in row:
            output.line(f"    to {other}")
            _print_table(output, {"wire:": row["wire"]})
            lost = {name: frames for name, frames in row["drops"].items() if frames}
            if lost:
                _print_table(output, {"drops:": lost})
            else:
                output.line("    drops: none")
            if details and row["numqueues"] > 1:
                _print_columns(output, _QUEUE_COLUMNS, [_queue_columns(queue) for queue in row["queues"]])


def _print_table(output: Output, tables: dict[str, dict[str, int]]) -> None:
    """Per title a line of names and a line of numbers aligned under them, as `ip -s link` lays them out.

    Tables printed together have the same names, and get the same widths.
    """
    rows = list(tables.values())
    first, *others = rows[0]
    widths = [max(7, len(name), *(len(str(row[name])) for row in rows)) for name in rows[0]]
    widths[0] = max(10, widths[0], *(len(f"{title} {first}") for title in tables))
    for title, row in tables.items():
        names = [first.rjust(widths[0] - len(title)), *map(str.rjust, others, widths[1:])]
        output.line(f"    {title}{' '.join(names)}")
        output.line(f"    {' '.join(map(str.rjust, map(str, row.values()), widths))}")


_QUEUE_COLUMNS = ("queue", "worker", "read", "delivered", "merged", "dropped")


def _queue_columns(queue: Row) -> tuple[str, ...]:
    values = {**queue, "dropped": sum(queue["drops"].values())}
    return tuple(str(values[name]) for name in _QUEUE_COLUMNS)


def print_softnet(rows: list[Row], output: Output) -> None:
    """One line per worker, in the words of /proc/net/softnet_stat; a dash where a worker is being replaced."""
    names = ("worker", "pid", "processed", "dropped", "time_squeeze", "input_queue_len", "process_queue_len")
    _print_columns(
        output, names, [tuple("-" if row[name] is None else str(row[name]) for name in names) for row in rows]
    )


def _print_columns(output: Output, names: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """A line of names, and a line per row aligned under it."""
    lines = [names, *rows]
    widths = [max(7, *map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        output.line(" ".join(map(str.rjust, line, widths)))


def print_info(info: Row, output: Output) -> None:
    """daemon.info for people."""
    output.line(f"vethd {info['version']} pid {info['pid']} pairs {info['pairs']} of at most {info['max_pairs']}")
    for worker in info["workers"]:
        load = f"pairs {worker['pairs']} queues {worker['queues']}"
        if worker["pid"] is None:
            output.line(f"    worker {worker['id']} {load} is being replaced")
            continue
        output.line(
            f"    worker {worker['id']} pid {worker['pid']} {load}"
            f" datapath {worker['datapath']} frameio {worker['frameio']} ({worker['why']})"
        )


def _flags(end: Row) -> list[str]:
    """As `ip link` prints them."""
    flags = ["NO-CARRIER"] if end["up"] and not end["carrier"] else []
    flags += ["BROADCAST", "MULTICAST"]
    if end["up"]:
        flags.append("UP")
    if end["carrier"]:
        flags.append("LOWER_UP")
    return flags


def _netns(row: Row) -> str:
    return _plain(row["netns"]) if row["netns"] else f"net:[{row['netns_inode']}]"


def _plain(name: str) -> str:
    """A name without anything that a terminal would obey: who owns a namespace names its interfaces."""
    return name if name.isprintable() else name.encode("unicode_escape").decode()
