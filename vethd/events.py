"""Every event that a listener can hear of: one row each, with its fields.

The one table that the control socket, vethctl and the documentation read; a test compares it with what is recorded.
Whoever listens and applies each event to the snapshot that it began with has the state of the daemon:

* topic link, `added`: the pair is `fields`; `deleted`: it is no more; else each field replaces that of the end, or of
  the pair when the event names no end. The event's number is the pair's generation.
* topic carrier: `carrier` is that of both ends, `operstate` that of the end.
* topic worker: each field that a worker's row has replaces it there; how many pairs and queues it has follows from the
  pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

Topic = Literal["link", "carrier", "worker", "drop", "config", "daemon"]
TOPICS: Final[tuple[Topic, ...]] = get_args(Topic)


@dataclass(frozen=True, slots=True)
class EventRow:
    """What one event says.

    topic, event: its name. about: what it happened to, and so which of `pair` and `end` it has.
    meaning: when it is sent, in one sentence. fields: what each of them says. some: it has only those that apply.
    """

    topic: Topic
    event: str
    about: Literal["end", "pair", "end or pair", "daemon"]
    meaning: str
    fields: dict[str, str]
    some: bool = False


_END_CHANGES: Final = {
    "ifname": "its name",
    "up": "administratively up (IFF_UP)",
    "mtu": "bytes",
    "address": "MAC address",
    "txqueuelen": "frames",
    "offload": "what crosses the wire undone: checksums, segmentation",
    "offload_why": "why it is not more, or empty",
    "alias": "its ifalias",
    "gro": "frames that wait for it are merged",
    "master": "the bridge, or another device, that it is a port of, or null",
    "labels": "of the pair, all of them",
    "overload": "of the pair: drop or backpressure",
    "workers": "of the pair: which worker forwards each queue",
    "name": "of the pair, which had lost it with the daemon's state",
    "origin": "of the pair, likewise",
}

_ROWS: Final = (
    EventRow(
        "link",
        "added",
        "pair",
        "a pair was made; its ends come up after this",
        dict.fromkeys(
            (
                *("pair", "name", "origin", "generation", "labels", "placement", "numqueues", "overload", "workers"),
                *("a", "b"),
            ),
            "as in link.get",
        ),
    ),
    EventRow("link", "changed", "end or pair", "something about an end or a pair is another now", _END_CHANGES, True),
    EventRow(
        "link",
        "moved",
        "end",
        "an end is in another namespace now",
        {
            "netns": "that namespace's `ip netns` name, or null",
            "netns_inode": "inode of that namespace",
            "ifindex": "its index there",
            "from_inode": "inode of the namespace where it was",
        },
    ),
    EventRow(
        "link",
        "deleted",
        "pair",
        "both devices are gone",
        {"reason": "who or what wanted it"},
    ),
    EventRow("carrier", "changed", "pair", "both ends got or lost their carrier", {"carrier": "both ends are up"}),
    EventRow(
        "carrier",
        "operstate",
        "end",
        "the kernel calls an end's state something else now",
        {"operstate": "RFC 2863, as the kernel says: UP, DOWN, LOWERLAYERDOWN ..."},
    ),
    EventRow(
        "worker",
        "died",
        "daemon",
        "a worker's process ended; its links stay, and their frames wait for its successor",
        {
            "id": "number of the worker",
            "pid": "null, as nothing runs in its place",
            "datapath": "null",
            "frameio": "null",
            "why": "null",
            "died_pid": "the process that ended",
            "reason": "why it ended",
        },
    ),
    EventRow(
        "worker",
        "delayed",
        "daemon",
        "a worker died too often of late and is replaced later",
        {"id": "number of the worker", "seconds": "until then"},
    ),
    EventRow(
        "worker",
        "serving",
        "daemon",
        "a worker forwards the frames of its pairs from now on",
        dict.fromkeys(("id", "pid", "pairs", "queues", "datapath", "frameio", "why"), "as in daemon.info"),
    ),
    EventRow(
        "worker",
        "replaced",
        "daemon",
        "a worker that had died is replaced, and what it took along is counted",
        {"id": "number of the worker", "frames_lost": "frames counted as WORKER_LOST"},
    ),
    EventRow(
        "worker",
        "overdue",
        "daemon",
        "a worker that died or hung could not be replaced in time; if systemd watches the daemon, it starts it anew",
        {"seconds": "for which nothing has forwarded the frames of its pairs"},
    ),
    EventRow(
        "worker",
        "spare_died",
        "daemon",
        "the process that stands by ended; another one starts",
        {"died_pid": "the process that ended", "reason": "why it ended"},
    ),
    EventRow(
        "drop",
        "dropped",
        "end",
        "frames that started at an end were dropped since the last event about the end and the point",
        {
            "point": "the drop point",
            "frames": "how many since then",
            "total": "how many since the pair was made",
            "interval": "seconds that `frames` stands for",
        },
    ),
    EventRow(
        "config",
        "reloaded",
        "daemon",
        "the configuration was read again and is in force",
        {
            "files": "the files that were read, in order",
            "changed": "settings that have another value now",
            "needs_restart": "settings that keep their old value until the daemon starts again",
        },
    ),
    EventRow(
        "config",
        "failed",
        "daemon",
        "the configuration was read again and is not valid; nothing was changed",
        {"errors": "what is wrong, each with file, line and key"},
    ),
    EventRow(
        "config",
        "applied",
        "daemon",
        "the pairs are what the configuration, or config.apply, wants, but for those that failed",
        {
            "create": "how many pairs were made",
            "change": "how many were changed",
            "replace": "how many were deleted and made anew, as what is to change can't",
            "remove": "how many were deleted",
            "keep": "how many were so already",
            "failed": "names of the pairs that could not be made so; the log says why",
            "reason": "who or what wanted it",
        },
    ),
    EventRow(
        "daemon",
        "resync",
        "daemon",
        "the kernel's events came faster than they could be read, and every end is asked how it is",
        {"ends": "how many are asked"},
    ),
    EventRow(
        "daemon",
        "sysctl",
        "daemon",
        "sysctl.set changed limits of the backlog",
        {"values": "the new values by name, with `net.core.` before"},
    ),
    EventRow(
        "daemon",
        "reexec",
        "daemon",
        "the daemon's program is being replaced; links stay, and events go on with another server_id",
        {},
    ),
    EventRow("daemon", "stopping", "daemon", "the daemon ends; no event comes after this", {}),
)

#: The rows by topic and event.
EVENTS: Final[dict[tuple[str, str], EventRow]] = {(row.topic, row.event): row for row in _ROWS}
