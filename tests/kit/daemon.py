"""A private vethd for tests: started on a socket of its own, asked, and stopped without a trace."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from tests.kit.books import imbalance
from tests.kit.commands import Answer, require_root, run
from tests.kit.links import all_links, link_exists
from tests.kit.manager import Manager
from tests.kit.netns import RUN_NETNS
from tests.kit.processes import Process, descendants, identify, sleeping, survivors, tap_fds
from tests.kit.rpc import RpcClient, RpcError
from tests.kit.waiting import eventually, settled
from vethd.rpc.client import Client

PROGRAMS = Path(sys.executable).parent
MANAGER_VARIABLES = ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "VETHD_SOCKET")

DIE_WITH_THE_TESTS = ("setpriv", "--pdeathsig", "TERM", "--")  # also when these are killed and cannot clear up
TROUBLE = ("Traceback (most recent call last)", "was never retrieved", '"level": "error"', '"level": "critical"')


class Daemon:
    """One vethd process with its workers.

    `start` returns once the control socket answers; `stop` ends it with SIGTERM and raises if a process, a device or a
    namespace of its own is left. The log is in `workdir`. `prefix` is a command that ends by executing its arguments,
    such as `setpriv` or `unshare`. With a `manager` its links outlive its process: `end` it and `start_next`.
    """

    def __init__(
        self,
        workdir: Path,
        *arguments: str,
        config: str | None = None,
        env: dict[str, str] | None = None,
        prefix: Sequence[str] = (),
        manager: Manager | None = None,
    ):
        self.workdir = workdir
        self.socket = workdir / "control.sock" if manager is None else manager.control
        self.log_path = workdir / "vethd.log"
        self.prefix = list(prefix)
        self.manager = manager
        self.arguments = list(arguments)
        if config is not None:
            path = workdir / "vethd.toml"
            path.write_text(config)
            self.arguments += ["--config", str(path)]
        self.env = {name: value for name, value in os.environ.items() if name not in MANAGER_VARIABLES} | (env or {})
        if manager is not None:
            self.env |= manager.env
        self._process: subprocess.Popen[bytes] | None = None
        self._client: RpcClient | None = None
        self._family: set[Process] = set()
        self._log_checked = 0
        self.expected_errors: list[str] = []
        self._names_before: set[str] = set()
        self._links_before: set[str] = set()

    # -- life ---------------------------------------------------------------------------------------------------

    def start(self, within: float = 20.0) -> None:
        """Start the daemon in the foreground and wait until its socket answers."""
        require_root()
        if self._process is not None:
            assert self.exit_code is not None, "the daemon runs already"
            self._forget()
        self._names_before = _foreign_namespaces()
        self._links_before = _taps()
        self._launch()

        def answers() -> bool:
            if self.exit_code is not None:
                raise AssertionError(f"vethd ended with {self.exit_code} before it was ready\n{self.log()}")
            try:
                with RpcClient(self.socket) as client:
                    client.call("daemon.info")
            except (FileNotFoundError, ConnectionError, EOFError):
                return False
            return True

        eventually(answers, bool, "the control socket answers", within)
        self.family()

    def _launch(self) -> None:
        command = [str(PROGRAMS / "vethd"), "--socket", str(self.socket), *self.arguments]
        handing_over = nullcontext(((), ())) if self.manager is None else self.manager.handing_over()
        with self.log_path.open("ab") as log, handing_over as (shim, fds):
            self._process = subprocess.Popen(
                [*DIE_WITH_THE_TESTS, *self.prefix, *shim, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.env,
                pass_fds=fds,
            )

    def end(self, number: signal.Signals) -> None:
        """End the supervisor with a signal, then whatever it left: as systemd does with KillMode=mixed."""
        assert self._process is not None
        assert self.exit_code is None, f"vethd had ended by itself with {self.exit_code}\n{self.log()}"
        family = self.family()
        self._process.send_signal(number)
        self._process.wait(30)
        for process in family:
            with suppress(ProcessLookupError):
                process.send(signal.SIGKILL)
        assert not survivors(family)
        self.hang_up()

    def start_next(self) -> None:
        """Start another process after `end`; it may not serve yet, but clients can connect."""
        assert self.manager is not None
        assert self.exit_code is not None
        self._launch()

    def stop(self, within: float = 30.0) -> None:
        """End the daemon with SIGTERM and insist that it exits with 0 and leaves nothing behind."""
        if self._process is None:
            return
        if self.exit_code is not None:
            code = self._forget()
            orphans = survivors(self._family)
            raise AssertionError(f"vethd had ended by itself with {code}, still running: {orphans}\n{self.log()}")
        try:
            links = [(pair[end]["netns"], pair[end]["ifname"]) for pair in self.pairs() for end in ("a", "b")]
            family = self.family()
            # with a manager, SIGTERM would leave the links
            os.kill(self.pid, signal.SIGTERM if self.manager is None else signal.SIGINT)
            self._process.wait(within)
        except (subprocess.TimeoutExpired, OSError, EOFError, RpcError) as error:
            self.kill()
            raise AssertionError(f"vethd was killed, it did not stop by itself: {error!r}\n{self.log()}") from error
        code = self._forget()
        faults = [] if code == 0 else [f"exit code {code} after SIGTERM"]
        faults += [f"process {pid} still runs" for pid in survivors(family)]
        faults += [f"device {name} still in {netns or 'its namespace'}" for netns, name in links if _there(netns, name)]
        faults += [f"namespace {name} was left" for name in sorted(_foreign_namespaces() - self._names_before)]
        faults += [f"device {name} appeared in the test's own namespace" for name in self._new_links()]
        assert not faults, f"vethd left something behind: {faults}\n{self.log()}"

    def kill(self) -> None:
        """End the daemon and everything it started with SIGKILL, without any farewell."""
        assert self._process is not None
        family = self.family()
        self._process.kill()
        self._forget()
        for process in family:
            if process.alive:
                os.kill(process.pid, signal.SIGKILL)
        assert not survivors(family)

    def reexec(self) -> None:
        """Let it replace its program, and return when the next one answers."""
        with RpcClient(self.socket) as client:
            before = client.call("daemon.reexec")["server_id"]
        self.hang_up()
        assert self.call("daemon.info")["server_id"] != before, f"the program was not replaced\n{self.log()}"

    def hang_up(self) -> None:
        """Close the kept connection; the next call opens another."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _forget(self) -> int:
        assert self._process is not None
        code = self._process.wait()
        self._process = None
        if self.manager is not None:
            self.manager.release()
        self.hang_up()
        return code

    def _new_links(self) -> list[str]:
        return sorted(settled(lambda: _taps() - self._links_before, lambda names: not names))

    @property
    def started(self) -> bool:
        """Whether it was started and neither stopped nor killed by the test; it may have died by itself."""
        return self._process is not None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """The exit code once it has ended, None while it runs."""
        return None if self._process is None else self._process.poll()

    @property
    def pid(self) -> int:
        """The pid of the supervisor."""
        assert self._process is not None, "the daemon was not started"
        return self._process.pid

    def family(self) -> list[Process]:
        """The supervisor and everything below it: workers and the spare."""
        if not self.running:
            return []
        family = [identify(self.pid), *descendants(self.pid)]
        self._family |= set(family)
        return family

    def log(self) -> str:
        """What the daemon wrote to stderr so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    # -- asking -------------------------------------------------------------------------------------------------

    def connect(self) -> RpcClient:
        """Open a control connection of the caller's own."""
        return RpcClient(self.socket)

    def call(self, method: str, params: Any = None, fds: tuple[int, ...] = ()) -> Any:
        """Call a JSON-RPC method on a kept connection; RpcError when the daemon refuses."""
        if self._client is None:
            self._client = RpcClient(self.socket)
        return self._client.call(method, params, fds)

    def ask(self, method: str, params: dict[str, Any]) -> Any:
        """Call a method by the client that users have, on a connection of its own."""
        with Client(str(self.socket)) as client:
            return client.call(method, params)

    def ctl(self, *words: str, check: bool = True, netns: str | None = None) -> Answer:
        """Run `vethctl -S SOCKET WORDS...`, inside NETNS if one is given."""
        enter = ["ip", "netns", "exec", netns] if netns else []
        return run(*enter, str(PROGRAMS / "vethctl"), "-S", str(self.socket), *words, check=check)

    def pairs(self) -> list[dict[str, Any]]:
        """Return `link.list`: every pair with its ends `a` and `b`."""
        listed: list[dict[str, Any]] = self.call("link.list")
        return listed

    def worker_rows(self) -> list[dict[str, Any]]:
        """Return `softnet.get`: one row per worker."""
        rows: list[dict[str, Any]] = self.call("softnet.get")["workers"]
        return rows

    def workers(self) -> list[int]:
        """Return the pids of the workers that carry frames; the idle spare is not among them."""
        return [row["pid"] for row in self.worker_rows() if row["pid"] is not None]

    def workers_sleep(self) -> bool:
        """Whether every worker waits for events: the kernel wakes it before a frame's `send` returns.

        Without this a frame that is still in the ring of the sending TAP would be overlooked: it is in no counter yet.
        """
        return all(sleeping(pid) for pid in self.workers())

    def stats(self, uuid: str) -> dict[str, Any]:
        """Return the ends of one pair as `stats.get` tells them."""
        for pair in self.call("stats.get", {"pair": uuid})["pairs"]:
            ends: dict[str, Any] = pair["ends"]
            return ends
        raise KeyError(uuid)

    # -- checks -------------------------------------------------------------------------------------------------

    def check_books(self, within: float = 5.0) -> None:
        """Insist that every frame of every pair is accounted for, as soon as the workers are quiet."""
        faults = settled(lambda: imbalance(self.call("stats.get")), lambda found: not found, within)
        assert not faults, "\n".join(["the books do not balance:", *faults])

    def check_log(self) -> None:
        """Insist that the daemon logged no traceback and no error since the last check.

        A test that provokes errors lists a part of each such line in `expected_errors`.
        """
        text = self.log()
        lines, self._log_checked = text[self._log_checked :].splitlines(), len(text)
        bad = [line for line in lines if any(sign in line for sign in TROUBLE)]
        bad = [line for line in bad if not any(expected in line for expected in self.expected_errors)]
        assert not bad, "\n".join(["the daemon logged trouble:", *bad])

    def check_fds(self, within: float = 5.0) -> None:
        """Insist that the supervisor holds exactly one TAP descriptor per queue of an end, none of deleted links."""
        queues = 2 * sum(pair["numqueues"] for pair in self.pairs())
        held = settled(lambda: tap_fds(self.pid), lambda count: count == queues, within)
        assert held == queues, f"the supervisor holds {held} TAP descriptors for {queues} queues"

    def clear(self) -> None:
        """Delete every pair the daemon has."""
        for pair in self.pairs():
            with suppress(RpcError):  # it may be going already, with a namespace
                self.call("link.del", {"pair": pair["pair"]})


def _there(netns: str | None, name: str) -> bool:
    if netns is None or not (RUN_NETNS / netns).exists():
        return False
    return settled(lambda: link_exists(netns, name), lambda there: not there)


def _taps() -> set[str]:
    """TUN and TAP devices in the test's own namespace."""
    return {name for name, state in all_links(None).items() if state.kind == "tun"}


def _foreign_namespaces() -> set[str]:
    """Named namespaces that no test's factory made."""
    return {path.name for path in RUN_NETNS.glob("*") if not path.name.startswith("vt")}
