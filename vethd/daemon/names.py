"""Names of the descriptors that the next program gets; their numbers change on the way through a service manager.

::

    HHHHHHHHHHHLQQ      queue QQ (hexadecimal) of end L (a or b) of the pair whose uuid begins with H (base64)
    staging             the staging namespace                  counters    their memfd
    worker.PID          the channel of a worker                control     the listening socket

Ends have short names because systemd hands all names over in one environment variable. Were it longer than the kernel
allows, the daemon could not be started any more, nor could the links be given up but by stopping it.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final
from uuid import UUID

from vethd.pairs.pair import Letter, uuid_of

STAGING, COUNTERS, CONTROL = "staging", "counters", "control"
#: Bytes of an environment variable, its name and the zero at its end included: MAX_ARG_STRLEN of linux/binfmts.h.
_LONGEST: Final = 131_072
_END: Final = re.compile(r"(?P<half>[A-Za-z0-9_-]{11})(?P<letter>[ab])(?P<queue>[0-9a-f]{2})")
#: The same in states of version 1.
_END_1: Final = re.compile(r"end\.(?P<uuid>[0-9a-f-]{36})\.(?P<letter>[ab])\.(?P<queue>[0-9]{1,3})")
_WORKER: Final = re.compile(r"worker\.(?P<pid>[0-9]{1,9})")

#: What a pair is called in names of its ends.
Half = str


def half_of(uuid: UUID) -> Half:
    """The part of a uuid that its names carry."""
    return urlsafe_b64encode(uuid.bytes[:8]).rstrip(b"=").decode()


def whole_of(half: Half) -> UUID:
    """The uuid of which that is a part."""
    return uuid_of(urlsafe_b64decode(f"{half}="))


def end_name(uuid: UUID, letter: Letter, queue: int) -> str:
    """Of one queue of an end."""
    return f"{half_of(uuid)}{letter}{queue:02x}"


def worker_name(pid: int) -> str:
    """Of the channel of a worker."""
    return f"worker.{pid}"


def as_end(name: str) -> tuple[Half, Letter, int] | None:
    """Of which pair, end and queue that is the name, None if it is none of an end's."""
    if match := _END.fullmatch(name):
        half, queue = match["half"], int(match["queue"], 16)
    elif match := _END_1.fullmatch(name):
        half, queue = half_of(UUID(match["uuid"])), int(match["queue"])
    else:
        return None
    return half, "a" if match["letter"] == "a" else "b", queue


def as_worker(name: str) -> int | None:
    """The pid of the worker whose channel has that name, None if it is none."""
    match = _WORKER.fullmatch(name)
    return int(match["pid"]) if match else None


def is_known(name: str) -> bool:
    """Whether that is a name at all."""
    return name in (STAGING, COUNTERS, CONTROL) or as_end(name) is not None or as_worker(name) is not None


def outlives_the_process(name: str) -> bool:
    """Whether what has that name is for a service manager to keep."""
    return name != CONTROL and as_worker(name) is None


def most_ends() -> int:
    """How many ends, or queues, one environment variable has room for."""
    others = len(f"LISTEN_FDNAMES={CONTROL}:{STAGING}:{COUNTERS}\0")
    return (_LONGEST - others) // len(f":{end_name(UUID(int=0), 'a', 0)}")
