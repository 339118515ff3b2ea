"""config/vethd.toml shows every key with its default."""

from __future__ import annotations

import tomllib
from pathlib import Path

from vethd.config import Config, load

SAMPLE = Path(__file__).parents[1] / "config" / "vethd.toml"


def test_sample_is_the_default() -> None:
    assert load(SAMPLE) == Config()


def test_sample_shows_every_key() -> None:
    assert tomllib.loads(SAMPLE.read_text()) == Config().model_dump()
