"""Log lines as the journal takes them. What becomes of them there is tested in tests/e2e/service."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.kit.daemon import Daemon
from vethd.daemon.journald import Journald, datagram

#: Executes its arguments with standard error said to be the journal.
JOURNAL = ["sh", "-c", 'JOURNAL_STREAM=$(stat -Lc %d:%i /proc/$$/fd/2) exec "$@"', "sh"]


def fields(raw: bytes) -> list[tuple[str, str]]:
    """Names and values in a datagram, read as systemd does."""
    found = []
    while raw:
        name, _newline, rest = raw.partition(b"\n")
        if b"=" in name:
            name, _equals, value = name.partition(b"=")
            raw = rest
        else:
            length = int.from_bytes(rest[:8], "little")
            value, raw = rest[8 : 8 + length], rest[9 + length :]
        found.append((name.decode(), value.decode()))
    return found


def line(event: str = "carrier", level: str = "info", **more: Any) -> dict[str, Any]:
    return {"event": event, "level": level, **more}


def test_fields_of_a_line() -> None:
    said = line(pair="u-1", a="veth0", a_netns=4026531840, b="veth1", b_netns=4026532000, carrier=True, why=None)
    assert fields(datagram(said)) == [
        ("MESSAGE", "carrier pair=u-1 a=veth0 a_netns=4026531840 b=veth1 b_netns=4026532000 carrier=true why=''"),
        ("PRIORITY", "6"),
        ("SYSLOG_IDENTIFIER", "vethd"),
        ("VETHD_EVENT", "carrier"),
        ("VETHD_PAIR", "u-1"),
        ("VETHD_IFNAME", "veth0"),
        ("NETNS", "4026531840"),
        ("VETHD_IFNAME", "veth1"),
        ("NETNS", "4026532000"),
        ("VETHD_CARRIER", "true"),
        ("VETHD_WHY", ""),
    ]


@pytest.mark.parametrize(("level", "priority"), [("debug", "7"), ("info", "6"), ("warning", "4"), ("error", "3")])
def test_priorities(level: str, priority: str) -> None:
    assert ("PRIORITY", priority) in fields(datagram(line(level=level)))


def test_an_exception_is_part_of_the_message() -> None:
    found = dict(fields(datagram(line("failed", "error", exception="Traceback\n  here"))))
    assert found["MESSAGE"] == "failed\nTraceback\n  here"


@pytest.mark.parametrize("name", ["two words", "a\nPRIORITY=0", "\033[31m", "a=b", "\ud800", ""])
def test_a_name_can_not_pass_for_more_than_a_name(name: str) -> None:
    found = fields(datagram(line(ifname=name)))
    assert len(found) == 5
    assert dict(found)["MESSAGE"] == f"carrier ifname={name!r}"
    assert dict(found)["VETHD_IFNAME"] == name.encode(errors="backslashreplace").decode()


def test_a_line_is_dropped_when_the_journal_has_it_and_goes_on_when_not(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    send = Journald(str(path))
    said = line()
    assert send(None, "info", said) == said
    with closing(send._socket), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(path))
        with pytest.raises(structlog.DropEvent):
            send(None, "info", said)
        assert journal.recv(4096) == datagram(said)
        journal.close()
        assert send(None, "info", said) == said


def test_where_the_journal_does_not_answer_lines_are_written_with_their_priority(
    start_daemon: Callable[..., Daemon],
) -> None:
    hidden = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /run/systemd 2>/dev/null; exec "$@"', "sh"]
    text = start_daemon(prefix=[*hidden, *JOURNAL]).log()
    assert [entry[:4] for entry in text.splitlines()] == ["<6>{"] * 2


def test_standard_error_elsewhere_is_not_the_journal(start_daemon: Callable[..., Daemon]) -> None:
    assert start_daemon(env={"JOURNAL_STREAM": "1:1"}).log().startswith("{")
