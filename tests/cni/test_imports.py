"""What a call of the plugin loads: a runtime waits for each, and starts many at once."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.kit.commands import run
from tests.rpc.test_imports import SLOW, foreign

CHECKOUT = Path(__file__).parents[2]
HEAVY = SLOW | {"ctypes", "hashlib", "pathlib", "socket"}


def loaded(statements: str) -> set[str]:
    """The top-level packages in memory behind these statements, in a Python started as `make install` has it."""
    end = "import json, sys; print(json.dumps(sorted(sys.modules)))"
    code = f"import sys; sys.path.append({str(CHECKOUT)!r})\n{statements}\n{end}"
    names: list[str] = json.loads(run(sys.executable, "-IS", "-c", code).out.splitlines()[-1])
    return {name.partition(".")[0] for name in names} - {"__main__"}


def test_what_add_and_del_load() -> None:
    names = loaded("import vethd.cni.main, vethd.cni.add, vethd.cni.remove")
    assert foreign(names) == set()
    assert names & HEAVY == {"socket"}


def test_what_version_loads() -> None:
    """podman asks before each call."""
    statements = (
        "import os; os.environ['CNI_COMMAND'] = 'VERSION'; os._exit = lambda status: None\n"
        "sys.stdin.close(); os.open('/dev/null', 0); from vethd.cni.main import main; main()"
    )
    assert loaded(statements) & HEAVY == set()
