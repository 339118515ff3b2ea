"""The check behind every test with a daemon: each frame is accounted for.

Per direction, from the end it starts at:

* read = delivered + merged + dropped + queued, and dropped is the sum over the numbered drop points, those frames aside
  that were never read: the TAP's ring was full, or it had no carrier;
* read = what the kernel says the TAP at this end transmitted;
* delivered = what the kernel says the TAP at the other end received.
"""

from typing import Any

NEVER_READ = frozenset({"TAP_RING"})
PERHAPS_NEVER_READ = frozenset({"NO_CARRIER"})


def imbalance(stats: dict[str, Any]) -> list[str]:
    """Return one sentence per broken equation in an answer of `stats.get`; an empty list when the books balance."""
    faults: list[str] = []
    for pair in stats["pairs"]:
        for start, finish in (("a", "b"), ("b", "a")):
            source, target = pair["ends"][start], pair["ends"][finish]
            where = f"pair {pair['uuid']} {start}->{finish}"
            read, delivered = source["read"], source["delivered"]
            accounted = delivered + source["merged"] + source["dropped"] + source["queued"]
            if read != accounted:
                faults.append(
                    f"{where}: read {read} != {accounted} = delivered {delivered} + merged {source['merged']}"
                    f" + dropped {source['dropped']} + queued {source['queued']}"
                )
            most = sum(count for name, count in source["drops"].items() if name not in NEVER_READ)
            least = most - sum(count for name, count in source["drops"].items() if name in PERHAPS_NEVER_READ)
            if not least <= source["dropped"] <= most:
                faults.append(f"{where}: dropped {source['dropped']} but the drop points say {source['drops']}")
            if source["kernel"] is None or target["kernel"] is None:
                continue  # its device is gone, and with it the kernel's counters
            if read != source["kernel"]["tx_packets"]:
                faults.append(f"{where}: read {read}, the kernel transmitted {source['kernel']['tx_packets']}")
            if delivered != target["kernel"]["rx_packets"]:
                faults.append(f"{where}: delivered {delivered}, the kernel received {target['kernel']['rx_packets']}")
    return faults
