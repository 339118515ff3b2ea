"""What vethd asks of the packet filter: masquerading, and that frames between ports of a bridge may pass.

One table per network namespace, `inet vethd`: its rules never change, and look into named sets whose elements carry
their owner as the comment. So to add and to remove is to touch elements, in one transaction of nft each::

    table inet vethd
      set hosts4, hosts6               addresses that are masqueraded      10.88.0.5
      set nets4, nets6                 networks that are                   10.88.0.0/16
      set local_hosts4, local_nets4 .. what is not: where from . where to  10.88.0.5 . 10.88.0.0/16
      chain postrouting                local or multicast: return;  hosts, nets: masquerade
      set forward                      who has rules of iptables, see accept_forward

What is there already stays, so everything may be repeated; an element that another owner has goes over to the one who
asked last. `forget` takes away what is an owner's, and with the last element the table. Callers take turns: each holds
a lock of the namespace itself. Tables of others are neither read nor changed, but for `accept_forward`, which is about
the one of docker. Where there is no nft, iptables does the same, a rule for each element.

Needs the standard library alone, CAP_NET_ADMIN in the namespace, and CAP_SYS_ADMIN to enter another one.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Any, Final
from zlib import crc32

TABLE: Final = "inet vethd"
#: An owner's name stands in comments, which nft keeps up to 128 bytes of, and between quotes.
OWNER: Final = re.compile(r"[A-Za-z0-9._:/@+-]{1,100}")
#: Seconds that a program may take; the kernel may be busy with others' rules.
_WITHIN: Final = 30.0
#: Before the owner's name in comments of iptables' rules.
_MARK: Final = "vethd "
#: What iptables is to accept, with None for the bridge: between its ports; or also to the outside, and answers.
_BETWEEN_PORTS: Final = (("-i", None, "-o", None),)
_OUTSIDE: Final = (("-i", None), ("-o", None, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED"))

#: By version of IP: the kernel's word in rules, type of set elements, and what is multicast.
_FAMILY: Final = {4: ("ip", "ipv4_addr", "224.0.0.0/4"), 6: ("ip6", "ipv6_addr", "ff00::/8")}

Source = IPv4Interface | IPv6Interface


class FirewallError(Exception):
    """Raised when the packet filter refused, or there is none. Nothing was changed."""


def masquerade(owner: str, sources: Iterable[str], netns: int | str | None = None) -> None:
    """Let what these send to other networks leave with the address of the device that it leaves by.

    owner: for `forget`; letters, digits and ._:/@+- only. sources: `10.88.0.5/16` is one host, to which its network is
    no other one; `10.88.0.0/16` is a whole network. netns: a path or an open fd; None is the caller's own namespace.
    Raises FirewallError, ValueError.
    """
    _check(owner)
    elements = [element for source in sources for element in _masquerade(ip_interface(source))]
    with _locked(netns) as run:
        if run.has("nft"):
            _add(run, owner, elements)
        else:
            _add_rules(run, owner, elements)


def accept_forward(owner: str, bridge: str, netns: int | str | None = None, *, outside: bool = False) -> None:
    """Let frames between ports of a bridge pass where docker is: it drops what is forwarded, and br_netfilter lets that
    be asked of frames too. Where nothing of iptables drops what is forwarded, nothing is done.

    owner, netns: see masquerade. outside: also what goes out by other devices, and the answers. Raises FirewallError,
    ValueError.
    """
    _check(owner)
    if bridge.endswith("+"):
        raise FirewallError(f"bridge {bridge!r}: to iptables this means all whose names begin so")
    with _locked(netns) as run:
        for program in ("iptables", "ip6tables"):
            if not run.has(program):
                continue
            chain = _dropping(run, program)
            if chain is None:
                continue
            if run.has("nft"):
                _add(run, owner, [("forward", f"{crc32(os.fsencode(f'{owner} {bridge}')):#010x}")])
            for which in _OUTSIDE if outside else _BETWEEN_PORTS:
                words = (bridge if word is None else word for word in which)
                rule = [*words, *_comment(owner), "-j", "ACCEPT"]
                if run(program, "-w", "-C", chain, *rule, check=False).returncode:
                    run(program, "-w", "-I", chain, *rule)


def forget(owner: str, netns: int | str | None = None) -> None:
    """Take away all that is an owner's, and the table when nothing is left in it; that there is nothing is no error.

    netns: see masquerade. Raises FirewallError, ValueError.
    """
    _check(owner)
    with _locked(netns) as run:
        tables: tuple[str, ...] = ("filter", "nat")
        if run.has("nft"):
            tables = ("filter",) if "forward" in _remove(run, owner) else ()
        for program in ("iptables", "ip6tables"):
            if run.has(program):
                for table in tables:
                    _remove_rules(run, program, table, owner)


def owners(netns: int | str | None = None) -> set[str]:
    """Those who have something in the table. netns: see masquerade. Raises FirewallError."""
    with _locked(netns) as run:
        return {owner for _name, _key, owner in _elements(run)} if run.has("nft") else set()


# -- what is to be said -----------------------------------------------------------------------------------------------


def _masquerade(source: Source) -> Iterator[tuple[str, str]]:
    """The elements for a source: (set, key)."""
    version, network = source.version, source.network
    if source.ip == network.network_address and network.prefixlen < network.max_prefixlen:
        yield f"nets{version}", str(network)
        yield f"local_nets{version}", f"{network} . {network}"
    else:
        yield f"hosts{version}", str(source.ip)
        yield f"local_hosts{version}", f"{source.ip} . {network}"


def _skeleton() -> Iterator[str]:
    """The table without elements; to be said only when it is not there, since rules would be there twice."""
    yield f"add table {TABLE}"
    yield f"add chain {TABLE} postrouting {{ type nat hook postrouting priority srcnat; policy accept; }}"
    yield f"add set {TABLE} forward {{ type mark; }}"
    for version, (word, kind, multicast) in _FAMILY.items():
        yield f"add set {TABLE} hosts{version} {{ type {kind}; }}"
        yield f"add set {TABLE} nets{version} {{ type {kind}; flags interval; }}"
        yield f"add rule {TABLE} postrouting {word} daddr {multicast} return"
        for of in ("hosts", "nets"):  # not in one set, in which hosts of the networks would have no room
            yield f"add set {TABLE} local_{of}{version} {{ type {kind} . {kind}; flags interval; }}"
            yield f"add rule {TABLE} postrouting {word} saddr . {word} daddr @local_{of}{version} return"
        yield f"add rule {TABLE} postrouting {word} saddr @hosts{version} masquerade"
        yield f"add rule {TABLE} postrouting {word} saddr @nets{version} masquerade"


def _check(owner: str) -> None:
    if not OWNER.fullmatch(owner):
        raise ValueError(f"owner {owner!r}: 1 to 100 letters, digits and ._:/@+-")


# -- nft --------------------------------------------------------------------------------------------------------------


def _add(run: _Run, owner: str, elements: Iterable[tuple[str, str]]) -> None:
    """Add elements, or let those that are there have this owner."""
    lines = []
    for name, key in elements:
        # An element that is there keeps its comment; to delete one, it must be there.
        lines.append(f"add element {TABLE} {name} {{ {key} }}")
        lines.append(f"delete element {TABLE} {name} {{ {key} }}")
        lines.append(f'add element {TABLE} {name} {{ {key} comment "{owner}" }}')
    if not lines:
        return
    done = run("nft", "-f", "-", text="\n".join(lines), check=False)
    if done.returncode and _table(run) is None:
        done = run("nft", "-f", "-", text="\n".join((*_skeleton(), *lines)), check=False)
    if done.returncode:
        raise FirewallError(_said("nft", done))


def _remove(run: _Run, owner: str) -> set[str]:
    """Remove what is an owner's; from which sets."""
    elements = list(_elements(run))
    mine = [(name, key) for name, key, whose in elements if whose == owner]
    if mine:
        lines = [f"delete element {TABLE} {name} {{ {key} }}" for name, key in mine]
        if len(mine) == len(elements):
            lines = [f"delete table {TABLE}"]
        run("nft", "-f", "-", text="\n".join(lines))
    return {name for name, _key in mine}


