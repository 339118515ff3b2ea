"""The table of errors, and every kind that a client can meet, provoked: with the text, the remedy and the errno."""

import asyncio
import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.daemon.program import with_mount
from tests.kit.commands import ip
from tests.kit.daemon import Daemon
from tests.kit.links import LinkMonitor, all_links
from tests.kit.netns import Namespaces, fresh_name
from tests.kit.rpc import RpcError
from vethd.errors import KINDS, VethdError
from vethd.rpc.access import Peer, Role
from vethd.rpc.methods import Methods
from vethd.rpc.stats import StatsMethods

TESTS = Path(__file__).parent

#: Kinds that other tests provoke, because the whole of a conversation or of a daemon's life is about them.
ELSEWHERE = {
    "parse_error": "rpc/test_specification.py",
    "invalid_request": "rpc/test_specification.py",
    "method_not_found": "rpc/test_specification.py",
    "not_permitted": "rpc/test_access.py",
    "shutting_down": "daemon/test_stop.py",
    "worker_failed": "daemon/test_start.py",
    "reexec_failed": "daemon/reexec/test_failures.py",
    "listener_too_slow": "rpc/test_events_slow.py",
    "timed_out": "rpc/test_timeouts.py",
    "token_reused": "rpc/test_tokens.py",
    "cursor_expired": "rpc/test_cursors.py",
    "stale_generation": "rpc/test_link_set.py",
    "no_such_bridge": "pairs/test_attach.py",
    "bridge_in_use": "pairs/test_bridges.py",
}
HERE = {
    *("invalid_params", "invalid_name", "invalid_address", "mtu_out_of_range", "link_exists", "no_such_link"),
    *("ambiguous_name", "no_such_netns", "limit_reached", "kernel_refused", "tun_missing", "internal"),
}

NAME_HINT = "no space, '/' or ':', not empty, '.', '..', 'all' or 'default'; one %d asks for a free number"


# -- the table --------------------------------------------------------------------------------------------------------


def test_every_kind_and_every_code_is_there_once() -> None:
    assert len({error.kind for error in KINDS}) == len(KINDS)
    assert len({error.code for error in KINDS}) == len(KINDS)
    assert set(KINDS) == {VethdError, *VethdError.__subclasses__()}


@pytest.mark.parametrize("error", KINDS, ids=lambda error: error.kind)
def test_a_kind_is_a_word_with_a_summary_and_a_code_of_json_rpc_or_of_its_own_range(error: type[VethdError]) -> None:
    assert re.fullmatch(r"[a-z_]+", error.kind)
    assert error.summary
    assert error.__doc__
    assert error.code in {-32700, -32600, -32601, -32602, -32603} or -32099 <= error.code <= -32001


def test_codes_never_change() -> None:
    assert {error.kind: error.code for error in KINDS} == {
        "parse_error": -32700,
        "invalid_request": -32600,
        "method_not_found": -32601,
        "invalid_params": -32602,
        "internal": -32603,
        "invalid_name": -32001,
        "invalid_address": -32002,
        "mtu_out_of_range": -32003,
        "link_exists": -32004,
        "no_such_link": -32005,
        "ambiguous_name": -32006,
        "no_such_netns": -32007,
        "not_permitted": -32008,
        "limit_reached": -32009,
        "kernel_refused": -32010,
        "tun_missing": -32011,
        "worker_failed": -32012,
        "shutting_down": -32013,
        "listener_too_slow": -32017,
        "timed_out": -32018,
        "token_reused": -32015,
        "cursor_expired": -32016,
        "stale_generation": -32014,
        "reexec_failed": -32019,
        "no_such_bridge": -32020,
        "bridge_in_use": -32021,
    }


def test_data_has_errno_and_hint_where_there_are_any() -> None:
    assert VethdError("x").data() == {"kind": "internal"}
    assert VethdError("x", hint="do").data() == {"kind": "internal", "hint": "do"}
    assert VethdError("x", errno=17).data() == {"kind": "internal", "errno": "EEXIST"}
    assert VethdError("x", errno=4000).data() == {"kind": "internal", "errno": "4000"}


