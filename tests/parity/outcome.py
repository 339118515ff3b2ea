"""What a scenario saw: items by name, recorded once per backend and compared afterwards."""

import os
from collections.abc import Callable
from typing import TypeVar

from tests.kit.waiting import settled

T = TypeVar("T")

NOT_SEEN = "(not seen)"


class Outcome:
    """The items one run of a scenario recorded; a run on vethd has the kernel's as its `reference`.

    Every item comes with what kernel veth is known to show. On the kernel's own run a different value fails at once:
    the scenario is then wrong about its reference, and comparing two wrong values would prove nothing.
    """

    def __init__(self, backend: str, reference: "Outcome | None" = None) -> None:
        self.backend = backend
        self.items: dict[str, object] = {}
        self._reference = reference

    def see(self, item: str, value: object, kernel: object, older: object = None) -> None:
        """Record an item that does not change any more; `older` is what kernels before 6.18 show, if they differ."""
        assert item not in self.items, f"item {item!r} recorded twice"
        if self._reference is None:
            known = kernel if older is None or kernel_version() >= (6, 18) else older
            assert value == known, f"kernel veth shows {item}: {value!r}, the scenario expects {known!r}"
        self.items[item] = value

    def wait(self, item: str, read: Callable[[], T], kernel: T, older: T | None = None, within: float = 3.0) -> None:
        """Record an item as soon as it is what kernel veth shows, or as it is when the time is up."""
        target = kernel if self._reference is None else self._reference.items[item]
        self.see(item, settled(read, lambda value: value in (target, older), within), kernel, older)


def kernel_version() -> tuple[int, int]:
    """Return the running kernel's version, major and minor number."""
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int(minor)


def differences(veth: Outcome, vethd: Outcome) -> dict[str, tuple[object, object]]:
    """Return (veth's value, vethd's value) of every item in which the two runs differ."""
    names = veth.items.keys() | vethd.items.keys()
    pairs = {name: (veth.items.get(name, NOT_SEEN), vethd.items.get(name, NOT_SEEN)) for name in sorted(names)}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
