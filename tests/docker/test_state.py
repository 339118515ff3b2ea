"""Networks on disk: what was written is read again, whole, and a file that can't be read costs one network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vethd.docker.options import NetworkOptions
from vethd.docker.state import Endpoint, Network, Published, Store

ENDPOINT = Endpoint("e" * 64, "02:42:0a:01:00:02", ("10.1.0.2",), [Published("tcp", "::", 80, "fd00::2", 8080)], True)
NETWORK = Network(
    "a" * 64,
    NetworkOptions("br-a", ("10.1.0.1/24",), ("10.1.0.0/24",), 9000, False, False, "127.0.0.1", "net", True),
    netns=4026531840,
    made=True,
    endpoints={"e" * 64: ENDPOINT},
)


def stored(directory: Path) -> Store:
    store = Store(directory)
    assert list(store.load()) == []
    return store


def test_what_was_written_is_read(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "er"
    stored(directory).save(NETWORK)
    assert directory.stat().st_mode & 0o777 == 0o700
    again = stored(directory)
    assert again.networks == {NETWORK.id: NETWORK}
    again.forget(NETWORK)
    again.forget(NETWORK)
    assert again.networks == stored(directory).networks == {}
    assert list(directory.iterdir()) == []


def test_a_write_that_was_broken_off_changes_nothing(tmp_path: Path) -> None:
    stored(tmp_path).save(NETWORK)
    (tmp_path / f"{NETWORK.id}.new").write_text('{"version": 1, "id": ')
    assert stored(tmp_path).networks == {NETWORK.id: NETWORK}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 2}', '{"version": 1, "id": 5}', "\x00", '"\udcff"'])
def test_a_file_that_can_not_be_read_is_named_and_kept(tmp_path: Path, text: str) -> None:
    stored(tmp_path).save(NETWORK)
    bad = tmp_path / f"{'b' * 64}.json"
    bad.write_bytes(text.encode(errors="surrogateescape"))
    store = Store(tmp_path)
    ((path, why),) = store.load()
    assert path == bad
    assert why
    assert store.networks == {NETWORK.id: NETWORK}
    assert bad.exists()


def test_a_field_of_another_version_is_not_guessed(tmp_path: Path) -> None:
    stored(tmp_path).save(NETWORK)
    path = tmp_path / f"{NETWORK.id}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 99}))
    ((_path, why),) = Store(tmp_path).load()
    assert why == "written by another version: 99"