def test_every_kind_is_provoked_by_a_test() -> None:
    assert {error.kind for error in KINDS} == HERE | ELSEWHERE.keys()
    for kind, file in ELSEWHERE.items():
        word = "does not start" if kind == "worker_failed" else kind
        assert word in (TESTS / file).read_text(), f"{file} does not provoke {kind}"


# -- provoked ---------------------------------------------------------------------------------------------------------


def refused(daemon: Daemon, method: str, params: dict[str, Any]) -> tuple[str, str, str | None, str | None]:
    """What a refused request is told: kind, message, hint, errno."""
    with pytest.raises(RpcError) as raised:
        daemon.call(method, params)
    error = raised.value
    assert error.code == next(kind.code for kind in KINDS if kind.kind == error.kind)
    assert error.data.keys() <= {"kind", "hint", "errno"}
    return error.kind, error.message, error.data.get("hint"), error.data.get("errno")


@pytest.mark.parametrize("end", ["a", "b"])
@pytest.mark.parametrize(
    ("fields", "kind", "message", "hint", "errno"),
    [
        ({"ifname": ""}, "invalid_name", "name '' is not valid", NAME_HINT, "EINVAL"),
        ({"ifname": "."}, "invalid_name", "name '.' is not valid", NAME_HINT, "EINVAL"),
        ({"ifname": "a/b"}, "invalid_name", "name 'a/b' is not valid", NAME_HINT, "EINVAL"),
        ({"ifname": "a b"}, "invalid_name", "name 'a b' is not valid", NAME_HINT, "EINVAL"),
        ({"ifname": "a\n"}, "invalid_name", "name 'a\\n' is not valid", NAME_HINT, "EINVAL"),
        ({"ifname": "%d%d"}, "invalid_name", "name '%d%d' is not valid", NAME_HINT, "EINVAL"),
        ({"ifname": "%s"}, "invalid_name", "name '%s' is not valid", NAME_HINT, "EINVAL"),
        ({"ifname": "default"}, "invalid_name", "name 'default' is not valid", NAME_HINT, "EINVAL"),
        (
            {"ifname": "sixteen_bytes_xx"},
            "invalid_name",
            "name 'sixteen_bytes_xx' has 16 bytes",
            "at most 15 bytes",
            "ERANGE",
        ),
        (
            {"ifname": "\u00e9" * 8},
            "invalid_name",
            "name '\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9' has 16 bytes",
            "at most 15 bytes",
            "ERANGE",
        ),
        ({"ifname": "\ud800"}, "invalid_name", "name '\\ud800' is no text", "use UTF-8", "EINVAL"),
        (
            {"address": "02:00:00:00:00"},
            "invalid_address",
            "address '02:00:00:00:00' is not six bytes in hex",
            "write it as 02:00:00:00:00:01",
            "EINVAL",
        ),
        (
            {"address": "01:00:5e:00:00:01"},
            "invalid_address",
            "address 01:00:5e:00:00:01 is not a unicast address",
            "the lowest bit of the first byte must be 0, and not all bytes 0",
            "EADDRNOTAVAIL",
        ),
        (
            {"address": "00:00:00:00:00:00"},
            "invalid_address",
            "address 00:00:00:00:00:00 is not a unicast address",
            "the lowest bit of the first byte must be 0, and not all bytes 0",
            "EADDRNOTAVAIL",
        ),
        (
            {"mtu": 67},
            "mtu_out_of_range",
            "mtu 67 is not in 68..65521: as with kernel veth",
            "use a value in 68..65521",
            "EINVAL",
        ),
        (
            {"mtu": 65522},
            "mtu_out_of_range",
            "mtu 65522 is not in 68..65521: a TAP takes at most 65521, where kernel veth takes 65535",
            "use a value in 68..65521",
            "EINVAL",
        ),
        (
            {"txqueuelen": 500001},
            "invalid_params",
            "txqueuelen 500001 is not in 0..500000",
            "the TAP allocates a ring of that many frames; the default is 1000",
            None,
        ),
        (
            {"txqueuelen": -1},
            "invalid_params",
            "txqueuelen -1 is not in 0..500000",
            "the TAP allocates a ring of that many frames; the default is 1000",
            None,
        ),
    ],
)
def test_what_an_end_can_not_be(
    shared_daemon: Daemon,
    netns: Namespaces,
    end: str,
    fields: dict[str, Any],
    kind: str,
    message: str,
    hint: str,
    errno: str | None,
) -> None:
    red = netns.make()
    ends = {letter: {"netns": red} | (fields if letter == end else {}) for letter in "ab"}
    assert refused(shared_daemon, "link.add", ends) == (kind, f"end {end}: {message}", hint, errno)
    assert all_links(red).keys() == {"lo"}


