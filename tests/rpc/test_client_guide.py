"""The examples of docs/client.md are programs: they run as they stand there, and mypy finds nothing wrong in them."""

import re
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.kit.commands import run
from tests.kit.daemon import Daemon
from tests.kit.netns import Namespaces

GUIDE = Path(__file__).parents[2] / "docs/client.md"
#: Each with the heading that it is under.
PROGRAMS = [
    (section.splitlines()[0], program)
    for section in re.split(r"^#+ ", GUIDE.read_text(), flags=re.MULTILINE)
    for program in re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
]
#: What each prints, by the heading that it is under.
PRINTED = {
    "The Python client": r"veth0 [0-9a-f:]{17} carrier\na \{.*\}\nb \{.*\}\n",
    "asyncio": r"vethd \S+ pairs 0\n(worker \d+ processed \d+ dropped \d+\n)+",
    "Errors": r'Cannot find device "nosuch0" - .*\n',
    "Namespaces": r"\['lab0', 'lab1', 'lab2'\]\n",
    "Events": r"there are 0 pairs\n\d+ added [0-9a-f-]{36}\n\d+ deleted [0-9a-f-]{36}\n",
}


@pytest.mark.parametrize(("heading", "program"), PROGRAMS, ids=[heading for heading, _program in PROGRAMS])
def test_a_program_does_what_the_guide_says(
    shared_daemon: Daemon, netns: Namespaces, heading: str, program: str
) -> None:
    for name in ("red", "blue"):
        program = program.replace(f'"{name}"', f'"{netns.make()}"')
    command = ["env", f"VETHD_SOCKET={shared_daemon.socket}", sys.executable, "-W", "error", "-c", program]
    assert re.fullmatch(PRINTED[heading], run(*command).out)
    assert shared_daemon.pairs() == []


#: Uses of the client and what mypy says of each: what a method takes and returns is known to the last field.
TYPED: Final = {
    'client.link_get(ifname="x")["a"]["mtu"].bit_length()': "",
    'client.link_list(labels={"rack": None}, stats=True)[0]["a"]["carrier"].conjugate()': "",
    'client.link_get(ifname="x")["a"]["name"]': 'TypedDict "EndResult" has no key "name"',
    'client.link_get(ifnmae="x")': 'Unexpected keyword argument "ifnmae"',
    'client.link_set(ifname="x")': 'Missing named argument "set"',
    'client.link_add(a={"mtu": "9000"})': 'TypedDict item "mtu" has type "int | None"',
    'client.link_add(placement="outside")': "has incompatible type \"Literal['outside']\"",
    'client.link_list()["a"]': "No overload variant",
    'client.stats_get()["pairs"][0]["name"]': 'TypedDict "PairStats" has no key "name"',
    'client.daemon_info()["uptime"].upper()': '"float" has no attribute "upper"',
    'asynchronous.link_del(ifname="x")["pair"]': "is not indexable",
}


def test_mypy_knows_what_each_method_takes_and_returns(tmp_path: Path) -> None:
    good = [tmp_path / f"program{number}.py" for number in range(len(PROGRAMS))]
    for path, (_heading, program) in zip(good, PROGRAMS, strict=True):
        path.write_text(program)
    uses = tmp_path / "uses.py"
    head = "from vethd.rpc.client import AsyncClient, Client\nclient, asynchronous = Client(), AsyncClient()\n"
    uses.write_text(head + "\n".join(TYPED) + "\n")
    mypy = [sys.executable, "-m", "mypy", "--strict", "--no-color-output", "--config-file=", f"--cache-dir={tmp_path}"]
    out = run("env", f"MYPYPATH={GUIDE.parents[1]}", *mypy, str(uses), *map(str, good), check=False).out
    said = re.findall(r"^(\S+?\.py):(\d+): error: (.*)$", out, re.MULTILINE)
    assert {name for name, _line, _error in said} == {str(uses)}, out
    errors = {int(line): error for _name, line, error in said}
    for line, (use, expected) in enumerate(TYPED.items(), 3):
        if expected:
            assert expected in errors.get(line, ""), use
        else:
            assert line not in errors, errors[line]
