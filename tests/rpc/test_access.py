"""Who may do what: root and the group vethd change, vethd-ro looks, all others are told so and leave."""

import array
import fcntl
import json
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from tests.kit.daemon import Daemon
from tests.kit.netns import RUN_NETNS, Namespaces, fresh_name
from tests.kit.processes import status_field
from tests.kit.waiting import eventually
from tests.rpc.identity import talks_of
from tests.rpc.talk import ANYTHING, Talk, refused, request, result

SOMEBODY, OWN_GROUP = 61001, 61002
CHANGE_GROUP, LOOK_GROUP = 61003, 61004
SIOCOUTQ: Final = 0x5411

LOOKING: dict[str, dict[str, Any]] = {
    "link.list": {},
    "link.get": {"ifname": "vtr-none"},
    "stats.get": {},
    "softnet.get": {},
    "daemon.info": {},
}
CHANGING: dict[str, dict[str, Any]] = {"link.add": {"a": {"mtu": 1}}, "link.del": {"ifname": "vtr-none"}}
ALLOWED = {"link.list": "ok", "link.get": "no_such_link", "stats.get": "ok", "softnet.get": "ok", "daemon.info": "ok"}
CHANGED = {"link.add": "mtu_out_of_range", "link.del": "no_such_link"}
REFUSED = dict.fromkeys(LOOKING | CHANGING, "not_permitted")


def _with_group_file(path: Path, groups: Sequence[str]) -> Sequence[str]:
    """A command that runs another which sees these groups in /etc/group; mounts made elsewhere still reach it."""
    path.write_text("\n".join([*groups, ""]))
    script = 'mount --bind "$1" /etc/group && shift && exec "$@"'
    return ["unshare", "--mount", "--propagation", "slave", "sh", "-ec", script, "sh", str(path)]


@pytest.fixture(scope="module")
def _module_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    workdir = tmp_path_factory.mktemp("guarded")
    groups = ["root:x:0:", f"vethd:x:{CHANGE_GROUP}:", f"vethd-ro:x:{LOOK_GROUP}:"]
    daemon = Daemon(workdir, prefix=_with_group_file(workdir / "group", groups))
    workdir.chmod(0o755)  # as /run/vethd
    daemon.start()
    yield daemon
    daemon.stop()


@pytest.fixture
def guarded(_module_daemon: Daemon, netns: Namespaces) -> Iterator[Daemon]:
    """A daemon on whose machine the two groups exist: it alone sees an /etc/group that has them."""
    yield _module_daemon
    _module_daemon.check_books()
    _module_daemon.clear()
    _module_daemon.check_fds()
    _module_daemon.check_log()


@pytest.fixture
def as_user(guarded: Daemon) -> Iterator[Callable[..., Talk]]:
    """A function that opens a conversation of another user; all are closed after the test."""
    with ExitStack() as stack:

        def connect(uid: int, gid: int, groups: Sequence[int] = ()) -> Talk:
            (talk,) = talks_of(uid, gid, groups, guarded.socket)
            stack.callback(talk.close)
            return talk

        yield connect


def hears(as_user: Callable[..., Talk], who: tuple[int, int, list[int]]) -> dict[str, str]:
    """What a user hears, by method: `ok`, or the kind of the error; each time on a connection of its own."""
    heard = {}
    for method, params in (LOOKING | CHANGING).items():
        talk = as_user(*who)
        talk.say(request(method, method, **params))
        answer = talk.hear(ANYTHING)
        assert answer["id"] == method
        heard[method] = answer["error"]["data"]["kind"] if "error" in answer else "ok"
    return heard


@pytest.mark.parametrize(
    "who",
    [
        (0, 0, []),
        (0, OWN_GROUP, []),
        (SOMEBODY, CHANGE_GROUP, []),
        (SOMEBODY, OWN_GROUP, [CHANGE_GROUP]),
        (SOMEBODY, OWN_GROUP, [5, 6, 7, LOOK_GROUP, CHANGE_GROUP]),
    ],
)
def test_root_and_the_group_vethd_look_and_change(
    as_user: Callable[..., Talk], who: tuple[int, int, list[int]]
) -> None:
    assert hears(as_user, who) == ALLOWED | CHANGED


@pytest.mark.parametrize("who", [(SOMEBODY, LOOK_GROUP, []), (SOMEBODY, OWN_GROUP, [LOOK_GROUP])])
def test_the_group_vethd_ro_looks(as_user: Callable[..., Talk], who: tuple[int, int, list[int]]) -> None:
    assert hears(as_user, who) == ALLOWED | dict.fromkeys(CHANGING, "not_permitted")


