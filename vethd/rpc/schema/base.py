"""What the models of requests and results have in common, and how a request names a namespace."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from vethd.validation import OBJECT, WORD

Letter = Literal["a", "b"]
#: The docstring under a field is its description in rpc.discover and docs/rpc.md.
DESCRIBED = ConfigDict(use_attribute_docstrings=True)


class Params(BaseModel):
    """Parameters of a method: checked before anything happens, unknown fields refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class NoParams(Params):
    """For methods that take nothing."""


class NetnsRef(Params):
    """A network namespace, in exactly one way."""

    name: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    """As `ip netns` knows it."""
    path: Annotated[str, Field(pattern=r"^/", max_length=4095)] | None = None
    """Absolute, for example /proc/PID/ns/net."""
    pid: Annotated[int, Field(ge=1, le=1 << 22)] | None = None
    """Of a process in it."""
    fd: Annotated[int, Field(ge=0, le=15)] | None = None
    """Position among the file descriptors sent along with this request (SCM_RIGHTS), from 0."""

    @model_validator(mode="after")
    def _one_way(self) -> NetnsRef:
        if sum(value is not None for value in (self.name, self.path, self.pid, self.fd)) != 1:
            raise ValueError("give exactly one of name, path, pid and fd")
        return self


def _netns_form(value: Any) -> str | None:
    return WORD if isinstance(value, str) else OBJECT if isinstance(value, dict | NetnsRef) else None


#: A string is a name, or a path when it begins with a slash.
Netns = Annotated[
    Annotated[str, Field(min_length=1, max_length=4095), Tag(WORD)] | Annotated[NetnsRef, Tag(OBJECT)],
    Discriminator(
        _netns_form,
        custom_error_type="netns",
        custom_error_message="must be a name, an absolute path, or hold one of name, path, pid and fd",
    ),
]

LabelName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$")]
LabelValue = Annotated[str, Field(max_length=255)]
#: The daemon answers a request with a token it has answered before with the same result, and does nothing.
Token = Annotated[str, Field(min_length=1, max_length=128)]
