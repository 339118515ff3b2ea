"""Starting: what is printed when it fails - one line that says why and what to do - and that nothing is left then."""

import os
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

import vethd
from tests.daemon import program
from tests.kit.daemon import Daemon
from tests.kit.waiting import eventually
from tests.rpc.talk import Talk, request, result

ROOT_HINT = "(run it as root, or with CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_NET_BROADCAST)"


def refused(line: str, *arguments: str | Path, prefix: Sequence[str] = ()) -> None:
    """`vethd` must exit with 1 and print exactly this line."""
    answer = program.vethd(*arguments, prefix=prefix)
    assert (answer.code, answer.out, answer.err) == (1, "", line + "\n")


def test_version() -> None:
    answer = program.vethd("--version")
    assert (answer.code, answer.out, answer.err) == (0, f"vethd {vethd.__version__}\n", "")


def test_help_names_every_option() -> None:
    answer = program.vethd("--help")
    assert (answer.code, answer.err) == (0, "")
    assert all(option in answer.out for option in ("--config FILE", "--socket PATH", "--version"))


@pytest.mark.parametrize("arguments", [("--bogus",), ("start",), ("--config",)])
def test_an_unknown_option_is_a_matter_of_usage(arguments: tuple[str, ...]) -> None:
    answer = program.vethd(*arguments)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("usage: vethd ")
    assert arguments[0] in answer.err


def test_there_is_no_user_for_workers(tmp_path: Path) -> None:
    why = "there is neither a user vethd-worker nor nobody for workers to be"
    remedy = "useradd --system --no-create-home vethd-worker"
    refused(f"vethd: {why} ({remedy})", "--socket", tmp_path / "sock", prefix=program.without_worker_user(tmp_path))


# -- the control socket -----------------------------------------------------------------------------------------------


def test_the_directory_of_the_socket_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "none" / "sock"
    refused(f"vethd: control socket {path}: No such file or directory (create its directory)", "--socket", path)


def test_the_directory_of_the_socket_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "sock"
    refused(f"vethd: control socket {path}: Not a directory", "--socket", path)


def test_the_directory_of_the_socket_is_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    path = tmp_path / "sock"
    prefix = program.without_capability("dac_override", "dac_read_search")
    refused(f"vethd: control socket {path}: Permission denied", "--socket", path, prefix=prefix)


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o722])
def test_the_directory_of_the_socket_is_open_to_others(tmp_path: Path, mode: int) -> None:
    directory = tmp_path / "open"
    directory.mkdir()
    directory.chmod(mode)
    path = directory / "sock"
    why = f"others may write to its directory (mode {mode:04o}) and could replace it"
    refused(f"vethd: control socket {path}: {why} (chmod go-w {directory}, or choose another path)", "--socket", path)
    assert not path.exists()


def test_the_directory_of_the_socket_is_somebody_elses(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 0)
    tmp_path.chmod(0o1700)
    path = tmp_path / "sock"
    why = "its directory belongs to uid 65534, who could replace it"
    refused(f"vethd: control socket {path}: {why} (chown root {tmp_path}, or choose another path)", "--socket", path)


def test_the_path_of_the_socket_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 120)
    refused(f"vethd: control socket {path}: AF_UNIX path too long", "--socket", path)


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_is_no_socket_is_not_replaced(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "it"
    path.mkdir() if kind == "directory" else path.write_text("precious")
    hint = "(what is there is no socket: remove it, or choose another path)"
    refused(f"vethd: control socket {path}: Address already in use {hint}", "--socket", path)
    assert path.is_dir() or path.read_text() == "precious"


def test_a_second_daemon_on_the_same_socket_names_the_first_and_leaves_it_alone(shared_daemon: Daemon) -> None:
    path = shared_daemon.socket
    answer = program.vethd("--socket", path)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err == f"vethd: pid {shared_daemon.pid} listens on {path} already\n"
    talk = Talk(path)
    talk.say(request(1, "link.list"))
    talk.hear(result(1, []))
    talk.close()


def test_a_daemon_that_does_not_answer_is_one_too(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as waiting:
        listener.bind(str(path))
        listener.listen(0)
        waiting.connect(str(path))
        refused(f"vethd: somebody listens on {path} already, and does not answer", "--socket", path)
        assert path.is_socket()


def test_a_stale_socket_is_replaced(daemon: Daemon) -> None:
    daemon.kill()
    assert daemon.socket.is_socket()
    daemon.start()
    assert daemon.pairs() == []


def test_the_socket_may_come_from_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "none" / "from-variable"
    answer = program.vethd(VETHD_SOCKET=str(path))
    assert answer.err == f"vethd: control socket {path}: No such file or directory (create its directory)\n"


# -- rights, and what it is made of -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("capability", "line"),
    [
        ("sys_admin", f"vethd: unshare: Operation not permitted {ROOT_HINT}"),
        ("net_broadcast", f"vethd: Operation not permitted {ROOT_HINT}"),
        ("net_admin", f"vethd: Operation not permitted {ROOT_HINT}"),
    ],
)
def test_a_capability_is_missing(tmp_path: Path, capability: str, line: str) -> None:
    path = tmp_path / "sock"
    refused(line, "--socket", path, prefix=program.without_capability(capability))
    assert not path.exists()


def test_workers_that_can_not_give_up_their_rights_do_not_run(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    answer = program.vethd("--socket", path, prefix=program.without_capability("setuid", "setgid"))
    assert answer.code == 1
    lines = answer.err.splitlines()
    assert lines[0] == "vethd worker: can't give up its privileges: [Errno 1] Operation not permitted"
    assert lines[-1].startswith("vethd: worker 0 does not start: ")
    assert "Traceback" not in answer.err
    assert not path.exists()


def test_started_by_hand_it_makes_the_default_directory_of_the_socket() -> None:
    with program.running(prefix=program.with_mount("mount -t tmpfs tmpfs /run")) as process:
        socket_seen_from_here = Path(f"/proc/{process.pid}/root/run/vethd/control.sock")
        eventually(socket_seen_from_here.is_socket, bool, "it listens")
        talk = Talk(socket_seen_from_here)
        talk.say(request(1, "daemon.info"))
        assert talk.hear(result(1))["result"]["pid"] == process.pid
        talk.close()
        assert socket_seen_from_here.parent.stat().st_mode & 0o7777 == 0o755
        process.terminate()
        assert process.wait(20) == 0