@pytest.mark.parametrize("placement", ["move", "inside"])
@pytest.mark.parametrize("end", ["a", "b"])
def test_link_exists(shared_daemon: Daemon, netns: Namespaces, placement: str, end: str) -> None:
    red = netns.make()
    ends = {letter: {"netns": red} | ({"ifname": "lo"} if letter == end else {}) for letter in "ab"}
    message = f"end {end}: name 'lo' exists in the namespace already"
    hint = "choose another name, or one with %d for a free number"
    assert refused(shared_daemon, "link.add", ends | {"placement": placement}) == (
        "link_exists",
        message,
        hint,
        "EEXIST",
    )
    assert all_links(red).keys() == {"lo"}


def test_link_exists_when_both_ends_shall_have_one_name(shared_daemon: Daemon, netns: Namespaces) -> None:
    end = {"netns": netns.make(), "ifname": "vtrsame"}
    kind, message, _hint, errno = refused(shared_daemon, "link.add", {"a": end, "b": end})
    assert (kind, message, errno) == ("link_exists", "end b: name 'vtrsame' exists in the namespace already", "EEXIST")


@pytest.mark.parametrize("method", ["link.get", "link.del"])
def test_no_such_link(shared_daemon: Daemon, netns: Namespaces, method: str) -> None:
    red, uuid = netns.make(), "00000000-0000-4000-8000-000000000000"
    by_name = ("no_such_link", 'Cannot find device "lo"', "`vethctl link show` lists the links", None)
    assert refused(shared_daemon, method, {"ifname": "lo"}) == by_name  # there is one, but it is none of vethd's
    assert refused(shared_daemon, method, {"ifname": "lo", "netns": red}) == by_name
    by_uuid = ("no_such_link", f"no pair {uuid}", "`vethctl link show` lists the pairs", None)
    assert refused(shared_daemon, method, {"pair": uuid}) == by_uuid


def test_ambiguous_name(shared_daemon: Daemon, netns: Namespaces) -> None:
    red, blue = netns.make(), netns.make()
    ends = {letter: {"ifname": "vtrtwin", "netns": place} for letter, place in (("a", red), ("b", blue))}
    shared_daemon.call("link.add", {**ends, "placement": "inside"})
    message = f'"vtrtwin" exists in several namespaces: {", ".join(sorted((red, blue)))}'
    expected = ("ambiguous_name", message, "say which one: netns NAME", None)
    assert refused(shared_daemon, "link.get", {"ifname": "vtrtwin"}) == expected


@pytest.mark.parametrize("end", ["a", "b"])
def test_no_such_netns(shared_daemon: Daemon, netns: Namespaces, end: str) -> None:
    red = netns.make()
    ends = {letter: {"netns": "vtr-none" if letter == end else red} for letter in "ab"}
    kind, message, hint, errno = refused(shared_daemon, "link.add", ends)
    assert (kind, errno) == ("no_such_netns", "ENOENT")
    assert message.endswith("netns 'vtr-none': No such file or directory")
    assert hint == "create it first: ip netns add vtr-none"


def test_limit_reached_by_pairs(start_daemon: Callable[..., Daemon], netns: Namespaces) -> None:
    daemon, red = start_daemon(config="[limits]\nmax_pairs = 2\n"), netns.make()
    request = {"a": {"netns": red}, "b": {"netns": red}, "placement": "inside"}
    made = [daemon.call("link.add", request) for _ in range(2)]
    message, hint = "2 pairs exist already", "delete some, or raise max_pairs in the configuration"
    assert refused(daemon, "link.add", request) == ("limit_reached", message, hint, None)
    daemon.call("link.del", {"pair": made[0]["pair"]})
    daemon.call("link.add", request)


