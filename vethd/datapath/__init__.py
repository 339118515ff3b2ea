"""The journey of a frame, sans I/O: no socket, no loop, no clock. Read skb, netdev, veth, softnet, gro in this order.

One source, two speeds: each module is plain Python and is also compiled with Cython, through the .pxd beside it that
gives it C types. The compiled one runs where it was built; `VETHD_NO_EXTENSIONS=1` runs the source all the same, and
`VETHD_REQUIRE_EXTENSIONS=1` makes a missing extension an error. Both do the same to the last counter.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader
from types import ModuleType
from typing import Literal


def source_only(package: Iterable[str]) -> None:
    """Import modules of a package from their source, whether compiled or not; `package` is its `__path__`."""
    for path in package:
        sys.path_importer_cache[path] = FileFinder(path, (SourceFileLoader, SOURCE_SUFFIXES))


if os.environ.get("VETHD_NO_EXTENSIONS") == "1":
    source_only(__path__)


def speed() -> Literal["compiled", "interpreted"]:
    """Which of the two runs in this process. Raises ImportError when it is not the one that was asked for."""
    from vethd.datapath import gro, netdev, skb, softnet, veth

    return "compiled" if compiled(gro, netdev, skb, softnet, veth) else "interpreted"


def compiled(*modules: ModuleType) -> bool:
    """True when all these are. Raises ImportError when one is not and VETHD_REQUIRE_EXTENSIONS asks for it."""
    interpreted = [module.__name__ for module in modules if str(module.__file__).endswith(".py")]
    if interpreted and os.environ.get("VETHD_REQUIRE_EXTENSIONS") == "1":
        raise ImportError(f"VETHD_REQUIRE_EXTENSIONS is set, but not compiled: {', '.join(interpreted)}")
    return not interpreted


def why() -> str:
    """Why it is that speed, in words."""
    if speed() == "compiled":
        return "extensions are built"
    return "VETHD_NO_EXTENSIONS is set" if os.environ.get("VETHD_NO_EXTENSIONS") == "1" else "extensions are not built"
