"""Pairs that exist on paper only, for the tables and the arithmetic."""

from __future__ import annotations

from typing import cast

from vethd.pairs.pair import End, Letter, Pair, Queue


def paper_end(
    pair: Pair,
    letter: Letter,
    *numbers: int,
    ifname: str | None = None,
    netns: tuple[int, int] = (4, 1),
    key: tuple[int, int] | None = None,
) -> End:
    """An end with queues of these numbers; its events come from `key`, by default one of its own."""
    number = numbers[0]
    nsid, ifindex = key or (number, 100 + number)
    return End(
        pair=pair,
        letter=letter,
        queues=tuple(Queue(number, -1) for number in numbers),
        ifname=ifname or f"vtp{letter}{number}",
        ifindex=ifindex,
        address="02:00:00:00:00:01",
        mtu=1500,
        txqlen=1000,
        netns=netns,
        nsid=nsid,
        offload=0x6F,
        hdr_len=10,
    )


def paper_pair(
    numbers: tuple[int, ...],
    *,
    names: tuple[str | None, str | None] = (None, None),
    places: tuple[tuple[int, int], tuple[int, int]] = ((4, 1), (4, 2)),
) -> Pair:
    """A pair whose queues have these numbers (a's first, b's first, a's second ...), and ends of these names."""
    pair = Pair(placement="move", origin="api", numqueues=len(numbers) // 2)
    for at, (letter, name, place) in enumerate(zip("ab", names, places, strict=True)):
        setattr(pair, letter, paper_end(pair, cast(Letter, letter), *numbers[at::2], ifname=name, netns=place))
    return pair
