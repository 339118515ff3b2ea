"""The plugin that gives out addresses: run as a program, told what we were told.

It gets our environment and configuration. One that does not speak our version of the specification is asked which it
speaks, and again in the latest of those: Debian's host-local, for one, knows 1.0.0 and no later.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from vethd.cni.config import Network
from vethd.cni.errors import (
    DECODING_FAILURE,
    INCOMPATIBLE_VERSION,
    INVALID_CONFIG,
    INVALID_ENVIRONMENT,
    IO_FAILURE,
    CniError,
)
from vethd.cni.request import Request
from vethd.cni.result import VERSIONS, Result, parse, printed


class Ipam:
    """The IPAM plugin of a network, or none: then it is there in name only and does nothing."""

    def __init__(self, request: Request, network: Network) -> None:
        self._request = request
        self._network = network
        self._version = network.version

    def add(self) -> Result:
        """Addresses for the container, with routes and DNS. Raises CniError."""
        answer = self._run("ADD")
        if answer is None:
            return {"interfaces": [], "ips": [], "routes": [], "dns": {}}
        result = parse(answer, f"the result of {self._network.ipam}")
        if not result["ips"]:
            raise CniError(DECODING_FAILURE, f"{self._network.ipam} gave no address")
        return result

    def free(self, container: str | None = None, ifname: str | None = None) -> None:
        """DEL: take back what an attachment was given, that of the request or the one named. Raises CniError."""
        own = {"CNI_CONTAINERID": container, "CNI_IFNAME": ifname, "CNI_NETNS": ""} if container and ifname else {}
        self._run("DEL", own)

    def check(self) -> None:
        """Raises CniError when the addresses are not the container's."""
        self._run("CHECK")

    def pass_on(self, command: str) -> None:
        """GC or STATUS, unless it is older than them. Raises CniError."""
        if self._network.ipam and self._network.version in self._common(self._find()):
            self._run(command)

    def _run(self, command: str, environment: Mapping[str, str | None] | None = None) -> Any:
        """What it printed, or None. Raises CniError, also that which the plugin gave itself."""
        if not self._network.ipam:
            return None
        plugin = self._find()
        variables = {**os.environ, "CNI_COMMAND": command, **(environment or {})}
        try:
            return _ask(plugin, variables, self._configuration())
        except CniError as error:
            if error.code != INCOMPATIBLE_VERSION:
                raise
            common = self._common(plugin)
            if not common or self._version in common:
                raise
            self._version = common[-1]
        return _ask(plugin, variables, self._configuration())

    def _find(self) -> str:
        if not self._request.path:
            raise CniError(INVALID_ENVIRONMENT, f"CNI_PATH is missing, and needed to find {self._network.ipam}")
        for directory in self._request.path:
            plugin = f"{directory}/{self._network.ipam}"
            if os.access(plugin, os.X_OK) and os.path.isfile(plugin):
                return plugin
        raise CniError(
            INVALID_CONFIG,
            f"ipam.type {self._network.ipam!r}: there is no such plugin",
            f"CNI_PATH is {':'.join(self._request.path)}",
        )

    def _configuration(self) -> bytes:
        document = dict(self._network.document)
        if self._version != self._network.version:
            document["cniVersion"] = self._version
            document.pop("prevResult", None)
            if self._network.previous is not None:
                document["prevResult"] = printed(self._network.previous, self._version)
        return json.dumps(document).encode()

    def _common(self, plugin: str) -> list[str]:
        """The versions that it and we speak, oldest first. Raises CniError."""
        said = _ask(plugin, {**os.environ, "CNI_COMMAND": "VERSION"}, self._configuration())
        theirs = said.get("supportedVersions") if isinstance(said, dict) else None
        return [version for version in VERSIONS if version in (theirs or ())]


def _ask(plugin: str, variables: Mapping[str, str | None], stdin: bytes) -> Any:
    """What a plugin prints, decoded, or None when that is nothing. Raises CniError."""
    given, said = os.memfd_create("stdin"), os.memfd_create("stdout")
    try:
        os.write(given, stdin)
        os.lseek(given, 0, os.SEEK_SET)
        files = [(os.POSIX_SPAWN_DUP2, given, 0), (os.POSIX_SPAWN_DUP2, said, 1)]
        environment = {name: value for name, value in variables.items() if value is not None}
        try:
            child = os.posix_spawn(plugin, [plugin], environment, file_actions=files)
        except OSError as error:
            raise CniError(IO_FAILURE, f"{plugin}: {error.strerror}") from error
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        text = os.pread(said, os.fstat(said).st_size, 0)
    finally:
        os.close(given)
        os.close(said)
    name = os.path.basename(plugin)
    try:
        answer = json.loads(text) if text.strip() else None
    except ValueError as error:
        raise CniError(DECODING_FAILURE, f"{name} printed no JSON and ended with {status}: {text[:200]!r}") from error
    if status:
        raise _refused(name, status, answer)
    return answer


def _refused(name: str, status: int, answer: Any) -> CniError:
    """The error that a plugin gave, under its own number."""
    match answer:
        case {"code": int(code), "msg": str(msg)} if code > 0:
            return CniError(code, f"{name}: {msg}", str(answer.get("details", "")))
    return CniError(IO_FAILURE, f"{name} ended with {status} and gave no error")
