"""The datapath process: no privilege, no names, no netlink - ends by number, frames by file descriptor.

`loop` and `counters` are compiled as the datapath is, see vethd/datapath/__init__.py; never they alone.
"""

from __future__ import annotations

from vethd.datapath import source_only, speed

if speed() == "interpreted":
    source_only(__path__)
