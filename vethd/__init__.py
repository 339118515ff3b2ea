"""vethd: a userspace veth - pairs of TAP devices joined by a wire that can be seen, counted and kept alive."""

__version__ = "0.1.0"
