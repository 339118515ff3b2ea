"""What a runtime says in the environment: CNI_COMMAND and its fellows, checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from vethd.cni.errors import INVALID_ENVIRONMENT, CniError

COMMANDS: Final = ("ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION")
#: What each command must be told; the others may do without.
_NEEDED: Final = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME"),
}
#: Names of containers and networks.
NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
#: What a label of a pair holds.
_MAX_CONTAINER: Final = 255


class Request(NamedTuple):
    """A call of the plugin. What the command has no use for is empty.

    netns: a path. args: of CNI_ARGS, by name. path: directories with plugins.
    """

    command: str
    container: str = ""
    netns: str = ""
    ifname: str = ""
    args: Mapping[str, str] = {}
    path: tuple[str, ...] = ()


def read(environment: Mapping[str, str]) -> Request:
    """The request that these variables make. Raises CniError (4)."""
    command = environment.get("CNI_COMMAND", "")
    if command not in COMMANDS:
        said = f"CNI_COMMAND is {command!r}" if command else "CNI_COMMAND is missing"
        raise CniError(INVALID_ENVIRONMENT, f"{said}: it must be one of {', '.join(COMMANDS)}")
    if command == "VERSION":
        return Request(command)
    path = tuple(filter(None, environment.get("CNI_PATH", "").split(":")))
    if command not in _NEEDED:
        return Request(command, path=path)
    if missing := [name for name in _NEEDED[command] if not environment.get(name)]:
        raise CniError(INVALID_ENVIRONMENT, f"{', '.join(missing)}: missing, and needed for {command}")
    return Request(
        command,
        _container(environment["CNI_CONTAINERID"]),
        environment.get("CNI_NETNS", ""),
        _ifname(environment["CNI_IFNAME"]),
        _args(environment.get("CNI_ARGS", "")),
        path,
    )


def _container(said: str) -> str:
    if not NAME.fullmatch(said):
        raise CniError(
            INVALID_ENVIRONMENT,
            f"CNI_CONTAINERID {said!r} must begin with a letter or digit, and hold only those, '_', '.' and '-'",
        )
    if len(said) > _MAX_CONTAINER:
        raise CniError(INVALID_ENVIRONMENT, f"CNI_CONTAINERID has {len(said)} characters, more than {_MAX_CONTAINER}")
    return said


def _ifname(said: str) -> str:
    if len(said.encode(errors="surrogateescape")) > 15:
        raise CniError(INVALID_ENVIRONMENT, f"CNI_IFNAME {said!r} is longer than 15 bytes")
    if said in (".", "..") or any(sign in "/:" or sign.isspace() for sign in said):
        raise CniError(INVALID_ENVIRONMENT, f"CNI_IFNAME {said!r} is not a name that an interface may have")
    return said


def _args(said: str) -> dict[str, str]:
    """`NAME=VALUE;NAME=VALUE`."""
    args = {}
    for each in filter(None, said.split(";")):
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise CniError(INVALID_ENVIRONMENT, f"CNI_ARGS: {each!r} is not NAME=VALUE")
        args[name] = value
    return args