def _elements(run: _Run) -> Iterator[tuple[str, str, str]]:
    """All elements of the table: (set, key, owner)."""
    for item in _table(run) or ():
        found = item.get("set") or item.get("map") or {}
        for element in found.get("elem", ()):
            value = element[0] if isinstance(element, list) else element  # of a map: key and value
            value = value.get("elem", value) if isinstance(value, dict) else value
            comment = value.get("comment", "") if isinstance(value, dict) else ""
            yield found["name"], _key(value["val"] if isinstance(value, dict) and "val" in value else value), comment


def _key(value: Any) -> str:
    """A key as nft reads it, from what it says in JSON."""
    if not isinstance(value, dict):
        return str(value)
    if "concat" in value:
        return " . ".join(map(_key, value["concat"]))
    if "prefix" in value:
        return f"{value['prefix']['addr']}/{value['prefix']['len']}"
    raise FirewallError(f"nft says what it was not told: {value}")


def _table(run: _Run) -> list[dict[str, Any]] | None:
    """What nft says of the table, or None when it is not there. Raises FirewallError."""
    done = run("nft", "-j", "list", "table", *TABLE.split(), check=False)
    if done.returncode:
        if "No such file" in done.stderr:
            return None
        raise FirewallError(_said("nft", done))
    listed: list[dict[str, Any]] = json.loads(done.stdout)["nftables"]
    return listed


