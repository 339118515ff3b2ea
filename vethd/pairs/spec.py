"""What a new pair shall be, and the kernel's rules for it: checked before anything is touched."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from vethd.errors import InvalidAddress, InvalidName, InvalidParams, LimitReached, MtuOutOfRange
from vethd.host.address import Address, Route
from vethd.host.bridge import Port
from vethd.host.tap import MTU_MAX, MTU_MIN, NAME_MAX, QUEUES_MAX
from vethd.pairs.pair import Letter, Origin, Overload, Placement

#: isspace() of the kernel (lib/ctype.c), which takes 0xA0 for a space too, plus what dev_valid_name refuses.
_BAD_NAME_BYTES: Final = frozenset(b" \t\n\v\f\r\xa0/:")
#: Names that collide with /proc/sys/net/ipv4/conf/{all,default}.
_SYSCTL_NAMES: Final = frozenset({"all", "default"})
_MAC: Final = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
MTU_DEFAULT: Final = 1500
TXQUEUELEN_DEFAULT: Final = 1000
TXQUEUELEN_MAX: Final = 500_000
#: Longest ifalias, bytes (IFALIASZ - 1).
ALIAS_MAX: Final = 255
#: Most labels of a pair.
LABELS_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Attachment:
    """What an end is attached to. port: of which bridge, and how. routes: in the order in which they are made."""

    port: Port | None = None
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()


@dataclass(slots=True)
class EndSpec:
    """One end of a pair to be made.

    letter: `a` or `b`. ifname: a name, or a pattern with one `%d`. netns: an open fd; the caller closes it.
    address: MAC, or None for a random one. mtu: bytes. txqueuelen: frames. alias: the ifalias, "" for the default one
    (pair.default_alias). gro: merge what waits for it. up: set IFF_UP at the end. attached: to what, in its namespace.
    """

    letter: Letter
    ifname: str
    netns: int
    address: str | None = None
    mtu: int = MTU_DEFAULT
    txqueuelen: int = TXQUEUELEN_DEFAULT
    alias: str = ""
    gro: bool = False
    up: bool = False
    attached: Attachment = Attachment()

    def validate(self) -> None:
        """Raise the error of the first field that the kernel would refuse; names end, field and remedy."""
        check_name(self.ifname, f"end {self.letter}: name")
        if self.address is not None:
            check_address(self.address, f"end {self.letter}: address")
        check_mtu(self.mtu, f"end {self.letter}: mtu")
        self.txqueuelen = check_txqueuelen(self.txqueuelen, f"end {self.letter}: txqueuelen")
        check_alias(self.alias, f"end {self.letter}: alias")
        check_attachment(self.attached, self.up, f"end {self.letter}")


@dataclass(slots=True)
class PairSpec:
    """A pair to be made.

    numqueues: per end. overload: None for what the configuration says. labels: words about it. name: of a static pair.
    reason: for the log; who or what wanted it.
    """

    a: EndSpec
    b: EndSpec
    placement: Placement = "move"
    origin: Origin = "api"
    numqueues: int = 1
    overload: Overload | None = None
    labels: dict[str, str] = field(default_factory=dict)
    name: str | None = None
    reason: str = ""

    def validate(self) -> None:
        """Raise the error of the first field that is not valid; names field and remedy."""
        for end in (self.a, self.b):
            end.validate()
        check_numqueues(self.numqueues, "numqueues")
        with_labels({}, self.labels)


def check_name(name: str, what: str) -> None:
    """Raise InvalidName unless the kernel would take the name (dev_valid_name, dev_alloc_name)."""
    try:
        raw = name.encode(errors="surrogateescape")
    except UnicodeEncodeError as error:
        raise InvalidName(f"{what} {name!r} is no text", hint="use UTF-8", errno=errno.EINVAL) from error
    if len(raw) > NAME_MAX:
        raise InvalidName(f"{what} {name!r} has {len(raw)} bytes", hint=f"at most {NAME_MAX} bytes", errno=errno.ERANGE)
    bad = (
        not raw
        or name in (".", "..")
        or name in _SYSCTL_NAMES
        or not _BAD_NAME_BYTES.isdisjoint(raw)
        or 0 in raw
        or (b"%" in raw and (raw.count(b"%") != 1 or b"%d" not in raw))
    )
    if bad:
        raise InvalidName(
            f"{what} {name!r} is not valid",
            hint="no space, '/' or ':', not empty, '.', '..', 'all' or 'default'; one %d asks for a free number",
            errno=errno.EINVAL,
        )


def check_address(address: str, what: str) -> None:
    """Raise InvalidAddress unless it is six bytes, unicast and not zero (is_valid_ether_addr)."""
    if not _MAC.fullmatch(address.lower()):
        raise InvalidAddress(
            f"{what} {address!r} is not six bytes in hex", hint="write it as 02:00:00:00:00:01", errno=errno.EINVAL
        )
    raw = bytes.fromhex(address.replace(":", ""))
    if raw[0] & 1 or not any(raw):
        raise InvalidAddress(
            f"{what} {address} is not a unicast address",
            hint="the lowest bit of the first byte must be 0, and not all bytes 0",
            errno=errno.EADDRNOTAVAIL,
        )


def check_mtu(mtu: int, what: str) -> None:
    """Raise MtuOutOfRange unless a TAP can have it."""
    if not MTU_MIN <= mtu <= MTU_MAX:
        reason = "a TAP takes at most 65521, where kernel veth takes 65535" if mtu > MTU_MAX else "as with kernel veth"
        raise MtuOutOfRange(
            f"{what} {mtu} is not in {MTU_MIN}..{MTU_MAX}: {reason}",
            hint=f"use a value in {MTU_MIN}..{MTU_MAX}",
            errno=errno.EINVAL,
        )


def check_txqueuelen(txqueuelen: int, what: str) -> int:
    """What the kernel is told for this txqueuelen: for 0, which veth ignores, the default. Raises InvalidParams."""
    if not 0 <= txqueuelen <= TXQUEUELEN_MAX:
        raise InvalidParams(
            f"{what} {txqueuelen} is not in 0..{TXQUEUELEN_MAX}",
            hint=f"the TAP allocates a ring of that many frames; the default is {TXQUEUELEN_DEFAULT}",
        )
    return txqueuelen or TXQUEUELEN_DEFAULT  # a ring of none would lose every frame


def check_numqueues(numqueues: int, what: str) -> None:
    """Raise InvalidParams unless a TAP can have so many queues."""
    if not 1 <= numqueues <= QUEUES_MAX:
        raise InvalidParams(
            f"{what} {numqueues} is not in 1..{QUEUES_MAX}",
            hint=f"the tun driver has at most {QUEUES_MAX} queues per device; more than workers are of no use",
        )


def check_alias(alias: str, what: str) -> None:
    """Raise InvalidParams unless the kernel would take the ifalias whole."""
    try:
        raw = alias.encode(errors="surrogateescape")
    except UnicodeEncodeError as error:
        raise InvalidParams(f"{what} {alias!r} is no text", hint="use UTF-8") from error
    if len(raw) > ALIAS_MAX:
        raise InvalidParams(f"{what} has {len(raw)} bytes", hint=f"at most {ALIAS_MAX} bytes")
    if 0 in raw:
        raise InvalidParams(f"{what} {alias!r} has a NUL in it", hint="leave it out: the kernel would cut it there")


def check_attachment(attached: Attachment, up: bool, what: str) -> None:
    """Raise InvalidName or InvalidParams, naming the field, when it can't be made. up: the end shall be."""
    if attached.port is not None:
        check_name(attached.port.bridge, f"{what}: bridge")
    check_addresses(attached.addresses, f"{what}: addresses")
    if attached.routes and not up:
        raise InvalidParams(f"{what}: routes need it to be up", hint="say up: true as well")
    for at, route in enumerate(attached.routes):
        if route in attached.routes[:at]:
            raise InvalidParams(f"{what}: routes.{at}: {route} is there twice", hint="leave one out")


def check_addresses(addresses: Iterable[Address], what: str) -> None:
    """Raise InvalidParams when one is there twice."""
    seen = set()
    for address in addresses:
        if address.ip.ip in seen:
            raise InvalidParams(f"{what}: {address.ip.ip} is there twice", hint="leave one out")
        seen.add(address.ip.ip)


def with_labels(labels: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    """The labels after these changes, where None removes one. Raises LimitReached."""
    merged = {**labels, **changes}
    result = {name: value for name, value in merged.items() if value is not None}
    if len(result) > LABELS_MAX:
        raise LimitReached(f"labels: {len(result)} of them", hint=f"a pair has at most {LABELS_MAX}; remove some")
    return result
