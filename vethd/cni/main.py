"""The program `vethd-cni`: CNI_* variables and a configuration on stdin; a result, or an error, on stdout as JSON."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from vethd.cni import config, request
from vethd.cni.errors import INTERNAL, IO_FAILURE, CniError
from vethd.cni.result import LATEST, VERSIONS


def run(asked: request.Request, document: dict[str, Any]) -> Any:
    """Do what is asked; returns what is to be printed, or None. Raises CniError."""
    if asked.command == "VERSION":
        return {"cniVersion": document.get("cniVersion") or LATEST, "supportedVersions": list(VERSIONS)}
    network = config.read(document, asked.command, asked.args)
    match asked.command:
        case "ADD":
            from vethd.cni.add import add

            return add(asked, network)
        case "DEL":
            from vethd.cni.remove import remove

            remove(asked, network)
        case "GC":
            from vethd.cni.remove import collect

            collect(asked, network, config.valid_attachments(document))
        case "CHECK":
            from vethd.cni.check import check

            check(asked, network)
        case "STATUS":
            from vethd.cni.status import status

            status(asked, network)
    return None


def answer(environment: Mapping[str, str], stdin: int) -> tuple[int, Any]:
    """The exit status, and what is to be printed, or None. stdin: a file descriptor."""
    document: dict[str, Any] = {}
    try:
        asked = request.read(environment)
        text = _everything(stdin)
        if text.strip() or asked.command != "VERSION":
            document = config.decode(text)
        return 0, run(asked, document)
    except CniError as error:
        failed = error
    except Exception as error:  # noqa: BLE001 - a runtime reads JSON, whatever happens
        import traceback

        traceback.print_exc()
        failed = CniError(INTERNAL, f"a bug in vethd-cni: {error!r}")
    version = document.get("cniVersion")
    return 1, failed.document(version if version in VERSIONS else LATEST)


def _everything(stdin: int) -> bytes:
    """Raises CniError (5)."""
    try:
        with open(stdin, "rb", closefd=False) as file:
            return file.read()
    except OSError as error:
        raise CniError(IO_FAILURE, f"the network configuration can't be read from stdin: {error.strerror}") from error


def main() -> None:
    """Entry point of `vethd-cni`."""
    status, said = answer(os.environ, 0)
    try:
        if said is not None:
            sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # nobody reads it
        status = 1
    os._exit(status)  # to take everything apart in order would be a tenth of what a call takes


if __name__ == "__main__":
    main()
