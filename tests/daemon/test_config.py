"""The configuration file: what is wrong in it is named by file and key, before anything starts."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.daemon import program
from tests.kit.daemon import Daemon
from vethd.config import Config
from vethd.configfiles import ConfigError, load

LEVELS = "'debug', 'info', 'warning' or 'error'"


SOCKET = "must be an absolute path of at most 107 bytes"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the configuration file of a test is."""
    return tmp_path / "vethd.toml"


def test_every_value_arrives(file: Path) -> None:
    file.write_text(
        """
        socket = "/run/x.sock"
        [log]
        level = "debug"
        format = "json"
        [worker]
        count = 3
        overload = "backpressure"
        cpus = [0]
        frameio = "syscalls"
        restart_window = 2
        watchdog = 3
        [sysctl]
        netdev_max_backlog = 10
        netdev_budget = 20
        netdev_budget_usecs = 30
        dev_weight = 40
        busy_poll = 50
        [limits]
        max_pairs = 5
        clients = 6
        idle_timeout = 7
        write_timeout = 8.5
        """
    )
    assert load(file).config.model_dump() == {
        "socket": "/run/x.sock",
        "log": {"level": "debug", "format": "json"},
        "worker": {
            "count": 3,
            "overload": "backpressure",
            "cpus": [0],
            "frameio": "syscalls",
            "restart_window": 2.0,
            "watchdog": 3.0,
        },
        "sysctl": {
            "netdev_max_backlog": 10,
            "netdev_budget": 20,
            "netdev_budget_usecs": 30,
            "dev_weight": 40,
            "busy_poll": 50,
        },
        "limits": {"max_pairs": 5, "clients": 6, "idle_timeout": 7.0, "write_timeout": 8.5},
        "bridge": [],
        "pair": [],
    }


