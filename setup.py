"""The compiled datapath, by as many processes as there are CPUs; all else about the package is in pyproject.toml.

Cython runs in processes of its own, for it is not made for threads; setuptools starts the C compiler from threads.
Where an extension can't be compiled the same source runs interpreted (vethd/datapath/__init__.py says when), or
syscalls do the work of io_uring.
"""

import os

from Cython.Build import cythonize
from setuptools import Extension, setup

#: Plain Python, compiled through the .pxd beside it.
PYTHON = ("datapath.gro", "datapath.netdev", "datapath.skb", "datapath.softnet", "datapath.veth")
PYTHON += ("worker.counters", "worker.loop")
#: Only where liburing and its header (2.2 or later) are.
URING = ("frameio.ring", "frameio.uring")


def extension(module: str, suffix: str, *libraries: str) -> Extension:
    """A module that vethd can do without."""
    source = f"vethd/{module.replace('.', '/')}{suffix}"
    return Extension(f"vethd.{module}", [source], libraries=list(libraries), optional=True)


extensions = [
    *(extension(module, ".py") for module in PYTHON),
    *(extension(module, ".pyx", "uring") for module in URING),
    extension("frameio._batch", ".pyx"),
]
cpus = len(os.sched_getaffinity(0))
for each, translated in zip(extensions, cythonize(extensions, nthreads=cpus, build_dir="build"), strict=True):
    each.sources = translated.sources  # what cythonize returns is no longer optional
setup(ext_modules=extensions, options={"build_ext": {"parallel": cpus}})
