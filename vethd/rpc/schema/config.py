"""config.*: static pairs, as a state that is wished for."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field, with_config
from typing_extensions import TypedDict

from vethd.rpc.schema.base import DESCRIBED, LabelName, LabelValue, Params, Token
from vethd.rpc.schema.link import EndParams, Overload, Placement
from vethd.rpc.schema.network import BridgeParams

PAIR_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._@:-]*$"
PAIR_NAME_MAX: Final = 63
PairName = Annotated[str, Field(min_length=1, max_length=PAIR_NAME_MAX, pattern=PAIR_NAME)]


class StaticEnd(EndParams):
    """An end of a static pair; its name has no `%d`."""

    ifname: str
    """At most 15 bytes."""
    up: bool = True
    """Set it up."""


class StaticPair(Params):
    """A pair that shall exist, known by its name: one `[[pair]]` of the configuration."""

    name: PairName
    """What tells it from other static pairs."""
    a: StaticEnd
    """The first end. A namespace named here that does not exist is made, as by `ip netns add`."""
    b: StaticEnd
    """Its peer."""
    placement: Placement = "move"
    """See link.add."""
    numqueues: int = 1
    """See link.add."""
    overload: Overload | None = None
    """See link.add."""
    labels: dict[LabelName, LabelValue] = Field(default_factory=dict)
    """See link.add."""


class StaticBridge(BridgeParams):
    """A bridge that shall exist before the pairs: one `[[bridge]]` of the configuration."""

    masquerade: bool = False
    """Let what comes from the networks of its addresses go out by other devices, with the address that those have."""


class ConfigApplyParams(Params):
    """Make the static pairs what they shall be: create, change and, with `prune`, remove. Pairs of another origin are
    never touched, and a pair that is as it shall be is not disturbed. Bridges are made or completed before.

    Each pair is changed as a whole or not at all; what failed stands in its row, and the others are done nevertheless.
    """

    pairs: Annotated[list[StaticPair], Field(max_length=65536)]
    """The pairs that shall exist."""
    bridges: Annotated[list[StaticBridge], Field(max_length=4096)] = Field(default_factory=list)
    """Bridges that shall exist; a namespace named here that does not exist is made. With `prune`, those that were named
    before and are not now are removed, if they were made so and others have no ports there."""
    prune: bool = False
    """Remove static pairs that are not among them."""
    dry_run: bool = False
    """Only say what would be done."""
    token: Token | None = None
    """Makes a retry safe: a second request with it gets the first one's result."""


@with_config(DESCRIBED)
class PlanRow(TypedDict):
    """What happens to one static pair."""

    name: str
    """Its name."""
    action: Literal["create", "change", "replace", "remove", "keep"]
    """`replace`: what can't be changed (placement, numqueues) differs, so it is deleted and made anew."""
    pair: str | None
    """Its uuid; null when there is none yet."""
    changes: dict[str, list[Any]]
    """What differs: [what it is, what it shall be] by field, such as `a.mtu`."""
    error: dict[str, Any] | None
    """Why it failed: `message`, `kind`, and `errno` and `hint` where there are any; else null."""


@with_config(DESCRIBED)
class ConfigApplyResult(TypedDict):
    """config.apply."""

    applied: bool
    """False with `dry_run`."""
    failed: int
    """Rows with an error."""
    plan: list[PlanRow]
    """One row per pair."""


class ConfigSaveParams(Params):
    """The file that rebuilds the present state: settings, and the pairs of origin config and api."""


@with_config(DESCRIBED)
class ConfigSaveResult(TypedDict):
    """config.save."""

    toml: str
    """A configuration file; the daemon writes nothing itself."""
    left_out: list[str]
    """Pairs that no file can describe, with the reason: their namespace has no name."""
