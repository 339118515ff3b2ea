"""`make demo-containers`, as it stands."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests.kit.commands import run
from tests.kit.daemon import PROGRAMS

DEMO = Path(__file__).parents[3] / "docs/demo-containers.sh"


def test_three_tiers_answer_and_nothing_is_left(tmp_path: Path) -> None:
    path = f"PATH={PROGRAMS}:{os.environ['PATH']}"
    said = run("env", path, f"TMPDIR={tmp_path}", str(DEMO), within=120).out
    assert "\n  web says: app says: hello from db\n" in said
    assert said.endswith("$ vethctl -j link show\n  []\n")
    assert list(tmp_path.iterdir()) == []
    (name,) = set(re.findall(r"container=ping-(\w+)", said))
    assert list(Path("/sys/fs/cgroup").glob(f"**/*-{name}")) == []
