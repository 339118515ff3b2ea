"""Errors as the CNI specification has them: a number that the runtime acts on, and words for people."""

from __future__ import annotations

from typing import Any, Final

#: The version of the specification that the configuration asks for is not one of ours.
INCOMPATIBLE_VERSION: Final = 1
#: A field of the configuration is not supported; the message names it and its value.
UNSUPPORTED_FIELD: Final = 2
#: There is no such container, so that nothing is to be cleaned up.
UNKNOWN_CONTAINER: Final = 3
#: A CNI_* variable is missing or wrong; the message names it.
INVALID_ENVIRONMENT: Final = 4
#: Something could not be read or written.
IO_FAILURE: Final = 5
#: What was read is not what it should be: no JSON, or no result.
DECODING_FAILURE: Final = 6
#: The configuration makes no sense.
INVALID_CONFIG: Final = 7
#: Trying again later may help: no daemon answers, or it is full.
TRY_AGAIN: Final = 11
#: STATUS: containers can't be attached now.
NOT_AVAILABLE: Final = 50
#: STATUS: neither that, nor may those that are attached reach each other.
LIMITED: Final = 51
#: Ours: the daemon, the kernel or nft refused; the message says what.
REFUSED: Final = 100
#: Ours: CHECK found something that is not as ADD left it.
CHANGED: Final = 101
#: Ours: a bug.
INTERNAL: Final = 999


class CniError(Exception):
    """Raised when a command fails. code: one of the above, or what another plugin gave. details: more, or ""."""

    def __init__(self, code: int, msg: str, details: str = "") -> None:
        super().__init__(msg)
        self.code = code
        self.msg = msg
        self.details = details

    def document(self, version: str) -> dict[str, Any]:
        """What is printed, for a runtime that speaks this version of the specification."""
        document: dict[str, Any] = {"cniVersion": version, "code": self.code, "msg": self.msg}
        return document | {"details": self.details} if self.details else document


def unsupported(field: str, value: object, why: str = "") -> CniError:
    """The error for a field that is understood by nobody, or not in this place."""
    import json

    return CniError(UNSUPPORTED_FIELD, f"unsupported field {field}: {json.dumps(value)}", why)
