"""vethctl daemon: info, reexec."""

from __future__ import annotations

from typing import Any

from vethd.cli.grammar import Words
from vethd.cli.output import Output, Row
from vethd.cli.session import Session
from vethd.errors import ReexecFailed
from vethd.rpc.client import RpcError


def info(words: Words, session: Session) -> None:
    """`vethctl daemon info`."""
    words.end()
    found = session.call("daemon.info")
    if session.output.json:
        session.output.value(found)
    else:
        print_info(found, session.output, session.options.details)


def print_info(found: Row, output: Output, details: bool) -> None:
    """daemon.info for people."""
    output.record(
        [
            f"vethd {found['version']} pid {found['pid']} pairs {found['pairs']} of at most {found['max_pairs']}",
            *map(_worker, found["workers"]),
            *(_details(found) if details else []),
        ]
    )


def _worker(worker: Row) -> str:
    load = f"pairs {worker['pairs']} queues {worker['queues']}"
    if worker["pid"] is None:
        return f"    worker {worker['id']} {load} is being replaced"
    return (
        f"    worker {worker['id']} pid {worker['pid']} {load}"
        f" datapath {worker['datapath']} frameio {worker['frameio']} ({worker['why']})"
    )


def _details(found: dict[str, Any]) -> list[str]:
    limits, kernel = found["limits"], found["kernel"]
    return [
        f"    run {found['server_id']} for {found['uptime']:.0f} s, last event {found['seq']}",
        f"    config {' '.join(found['config']) or 'none'}",
        f"    clients {limits['clients']} of at most {limits['max_clients']},"
        f" files {limits['open_files']} of at most {limits['max_open_files']}",
        f"    capabilities {' '.join(found['capabilities']) or 'none'}",
        f"    kernel {kernel['release']}",
        *(f"        {name}: {answer}" for name, answer in kernel["features"].items()),
    ]


def reexec(words: Words, session: Session) -> None:
    """`vethctl daemon reexec`: returns when the new program answers. Raises RpcError, NotRunning."""
    words.end()
    before = session.call("daemon.reexec")["server_id"]
    session.close()
    found = session.call("daemon.info")  # its socket is open all the while: whoever serves next answers
    if found["server_id"] == before:
        hint = "the daemon goes on as before; its log says why"
        raise RpcError(ReexecFailed.code, ReexecFailed.summary, {"kind": ReexecFailed.kind, "hint": hint})
    if session.output.json:
        session.output.value(found)
    else:
        print_info(found, session.output, session.options.details)