def test_limit_reached_by_descriptors(start_daemon: Callable[..., Daemon], netns: Namespaces) -> None:
    daemon, red = start_daemon(prefix=["prlimit", "--nofile=64", "--"]), netns.make()
    request = {"a": {"netns": red}, "b": {"netns": red}, "placement": "inside"}
    error = _first_refusal(daemon, request)
    assert (error.kind, error.data["errno"]) == ("limit_reached", "EMFILE")
    assert error.message.endswith("too few file descriptors are free, of 64 (RLIMIT_NOFILE)")
    assert error.data["hint"].startswith("raise LimitNOFILE (ulimit -n) of the daemon")
    assert 2 * len(daemon.pairs()) + 1 == len(all_links(red))


def _first_refusal(daemon: Daemon, request: dict[str, Any]) -> RpcError:
    """Add pairs until that is refused."""
    for _ in range(64):
        try:
            daemon.call("link.add", request)
        except RpcError as error:
            return error
    raise AssertionError("nothing was refused")


def test_kernel_refused(shared_daemon: Daemon, netns: Namespaces) -> None:
    for _ in range(20):  # until the deletion comes between the two ends
        red, name = netns.make(), fresh_name()
        ends = {letter: {"netns": red, "ifname": f"{name}{letter}"} for letter in "ab"}
        with LinkMonitor(red) as monitor, shared_daemon.connect() as client:
            client.send_text(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "link.add", "params": ends}) + "\n")
            monitor.wait(lambda kind, state, b=f"{name}b": kind == "new" and state.name == b, "end b is there")  # type: ignore[misc]
            os.kill(shared_daemon.pid, signal.SIGSTOP)
            try:
                ip(red, "link", "del", f"{name}b", check=False)
            finally:
                os.kill(shared_daemon.pid, signal.SIGCONT)
            answer = client.read_line()
        if "error" in answer:
            break
    data = answer["error"]["data"]
    assert (data["kind"], data["errno"]) == ("kernel_refused", "ENODEV")
    assert data["hint"].endswith("nothing of the pair was kept")
    assert all_links(red).keys() == {"lo"}
    assert shared_daemon.pairs() == []


@pytest.mark.parametrize(
    ("prepare", "errno", "hint"),
    [
        ("mount -t tmpfs none /dev/net", "ENOENT", "load the tun module (modprobe tun), or create the node: mknod "),
        (
            "mount -t tmpfs -o dev none /dev/net && mknod /dev/net/tun c 10 254",
            "ENODEV",
            "the node is there but the tun driver is not: modprobe tun",
        ),
    ],
    ids=["no node", "no driver"],
)
def test_tun_missing(
    start_daemon: Callable[..., Daemon], netns: Namespaces, prepare: str, errno: str, hint: str
) -> None:
    daemon, red = start_daemon(prefix=with_mount(prepare)), netns.make()
    kind, message, told, number = refused(daemon, "link.add", {"a": {"netns": red}, "b": {"netns": red}})
    assert (kind, number) == ("tun_missing", errno)
    assert "/dev/net/tun: No such" in message
    assert told is not None
    assert told.startswith(hint)
    assert all_links(red).keys() == {"lo"}


class BrokenConnection:
    """What a request comes from, as far as a method without rights to check looks at it."""

    peer = Peer(1, 0, 0, Role.CHANGE)


async def test_internal_is_told_and_logged_and_descriptors_are_closed() -> None:
    broken: Any = None
    with structlog.testing.capture_logs() as logged:
        table = StatsMethods(broken, broken, broken, broken, broken).table
        methods = Methods(table, structlog.get_logger())
        readable, writable = os.pipe()
        os.close(writable)
        line = b'{"jsonrpc": "2.0", "id": 1, "method": "softnet.get"}'
        async with asyncio.timeout(10):
            answer = json.loads(await methods.handle(BrokenConnection(), line, [readable]) or "")  # type: ignore[arg-type]
    error = answer["error"]
    assert error["message"].startswith("softnet.get failed: AttributeError(")
    assert error["data"] == {"kind": "internal", "hint": "this is a bug; the log has more"}
    assert [(entry["event"], entry["method"], entry["log_level"]) for entry in logged] == [
        ("method failed", "softnet.get", "error")
    ]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(readable)
