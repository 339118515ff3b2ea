"""How long systemd takes to answer: run inside a machine as a program, it asks PID 1 until told to stop.

`systemctl is-system-running` would ask the same way, by D-Bus over systemd's own socket, but most of what it takes is
its own start. Source: the D-Bus specification, "Message Protocol".
"""

from __future__ import annotations

import itertools
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.kit.machine import Machine

#: Seconds between an answer and the next question.
PAUSE = 0.005
#: Header fields: code, type, value. Ping is a method of every object of everybody.
_PING = ((1, b"o", b"/org/freedesktop/systemd1"), (2, b"s", b"org.freedesktop.DBus.Peer"), (3, b"s", b"Ping"))


@dataclass
class Answers:
    """count: of answers. slowest: seconds that one took at most."""

    count: int = 0
    slowest: float = 0.0


@contextmanager
def answers_of_pid_1(machine: Machine) -> Iterator[Answers]:
    """PID 1 is asked during the body; what came of it is known after that."""
    answers = Answers()
    enter = ["nsenter", "--target", str(machine.init), "--all", "--wdns=/", "--"]
    asking = subprocess.Popen(
        [*enter, sys.executable, "-m", __name__],
        env={"PYTHONPATH": ":".join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert asking.stdout is not None
    assert asking.stdout.readline() == "asking\n"
    try:
        yield answers
    finally:
        said, _err = asking.communicate(timeout=30)
        count, slowest = said.split()
        answers.count, answers.slowest = int(count), float(slowest)


def _ping(serial: int) -> bytes:
    fields = b""
    for code, kind, value in _PING:
        fields += bytes(-len(fields) % 8)
        fields += struct.pack("<BB", code, len(kind)) + kind + b"\0" + struct.pack("<I", len(value)) + value + b"\0"
    message = b"l\1\0\1" + struct.pack("<III", 0, serial, len(fields)) + fields
    return message + bytes(-len(message) % 8)


def _main() -> None:
    answers = Answers()
    with socket.socket(socket.AF_UNIX) as bus:
        bus.connect("/run/systemd/private")
        bus.sendall(b"\0AUTH EXTERNAL 30\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n")
        said = b""
        while said.count(b"\r\n") < 2:
            said += bus.recv(4096)
        print("asking", flush=True)
        for serial in itertools.count(1):
            began = time.monotonic()
            bus.sendall(_ping(serial))
            bus.recv(4096)
            answers.slowest = max(answers.slowest, time.monotonic() - began)
            answers.count = serial
            if select.select([sys.stdin], [], [], PAUSE)[0]:
                break
    print(answers.count, answers.slowest)


if __name__ == "__main__":
    _main()