# -- iptables ---------------------------------------------------------------------------------------------------------


def _add_rules(run: _Run, owner: str, elements: Iterable[tuple[str, str]]) -> None:
    """The same as _add, of elements `local`: each says where from, and to where not."""
    for name, key in elements:
        if not name.startswith("local"):
            continue
        source, network = key.split(" . ")
        version = int(name[-1])
        program = "iptables" if version == 4 else "ip6tables"
        for target, to in (("RETURN", network), ("RETURN", _FAMILY[version][2]), ("MASQUERADE", None)):
            rule = ["-s", source, *(("-d", to) if to else ()), *_comment(owner), "-j", target]
            if run(program, "-w", "-t", "nat", "-C", "POSTROUTING", *rule, check=False).returncode:
                run(program, "-w", "-t", "nat", "-A", "POSTROUTING", *rule)


def _remove_rules(run: _Run, program: str, table: str, owner: str) -> None:
    listed = run(program, "-w", "-t", table, "-S", check=False)
    for line in listed.stdout.splitlines():
        words = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', line)]
        if words[:1] == ["-A"] and f"{_MARK}{owner}" in words:
            run(program, "-w", "-t", table, "-D", *words[1:])


def _comment(owner: str) -> list[str]:
    return ["-m", "comment", "--comment", _MARK + owner]


def _dropping(run: _Run, program: str) -> str | None:
    """The chain that an exception belongs into, or None when nothing of iptables drops what is forwarded."""
    rules = run(program, "-w", "-S", check=False).stdout.splitlines()
    if "-N DOCKER-USER" in rules:
        return "DOCKER-USER"
    return "FORWARD" if "-P FORWARD DROP" in rules else None


# -- running them -----------------------------------------------------------------------------------------------------


class _Run:
    """Runs programs in a namespace, given by an open fd of it."""

    def __init__(self, fd: int, enter: bool) -> None:
        self._fd = fd
        self._prefix = ("nsenter", f"--net=/proc/self/fd/{fd}") if enter else ()

    def __call__(
        self, program: str, *arguments: str, text: str = "", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a program. Raises FirewallError when it can't be run, and with `check` when it fails."""
        try:
            done = subprocess.run(
                (*self._prefix, program, *arguments),
                input=text,
                capture_output=True,
                text=True,
                errors="surrogateescape",  # names of devices need not be text
                check=False,
                timeout=_WITHIN,
                pass_fds=(self._fd,),
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise FirewallError(f"{program}: {error}") from error
        if check and done.returncode:
            raise FirewallError(_said(program, done))
        return done

    @staticmethod
    def has(program: str) -> bool:
        """Whether there is such a program."""
        return shutil.which(program) is not None


@contextmanager
def _locked(netns: int | str | None) -> Iterator[_Run]:
    """Be the only one who changes the table of a namespace. A lock of its file is everybody's, wherever mounted."""
    path = "/proc/thread-self/ns/net" if netns is None else f"/proc/self/fd/{netns}" if type(netns) is int else netns
    assert isinstance(path, str)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise FirewallError(f"{path}: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield _Run(fd, netns is not None)
    finally:
        os.close(fd)


def _said(program: str, done: subprocess.CompletedProcess[str]) -> str:
    """Why a program failed, in its own words."""
    lines = (done.stderr or done.stdout).strip().splitlines()
    said = lines[0].rpartition("Error: ")[2] if lines else f"exit status {done.returncode}"  # not where in its input
    return f"{program}: {said}"
