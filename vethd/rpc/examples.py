"""What the examples of the methods' rows are answered with, on the daemon that has the pair of the documentation.

That pair joins `veth0` in the namespace red with `veth1` in blue. A test compares these answers with those of a daemon:
values differ, fields and types do not.
"""

from __future__ import annotations

from typing import Any, Final

from vethd.drops import DropPoint
from vethd.rpc.schema.config import ConfigApplyResult, ConfigSaveResult
from vethd.rpc.schema.daemon import DaemonInfo, ReexecResult, WorkerRow
from vethd.rpc.schema.events import SubscribeResult, UnsubscribeResult
from vethd.rpc.schema.link import DeletedResult, EndResult, PairResult, SelectedResult
from vethd.rpc.schema.network import BridgeDeletedResult, BridgeResult
from vethd.rpc.schema.stats import (
    EndsStats,
    EndStatsResult,
    KernelStats,
    QueueStatsResult,
    SoftnetResult,
    StatsResult,
    SysctlResult,
)

PAIR: Final = "27e03790-b76c-4e80-954e-0a1cae450d7e"
SERVER: Final = "89684838-b89b-4053-b9b9-60482db7c0d9"
VETH0: Final = "02:00:5e:10:00:01"
VETH1: Final = "02:00:5e:10:00:02"


def _end(ifname: str, peer: str, address: str, netns: str, netns_inode: int, mtu: int) -> EndResult:
    return {
        "ifname": ifname,
        "ifindex": 2,
        "netns": netns,
        "netns_inode": netns_inode,
        "address": address,
        "mtu": mtu,
        "txqueuelen": 1000,
        "alias": f"vethd {PAIR} peer {peer}",
        "up": True,
        "carrier": True,
        "operstate": "UP",
        "offload": ["tx-checksum", "tso4", "tso6", "tso-ecn", "uso4", "uso6", "udp-tunnel", "udp-tunnel-csum"],
        "offload_why": "",
        "gro": False,
        "master": None,
    }


def _pair(names: tuple[str, str], generation: int, mtu: int, labels: dict[str, str]) -> PairResult:
    one, other = names
    return {
        "pair": PAIR,
        "name": None,
        "origin": "api",
        "generation": generation,
        "labels": labels,
        "placement": "move",
        "numqueues": 1,
        "overload": "drop",
        "workers": [0],
        "a": _end(one, other, VETH0, "red", 4026532177, mtu),
        "b": _end(other, one, VETH1, "blue", 4026532240, 1500),
    }


def _end_stats(rx: tuple[int, int], tx: tuple[int, int], too_big: int) -> EndStatsResult:
    """rx, tx: frames and bytes. too_big: frames that started here and were dropped for that."""
    drops = {point.name: 0 for point in DropPoint} | {"PKT_TOO_BIG": too_big}
    kernel: KernelStats = {
        "rx_packets": rx[0],
        "tx_packets": tx[0] + too_big,
        "rx_bytes": rx[1],
        "tx_bytes": tx[1] + too_big * 1562,
        "rx_dropped": 0,
        "tx_dropped": 0,
    }
    queue: QueueStatsResult = {
        "queue": 0,
        "worker": 0,
        "rx_packets": rx[0],
        "rx_bytes": rx[1],
        "tx_packets": tx[0],
        "tx_bytes": tx[1],
        "read": tx[0] + too_big,
        "delivered": tx[0],
        "merged": 0,
        "drops": {name: frames for name, frames in drops.items() if name not in ("WORKER_LOST", "TAP_RING")},
    }
    return {
        "rx_packets": rx[0],
        "rx_bytes": rx[1],
        "rx_dropped": 0,
        "tx_packets": tx[0],
        "tx_bytes": tx[1],
        "tx_dropped": too_big,
        "read": tx[0] + too_big,
        "delivered": tx[0],
        "merged": 0,
        "dropped": too_big,
        "queued": 0,
        "drops": drops,
        "queues": [queue],
        "kernel": kernel,
    }


