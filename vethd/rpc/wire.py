"""One typed method for each of the daemon's; what they take and return is in shapes.py.

Written by `make generate` from the rows of the methods; needs nothing but the standard library.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from typing import Unpack

    from vethd.rpc.shapes import (
        BridgeDeletedResult,
        BridgeDelParams,
        BridgeResult,
        BridgeSetParams,
        ConfigApplyParams,
        ConfigApplyResult,
        ConfigSaveResult,
        DaemonInfo,
        DeletedResult,
        LinkAddParams,
        LinkDelParams,
        LinkListParams,
        LinkSelector,
        LinkSetParams,
        PairParams,
        PairResult,
        ReexecResult,
        SelectedResult,
        SoftnetResult,
        StatsGetParams,
        StatsResult,
        SysctlGetParams,
        SysctlResult,
        SysctlSetParams,
    )

#: Methods that change nothing: safe to repeat.
LOOKING: Final = frozenset(
    {
        "config.save",
        "daemon.info",
        "events.subscribe",
        "events.unsubscribe",
        "link.get",
        "link.list",
        "rpc.discover",
        "softnet.get",
        "stats.get",
        "sysctl.get",
    }
)

#: Methods that take a token, which makes them safe to repeat.
WITH_TOKEN: Final = frozenset(
    {
        "bridge.del",
        "bridge.set",
        "config.apply",
        "link.add",
        "link.del",
        "link.set",
    }
)

#: Topics of events.
TOPICS: Final = ("link", "carrier", "worker", "drop", "config", "daemon")

#: Who may have made a pair.
ORIGINS: Final = ("config", "api", "cni", "docker", "oci")

#: Where in the parameters a namespace stands that the caller means by its own names; `*`: in each item.
NETNS: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "bridge.del": (("netns",),),
    "bridge.set": (("netns",),),
    "link.add": (
        ("a", "netns"),
        ("b", "netns"),
        ("pairs", "*", "a", "netns"),
        ("pairs", "*", "b", "netns"),
    ),
    "link.del": (("netns",),),
    "link.get": (("netns",),),
    "link.list": (("netns",),),
    "link.set": (
        ("netns",),
        ("set", "netns"),
    ),
    "stats.get": (("netns",),),
}


class Calls:
    """The daemon's methods. Each raises RpcError and NotRunning."""

    def call(self, method: str, params: Mapping[str, Any] | None = None) -> Any:
        """Call a method by name."""
        raise NotImplementedError

    def bridge_del(self, **params: Unpack[BridgeDelParams]) -> BridgeDeletedResult:
        """Delete a bridge; only a bridge, and only one that has no ports but ends of pairs.

        name: Of the bridge.
        netns: Where it is; omitted, the caller's own namespace.
        token: Makes a retry safe: a second request with it gets the first one's result.

        Raises RpcError: invalid_name, no_such_bridge, bridge_in_use, no_such_netns, kernel_refused, token_reused.
        """
        result: BridgeDeletedResult = self.call("bridge.del", params)
        return result

    def bridge_set(self, **params: Unpack[BridgeSetParams]) -> BridgeResult:
        """Make a bridge, or complete one that is there.

        name: At most 15 bytes.
        netns: Where it belongs; omitted, the caller's own namespace.
        addresses: IP addresses that it shall have; others stay.
        mtu: Bytes; omitted, the smallest of its ports.
        address: Unicast MAC address; omitted, a random one that stays the same whatever ports come and go.
        vlan_filtering: Frames are kept to the VLANs of their ports.
        promisc: The bridge itself takes all frames: with hairpin, so that what it answers for comes back to it.
        up: Set it up.
        token: Makes a retry safe: a second request with it gets the first one's result.

        Raises RpcError: invalid_name, invalid_address, link_exists, no_such_netns, kernel_refused, token_reused.
        """
        result: BridgeResult = self.call("bridge.set", params)
        return result

    def config_apply(self, **params: Unpack[ConfigApplyParams]) -> ConfigApplyResult:
        """Make the static pairs what they shall be: create, change and, with `prune`, remove. Pairs of another origin
        are never touched, and a pair that is as it shall be is not disturbed. Bridges are made or completed before.

        Each pair is changed as a whole or not at all; what failed stands in its row, and the others are done
        nevertheless.

        pairs: The pairs that shall exist.
        bridges: Bridges that shall exist; a namespace named here that does not exist is made. With `prune`, those that
            were named before and are not now are removed, if they were made so and others have no ports there.
        prune: Remove static pairs that are not among them.
        dry_run: Only say what would be done.
        token: Makes a retry safe: a second request with it gets the first one's result.

        Raises RpcError: token_reused.
        """
        result: ConfigApplyResult = self.call("config.apply", params)
        return result

    def config_save(self) -> ConfigSaveResult:
        """The file that rebuilds the present state: settings, and the pairs of origin config and api."""
        result: ConfigSaveResult = self.call("config.save")
        return result

    def daemon_info(self) -> DaemonInfo:
        """What runs."""
        result: DaemonInfo = self.call("daemon.info")
        return result

    def daemon_reexec(self) -> ReexecResult:
        """Replace the daemon's program by what is installed now; pairs stay, and frames keep flowing.

        Raises RpcError: reexec_failed.
        """
        result: ReexecResult = self.call("daemon.reexec")
        return result

    def link_add(self, **params: Unpack[LinkAddParams]) -> PairResult:
        """Make a pair, or several at once.

        a: The first end, the one that `ip link add NAME` names.
        b: Its peer; omitted, it gets a's mtu and txqueuelen and a name of its own, as with `ip link add type veth`.
        placement: `move`: the pair dies with a namespace, as veth does. `inside`: quick, and keeps the namespaces
            alive.
        numqueues: Queues of each end, 1 to 256; the flows are spread over them, and they over the workers. Fixed for
            life.
        overload: What its worker does while the backlog is full: `drop` frames, or `backpressure`: stop reading this
            pair. Omitted, what `overload` in the configuration says.
        labels: Words of the caller's about the pair, to find it by; at most 64.
        origin: On whose behalf it is made.
        token: Makes a retry safe: a second request with it gets the first one's result, and makes nothing.

        Raises RpcError: invalid_name, invalid_address, mtu_out_of_range, link_exists, no_such_netns, kernel_refused,
            no_such_bridge, limit_reached, tun_missing, worker_failed, token_reused.
        """
        result: PairResult = self.call("link.add", params)
        return result

    def link_add_several(self, pairs: list[PairParams]) -> list[PairResult]:
        """As link_add, for several: all or none."""
        result: list[PairResult] = self.call("link.add", {"pairs": pairs})
        return result

    def link_del(self, **params: Unpack[LinkDelParams]) -> DeletedResult:
        """Delete a pair; both devices are gone when this is answered.

        ifname: The name of an end.
        netns: The namespace of that end; omitted, the caller's own, or else the only one that has an end of that name.
        pair: The pair's uuid.
        end: Which end of `pair` is meant, where it matters; omitted, a.
        generation: Only if the pair's generation is still this one.
        token: Makes a retry safe: a second request with it gets the first one's result.

        Raises RpcError: no_such_link, ambiguous_name, no_such_netns, stale_generation, token_reused.
        """
        result: DeletedResult = self.call("link.del", params)
        return result

    def link_get(self, **params: Unpack[LinkSelector]) -> SelectedResult:
        """One pair, and which of its ends was asked for.

        A pair: by the name of an end, or by its uuid.

        ifname: The name of an end.
        netns: The namespace of that end; omitted, the caller's own, or else the only one that has an end of that name.
        pair: The pair's uuid.
        end: Which end of `pair` is meant, where it matters; omitted, a.

        Raises RpcError: no_such_link, ambiguous_name, no_such_netns.
        """
        result: SelectedResult = self.call("link.get", params)
        return result

    def link_list(self, **params: Unpack[LinkListParams]) -> list[PairResult]:
        """All pairs, or those that the filter lets through.

        ifname: An end has this name.
        netns: An end is in this namespace; with `ifname`, the same end.
        pair: The one with this uuid; that there is none is an error.
        labels: It has all these labels; null means any value.
        origin: On whose behalf it was made.
        stats: With the counters of stats.get in each.

        Raises RpcError: no_such_link, no_such_netns.
        """
        result: list[PairResult] = self.call("link.list", params)
        return result

    def link_set(self, **params: Unpack[LinkSetParams]) -> SelectedResult:
        """Change an end or its pair: everything that is asked for, or nothing.

        ifname: The name of an end.
        netns: The namespace of that end; omitted, the caller's own, or else the only one that has an end of that name.
        pair: The pair's uuid.
        end: Which end of `pair` is meant, where it matters; omitted, a.
        set: What to change.
        generation: Only if the pair's generation is still this one.
        token: Makes a retry safe: a second request with it gets the first one's result.

        Raises RpcError: no_such_link, ambiguous_name, no_such_netns, invalid_name, invalid_address, mtu_out_of_range,
            link_exists, kernel_refused, no_such_bridge, stale_generation, limit_reached, worker_failed, token_reused.
        """
        result: SelectedResult = self.call("link.set", params)
        return result

    def rpc_discover(self) -> dict[str, Any]:
        """This description of all methods, as an OpenRPC document."""
        result: dict[str, Any] = self.call("rpc.discover")
        return result

    def softnet_get(self) -> SoftnetResult:
        """Every worker's backlog."""
        result: SoftnetResult = self.call("softnet.get")
        return result

    def stats_get(self, **params: Unpack[StatsGetParams]) -> StatsResult:
        """Counters, the kernel's own included.

        Counters since each pair was made, or since a cursor.

        ifname: An end has this name.
        netns: An end is in this namespace; with `ifname`, the same end.
        pair: The one with this uuid; that there is none is an error.
        labels: It has all these labels; null means any value.
        origin: On whose behalf it was made.
        cursor: Also a cursor, with which the next call asks for what came since this one; a daemon keeps the last 64.
        since: Count from this cursor on: differences, with a new cursor. A pair made since then counts from its
            creation.

        Raises RpcError: no_such_link, no_such_netns, cursor_expired.
        """
        result: StatsResult = self.call("stats.get", params)
        return result

    def sysctl_get(self, **params: Unpack[SysctlGetParams]) -> SysctlResult:
        """The backlog's limits that are in force.

        names: Which, with or without `net.core.` before; omitted, all.
        """
        result: SysctlResult = self.call("sysctl.get", params)
        return result

    def sysctl_set(self, **params: Unpack[SysctlSetParams]) -> SysctlResult:
        """Change limits; answered when every worker that serves has them.

        Change the backlog's limits of every worker, all or none of them; until the daemon ends.

        values: New values by name, with or without `net.core.` before: netdev_max_backlog, netdev_budget, dev_weight in
            frames, netdev_budget_usecs, busy_poll in microseconds.
        """
        result: SysctlResult = self.call("sysctl.set", params)
        return result


