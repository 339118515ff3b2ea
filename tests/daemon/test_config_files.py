"""Several files: the main one, and conf.d beside it - what they say together, and who is named when they can't."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.daemon import program
from vethd.config import Config
from vethd.configfiles import ConfigError, Loaded, load

PAIR = '[[pair]]\nname = "{0}"\na = {{ ifname = "{0}0" }}\nb = {{ ifname = "{0}1" }}\n'


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Loaded]:
    """A function that writes files, such as `write(main="...", a="...")` for conf.d/a.toml, and loads them."""

    def write(main: str, **drop_ins: str) -> Loaded:
        (tmp_path / "conf.d").mkdir(exist_ok=True)
        (tmp_path / "vethd.toml").write_text(main)
        for name, text in drop_ins.items():
            (tmp_path / "conf.d" / f"{name}.toml").write_text(text)
        return load(tmp_path / "vethd.toml")

    return write


def findings(call: Callable[..., Loaded], directory: Path, *arguments: str | Path, **files: str) -> list[str]:
    """What is wrong, without the directory."""
    with pytest.raises(ConfigError) as raised:
        call(*arguments, **files)
    return str(raised.value).replace(f"{directory}/", "").splitlines()


def test_what_two_files_set_the_later_one_sets(write: Callable[..., Loaded]) -> None:
    loaded = write(
        "[worker]\ncount = 1\ncpus = [0]\n[sysctl]\ndev_weight = 1",
        b="[sysctl]\nbusy_poll = 7\n[log]\nlevel = 'error'",
        a="[sysctl]\nbusy_poll = 6\ndev_weight = 2\n[worker]\ncpus = []",
    )
    assert [file.name for file in loaded.files] == ["vethd.toml", "a.toml", "b.toml"]
    config = loaded.config
    assert (config.worker.count, config.worker.cpus, config.log.level) == (1, [], "error")
    assert (config.sysctl.dev_weight, config.sysctl.busy_poll) == (2, 7)


def test_pairs_add_up_in_the_order_of_the_files(write: Callable[..., Loaded]) -> None:
    loaded = write(PAIR.format("m"), z=PAIR.format("z"), c=PAIR.format("c2") + PAIR.format("c1"))
    assert [pair.name for pair in loaded.config.pair] == ["m", "c2", "c1", "z"]


def test_only_toml_files_that_are_not_hidden_are_read(tmp_path: Path, write: Callable[..., Loaded]) -> None:
    write("")
    for name in (".a.toml", "a.toml~", "a.toml.bak", "README"):
        (tmp_path / "conf.d" / name).write_text("this is no TOML")
    assert load(tmp_path / "vethd.toml").config == Config()


def test_a_pair_given_twice_names_both_places(tmp_path: Path, write: Callable[..., Loaded]) -> None:
    text = '{}: pair.{}.name: "lab" is the pair in vethd.toml:2 already (give each pair a name of its own)'
    files = {"main": PAIR.format("lab"), "a": PAIR.format("x") + PAIR.format("lab"), "b": PAIR.format("lab")}
    assert findings(write, tmp_path, **files) == [
        text.format("conf.d/a.toml:6", 1),
        text.format("conf.d/b.toml:2", 0),
    ]


SAME_END = '"x0" is the end in {} already (give each end and bridge in a namespace a name of its own)'


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("", "", True),
        ("netns = 'red'", "netns = { name = 'red' }", True),
        ("netns = { path = '/x' }", "netns = '/x'", True),
        ("netns = { pid = 1 }", "netns = { pid = 1 }", True),
        ("netns = 'red'", "netns = 'blue'", False),
        ("netns = 'red'", "", False),
        ("netns = { pid = 1 }", "netns = { pid = 2 }", False),
    ],
)
def test_an_end_given_twice_names_both_places(
    tmp_path: Path, write: Callable[..., Loaded], one: str, other: str, same: bool
) -> None:
    pair = "[[pair]]\nname = '{}'\nb.ifname = '{}'\n[pair.a]\nifname = 'x0'\n{}\n"
    files = {"main": pair.format("p", "p1", one), "a": pair.format("q", "q1", other)}
    if same:
        line = f"conf.d/a.toml:5: pair.0.a.ifname: {SAME_END.format('vethd.toml:5')}"
        assert findings(write, tmp_path, **files) == [line]
    else:
        assert len(write(**files).config.pair) == 2


def test_both_ends_of_a_pair_have_one_name(tmp_path: Path, write: Callable[..., Loaded]) -> None:
    main = "[[pair]]\nname = 'p'\na.ifname = 'x0'\nb.ifname = 'x0'\n"
    assert findings(write, tmp_path, main) == [f"vethd.toml:4: pair.0.b.ifname: {SAME_END.format('vethd.toml:3')}"]


@pytest.mark.parametrize(
    ("pair", "line", "key", "text"),
    [
        ("[pair]\nname = 'p'", 1, "pair", "must be a valid list (write [[pair]], with two brackets)"),
        ("pair = 3", 1, "pair", "must be a valid list, not 3 (write [[pair]], with two brackets)"),
        ("pair = [3]", 1, "pair.0", "must hold named fields, not 3"),
        ("[[pair]]\nname = 'p'\nb.ifname = 'y'\na = 'x'", 4, "pair.0.a", 'must hold named fields, not "x"'),
        (
            "[[pair]]\nname = 'p'\na.ifname = 'x'\nb = { ifname = 'y', netns = 5 }",
            4,
            "pair.0.b.netns",
            "must be a name, an absolute path, or hold one of name, path, pid and fd, not 5",
        ),
        (
            "[[pair]]\nname = 'p'\na.ifname = 'x'\nb.ifname = 'y'\nx = 1",
            5,
            "pair.0.x",
            "unknown (known in pair: name, a, b, placement, numqueues, overload, labels)",
        ),
        (
            "[[pair]]\nname = 'p'\na.ifname = 'x'\nb.ifname = 'y'\nb.netns.nam = 'x'",
            5,
            "pair.0.b.netns.nam",
            "unknown (known in netns in b in pair: name, path, pid, fd)",
        ),
        (
            "[[pair]]\nname = 'p'\na.ifname = 'x'\nb.ifname = 'y'\n[pair.labels]\nx = '1'\n'y ' = '1'",
            7,
            "pair.0.labels.y ",
            "must match pattern '^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$', not \"y \"",
        ),
    ],
)
def test_pairs_of_another_form(
    tmp_path: Path, write: Callable[..., Loaded], pair: str, line: int, key: str, text: str
) -> None:
    assert findings(write, tmp_path, pair) == [f"vethd.toml:{line}: {key}: {text}"]


def test_a_wrong_pair_hides_no_other(tmp_path: Path, write: Callable[..., Loaded]) -> None:
    wrong = "[[pair]]\nname = '{0}'\na = {{ ifname = '{0}0', {1} = 1 }}\nb.ifname = '{0}1'\n"
    main = "x = 1\n" + wrong.format("p", "mac") + wrong.format("q", "mtu")
    assert [line.split(" ")[:2] for line in findings(write, tmp_path, main)] == [
        ["vethd.toml:1:", "x:"],
        ["vethd.toml:4:", "pair.0.a.mac:"],
        ["vethd.toml:8:", "pair.1.a.mtu:"],
    ]


def test_everything_wrong_in_every_file_is_said(tmp_path: Path, write: Callable[..., Loaded]) -> None:
    wrong = write, tmp_path
    assert findings(*wrong, "sokcet = 1\n[log]\nlevel = 1", a="x = ", b="[limits]\nclients = 0") == [
        "conf.d/a.toml:1: Invalid value (at the end of the file)",
        "conf.d/b.toml:2: limits.clients: must be greater than or equal to 1, not 0",
        "vethd.toml:1: sokcet: unknown (known: socket, log, worker, sysctl, limits, bridge, pair)",
        "vethd.toml:3: log.level: must be 'debug', 'info', 'warning' or 'error', not 1",
    ]


@pytest.mark.parametrize(
    ("a", "complaint"),
    [
        ('ifname = "x%d"', "ifname: 'x%d' is a pattern (a static pair's end has a name of its own)"),
        ('ifname = "sixteen-bytes-xx"', "ifname: 'sixteen-bytes-xx' has 16 bytes (at most 15 bytes)"),
        ('ifname = "x"\nmtu = 67', "mtu: 67 is not in 68..65521: as with kernel veth (use a value in 68..65521)"),
        ('ifname = "x"\nmtu = "1500"', 'mtu: must be a valid integer, not "1500"'),
        ('ifname = "x"\nnetns = "../x"', "netns: netns '../x' is not a namespace name (a path must be absolute)"),
        (
            'ifname = "x"\nnetns = { fd = 0 }',
            "netns: fd 0 (no descriptor comes with a file: give a name, path or pid)",
        ),
        ('ifname = "x"\nnetns = {}', "netns: give exactly one of name, path, pid and fd"),
        (
            'ifname = "x"\naddress = "01:00:00:00:00:00"',
            "address: 01:00:00:00:00:00 is not a unicast address (the lowest bit of the first byte must be 0, and not"
            " all bytes 0)",
        ),
        ('ifname = "x"\ntxqueuelen = -1', "txqueuelen: -1 is not in 0..500000 (the TAP allocates a ring of "),
        ('ifname = "x"\nmac = "x"', "mac: unknown (known in a in pair: ifname, netns, address, mtu, txqueuelen, "),
        ("mtu = 1500", "ifname: missing"),
    ],
)
def test_pairs_are_checked_field_by_field(tmp_path: Path, write: Callable[..., Loaded], a: str, complaint: str) -> None:
    main = f'[[pair]]\nname = "x"\n[pair.b]\nifname = "y"\n[pair.a]\n{a}'
    line = 5 if complaint.endswith("missing") else 6 + a.count("\n")
    (said,) = findings(write, tmp_path, main)
    assert said.startswith(f"vethd.toml:{line}: pair.0.a.{complaint}")


def test_all_that_is_wrong_with_a_pair(tmp_path: Path, write: Callable[..., Loaded]) -> None:
    labels = "\n".join(f"l{n} = ''" for n in range(65))
    main = f'[[pair]]\nname = "x"\nnumqueues = 0\na.ifname = "x/"\nb.ifname = "y:"\n[pair.labels]\n{labels}'
    lines = [line.partition(":")[2].split(" ", 2)[:2] for line in findings(write, tmp_path, main)]
    assert lines == [
        ["3:", "pair.0.numqueues:"],
        ["4:", "pair.0.a.ifname:"],
        ["5:", "pair.0.b.ifname:"],
        ["6:", "pair.0.labels:"],
    ]


def test_drop_ins_that_are_no_files(tmp_path: Path, write: Callable[..., Loaded]) -> None:
    write("")
    (tmp_path / "conf.d" / "a.toml").mkdir()
    (tmp_path / "conf.d" / "b.toml").symlink_to("nowhere")
    assert findings(load, tmp_path, tmp_path / "vethd.toml") == [
        "conf.d/a.toml: Is a directory",
        "conf.d/b.toml: No such file or directory",
    ]


def test_a_file_in_the_place_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "vethd.toml").touch()
    (tmp_path / "conf.d").touch()
    assert findings(load, tmp_path, tmp_path / "vethd.toml") == ["conf.d: Not a directory"]


def test_a_directory_that_may_not_be_read(tmp_path: Path, write: Callable[..., Loaded]) -> None:
    write("")
    os.chmod(tmp_path / "conf.d", 0)
    os.chown(tmp_path / "conf.d", 65534, 65534)
    prefix = program.without_capability("dac_override", "dac_read_search")
    answer = program.vethd("check-config", tmp_path / "vethd.toml", prefix=prefix)
    assert (answer.code, answer.out) == (2, f"{tmp_path}/conf.d: Permission denied\n")


# -- vethd check-config -----------------------------------------------------------------------------------------------


def in_etc(directory: Path) -> list[str]:
    """A prefix that shows this directory as /etc/vethd."""
    return [*program.with_mount("mount -t overlay -o lowerdir=$1:/etc overlay /etc", directory)]


def test_check_config_names_the_files_that_are_good(tmp_path: Path, write: Callable[..., Loaded]) -> None:
    write(PAIR.format("m"), a="")
    answer = program.vethd("check-config", tmp_path / "vethd.toml")
    lines = [f"{tmp_path}/{name}: ok" for name in ("vethd.toml", "conf.d/a.toml")]
    assert (answer.code, answer.out.splitlines(), answer.err) == (0, lines, "")


def test_check_config_needs_no_privileges(tmp_path: Path, write: Callable[..., Loaded]) -> None:
    write(PAIR.format("m").replace("}", ', netns = "none" }', 1))
    prefix = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--"]
    answer = program.vethd("check-config", tmp_path / "vethd.toml", prefix=prefix)
    assert (answer.code, answer.out) == (0, f"{tmp_path}/vethd.toml: ok\n")


def test_check_config_says_all_that_is_wrong(tmp_path: Path, write: Callable[..., Loaded]) -> None:
    with pytest.raises(ConfigError) as raised:
        write("a = 1\n[log]\nlevel = 1", b="b = 1")
    answer = program.vethd("check-config", tmp_path / "vethd.toml")
    assert (answer.code, answer.out, answer.err) == (2, f"{raised.value}\n", "")
    assert answer.out.count("\n") == 3


def test_check_config_looks_at_the_default_file(tmp_path: Path) -> None:
    (tmp_path / "vethd" / "conf.d").mkdir(parents=True)
    (tmp_path / "vethd" / "conf.d" / "a.toml").write_text("x = 1")
    answer = program.vethd("check-config", prefix=in_etc(tmp_path))
    known = "known: socket, log, worker, sysctl, limits, bridge, pair"
    assert (answer.code, answer.out) == (2, f"/etc/vethd/conf.d/a.toml:1: x: unknown ({known})\n")
    (tmp_path / "vethd" / "conf.d" / "a.toml").write_text("")
    (tmp_path / "vethd" / "vethd.toml").write_text("")
    answer = program.vethd("check-config", prefix=in_etc(tmp_path))
    assert (answer.code, answer.out) == (0, "/etc/vethd/vethd.toml: ok\n/etc/vethd/conf.d/a.toml: ok\n")


def test_the_daemon_reads_the_default_file_too(tmp_path: Path) -> None:
    (tmp_path / "vethd").mkdir()
    (tmp_path / "vethd" / "vethd.toml").write_text("socket = '/nowhere/sock'")
    answer = program.vethd(prefix=in_etc(tmp_path))
    assert (answer.code, answer.err.split(" (")[0]) == (
        1,
        "vethd: control socket /nowhere/sock: No such file or directory",
    )
