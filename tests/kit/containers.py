"""Containers of any runtime: their root file system, made without a registry, and what two of them tell each other.

A container serves a body of its own over HTTP (see `serving`); `talk` lets two of them ping each other and fetch it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.kit.commands import Answer, run
from tests.kit.host import ContainerHost
from tests.kit.waiting import eventually, settled

BUSYBOX = "/bin/busybox"
DIRECTORIES = ("bin", "dev", "etc", "proc", "root", "run", "srv", "sys", "tmp", "usr/bin", "var/tmp")
BODY_SIZE = 100_000  # bytes: more than a GSO frame holds


class NoAnswer(AssertionError):
    """Nothing came back: the frames were lost, on a network that was configured as it should be."""


@dataclass(frozen=True)
class Container:
    """A running container. pid: of a process of its, as numbered in the host; word: what its body is made of."""

    host: ContainerHost
    pid: int
    word: str
    addresses: tuple[str, ...]

    def run(self, *argv: str, check: bool = True, within: float = 30.0) -> Answer:
        """Run a command of its root file system, such as `ip`, in all its namespaces."""
        return self.host.run("nsenter", f"--target={self.pid}", "--all", "--", *argv, check=check, within=within)

    def wait_carrier(self) -> None:
        """Wait until all its devices that are up have a carrier: it follows a few milliseconds after both ends are."""

        def without() -> list[str]:
            links = self.host.run("nsenter", f"--target={self.pid}", "--net", "ip", "-j", "link").json()
            return [link["ifname"] for link in links if "UP" in link["flags"] and "LOWER_UP" not in link["flags"]]

        eventually(without, lambda names: not names, f"the devices of {self.word} have a carrier")

    def ping(self, address: str) -> None:
        """Raises NoAnswer when nothing comes back."""
        patience = "0.5" if self.host.cut else "20"
        answer = self.run("timeout", patience, "ping", "-c", "2", "-i", "0.05", address, check=False)
        if not answer.ok:
            kind = AssertionError if answer.err.strip() not in ("", "Terminated") else NoAnswer
            raise kind(f"no answer to ping\n{answer}")

    def fetch(self, address: str, port: int = 80) -> str:
        """The body that is served there. Raises NoAnswer when nothing comes back."""
        url = f"http://[{address}]:{port}/" if ":" in address else f"http://{address}:{port}/"
        patience = "0.5" if self.host.cut else "20"
        answer = settled(
            lambda: self.run("timeout", patience, "wget", "-qO-", url, check=False),
            lambda now: "refused" not in now.err,  # its server is about to start
        )
        if not answer.ok:
            kind = AssertionError if answer.err.strip() not in ("", "Terminated") else NoAnswer
            raise kind(f"no answer to HTTP\n{answer}")
        return answer.out


def talk(a: Container, b: Container) -> None:
    """Let each ping the other and fetch its body, at all its addresses, and check it. Raises NoAnswer."""
    for container in (a, b):
        container.wait_carrier()
    for asking, asked in ((a, b), (b, a)):
        for address in asked.addresses:
            asking.ping(address)
            assert asking.fetch(address) == body(asked.word), f"not the body of {asked.word}"


def talk_by_vethd(a: Container, b: Container, cut: Callable[[bool], None] | None = None) -> None:
    """`talk`, and see it fail once vethd drops every frame: so there was no other way.

    cut: what lets vethd drop every frame, or none; that of the host, unless another one is meant.
    """
    host = a.host
    talk(a, b)
    cut = cut or host.drop_all
    cut(True)
    host.cut = True
    try:
        talk(a, b)
    except NoAnswer:
        return
    finally:
        host.cut = False
        cut(False)
    raise AssertionError("vethd drops every frame, and yet they talk")


def body(word: str) -> str:
    """What a container with that word serves."""
    line = f"{word}\n"
    return (line * (BODY_SIZE // len(line) + 1))[:BODY_SIZE]


def serving(word: str) -> list[str]:
    """The command of a container that serves a body made of a word, on port 80 of all its addresses."""
    script = (
        "mkdir -p /dev/shm && cd /dev/shm && "
        f"yes {word} | head -c {BODY_SIZE} >index.html && exec httpd -f -p 80 -h /dev/shm"
    )
    return ["/bin/sh", "-c", script]


def make_rootfs(path: Path, word: str = "busybox") -> Path:
    """Make a root file system of busybox alone, with the body of a word in /srv."""
    for directory in DIRECTORIES:
        (path / directory).mkdir(parents=True)
    shutil.copy(BUSYBOX, path / "bin/busybox")
    for applet in run(BUSYBOX, "--list").out.split():
        if applet != "busybox":
            os.symlink("busybox", path / "bin" / applet)
    (path / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
    (path / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    (path / "srv/index.html").write_text(body(word))
    for name in ("hosts", "hostname", "resolv.conf"):
        (path / "etc" / name).touch()
    return path
