"""The program vethd-oci: what it says about its input, and how little it imports."""

from __future__ import annotations

import json
import sys

import pytest

from tests.kit.commands import run
from tests.kit.daemon import PROGRAMS, Daemon
from tests.kit.netns import Namespaces
from vethd import __version__

HOOK = str(PROGRAMS / "vethd-oci")
#: Of ours, for a container without annotations about us.
OURS = {"vethd", "vethd.mac", "vethd.oci", "vethd.oci.annotations", "vethd.oci.main"}
#: What the client brings along, needed only where something is asked for.
CLIENT = {
    "vethd.rpc",
    "vethd.rpc.client",
    "vethd.rpc.conversation",
    "vethd.rpc.listening",
    "vethd.rpc.namespaces",
    "vethd.rpc.wire",
}
LIST = """
import sys
before = set(sys.modules)
from vethd.oci.main import run
run(sys.argv[1:])
slow = {"asyncio", "pydantic", "ipaddress", "dataclasses", "inspect"}
print(*(name for name in set(sys.modules) - before if name.startswith("vethd") or name in slow))
"""


def state(**changes: object) -> str:
    """A container's state, as runc has it when it runs createRuntime; None takes a member away."""
    members = {"ociVersion": "1.0.2-dev", "id": "c1", "status": "creating", "pid": 1, "bundle": "/", "annotations": {}}
    return json.dumps({name: value for name, value in (members | changes).items() if value is not None})


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("", "standard input holds no container's state: Expecting value"),
        ("[]", "standard input holds no container's state: `id` and `status` are missing"),
        (state(id=None), "standard input holds no container's state: `id` and `status` are missing"),
        (state(status=None), "standard input holds no container's state: `id` and `status` are missing"),
        (state(pid=None), "the state of a container that is creating has no pid"),
        (state(pid=0, status="created"), "the state of a container that is created has no pid"),
        (state(annotations=[]), "annotations of the container's state are no object"),
        (
            state(pid=4_194_305, annotations={"vethd.network.eth0.mtu": "1400"}),
            "the container's process 4194305 is gone",
        ),
    ],
)
def test_what_is_no_state_is_told(given: str, told: str) -> None:
    answer = run(HOOK, given=given, check=False)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith(f"vethd-oci: {told}")


def test_other_arguments_are_told() -> None:
    answer = run(HOOK, "createRuntime", given=state(), check=False)
    assert (answer.code, answer.err.startswith("vethd-oci: createRuntime: unknown\nUsage: vethd-oci ")) == (1, True)
    assert run(HOOK, "--version").out == f"vethd-oci {__version__}\n"
    assert run(HOOK, "--help").out.startswith("Usage: vethd-oci ")


@pytest.mark.parametrize("status", ["creating", "created", "running", "stopped"])
def test_a_container_without_annotations_needs_no_daemon(status: str) -> None:
    answer = run(HOOK, "-S", "/nowhere", given=state(status=status, annotations={"org.example": "vethd.network"}))
    assert (answer.out, answer.err) == ("", "")


def test_it_imports_little(shared_daemon: Daemon, netns: Namespaces) -> None:
    def imported(given: str) -> set[str]:
        said = run(sys.executable, "-I", "-c", LIST, "-S", str(shared_daemon.socket), given=given).out
        return set(said.split())

    assert imported(state(annotations=None)) == OURS
    assert imported(state(status="stopped", annotations={"vethd.network.eth0.mtu": "1400"})) == OURS | CLIENT
