"""Bridges that ends can be ports of: made, completed and deleted, each as a whole or not at all.

The kernel keeps them; vethd does not follow what becomes of them. Those that a configuration makes say so in their
ifalias, and only such a one is deleted when the configuration names it no more.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from structlog.typing import FilteringBoundLogger

from vethd.errors import BridgeInUse, KernelRefused, LinkExists, NoSuchBridge, no_fd_left
from vethd.host import bridge, netns
from vethd.host.address import Address, add_address, addresses, del_address
from vethd.host.rtnl import IFF_PROMISC, IFF_UP, LinkInfo, Rtnl
from vethd.host.threads import HostThreads
from vethd.pairs.registry import Registry
from vethd.pairs.spec import check_address, check_addresses, check_name

#: The ifalias of a bridge that a configuration made.
CONFIG_ALIAS: Final = "vethd: [[bridge]] of the configuration"
_HINTS: Final = {
    errno.EACCES: "IPv6 is off there: sysctl net.ipv6.conf.all.disable_ipv6=0, and the same of `default`",
    errno.EOPNOTSUPP: "a kernel made without CONFIG_BRIDGE_VLAN_FILTERING has no vlan_filtering",
}


@dataclass(frozen=True, slots=True)
class BridgeSpec:
    """A bridge as it shall be; None leaves it as it is, or to the kernel.

    netns: an open fd; the caller closes it. addresses: it shall have these; others stay. mtu: bytes. address: MAC.
    configured: a configuration says so; then it loses addresses that vethd gave it and that are not among these.
    """

    name: str
    netns: int
    addresses: tuple[Address, ...] = ()
    mtu: int | None = None
    address: str | None = None
    vlan_filtering: bool | None = None
    promisc: bool | None = None
    up: bool = True
    configured: bool = False

    def validate(self) -> None:
        """Raise the error of the first field that the kernel would refuse; names field and remedy."""
        check_name(self.name, "name")
        if self.address is not None:
            check_address(self.address, "address")
        check_addresses(self.addresses, "addresses")


@dataclass(frozen=True, slots=True)
class BridgeDone:
    """What became of a bridge. info: as it is now. changes: what was and what is, by field."""

    info: LinkInfo
    created: bool
    changes: dict[str, tuple[Any, Any]] = field(default_factory=dict)


class Bridges:
    """Makes and deletes bridges; one per daemon."""

    def __init__(self, threads: HostThreads, registry: Registry, log: FilteringBoundLogger) -> None:
        self._threads = threads
        self._registry = registry
        self._log = log

    async def set(self, spec: BridgeSpec, reason: str) -> BridgeDone:
        """Make a bridge or complete one.

        reason: for the log; who or what wanted it. Raises a VethdError that names step and remedy; nothing has changed
        then.
        """
        spec.validate()
        done = await self._threads.create(_set, spec, self._threads.staging)
        if done.created or done.changes:
            what = "bridge made" if done.created else "bridge changed"
            place = netns.identity(spec.netns)[1]
            self._log.info(what, name=spec.name, netns=place, fields=sorted(done.changes), reason=reason)
        return done

    async def exists(self, spec: BridgeSpec) -> bool:
        """Whether there is such a bridge. Raises LinkExists when the name is that of something else."""
        spec.validate()
        return await self._threads.create(_exists, spec, self._threads.staging)

    async def delete(self, name: str, place: int, reason: str, alias: str | None = None) -> bool:
        """Delete a bridge; False when it was not there. place: an open fd of its namespace. alias: only with this one.

        Raises NoSuchBridge when the name is that of something else, BridgeInUse when others use it.
        """
        check_name(name, "name")
        here = netns.identity(place)
        ours = {end.ifindex for pair in self._registry for end in pair.ends if end.netns == here}
        deleted = await self._threads.create(_delete, name, place, self._threads.staging, ours, alias)
        if deleted:
            self._log.info("bridge deleted", name=name, netns=here[1], reason=reason)
        return deleted


# -- on the `create` thread -------------------------------------------------------------------------------------------


def _exists(spec: BridgeSpec, staging: int) -> bool:
    with netns.inside(spec.netns, staging), Rtnl() as there:
        return _find(there, spec.name, LinkExists) is not None


def _set(spec: BridgeSpec, staging: int) -> BridgeDone:
    with netns.inside(spec.netns, staging), Rtnl() as there:
        found = _find(there, spec.name, LinkExists)
        created = found is None
        if found is None:
            with _step(spec.name, "making it"):
                bridge.create(there, spec.name, spec.address, spec.mtu, bool(spec.vlan_filtering))
                found = bridge.find(there, spec.name)
            if found is None:
                raise KernelRefused(f"bridge {spec.name!r} was deleted while it was made", errno=errno.ENODEV)
        change = _Change(there, spec, found)
        try:
            if created and spec.configured:
                with _step(spec.name, "setting its alias"):
                    there.set_link(found.info.ifindex, ifalias=CONFIG_ALIAS)
            change.attributes()
            change.addresses()
            change.flags()
            with _step(spec.name, "looking at it"):
                return BridgeDone(there.get_link(index=found.info.ifindex), created, change.changes)
        except BaseException:
            if created:
                change.undo = [partial(there.del_link, spec.name)]
            change.run_undo()
            raise


class _Change:
    """A bridge on its way to what it shall be. changes: what was and what is, by field. undo: calls, the last first."""

    def __init__(self, there: Rtnl, spec: BridgeSpec, found: bridge.Bridge) -> None:
        self._there = there
        self._spec = spec
        self._found = found
        self._index = found.info.ifindex
        self.changes: dict[str, tuple[Any, Any]] = {}
        self.undo: list[Callable[[], object]] = []

    def _do(self, name: str, was: Any, shall: Any, call: Callable[[Any], object]) -> None:
        if shall is None or was == shall:
            return
        with _step(self._spec.name, f"setting its {name}"):
            call(shall)
        self.undo.append(partial(call, was))
        self.changes[name] = (was, shall)

    def attributes(self) -> None:
        """MAC, MTU, VLANs."""
        spec, info, there = self._spec, self._found.info, self._there
        address = None if spec.address is None else spec.address.lower()
        self._do("address", info.address, address, lambda value: there.set_link(self._index, address=value))
        self._do("mtu", info.mtu, spec.mtu, lambda value: there.set_link(self._index, mtu=value))
        filtering = self._found.vlan_filtering
        self._do(
            "vlan_filtering",
            filtering,
            spec.vlan_filtering,
            lambda value: bridge.set_vlan_filtering(there, self._index, value),
        )

    def addresses(self) -> None:
        """IP addresses: add what is missing, take what was vethd's and shall not be."""
        name, wished = self._spec.name, self._spec.addresses
        with _step(name, "looking at its addresses"):
            present = list(addresses(self._there, self._index))
        now = {address.ip for address, _ours in present}
        extra = [address for address, ours in present if self._spec.configured and ours and address not in wished]
        missing = [address for address in wished if address.ip not in now]
        for address in extra:
            with _step(name, f"removing {address}"):
                del_address(self._there, self._index, address)
            self.undo.append(partial(add_address, self._there, self._index, address))
        for address in missing:
            with _step(name, f"adding {address}"):
                add_address(self._there, self._index, address)
            self.undo.append(partial(del_address, self._there, self._index, address))
        if extra or missing:
            self.changes["addresses"] = (sorted(map(str, extra)), sorted(map(str, missing)))

    def flags(self) -> None:
        """IFF_UP and IFF_PROMISC."""
        for name, flag, shall in (
            ("promisc", IFF_PROMISC, self._spec.promisc),
            ("up", IFF_UP, self._spec.up or None),
        ):
            self._do(name, bool(self._found.info.flags & flag), shall, partial(self._set_flag, flag))

    def _set_flag(self, flag: int, on: bool) -> None:
        self._there.set_link(self._index, flags=flag if on else 0, change=flag)

    def run_undo(self) -> None:
        """Undo what was done; what can't be undone any more stays."""
        while self.undo:
            try:
                self.undo.pop()()
            except OSError:
                pass


