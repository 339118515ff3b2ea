"""`StaticBridges`: the bridges of the configuration, made before the pairs; and what comes from them, masqueraded.

Masquerading is three things in the bridge's namespace: packets are forwarded, elements in the table of firewall.py have
the owner `config:NAME`, and where docker drops what is forwarded, the bridge is excepted. When the configuration says
so no more, the last two are taken away; forwarding stays, for others may rely on it by then.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from vethd import firewall
from vethd.errors import KernelRefused, VethdError
from vethd.host import forwarding, netns
from vethd.host.threads import HostThreads
from vethd.pairs.attachment import bridge_spec
from vethd.pairs.bridges import CONFIG_ALIAS, Bridges, BridgeSpec
from vethd.pairs.desired import Action, Step, wrong_bridge
from vethd.pairs.places import Open, enter, to_be_made
from vethd.rpc.schema.base import NetnsRef
from vethd.rpc.schema.config import StaticBridge


@dataclass(slots=True)
class BridgeRow:
    """What became of one bridge. error: why it failed, else None."""

    step: Step
    error: VethdError | None = None


#: A bridge that was made or completed: identity of its namespace, and name.
Known = tuple[tuple[int, int], str]


class StaticBridges:
    """The bridges of the configuration; one per daemon. known: those that it had until now."""

    def __init__(self, threads: HostThreads, bridges: Bridges, log: FilteringBoundLogger) -> None:
        self._threads = threads
        self._bridges = bridges
        self._log = log
        self.known: set[Known] = set()

    async def apply(
        self, wishes: Iterable[StaticBridge], opened: Open, reason: str, *, dry_run: bool
    ) -> tuple[list[BridgeRow], set[Known]]:
        """Make or complete the bridges that are wished for; one that fails does not keep the others from being made.

        See StaticPairs.apply. Also those that are known and wished for no more; what failed is none of them.
        """
        rows, wished, failed = [], set[Known](), set[str]()
        for wish in wishes:
            row = BridgeRow(Step(title(wish), "keep"))
            rows.append(row)
            try:
                with ExitStack() as fds:
                    row.step = await self._set(wish, opened, fds, reason, dry_run, wished)
            except VethdError as error:
                row.error = error
                failed.add(wish.name)
        if not dry_run:
            self.known |= wished
        return rows, {known for known in self.known - wished if known[1] not in failed}

    async def prune(self, unwanted: Iterable[Known], reason: str, *, dry_run: bool) -> list[BridgeRow]:
        """Remove bridges, if the configuration made them and nobody else uses them."""
        rows = []
        for known in sorted(unwanted):
            row = BridgeRow(Step(f"bridge {known[1]}", "remove"))
            rows.append(row)
            if not dry_run:
                row.error = await self._remove(known, reason)
                self.known.discard(known)
        return rows

    async def _set(
        self, wish: StaticBridge, opened: Open, fds: ExitStack, reason: str, dry_run: bool, wished: set[Known]
    ) -> Step:
        """Make or complete a bridge, and enter it into `wished`; what was done. Raises a VethdError."""
        for path, error in wrong_bridge(wish):
            raise type(error)(f"{'.'.join(map(str, path))}: {error.message}", hint=error.hint, errno=error.errno)
        if dry_run and to_be_made(wish.netns) is not None:
            return Step(title(wish), "create")
        place = await enter(wish.netns, "netns", opened, fds, self._log)
        wished.add((netns.identity(place), wish.name))
        spec = bridge_spec(wish, place, configured=True)
        if dry_run:
            return Step(title(wish), "keep" if await self._bridges.exists(spec) else "create")
        done = await self._bridges.set(spec, reason)
        if wish.masquerade:
            await self._masquerade(spec)
        elif not done.created:
            await asyncio.to_thread(_forget, wish.name, place)
        action: Action = "create" if done.created else "change" if done.changes else "keep"
        return Step(title(wish), action, {} if done.created else done.changes)

    async def _masquerade(self, spec: BridgeSpec) -> None:
        """Raises KernelRefused."""
        versions = sorted({address.ip.version for address in spec.addresses})
        try:
            switched = await self._threads.create(forwarding.switch_on, spec.netns, self._threads.staging, versions)
        except OSError as error:
            raise KernelRefused(
                f"masquerade: {error.filename} can't be switched on: {error.strerror}",
                hint=f"switch it on: sysctl {error.filename}=1",
                errno=error.errno,
            ) from error
        if switched:
            self._log.info("forwarding switched on", bridge=spec.name, sysctls=switched)
        networks = [str(address.ip.network) for address in spec.addresses]
        await asyncio.to_thread(_masquerade, spec.name, networks, spec.netns)

    async def _remove(self, known: Known, reason: str) -> VethdError | None:
        """Take a bridge away; why that failed. One whose namespace is gone, or has lost its name, is left alone."""
        place = _find(known[0])
        if place is None:
            return None
        try:
            await asyncio.to_thread(_forget, known[1], place)
            await self._bridges.delete(known[1], place, reason, CONFIG_ALIAS)
        except VethdError as error:
            return error
        finally:
            os.close(place)
        return None


def _find(identity: tuple[int, int]) -> int | None:
    """An fd of a namespace: the daemon's own, or one that has a name."""
    own = netns.current()
    if netns.identity(own) == identity:
        return own
    os.close(own)
    name = netns.name_of(identity)
    try:
        return None if name is None else netns.open_name(name)
    except VethdError:
        return None


def title(wish: StaticBridge) -> str:
    """How rows and log name a bridge, in the words of `ip`."""
    ref = wish.netns
    if isinstance(ref, NetnsRef):
        ref = ref.name or ref.path or (f"pid {ref.pid}" if ref.fd is None else None)
    return f"bridge {wish.name}" + ("" if ref is None else f" netns {ref}")


def _owner(name: str) -> str:
    """Whose elements of the packet filter are those of a bridge. A name of the kernel's may hold any characters."""
    return "config:" + (name if firewall.OWNER.fullmatch(name) else name.encode(errors="surrogateescape").hex())


def _masquerade(name: str, networks: list[str], place: int) -> None:
    try:
        firewall.forget(_owner(name), place)  # with networks that it has no more
        firewall.masquerade(_owner(name), networks, place)
        firewall.accept_forward(_owner(name), name, place, outside=True)
    except firewall.FirewallError as error:
        raise KernelRefused(f"masquerade: {error}", hint="nft is needed, of the package nftables") from error


def _forget(name: str, place: int) -> None:
    try:
        firewall.forget(_owner(name), place)
    except firewall.FirewallError as error:
        raise KernelRefused(f"masquerade: {error}", hint="see `nft list ruleset`") from error