class AsyncCalls:
    """The daemon's methods as coroutines. Each raises RpcError and NotRunning."""

    async def call(self, method: str, params: Mapping[str, Any] | None = None) -> Any:
        """Call a method by name."""
        raise NotImplementedError

    async def bridge_del(self, **params: Unpack[BridgeDelParams]) -> BridgeDeletedResult:
        """Delete a bridge; only a bridge, and only one that has no ports but ends of pairs.

        name: Of the bridge.
        netns: Where it is; omitted, the caller's own namespace.
        token: Makes a retry safe: a second request with it gets the first one's result.

        Raises RpcError: invalid_name, no_such_bridge, bridge_in_use, no_such_netns, kernel_refused, token_reused.
        """
        result: BridgeDeletedResult = await self.call("bridge.del", params)
        return result

    async def bridge_set(self, **params: Unpack[BridgeSetParams]) -> BridgeResult:
        """Make a bridge, or complete one that is there.

        name: At most 15 bytes.
        netns: Where it belongs; omitted, the caller's own namespace.
        addresses: IP addresses that it shall have; others stay.
        mtu: Bytes; omitted, the smallest of its ports.
        address: Unicast MAC address; omitted, a random one that stays the same whatever ports come and go.
        vlan_filtering: Frames are kept to the VLANs of their ports.
        promisc: The bridge itself takes all frames: with hairpin, so that what it answers for comes back to it.
        up: Set it up.
        token: Makes a retry safe: a second request with it gets the first one's result.

        Raises RpcError: invalid_name, invalid_address, link_exists, no_such_netns, kernel_refused, token_reused.
        """
        result: BridgeResult = await self.call("bridge.set", params)
        return result

    async def config_apply(self, **params: Unpack[ConfigApplyParams]) -> ConfigApplyResult:
        """Make the static pairs what they shall be: create, change and, with `prune`, remove. Pairs of another origin
        are never touched, and a pair that is as it shall be is not disturbed. Bridges are made or completed before.

        Each pair is changed as a whole or not at all; what failed stands in its row, and the others are done
        nevertheless.

        pairs: The pairs that shall exist.
        bridges: Bridges that shall exist; a namespace named here that does not exist is made. With `prune`, those that
            were named before and are not now are removed, if they were made so and others have no ports there.
        prune: Remove static pairs that are not among them.
        dry_run: Only say what would be done.
        token: Makes a retry safe: a second request with it gets the first one's result.

        Raises RpcError: token_reused.
        """
        result: ConfigApplyResult = await self.call("config.apply", params)
        return result

    async def config_save(self) -> ConfigSaveResult:
        """The file that rebuilds the present state: settings, and the pairs of origin config and api."""
        result: ConfigSaveResult = await self.call("config.save")
        return result

    async def daemon_info(self) -> DaemonInfo:
        """What runs."""
        result: DaemonInfo = await self.call("daemon.info")
        return result

    async def daemon_reexec(self) -> ReexecResult:
        """Replace the daemon's program by what is installed now; pairs stay, and frames keep flowing.

        Raises RpcError: reexec_failed.
        """
        result: ReexecResult = await self.call("daemon.reexec")
        return result

    async def link_add(self, **params: Unpack[LinkAddParams]) -> PairResult:
        """Make a pair, or several at once.

        a: The first end, the one that `ip link add NAME` names.
        b: Its peer; omitted, it gets a's mtu and txqueuelen and a name of its own, as with `ip link add type veth`.
        placement: `move`: the pair dies with a namespace, as veth does. `inside`: quick, and keeps the namespaces
            alive.
        numqueues: Queues of each end, 1 to 256; the flows are spread over them, and they over the workers. Fixed for
            life.
        overload: What its worker does while the backlog is full: `drop` frames, or `backpressure`: stop reading this
            pair. Omitted, what `overload` in the configuration says.
        labels: Words of the caller's about the pair, to find it by; at most 64.
        origin: On whose behalf it is made.
        token: Makes a retry safe: a second request with it gets the first one's result, and makes nothing.

        Raises RpcError: invalid_name, invalid_address, mtu_out_of_range, link_exists, no_such_netns, kernel_refused,
            no_such_bridge, limit_reached, tun_missing, worker_failed, token_reused.
        """
        result: PairResult = await self.call("link.add", params)
        return result

    async def link_add_several(self, pairs: list[PairParams]) -> list[PairResult]:
        """As link_add, for several: all or none."""
        result: list[PairResult] = await self.call("link.add", {"pairs": pairs})
        return result

    async def link_del(self, **params: Unpack[LinkDelParams]) -> DeletedResult:
        """Delete a pair; both devices are gone when this is answered.

        ifname: The name of an end.
        netns: The namespace of that end; omitted, the caller's own, or else the only one that has an end of that name.
        pair: The pair's uuid.
        end: Which end of `pair` is meant, where it matters; omitted, a.
        generation: Only if the pair's generation is still this one.
        token: Makes a retry safe: a second request with it gets the first one's result.

        Raises RpcError: no_such_link, ambiguous_name, no_such_netns, stale_generation, token_reused.
        """
        result: DeletedResult = await self.call("link.del", params)
        return result

    async def link_get(self, **params: Unpack[LinkSelector]) -> SelectedResult:
        """One pair, and which of its ends was asked for.

        A pair: by the name of an end, or by its uuid.

        ifname: The name of an end.
        netns: The namespace of that end; omitted, the caller's own, or else the only one that has an end of that name.
        pair: The pair's uuid.
        end: Which end of `pair` is meant, where it matters; omitted, a.

        Raises RpcError: no_such_link, ambiguous_name, no_such_netns.
        """
        result: SelectedResult = await self.call("link.get", params)
        return result

    async def link_list(self, **params: Unpack[LinkListParams]) -> list[PairResult]:
        """All pairs, or those that the filter lets through.

        ifname: An end has this name.
        netns: An end is in this namespace; with `ifname`, the same end.
        pair: The one with this uuid; that there is none is an error.
        labels: It has all these labels; null means any value.
        origin: On whose behalf it was made.
        stats: With the counters of stats.get in each.

        Raises RpcError: no_such_link, no_such_netns.
        """
        result: list[PairResult] = await self.call("link.list", params)
        return result

    async def link_set(self, **params: Unpack[LinkSetParams]) -> SelectedResult:
        """Change an end or its pair: everything that is asked for, or nothing.

        ifname: The name of an end.
        netns: The namespace of that end; omitted, the caller's own, or else the only one that has an end of that name.
        pair: The pair's uuid.
        end: Which end of `pair` is meant, where it matters; omitted, a.
        set: What to change.
        generation: Only if the pair's generation is still this one.
        token: Makes a retry safe: a second request with it gets the first one's result.

        Raises RpcError: no_such_link, ambiguous_name, no_such_netns, invalid_name, invalid_address, mtu_out_of_range,
            link_exists, kernel_refused, no_such_bridge, stale_generation, limit_reached, worker_failed, token_reused.
        """
        result: SelectedResult = await self.call("link.set", params)
        return result

    async def rpc_discover(self) -> dict[str, Any]:
        """This description of all methods, as an OpenRPC document."""
        result: dict[str, Any] = await self.call("rpc.discover")
        return result

    async def softnet_get(self) -> SoftnetResult:
        """Every worker's backlog."""
        result: SoftnetResult = await self.call("softnet.get")
        return result

    async def stats_get(self, **params: Unpack[StatsGetParams]) -> StatsResult:
        """Counters, the kernel's own included.

        Counters since each pair was made, or since a cursor.

        ifname: An end has this name.
        netns: An end is in this namespace; with `ifname`, the same end.
        pair: The one with this uuid; that there is none is an error.
        labels: It has all these labels; null means any value.
        origin: On whose behalf it was made.
        cursor: Also a cursor, with which the next call asks for what came since this one; a daemon keeps the last 64.
        since: Count from this cursor on: differences, with a new cursor. A pair made since then counts from its
            creation.

        Raises RpcError: no_such_link, no_such_netns, cursor_expired.
        """
        result: StatsResult = await self.call("stats.get", params)
        return result

    async def sysctl_get(self, **params: Unpack[SysctlGetParams]) -> SysctlResult:
        """The backlog's limits that are in force.

        names: Which, with or without `net.core.` before; omitted, all.
        """
        result: SysctlResult = await self.call("sysctl.get", params)
        return result

    async def sysctl_set(self, **params: Unpack[SysctlSetParams]) -> SysctlResult:
        """Change limits; answered when every worker that serves has them.

        Change the backlog's limits of every worker, all or none of them; until the daemon ends.

        values: New values by name, with or without `net.core.` before: netdev_max_backlog, netdev_budget, dev_weight in
            frames, netdev_budget_usecs, busy_poll in microseconds.
        """
        result: SysctlResult = await self.call("sysctl.set", params)
        return result