@pytest.mark.parametrize("who", [(SOMEBODY, OWN_GROUP, []), (SOMEBODY, OWN_GROUP, [4, 27, 0]), (SOMEBODY, 0, [])])
def test_all_others_may_do_nothing(as_user: Callable[..., Talk], who: tuple[int, int, list[int]]) -> None:
    assert hears(as_user, who) == REFUSED


@pytest.mark.parametrize("groups", [[], [CHANGE_GROUP, LOOK_GROUP, 0]])
def test_the_user_of_the_workers_may_do_nothing_whatever_its_groups(
    guarded: Daemon, as_user: Callable[..., Talk], groups: list[int]
) -> None:
    uid = int(status_field(guarded.workers()[0], "Uid").split()[0])
    assert uid != 0
    assert hears(as_user, (uid, CHANGE_GROUP, groups)) == REFUSED


def test_where_the_groups_do_not_exist_there_is_only_root(start_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    daemon = start_daemon(prefix=_with_group_file(tmp_path / "group", ["root:x:0:"]))
    daemon.workdir.chmod(0o755)
    talks = [*talks_of(SOMEBODY, OWN_GROUP, [0, 1, CHANGE_GROUP], daemon.socket), *talks_of(0, 0, [], daemon.socket)]
    for talk, expected in zip(talks, (refused(1, "not_permitted"), result(1, [])), strict=True):
        talk.say(request(1, "link.list"))
        talk.hear(expected)
        talk.close()


def test_a_stranger_is_told_why_and_what_to_do_and_has_to_leave(as_user: Callable[..., Talk]) -> None:
    talk = as_user(SOMEBODY, OWN_GROUP)
    talk.send(b"".join(json.dumps(request(n, "link.list")).encode() + b"\n" for n in "xy"))
    hint = "be root or a member of the group vethd-ro or vethd"
    talk.hear(refused("x", "not_permitted", f"uid {SOMEBODY} may not call link.list", hint=hint))
    talk.hear_hanging_up()


def test_who_may_look_is_told_what_it_takes_to_change_and_stays(as_user: Callable[..., Talk]) -> None:
    talk = as_user(SOMEBODY, LOOK_GROUP)
    talk.say(request(1, "link.del", ifname="x"))
    hint = "be root or a member of the group vethd"
    talk.hear(refused(1, "not_permitted", f"uid {SOMEBODY} may not call link.del", hint=hint))
    talk.hear_nothing()


@pytest.mark.parametrize("params", [{"colour": 1}, [], {"ifname": "lo", "netns": "vtr-none"}])
def test_rights_are_asked_about_before_anything_else(as_user: Callable[..., Talk], params: Any) -> None:
    talk = as_user(SOMEBODY, OWN_GROUP)
    talk.say({"jsonrpc": "2.0", "id": 1, "method": "link.del", "params": params})
    talk.hear(refused(1, "not_permitted"))


def test_descriptors_that_a_stranger_sends_are_not_even_held(guarded: Daemon, as_user: Callable[..., Talk]) -> None:
    def held() -> int:
        return len(os.listdir(f"/proc/{guarded.pid}/fd"))

    guarded.pairs()
    before = held()
    talk = as_user(SOMEBODY, OWN_GROUP)
    talk.send(b" ", [talk.socket.fileno()] * 16)
    eventually(lambda: _unread(talk.socket), lambda waiting: waiting == 0, "the daemon has read it")
    assert held() == before + 1


def _unread(sock: socket.socket) -> int:
    """What the other side has not read yet; the unit is of no matter."""
    waiting = array.array("i", [0])
    fcntl.ioctl(sock, SIOCOUTQ, waiting)
    return waiting[0]


def test_strangers_never_take_the_places_of_those_who_may(guarded: Daemon) -> None:
    with ExitStack() as stack:
        strangers = talks_of(SOMEBODY, OWN_GROUP, [], guarded.socket, many=300)
        for talk in strangers:
            stack.callback(talk.close)
        for talk in strangers[32:]:
            talk.hear(refused(None, "limit_reached", "32 clients without rights are connected", hint="try again later"))
            talk.hear_hanging_up()
        for _ in range(200):
            talk = Talk(guarded.socket)
            stack.callback(talk.close)
            talk.say(request(1, "link.list"))
            talk.hear(result(1, []))
        strangers[0].say(request(1, "link.list"))
        strangers[0].hear(refused(1, "not_permitted"))


def test_a_member_makes_a_pair_and_the_log_says_who_it_was(
    guarded: Daemon, as_user: Callable[..., Talk], netns: Namespaces
) -> None:
    talk, name = as_user(SOMEBODY, OWN_GROUP, [CHANGE_GROUP]), fresh_name()
    ends = {letter: {"ifname": f"{name}{letter}", "netns": {"fd": 0}} for letter in "ab"}
    fd = os.open(RUN_NETNS / netns.make(), os.O_RDONLY)
    try:
        talk.say(request(1, "link.add", **ends, placement="inside"), [fd])
        pair = talk.hear(result(1))["result"]["pair"]
    finally:
        os.close(fd)
    (line,) = (line for line in guarded.log().splitlines() if pair in line and "link added" in line)
    assert f'"reason": "link.add by uid {SOMEBODY}, gid {OWN_GROUP}, pid ' in line


def test_each_change_is_logged_with_who_asked_and_what_came_of_it(
    guarded: Daemon, as_user: Callable[..., Talk], netns: Namespaces
) -> None:
    member, looker = as_user(SOMEBODY, OWN_GROUP, [CHANGE_GROUP]), as_user(SOMEBODY, LOOK_GROUP)
    begin = len(guarded.log())
    fd = os.open(RUN_NETNS / netns.make(), os.O_RDONLY)
    try:
        member.say(request(1, "link.add", a={"netns": {"fd": 0}}, b={"netns": {"fd": 0}}, placement="inside"), [fd])
        pair = member.hear(result(1))["result"]["pair"]
    finally:
        os.close(fd)
    member.say(request(2, "link.add", colour=1))
    member.hear(refused(2, "invalid_params"))
    member.say({"jsonrpc": "2.0", "method": "link.del", "params": {"ifname": "vtr-none"}})
    member.say([request(3, "link.list"), request(4, "link.del", pair=pair)])
    member.hear([result(3), result(4)])
    looker.say(request(5, "link.del", pair=pair))
    looker.hear(refused(5, "not_permitted"))
    lines = [json.loads(line) for line in guarded.log()[begin:].splitlines()]
    asked = [line for line in lines if line["event"] == "change asked for"]
    assert [(line["method"], line["outcome"], line["gid"]) for line in asked] == [
        ("link.add", "done", OWN_GROUP),
        ("link.add", "invalid_params", OWN_GROUP),
        ("link.del", "no_such_link", OWN_GROUP),
        ("link.del", "done", OWN_GROUP),
        ("link.del", "not_permitted", LOOK_GROUP),
    ]
    assert {line["uid"] for line in asked} == {SOMEBODY}
    assert len({line["pid"] for line in asked}) == 2


def test_the_socket_is_open_to_all_for_the_daemon_decides(guarded: Daemon) -> None:
    assert guarded.socket.stat().st_mode & 0o7777 == 0o666


@pytest.mark.parametrize("method", ["link.list", "stats.get", "link.get"])
def test_who_only_looks_learns_nothing_of_paths_and_processes(
    as_user: Callable[..., Talk], netns: Namespaces, tmp_path: Path, method: str
) -> None:
    """Whatever is there or not, the answer is the same, and nothing is opened."""
    talk, red = as_user(SOMEBODY, LOOK_GROUP, []), netns.make()
    (tmp_path / "file").touch()
    places: list[Any] = [str(RUN_NETNS / red), "/no/such/thing", str(tmp_path / "file"), str(tmp_path)]
    places += [{"path": place} for place in places] + [{"pid": os.getpid()}, {"pid": 1 << 22}]
    heard = set()
    for place in places:
        params = {"netns": place} | ({"ifname": "vtr-none"} if method == "link.get" else {})
        talk.say(request(1, method, **params))
        error = talk.hear(ANYTHING)["error"]
        heard.add((error["data"]["kind"], error["message"].replace("a pid", "a path"), error["data"]["hint"]))
    ((kind, message, hint),) = heard
    assert (kind, message) == ("not_permitted", f"netns: uid {SOMEBODY} may not let vethd look at a path")
    assert "netns.fd" in hint


def test_who_only_looks_may_send_a_descriptor_or_a_name(as_user: Callable[..., Talk], netns: Namespaces) -> None:
    talk, red = as_user(SOMEBODY, LOOK_GROUP, []), netns.make()
    talk.say(request(1, "link.list", netns=red))
    talk.hear(result(1, []))
    fd = os.open(RUN_NETNS / red, os.O_RDONLY)
    try:
        talk.say(request(2, "link.list", netns={"fd": 0}), [fd])
        talk.hear(result(2, []))
    finally:
        os.close(fd)
