"""The methods bridge.*."""

from __future__ import annotations

from vethd.errors import (
    BridgeInUse,
    InvalidAddress,
    InvalidName,
    KernelRefused,
    LinkExists,
    NoSuchBridge,
    NoSuchNetns,
    TokenReused,
)
from vethd.pairs.attachment import bridge_spec
from vethd.pairs.bridges import Bridges
from vethd.rpc.access import Role
from vethd.rpc.call import Call, Method
from vethd.rpc.schema.network import BridgeDeletedResult, BridgeDelParams, BridgeResult, BridgeSetParams


class BridgeMethods:
    """bridge.set, bridge.del."""

    def __init__(self, bridges: Bridges) -> None:
        self._bridges = bridges
        self.table = (
            Method(
                "bridge.set",
                BridgeSetParams,
                BridgeResult,
                Role.CHANGE,
                self.bridge_set,
                (InvalidName, InvalidAddress, LinkExists, NoSuchNetns, KernelRefused, TokenReused),
                {"name": "br0", "addresses": ["10.0.0.1/24"]},
            ),
            Method(
                "bridge.del",
                BridgeDelParams,
                BridgeDeletedResult,
                Role.CHANGE,
                self.bridge_del,
                (InvalidName, NoSuchBridge, BridgeInUse, NoSuchNetns, KernelRefused, TokenReused),
                {"name": "br0"},
            ),
        )

    async def bridge_set(self, params: BridgeSetParams, call: Call) -> BridgeResult:
        """Make a bridge, or complete one that is there."""
        with call.netns(params.netns, "netns") as place:
            done = await self._bridges.set(bridge_spec(params, place), f"bridge.set by {call.peer}")
        info = done.info
        return {
            "name": info.ifname,
            "ifindex": info.ifindex,
            "address": info.address,
            "mtu": info.mtu,
            "created": done.created,
        }

    async def bridge_del(self, params: BridgeDelParams, call: Call) -> BridgeDeletedResult:
        """Delete a bridge."""
        with call.netns(params.netns, "netns") as place:
            deleted = await self._bridges.delete(params.name, place, f"bridge.del by {call.peer}")
        return {"name": params.name, "deleted": deleted}