_ENDS: Final[EndsStats] = {
    "a": _end_stats((12, 1072), (14, 1212), 2),
    "b": {**_end_stats((14, 1212), (12, 1072), 0), "rx_dropped": 2},
}
_SEEN: Final = _pair(("veth0", "veth1"), 1, 1500, {})
_WORKER: Final[WorkerRow] = {
    "id": 0,
    "pid": 4711,
    "pairs": 1,
    "queues": 1,
    "datapath": "compiled",
    "frameio": "uring",
    "why": "extensions are built; io_uring with multishot reads",
}
_SAVED: Final = f"""\
[worker]
count = "auto"

[[pair]]
name = "veth0@red"

[pair.a]
ifname = "veth0"
address = "{VETH0}"
netns = "red"

[pair.b]
ifname = "veth1"
address = "{VETH1}"
netns = "blue"
"""

_ADDED: Final = _pair(("lab0", "lab1"), 1, 9000, {})
_CHANGED: Final[SelectedResult] = {**_pair(("veth0", "veth1"), 8, 9000, {"rack": "7"}), "end": "a"}
_SELECTED: Final[SelectedResult] = {**_SEEN, "end": "a"}
_DELETED: Final[DeletedResult] = {"pair": PAIR}
_STATS: Final[StatsResult] = {
    "pairs": [{"uuid": PAIR, "ends": _ENDS}],
    "cursor": "TOvOSqSDmhyP7kJN",
    "interval": None,
}
_SOFTNET: Final[SoftnetResult] = {
    "workers": [
        {
            "worker": 0,
            "pid": 4711,
            "processed": 28,
            "dropped": 0,
            "time_squeeze": 0,
            "input_queue_len": 0,
            "process_queue_len": 0,
        }
    ]
}
_SYSCTL: Final[SysctlResult] = {"values": {"net.core.netdev_max_backlog": 1000}}
_SYSCTL_SET: Final[SysctlResult] = {"values": {"net.core.netdev_max_backlog": 2000}}
_SUBSCRIBED: Final[SubscribeResult] = {
    "subscription": 1,
    "server_id": SERVER,
    "seq": 6,
    "found": False,
    "events": [],
    "snapshot": {"pairs": [_SEEN], "workers": [_WORKER]},
}
_UNSUBSCRIBED: Final[UnsubscribeResult] = {"subscription": 1}
_APPLIED: Final[ConfigApplyResult] = {
    "applied": False,
    "failed": 0,
    "plan": [{"name": "lab", "action": "create", "pair": None, "changes": {}, "error": None}],
}
_FILE: Final[ConfigSaveResult] = {"toml": _SAVED, "left_out": []}
_INFO: Final[DaemonInfo] = {
    "version": "0.1.0",
    "pid": 4710,
    "server_id": SERVER,
    "seq": 6,
    "uptime": 3600.25,
    "config": ["/etc/vethd/vethd.toml"],
    "capabilities": ["CAP_NET_ADMIN", "CAP_NET_BROADCAST", "CAP_SYS_ADMIN"],
    "kernel": {"release": "6.18.44", "features": {"io_uring": "yes"}},
    "limits": {
        "pairs": 1,
        "max_pairs": 4096,
        "clients": 1,
        "max_clients": 256,
        "open_files": 25,
        "max_open_files": 20000,
    },
    "pairs": 1,
    "max_pairs": 4096,
    "workers": [_WORKER],
}
_BRIDGE: Final[BridgeResult] = {
    "name": "br0",
    "ifindex": 4,
    "address": "02:00:5e:10:00:04",
    "mtu": 1500,
    "created": True,
}
_BRIDGE_GONE: Final[BridgeDeletedResult] = {"name": "br0", "deleted": False}
_REPLACED: Final[ReexecResult] = {"server_id": SERVER}

#: Results by method. That of rpc.discover is what it describes.
RESULTS: Final[dict[str, Any]] = {
    "link.add": _ADDED,
    "link.set": _CHANGED,
    "link.del": _DELETED,
    "link.get": _SELECTED,
    "link.list": [_SEEN],
    "bridge.set": _BRIDGE,
    "bridge.del": _BRIDGE_GONE,
    "stats.get": _STATS,
    "softnet.get": _SOFTNET,
    "sysctl.get": _SYSCTL,
    "sysctl.set": _SYSCTL_SET,
    "events.subscribe": _SUBSCRIBED,
    "events.unsubscribe": _UNSUBSCRIBED,
    "config.apply": _APPLIED,
    "config.save": _FILE,
    "daemon.info": _INFO,
    "daemon.reexec": _REPLACED,
}