@pytest.mark.parametrize("count", ["auto", 1, 64])
def test_workers_are_counted_or_left_to_the_machine(file: Path, count: str | int) -> None:
    file.write_text(f"[worker]\ncount = {count!r}\n")
    assert load(file).config.worker.processes() == (
        max(1, len(os.sched_getaffinity(0)) // 2) if count == "auto" else count
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        # unknown keys
        ("sokcet = 'x'", "1: sokcet: unknown (known: socket, log, worker, sysctl, limits, bridge, pair)"),
        ("[log]\ncolour = true", "2: log.colour: unknown (known in log: level, format)"),
        ("[sysctl]\n'net.core.dev_weight' = 1", "2: sysctl.net.core.dev_weight: unknown (known in sysctl: "),
        ("[worker.one]\npid = 1", "1: worker.one: unknown (known in worker: count, overload, cpus, frameio, "),
        # wrong types
        ("socket = 5", "1: socket: must be a valid string, not 5"),
        ("[[log]]", "1: log: must hold named fields"),
        ("log = 'debug'", '1: log: must hold named fields, not "debug"'),
        ("[worker]\nrestart_window = '10'", '2: worker.restart_window: must be a valid number, not "10"'),
        ("[sysctl]\ndev_weight = 64.0", "2: sysctl.dev_weight: must be a valid integer, not 64.0"),
        ("[sysctl]\ndev_weight = true", "2: sysctl.dev_weight: must be a valid integer, not true"),
        ("[limits]\nclients = [1]", "2: limits.clients: must be a valid integer"),
        # out of range
        ("socket = ''", f'1: socket: {SOCKET}, not ""'),
        ("socket = 'run/sock'", f'1: socket: {SOCKET}, not "run/sock"'),
        ('socket = "/run/\\u0000"', f"1: socket: {SOCKET}"),
        (f"socket = '/{'x' * 107}'", f"1: socket: {SOCKET}"),
        (f"socket = '/{'ü' * 54}'", f"1: socket: {SOCKET}"),
        ("[log]\nlevel = 'trace'", f'2: log.level: must be {LEVELS}, not "trace"'),
        ("[log]\nlevel = 'INFO'", f'2: log.level: must be {LEVELS}, not "INFO"'),
        ("[worker]\ncount = 0", "2: worker.count: must be greater than or equal to 1, not 0"),
        ("[worker]\ncount = 65", "2: worker.count: must be less than or equal to 64, not 65"),
        ("[worker]\ncount = 'many'", "2: worker.count: must be a number from 1 to 64, or 'auto', not \"many\""),
        ("[worker]\ncount = true", "2: worker.count: must be a number from 1 to 64, or 'auto', not true"),
        ("[worker]\noverload = 'panic'", "2: worker.overload: must be 'drop' or 'backpressure', not \"panic\""),
        ("[worker]\nrestart_window = -1", "2: worker.restart_window: must be greater than or equal to 0, not -1"),
        ("[worker]\nwatchdog = 0.5", "2: worker.watchdog: must be greater than or equal to 1, not 0.5"),
        ("[worker]\ncpus = [0, 4095]", "2: worker.cpus: 4095 not among the CPUs this process may use: 0"),
        ("[worker]\ncpus = [-1]", "2: worker.cpus.0: must be greater than or equal to 0, not -1"),
        ("[sysctl]\nbusy_poll = -1", "2: sysctl.busy_poll: must be greater than or equal to 0, not -1"),
        ("[sysctl]\nnetdev_budget = 0", "2: sysctl.netdev_budget: must be greater than or equal to 1, not 0"),
        (
            "[limits]\nmax_pairs = 99999999999",
            "2: limits.max_pairs: must be less than or equal to 65536, not 99999999999",
        ),
        # several at once
        (
            "a = 1\n[log]\nlevel = 1",
            "1: a: unknown (known: socket, log, worker, sysctl, limits, bridge, pair)\n"
            f"{{file}}:3: log.level: must be {LEVELS}, not 1",
        ),
        # no TOML
        ("[log\n", "1: Expected ']' at the end of a table declaration (column 5)"),
        ("x = 1\nx = 2\n", "2: Cannot overwrite a value (column 6)"),
        ("socket = /run/x\n", "1: Invalid value (column 10)"),
    ],
)
def test_what_is_wrong_is_named(file: Path, text: str, complaint: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load(file)
    assert str(raised.value).startswith(f"{file}:{complaint}".replace("{file}", str(file)))
    assert str(raised.value).count("\n") == complaint.count("\n")


@pytest.mark.parametrize(
    ("content", "line", "byte"),
    [
        (b"socket = '\xff'\n", 1, "0xff"),
        (b"\xef\xbb\xbf[log]\n# \xe4\n", 2, "0xe4"),
        ("[log]".encode("utf-16"), 1, "0xff"),
    ],
)
def test_a_file_that_is_not_utf_8(file: Path, content: bytes, line: int, byte: str) -> None:
    file.write_bytes(content)
    with pytest.raises(ConfigError) as raised:
        load(file)
    assert str(raised.value) == f"{file}:{line}: byte {byte} is not UTF-8 (save the file as UTF-8)"


def test_a_byte_order_mark_is_passed_over(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf[log]\r\nlevel = 'error'\r\n")
    assert load(file).config.log.level == "error"
    file.write_bytes(b"\xef\xbb\xbf[log]\r\nlevel = 1\r\n")
    with pytest.raises(ConfigError, match=rf"^{file}:2: log\.level: must be "):
        load(file)


@pytest.mark.parametrize("text", ["", "\n", "\n# nothing\n\n", "[log]\n[worker]\n[sysctl]\n[limits]\n", "pair = []"])
def test_a_file_that_says_nothing(file: Path, text: str) -> None:
    file.write_text(text)
    assert load(file).config == Config()


# -- as the daemon says it --------------------------------------------------------------------------------------------


def refused(line: str, *arguments: str | Path, prefix: Sequence[str] = ()) -> None:
    """`vethd` must exit with 2 and print exactly this line."""
    answer = program.vethd(*arguments, prefix=prefix)
    assert (answer.code, answer.out, answer.err) == (2, "", line + "\n")


def test_a_wrong_key_stops_the_daemon_with_2_before_it_starts(file: Path) -> None:
    file.write_text("[limits]\nmax_pair = 5\n")
    line = (
        f"vethd: {file}:2: limits.max_pair: unknown (known in limits: max_pairs, clients, idle_timeout, write_timeout)"
    )
    refused(line, "--config", file, "--socket", file.parent / "sock")
    assert not (file.parent / "sock").exists()


def test_an_unknown_frame_io_in_the_environment() -> None:
    answer = program.vethd(VETHD_FRAMEIO="dpdk")
    line = "vethd: VETHD_FRAMEIO is 'dpdk', not one of auto, syscalls, uring\n"
    assert (answer.code, answer.out, answer.err) == (2, "", line)


@pytest.mark.parametrize("where", ["file", "environment"])
def test_every_worker_uses_the_frame_io_that_was_asked_for(start_daemon: Callable[..., Daemon], where: str) -> None:
    section = '[worker]\ncount = 2\nframeio = "{}"\n'
    if where == "file":
        daemon = start_daemon(config=section.format("syscalls"), env={"VETHD_FRAMEIO": ""})
    else:
        daemon = start_daemon(config=section.format("uring"), env={"VETHD_FRAMEIO": "syscalls"})
    workers = daemon.call("daemon.info")["workers"]
    assert [worker["frameio"] for worker in workers] == ["syscalls", "syscalls"]
    assert all(worker["why"].endswith("; syscalls as configured") for worker in workers)


def test_each_worker_is_bound_to_its_cpu(start_daemon: Callable[..., Daemon]) -> None:
    last = max(os.sched_getaffinity(0))
    daemon = start_daemon(config=f"[worker]\ncount = 3\ncpus = [0, {last}]\n")
    pids = [worker["pid"] for worker in daemon.call("daemon.info")["workers"]]
    assert [os.sched_getaffinity(pid) for pid in pids] == [{0}, {last}, {0}]


def test_a_file_that_is_not_there(file: Path) -> None:
    refused(f"vethd: {file}: No such file or directory", "--config", file)


def test_a_directory_in_the_place_of_the_file(tmp_path: Path) -> None:
    refused(f"vethd: {tmp_path}: Is a directory", "--config", tmp_path)


def test_a_file_that_may_not_be_read(file: Path) -> None:
    file.write_text("")
    file.chmod(0)
    os.chown(file, 65534, 65534)
    prefix = program.without_capability("dac_override", "dac_read_search")
    refused(f"vethd: {file}: Permission denied", "--config", file, prefix=prefix)


def test_the_option_beats_the_variable_and_that_the_file(file: Path) -> None:
    places = {name: file.parent / "none" / name for name in ("option", "variable", "file")}
    file.write_text(f"socket = '{places['file']}'\n")
    variable, option = str(places["variable"]), ("--socket", places["option"])
    for answer, winner in (
        (program.vethd("--config", file), "file"),
        (program.vethd("--config", file, VETHD_SOCKET=variable), "variable"),
        (program.vethd("--config", file, *option, VETHD_SOCKET=variable), "option"),
    ):
        assert f"control socket {places[winner]}: No such file or directory" in answer.err
