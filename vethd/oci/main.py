"""The program `vethd-oci`: the state of a container on stdin; what is wrong on stderr, and then exit status 1."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Final

from vethd import __version__
from vethd.oci.annotations import PREFIX, AnnotationError, blamed, pairs, read

USAGE: Final = """\
Usage: vethd-oci [-S SOCKET]

A hook of OCI runtimes, for createRuntime (or prestart) and poststop: makes the
interfaces that annotations vethd.network.IFNAME.OPTION ask for, and removes
them. The container's state comes on standard input; see vethd-oci(8).
"""
#: Seconds for an answer; what the daemon does for a container takes a fraction of one.
_PATIENCE: Final = 30.0


class HookError(Exception):
    """Raised when the hook was not called as the specification says, or can't do what it is asked for."""


def attach(state: dict[str, Any], socket: str | None) -> None:
    """Make what the annotations of a created container ask for, all or nothing.

    Raises AnnotationError, HookError, NotRunning, RpcError.
    """
    interfaces = read(state["annotations"])
    if not interfaces:
        return
    from vethd.rpc.client import Client, RpcError

    netns = f"/proc/{state['pid']}/ns/net"
    try:
        if os.stat(netns).st_ino == os.stat("/proc/self/ns/net").st_ino:
            raise HookError(
                "the container has no network namespace of its own; give it one in linux.namespaces of config.json"
            )
        with Client(socket, _PATIENCE) as client:
            client.call("link.add", {"pairs": pairs(interfaces, state["id"], netns)})
    except FileNotFoundError:
        raise HookError(f"the container's process {state['pid']} is gone") from None
    except RpcError as error:
        error.message = blamed(error.message, interfaces)
        raise


def detach(state: dict[str, Any], socket: str | None) -> None:
    """Remove what a stopped container still has: most went with its namespace. Raises NotRunning, RpcError."""
    if not any(name.startswith(PREFIX) for name in state["annotations"]):
        return
    from vethd.rpc.client import Client, RpcError

    with Client(socket, _PATIENCE) as client:
        for pair in client.link_list(labels={"container": state["id"][:255]}, origin="oci"):
            try:
                client.link_del(pair=pair["pair"])
            except RpcError as error:
                if error.kind != "no_such_link":
                    raise


def read_state(text: bytes) -> dict[str, Any]:
    """The state that a runtime hands over. Raises HookError."""
    try:
        state = json.loads(text)
    except ValueError as error:
        raise HookError(f"standard input holds no container's state: {error}") from None
    if not isinstance(state, dict) or not isinstance(state.get("id"), str) or not isinstance(state.get("status"), str):
        raise HookError("standard input holds no container's state: `id` and `status` are missing")
    if state["status"] != "stopped" and (type(state.get("pid")) is not int or state["pid"] <= 0):
        raise HookError(f"the state of a container that is {state['status']} has no pid")
    if state.get("annotations") is None:
        state["annotations"] = {}
    if not isinstance(state["annotations"], dict):
        raise HookError("annotations of the container's state are no object")
    return state


def run(arguments: list[str]) -> None:
    """Do what the state on standard input asks for. Raises AnnotationError, HookError, NotRunning, RpcError."""
    match arguments:
        case []:
            socket = None
        case ["-S", socket]:
            pass
        case _:
            raise HookError(f"{' '.join(arguments)}: unknown\n{USAGE}")
    state = read_state(sys.stdin.buffer.read())
    if state["status"] == "stopped":
        detach(state, socket)
    else:
        attach(state, socket)


def told(error: Exception) -> str | None:
    """What to say about an error, None about one that is a bug of ours."""
    if isinstance(error, AnnotationError | HookError):
        return str(error)
    from vethd.rpc.client import NotRunning, RpcError

    if isinstance(error, RpcError):
        errno = f" [{error.errno}]" if error.errno else ""
        return f"{error.message}{errno}" + (f"\nhint: {error.hint}" if error.hint else "")
    return str(error) if isinstance(error, NotRunning) else None


def main() -> None:
    """Entry point of `vethd-oci`."""
    if sys.argv[1:] in (["-h"], ["--help"]):
        sys.stdout.write(USAGE)
        return
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"vethd-oci {__version__}\n")
        return
    try:
        run(sys.argv[1:])
    except Exception as error:
        text = told(error)
        if text is None:
            raise
        sys.exit(f"vethd-oci: {text}")
    os._exit(0)  # to take everything apart in order would be a tenth of what it takes
