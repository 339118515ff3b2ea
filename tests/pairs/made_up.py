"""Pairs that exist on paper only, for the tables and the arithmetic."""

from __future__ import annotations

from typing import cast

from vethd.pairs.pair import End, Letter, Pair


def paper_end(
    pair: Pair,
    letter: Letter,
    number: int,
    *,
    ifname: str | None = None,
    netns: tuple[int, int] = (4, 1),
    key: tuple[int, int] | None = None,
) -> End:
    """An end with this number; its events come from `key`, by default one of its own."""
    nsid, ifindex = key or (number, 100 + number)
    return End(
        pair=pair,
        letter=letter,
        number=number,
        fd=-1,
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
    numbers: tuple[int, int],
    *,
    names: tuple[str | None, str | None] = (None, None),
    places: tuple[tuple[int, int], tuple[int, int]] = ((4, 1), (4, 2)),
) -> Pair:
    """A pair whose ends have these numbers, names and namespaces."""
    pair = Pair(placement="move", origin="api")
    for letter, number, name, place in zip("ab", numbers, names, places, strict=True):
        setattr(pair, letter, paper_end(pair, cast(Letter, letter), number, ifname=name, netns=place))
    return pair
