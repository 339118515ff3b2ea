"""config/vethd.toml shows every key with its default, says which need a restart; its bridge and pair have all keys."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from vethd.config import Config
from vethd.configfiles import load
from vethd.daemon.reload import FIXED
from vethd.rpc.schema.config import StaticBridge, StaticEnd, StaticPair

SAMPLE = Path(__file__).parents[1] / "config" / "vethd.toml"
SETTINGS = Config().model_dump(exclude={"pair", "bridge"})


def with_the_pair() -> str:
    """The sample with its pair in force: settings that are commented out have no space behind the sign, comments do."""
    return re.sub(r"(?m)^#(?=[^ \n])", "", SAMPLE.read_text())


def test_sample_is_the_default() -> None:
    assert load(SAMPLE).config == Config()


def test_sample_shows_every_key() -> None:
    assert tomllib.loads(SAMPLE.read_text()) == SETTINGS


def test_sample_says_which_keys_need_a_restart() -> None:
    told, section, comment = set(), "", ""
    for line in SAMPLE.read_text().splitlines():
        if line.startswith("# "):
            comment += line
            continue
        if header := re.match(r"\[(\w+)\]", line):
            section = f"{header[1]}."
        elif "(restart)" in comment and (setting := re.match(r"(\w+) =", line)):
            told.add(section + setting[1])
        comment = ""
    assert told == FIXED


def test_its_bridge_and_pair_have_every_key_and_are_valid(tmp_path: Path) -> None:
    (tmp_path / "vethd.toml").write_text(with_the_pair())
    config = load(tmp_path / "vethd.toml").config
    (bridge,), (pair,) = config.bridge, config.pair
    assert bridge.model_fields_set == StaticBridge.model_fields.keys()
    assert pair.model_fields_set == StaticPair.model_fields.keys()
    assert pair.a.model_fields_set == StaticEnd.model_fields.keys()


def test_what_the_pair_shows_as_a_default_is_one(tmp_path: Path) -> None:
    shown_there = tomllib.loads(with_the_pair())
    (bridge,), (pair,) = shown_there["bridge"], shown_there["pair"]
    for shown, model in ((bridge, StaticBridge), (pair, StaticPair), (pair["a"], StaticEnd)):
        defaults = {name: field.default for name, field in model.model_fields.items() if not field.is_required()}
        free = {"overload": "drop", "mtu": 1500, "txqueuelen": 1000, "vlan_filtering": False, "promisc": False} | {
            name: shown[name]
            for name in ("labels", "netns", "address", "alias", "bridge", "addresses", "routes")
            if name in shown
        }
        assert {name: value for name, value in shown.items() if name in defaults} == {
            name: free.get(name, default) for name, default in defaults.items()
        }
