"""A private vethd for one benchmark run: its own socket in a temporary directory, stopped by its pid."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.generators import BenchmarkError, call

#: The console scripts stand beside the interpreter that runs the benchmarks (not resolved: in a venv it is a symlink).
PROGRAMS: Final = Path(sys.executable).parent
READY_SECONDS: Final = 20.0
STOP_SECONDS: Final = 20.0


class Daemon:
    """A running vethd, asked over its control socket."""

    def __init__(self, path: Path) -> None:
        """`path`: its control socket."""
        self.path = path

    def request(self, method: str) -> Any:
        """Call the JSON-RPC `method` without parameters and return its result; BenchmarkError when that fails."""
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(10)
                sock.connect(str(self.path))
                sock.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method}).encode() + b"\n")
                with sock.makefile("rb") as lines:
                    line = lines.readline()
        except OSError as error:
            raise BenchmarkError(f"vethd: {method}: {error}; did the daemon die?") from error
        if not line:
            raise BenchmarkError(f"vethd: {method}: the daemon closed the connection without an answer")
        answer = json.loads(line)
        if "error" in answer:
            raise BenchmarkError(f"vethd: {method}: {answer['error']}")
        return answer["result"]

    def vethctl(self, *words: str) -> None:
        """Run vethctl against this daemon."""
        call(str(PROGRAMS / "vethctl"), "-S", str(self.path), *words)

    def workers(self) -> list[dict[str, Any]]:
        """The workers that serve, as `daemon.info` shows them."""
        serving: list[dict[str, Any]] = self.request("daemon.info")["workers"]
        return serving

    def pids(self) -> list[int]:
        """The supervisor and the workers that serve."""
        info = self.request("daemon.info")
        return [info["pid"], *(worker["pid"] for worker in info["workers"])]

    def engine(self) -> str:
        """Version and engine in one line: what runs the datapath, what does the frame I/O, and why."""
        info = self.request("daemon.info")
        workers = info["workers"]
        kinds = sorted({f"{w['datapath']} datapath, {w['frameio']} frame I/O ({w['why']})" for w in workers})
        return f"vethd {info['version']}, {len(workers)} worker{'s' * (len(workers) != 1)}: {'; '.join(kinds)}"

    def drops(self) -> dict[str, int]:
        """Frames dropped so far, by drop point, over all ends of all pairs."""
        total: dict[str, int] = {}
        for pair in self.request("stats.get")["pairs"]:
            for end in pair["ends"].values():
                for point, frames in end["drops"].items():
                    total[point] = total.get(point, 0) + frames
        return total


@contextmanager
def private_daemon(directory: Path, env: Mapping[str, str], config: str = "") -> Iterator[Daemon]:
    """Start vethd with its files in `directory`, yield it once the socket accepts, stop it when the block ends.

    env: on top of this process's environment, whose own VETHD_ variables do not reach the daemon: a link is what its
    name says. config: TOML.
    """
    path, log, config_file = directory / "control.sock", directory / "vethd.log", directory / "vethd.toml"
    config_file.write_text(config)
    program = PROGRAMS / "vethd"
    if not program.exists():
        raise BenchmarkError(f"{program} is missing: `make setup` installs it")
    with log.open("wb") as sink:
        # A session of its own: Ctrl-C must reach the benchmark only, which then takes the pair down in order.
        process = subprocess.Popen(
            (str(program), "--config", str(config_file), "--socket", str(path)),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("VETHD_")} | dict(env),
        )
    try:
        _wait_until_it_accepts(process, path, log)
        yield Daemon(path)
    finally:
        _stop(process)


def _wait_until_it_accepts(process: subprocess.Popen[bytes], path: Path, log: Path) -> None:
    """Return once `path` accepts a connection; BenchmarkError with the daemon's last words when that does not come."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket(socket.AF_UNIX) as sock:
            if sock.connect_ex(str(path)) == 0:
                return
        time.sleep(0.02)
    last_words = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
    raise BenchmarkError(f"vethd did not become ready (status {process.poll()}):\n{last_words}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask `process` to end; if it does not, kill its session. Without systemd SIGTERM deletes its links as well."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
