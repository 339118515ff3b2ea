"""Which pairs a request means."""

from __future__ import annotations

from vethd.host import netns
from vethd.pairs.pair import Letter, Pair
from vethd.pairs.registry import Registry
from vethd.rpc.call import Call
from vethd.rpc.schema.link import LinkFilter, LinkSelector


def select(registry: Registry, params: LinkSelector, call: Call) -> tuple[Pair, Letter]:
    """The pair, and the end that was asked for. Raises NoSuchLink, AmbiguousName, NoSuchNetns."""
    if params.pair is not None:
        return registry.by_uuid(params.pair), params.end or "a"
    assert params.ifname is not None
    where = _identity(params, call)
    end = registry.named(params.ifname, where, call.own_netns() if where is None else where)
    return end.pair, end.letter


def matching(registry: Registry, params: LinkFilter, call: Call) -> list[Pair]:
    """The pairs that a filter lets through. Raises NoSuchLink, NoSuchNetns."""
    where = _identity(params, call)
    pairs = [registry.by_uuid(params.pair)] if params.pair is not None else registry
    return [pair for pair in pairs if _matches(pair, params, where)]


def _matches(pair: Pair, params: LinkFilter, where: tuple[int, int] | None) -> bool:
    return (
        any(
            (params.ifname is None or end.ifname == params.ifname) and (where is None or end.netns == where)
            for end in pair.ends
        )
        and (params.origin is None or pair.origin == params.origin)
        and all(
            name in pair.labels and (value is None or pair.labels[name] == value)
            for name, value in params.labels.items()
        )
    )


def _identity(params: LinkSelector | LinkFilter, call: Call) -> tuple[int, int] | None:
    if params.netns is None:
        return None
    with call.netns(params.netns, "netns") as fd:
        return netns.identity(fd)
