"""`Registry`: every LIVE pair, found by uuid, by end number, by where events come from, and by name."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from uuid import UUID

from vethd.errors import AmbiguousName, LimitReached, NoSuchLink
from vethd.host import netns
from vethd.pairs.pair import End, Pair


class Registry:
    """The tables. Only the event loop touches them.

    max_ends: how many ends there may be at a time; the counters have as many rows. An end of several queues counts once
    per queue. remedy: what to do about that limit.
    """

    def __init__(self, max_ends: int, remedy: str = "raise max_pairs in the configuration") -> None:
        self.max_ends = max_ends
        self._remedy = remedy
        self._pairs: dict[UUID, Pair] = {}
        self._by_key: dict[tuple[int, int], End] = {}
        self._by_number: dict[int, End] = {}
        self._by_name: dict[str, dict[End, None]] = {}  # the ends in the order in which they got the name
        self._free_numbers: list[int] = []
        self._numbers_used = 0  # taken now; numbers below the highest ever taken that are free are in the heap

    def __len__(self) -> int:
        return len(self._pairs)

    def __iter__(self) -> Iterator[Pair]:
        return iter(list(self._pairs.values()))

    @property
    def free(self) -> int:
        """How many queues of pairs there may be in addition."""
        return (self.max_ends - self._numbers_used) // 2

    def take_numbers(self, numqueues: int = 1) -> tuple[int, ...]:
        """Two numbers per queue of a pair, lowest first. Raises LimitReached."""
        if self.free < numqueues:
            most = self.max_ends // 2
            raise LimitReached(
                f"{most} pairs exist already"
                if numqueues == 1
                else f"numqueues {numqueues}: {self.free} queues are left, of {most} for all pairs together",
                hint=f"delete some, or {self._remedy}",
            )
        return tuple(self._take_number() for _ in range(2 * numqueues))

    def give_numbers(self, numbers: Iterable[int]) -> None:
        """Make numbers free again."""
        for number in numbers:
            heapq.heappush(self._free_numbers, number)
            self._numbers_used -= 1

    def keep_numbers(self, numbers: Iterable[int]) -> None:
        """Take just these numbers, before any other is taken: those of a predecessor's pairs."""
        taken = set(numbers)
        self._free_numbers = sorted(set(range(max(taken, default=-1))) - taken)  # sorted, so a heap
        self._numbers_used = len(taken)

    def add(self, pair: Pair) -> None:
        """Enter a pair; its events are followed from now on."""
        self._pairs[pair.uuid] = pair
        for end in pair.ends:
            self._by_key[end.key] = end
            self._by_name.setdefault(end.ifname, {})[end] = None
            self._by_number.update((queue.number, end) for queue in end.queues)

    def remove(self, pair: Pair) -> None:
        """Take a pair out; its numbers stay taken until give_numbers."""
        if self._pairs.pop(pair.uuid, None) is None:
            return
        for end in pair.ends:
            if self._by_key.get(end.key) is end:
                del self._by_key[end.key]
            self._forget_name(end)
            for queue in end.queues:
                del self._by_number[queue.number]

    def rekey(self, end: End, nsid: int, ifindex: int) -> None:
        """An end is somewhere else now."""
        if self._by_key.get(end.key) is end:
            del self._by_key[end.key]
        end.nsid, end.ifindex = nsid, ifindex
        self._by_key[end.key] = end

    def rename(self, end: End, ifname: str) -> None:
        """An end of a pair that is in the tables is called something else now."""
        self._forget_name(end)
        end.ifname = ifname
        self._by_name.setdefault(ifname, {})[end] = None

    def at(self, nsid: int, ifindex: int) -> End | None:
        """The end that an event from (nsid, ifindex) is about."""
        return self._by_key.get((nsid, ifindex))

    def in_nsid(self, nsid: int) -> list[End]:
        """All ends in the namespace with this nsid."""
        return [end for end in self._by_key.values() if end.nsid == nsid]

    def numbered(self, number: int) -> End | None:
        """The end that has a queue of this number."""
        return self._by_number.get(number)

    def by_uuid(self, uuid: UUID) -> Pair:
        """The pair with this uuid. Raises NoSuchLink."""
        pair = self._pairs.get(uuid)
        if pair is None:
            raise NoSuchLink(f"no pair {uuid}", hint="`vethctl link show` lists the pairs")
        return pair

    def named(self, ifname: str, where: tuple[int, int] | None, caller: tuple[int, int]) -> End:
        """The end called `ifname`.

        where: identity of its namespace; None means the caller's, or else the only one there is.
        Raises NoSuchLink, AmbiguousName.
        """
        found = list(self._by_name.get(ifname, ()))
        here = [end for end in found if end.netns == (where if where is not None else caller)]
        if where is not None or here:
            found = here
        if not found:
            raise NoSuchLink(f'Cannot find device "{ifname}"', hint="`vethctl link show` lists the links")
        if len(found) > 1:
            names = netns.names()
            places = ", ".join(sorted(describe_netns(end.netns, names) for end in found))
            raise AmbiguousName(f'"{ifname}" exists in several namespaces: {places}', hint="say which one: netns NAME")
        return found[0]

    def _forget_name(self, end: End) -> None:
        named = self._by_name[end.ifname]
        del named[end]
        if not named:
            del self._by_name[end.ifname]

    def _take_number(self) -> int:
        number = heapq.heappop(self._free_numbers) if self._free_numbers else self._numbers_used
        self._numbers_used += 1
        return number


def describe_netns(identity: tuple[int, int], names: dict[tuple[int, int], str]) -> str:
    """The name that `ip netns` has for a namespace, else `net:[inode]` as in /proc/PID/ns/net."""
    return names.get(identity) or f"net:[{identity[1]}]"
