"""ipMasq: what containers send to other networks leaves with the host's address (vethd/firewall.py).

Each attachment owns its own addresses there, under a name that says whose they are.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from vethd import firewall
from vethd.cni.errors import REFUSED, CniError
from vethd.cni.plan import host_ifname

#: Where nft and iptables are, for a runtime that passes on no PATH.
_PATH: Final = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
#: Characters of a network's and a container's name in an owner's, which has room for 100 in all.
_NETWORK: Final = 40
_CONTAINER: Final = 32


def owner(network: str, container: str, ifname: str) -> str:
    """What an attachment is called in the packet filter."""
    return f"{_prefix(network)}{container[:_CONTAINER]}/{host_ifname(network, container, ifname)}"


def masquerade(network: str, container: str, ifname: str, addresses: Iterable[str]) -> None:
    """Masquerade what a container sends from these addresses, each with the length of its prefix. Raises CniError."""
    with _refused():
        firewall.masquerade(owner(network, container, ifname), addresses)


def is_masqueraded(network: str, container: str, ifname: str) -> bool:
    """Whether anything of an attachment is masqueraded. Raises CniError."""
    with _refused():
        return owner(network, container, ifname) in firewall.owners()


def forget(network: str, container: str, ifname: str) -> None:
    """Masquerade nothing of an attachment any more. Raises CniError."""
    with _refused():
        firewall.forget(owner(network, container, ifname))


def forget_all_but(network: str, valid: Iterable[tuple[str, str]]) -> None:
    """Forget all attachments of a network but these, given as (container, interface). Raises CniError."""
    stay = {owner(network, container, ifname) for container, ifname in valid}
    with _refused():
        for name in firewall.owners() - stay:
            if name.startswith(_prefix(network)):
                firewall.forget(name)


def _prefix(network: str) -> str:
    if len(network) > _NETWORK:
        digest = hashlib.sha256(network.encode()).hexdigest()[:12]
        network = f"{network[: _NETWORK - 13]}+{digest}"  # no network's name has a plus sign
    return f"cni/{network}/"


@contextmanager
def _refused() -> Iterator[None]:
    os.environ.setdefault("PATH", _PATH)
    try:
        yield
    except firewall.FirewallError as error:
        raise CniError(REFUSED, f"ipMasq: {error}") from error
