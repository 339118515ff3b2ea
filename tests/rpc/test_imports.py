"""What the client and vethctl import: pydantic is the daemon's alone, and nothing is loaded that takes time to load."""

import json
import sys
from pathlib import Path

import pytest

import vethd.cli
from tests.kit.commands import run
from tests.kit.daemon import Daemon

#: Of the standard library, each a good part of what the client takes to import.
SLOW = {"asyncio", "concurrent", "dataclasses", "email", "http", "inspect", "logging", "ssl", "subprocess", "tempfile"}


def loaded(statements: str) -> set[str]:
    """The names of the top-level packages that these statements load."""
    code = (
        "import json, sys\nbefore = set(sys.modules)\n"
        f"{statements}\nprint(json.dumps(sorted(set(sys.modules) - before)))"
    )
    names: list[str] = json.loads(run(sys.executable, "-I", "-c", code).out.splitlines()[-1])
    return {name.partition(".")[0] for name in names}


def foreign(names: set[str]) -> set[str]:
    """Those that come neither with Python nor with vethd."""
    return names - set(sys.stdlib_module_names) - {"vethd"}


def test_the_client_needs_the_standard_library_only_and_little_of_it() -> None:
    names = loaded("import vethd.rpc.client")
    assert "vethd" in names
    assert foreign(names) == set()
    assert names & SLOW == set()


def test_asyncio_comes_with_the_asynchronous_client_alone() -> None:
    names = loaded("from vethd.rpc.client import AsyncClient")
    assert foreign(names) == set()
    assert "asyncio" in names


@pytest.mark.parametrize("words", [["link", "show"], ["-j", "-s", "link", "show"], ["softnet"], ["daemon", "info"]])
def test_vethctl_does_its_work_with_little(shared_daemon: Daemon, words: list[str]) -> None:
    command = ["vethctl", "-S", str(shared_daemon.socket), *words]
    names = loaded(f"sys.argv = {command}\nfrom vethd.cli.main import main\ntry: main()\nexcept SystemExit: pass")
    assert "vethd" in names
    assert foreign(names) == set()
    assert names & SLOW == set()


@pytest.mark.parametrize("module", sorted(path.stem for path in Path(vethd.cli.__path__[0]).glob("[a-z]*.py")))
def test_no_part_of_vethctl_loads_what_is_the_daemons(module: str) -> None:
    names = loaded(f"import vethd.cli.{module}")
    assert names & {"pydantic", "pydantic_core", "structlog", "uvloop", "pytun"} == set()
