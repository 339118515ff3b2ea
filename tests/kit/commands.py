"""Running the tools a person would use (`ip`, `nft`, `tcpdump`, ...) and reading their answers."""

import json
import os
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


def require_root() -> None:
    """Stop with a clear message unless running as root: network namespaces and TAP devices need it."""
    if os.geteuid() != 0:
        raise PermissionError("this test makes network namespaces and devices: run it as root")


@dataclass(frozen=True)
class Answer:
    """What a finished command left: exit code and both outputs."""

    argv: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def ok(self) -> bool:
        return self.code == 0

    def json(self) -> Any:
        """The standard output decoded as JSON; empty output counts as an empty list, as `ip -j` means it."""
        return json.loads(self.out) if self.out.strip() else []

    def __str__(self) -> str:
        return f"`{shlex.join(self.argv)}` exited {self.code}\nstdout: {self.out}\nstderr: {self.err}"


def run(*argv: str, check: bool = True, within: float = 30.0, given: str | None = None) -> Answer:
    """Run a command to its end and return its answer; with `check`, a non-zero exit raises with both outputs."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=within, check=False, input=given)
    answer = Answer(tuple(argv), done.returncode, done.stdout, done.stderr)
    if check and not answer.ok:
        raise AssertionError(str(answer))
    return answer


def ip(netns: str, *words: str, check: bool = True) -> Answer:
    """Run `ip -n NETNS WORDS...`."""
    return run("ip", "-n", netns, *words, check=check)


def ip_json(netns: str, *words: str) -> Any:
    """Run `ip -d -j -n NETNS WORDS...` and decode what it prints."""
    return run("ip", "-d", "-j", "-n", netns, *words).json()


def in_netns(netns: str, *argv: str, check: bool = True, within: float = 30.0) -> Answer:
    """Run a command with NETNS as its network namespace (and a `/sys` that belongs to it)."""
    return run("ip", "netns", "exec", netns, *argv, check=check, within=within)


def start(netns: str, argv: Sequence[str]) -> subprocess.Popen[str]:
    """Start a long-running command inside NETNS; the caller ends it by its own handle and reads its pipes."""
    return subprocess.Popen(
        ["nsenter", f"--net=/run/netns/{netns}", "--", *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
