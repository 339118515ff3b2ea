"""What an end is attached to: a bridge, addresses, routes. And bridge.*: the bridges themselves."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, with_config
from typing_extensions import TypedDict

from vethd.rpc.schema.base import DESCRIBED, Netns, Params, Token
from vethd.validation import OBJECT, WORD

#: The kernel's, of a VLAN (VLAN_VID_MASK less the reserved one).
VlanId = Annotated[int, Field(ge=1, le=4094)]


class PortParams(Params):
    """A port of a bridge."""

    name: str
    """Of the bridge, which must be there, in the namespace of the end."""
    hairpin: bool = False
    """Frames may leave by the port they came in by, so that a container reaches itself by a published address."""
    isolated: bool = False
    """No frames from or to other isolated ports."""
    vlan: VlanId | None = None
    """The VLAN of untagged frames (PVID, untagged), in place of the bridge's own; for a bridge with vlan_filtering."""


class AddressParams(Params):
    """An IP address of a device."""

    address: str
    """With the length of its prefix: 10.0.0.2/24, fd00::2/64."""
    noprefixroute: bool = False
    """Without a route to its prefix."""


def _form(value: Any) -> str | None:
    return WORD if isinstance(value, str) else OBJECT if isinstance(value, dict | Params) else None


#: A string is the name of the bridge.
Port = Annotated[
    Annotated[str, Tag(WORD)] | Annotated[PortParams, Tag(OBJECT)],
    Discriminator(
        _form, custom_error_type="bridge", custom_error_message="must be the name of a bridge, or hold name and options"
    ),
]
#: A string is the address itself.
Address = Annotated[
    Annotated[str, Tag(WORD)] | Annotated[AddressParams, Tag(OBJECT)],
    Discriminator(
        _form,
        custom_error_type="ip_address",
        custom_error_message="must be an address such as 10.0.0.2/24, or hold address and noprefixroute",
    ),
]
Addresses = Annotated[list[Address], Field(max_length=256)]


class RouteParams(Params):
    """A route through an end."""

    dst: str
    """Where to: 10.0.0.0/8, fd00::/8, or `default`, which is IPv6 when `gw` or `src` is, else IPv4."""
    gw: str | None = None
    """The next hop's address; omitted, `dst` is on the link."""
    src: str | None = None
    """The source address that it prefers."""
    mtu: Annotated[int, Field(ge=68, le=65535)] | None = None
    """Bytes, of packets that take it."""
    advmss: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Bytes, TCP's maximum segment size that it advertises."""
    priority: Annotated[int, Field(ge=0, le=0xFFFF_FFFF)] | None = None
    """The lower goes first (metric); omitted, the kernel's: 0 for IPv4, 1024 for IPv6."""
    table: Annotated[int, Field(ge=1, le=0xFFFF_FFFF)] | None = None
    """Routing table; omitted, main (254)."""
    scope: Literal["global", "link", "host"] | None = None
    """How far away; omitted, `global` with a `gw`, else `link`. IPv6 knows none."""


Routes = Annotated[list[RouteParams], Field(max_length=4096)]


class BridgeParams(Params):
    """A bridge as it shall be; what is omitted stays as it is, or is the kernel's choice."""

    name: str
    """At most 15 bytes."""
    netns: Netns | None = None
    """Where it belongs; omitted, the caller's own namespace."""
    addresses: Addresses = Field(default_factory=list)
    """IP addresses that it shall have; others stay."""
    mtu: Annotated[int, Field(ge=68, le=65535)] | None = None
    """Bytes; omitted, the smallest of its ports."""
    address: str | None = None
    """Unicast MAC address; omitted, a random one that stays the same whatever ports come and go."""
    vlan_filtering: bool | None = None
    """Frames are kept to the VLANs of their ports."""
    promisc: bool | None = None
    """The bridge itself takes all frames: with hairpin, so that what it answers for comes back to it."""
    up: bool = True
    """Set it up."""


class BridgeSetParams(BridgeParams):
    """Make a bridge, or complete one that is there."""

    token: Token | None = None
    """Makes a retry safe: a second request with it gets the first one's result."""


class BridgeDelParams(Params):
    """Delete a bridge; only a bridge, and only one that has no ports but ends of pairs."""

    name: str
    """Of the bridge."""
    netns: Netns | None = None
    """Where it is; omitted, the caller's own namespace."""
    token: Token | None = None
    """Makes a retry safe: a second request with it gets the first one's result."""


@with_config(DESCRIBED)
class BridgeResult(TypedDict):
    """bridge.set: the bridge as it is now."""

    name: str
    """Its name."""
    ifindex: int
    """Its index in its namespace."""
    address: str
    """MAC address."""
    mtu: int
    """Bytes."""
    created: bool
    """It was not there before."""


@with_config(DESCRIBED)
class BridgeDeletedResult(TypedDict):
    """bridge.del."""

    name: str
    """Of the bridge that is no more."""
    deleted: bool
    """False when it was not there."""