def _delete(name: str, place: int, staging: int, ours: set[int], alias: str | None) -> bool:
    with netns.inside(place, staging), Rtnl() as there:
        found = _find(there, name, NoSuchBridge)
        if found is None or alias not in (None, found.info.alias):
            return False
        with _step(name, "looking at its ports"):
            foreign = [port.ifname for port in bridge.ports(there, found.info.ifindex) if port.ifindex not in ours]
        if foreign:
            raise BridgeInUse(
                f"bridge {name!r} has ports that are no ends of pairs: {', '.join(foreign)}",
                hint=f"take them out first: ip link set {foreign[0]} nomaster",
            )
        with _step(name, "deleting it"):
            there.del_link(name)
    return True


def _find(there: Rtnl, name: str, wrong: type[LinkExists] | type[NoSuchBridge]) -> bridge.Bridge | None:
    """The bridge of that name, or None. wrong: the error for something else of that name."""
    try:
        with _step(name, "looking for it"):
            return bridge.find(there, name)
    except bridge.NotABridge as other:
        raise wrong(
            f"{name!r} is no bridge but {other.kind}", hint="choose another name: `ip link show type bridge`"
        ) from other


@contextmanager
def _step(name: str, step: str) -> Iterator[None]:
    """Turn what the kernel refuses in the body into an error that names the bridge and the step."""
    what = f"bridge {name!r}: {step}: "
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise no_fd_left(what, error.errno) from error
        hint = _HINTS.get(error.errno or 0, "nothing was changed")
        raise KernelRefused(f"{what}{error.strerror}", hint=hint, errno=error.errno) from error
