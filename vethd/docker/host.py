"""What is done to the machine in dockerd's namespace: its firewall, and its sysctls."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from vethd.docker import rules
from vethd.docker.options import Refused
from vethd.docker.place import Place
from vethd.docker.state import Network

#: Seconds for a command; iptables waits for others that use it.
_WITHIN: Final = 30
_NET: Final = Path("/proc/sys/net")


class Firewall:
    """The rules of each namespace. One change at a time."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._is: dict[int, str] = {}

    async def set(self, place: Place, networks: Sequence[Network]) -> None:
        """Make the rules what these networks need, all or none. networks: those of the place. Raises Refused."""
        async with self._turn:
            wanted = rules.nft(networks)
            if self._is.pop(place.inode, None) == wanted or await asyncio.to_thread(
                place.run, lambda: _set(wanted, networks)
            ):
                self._is[place.inode] = wanted

    def forget(self, place: Place) -> None:
        """Don't rely on what is known of a namespace's rules."""
        self._is.pop(place.inode, None)


def prepare(network: Network) -> None:
    """Set the sysctls that a network needs, in the calling thread's namespace. Raises Refused."""
    bridge, versions = network.options.bridge, {6 if ":" in pool else 4 for pool in network.options.pools}
    wanted = {f"ipv4/conf/{bridge}/route_localnet": "1"}  # published ports, by a loopback address; guarded by a rule
    if 6 in versions:
        wanted |= {f"ipv6/conf/{bridge}/{name}": "0" for name in ("disable_ipv6", "accept_ra")}
    if not network.options.internal:
        wanted |= {"ipv4/ip_forward": "1"} if 4 in versions else {}
        wanted |= {"ipv6/conf/all/forwarding": "1"} if 6 in versions else {}
    for name, value in wanted.items():
        try:
            if (_NET / name).read_text().strip() != value:
                (_NET / name).write_text(value)
        except OSError as error:
            raise Refused(f"sysctl net/{name} can't be set to {value}: {error.strerror}") from error


def _set(text: str, networks: Sequence[Network]) -> bool:
    """Set the rules; whether docker's chain is there, too, which it makes when it starts. Raises Refused."""
    _run(["nft", "-f", "-"], text)
    _set_chain("ip6tables", 6, networks)
    return _set_chain("iptables", 4, networks)


def _set_chain(name: str, version: int, networks: Sequence[Network]) -> bool:
    """Our chain, and that it is called; False where docker does not use iptables."""
    user = _rules(name, rules.USER_CHAIN)
    if user is None:
        return False
    call = f"-A {rules.USER_CHAIN} -j {rules.CHAIN}"
    if networks:
        isolation = _rules(name, rules.ISOLATION) is not None
        _run([f"{name}-restore", "--noflush", "--wait"], rules.iptables(networks, version, isolation=isolation))
        if call not in user:
            last = f"-A {rules.USER_CHAIN} -j RETURN"
            at = len(user) if user[-1] == last else len(user) + 1
            _run([name, "--wait", "-I", rules.USER_CHAIN, str(at), "-j", rules.CHAIN])
    elif call in user:
        _run([name, "--wait", "-D", rules.USER_CHAIN, "-j", rules.CHAIN])
        _run([f"{name}-restore", "--noflush", "--wait"], f"*filter\n:{rules.CHAIN} - [0:0]\n-X {rules.CHAIN}\nCOMMIT\n")
    return True


def _rules(name: str, chain: str) -> list[str] | None:
    """The rules of a chain; None when there is no such chain, or no iptables."""
    try:
        done = subprocess.run(
            [name, "--wait", "-S", chain], capture_output=True, text=True, timeout=_WITHIN, check=False
        )
    except FileNotFoundError:
        return None
    except subprocess.TimeoutExpired as error:
        raise Refused(f"{name} did not end within {_WITHIN} seconds: who holds its lock?") from error
    if done.returncode:
        return None
    return [line for line in done.stdout.splitlines() if line.startswith("-A")]


def _run(words: Iterable[str], text: str = "") -> None:
    """Run a command to its end. Raises Refused."""
    argv = list(words)
    try:
        done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=_WITHIN, check=False)
    except FileNotFoundError as error:
        package = "nftables" if argv[0] == "nft" else "iptables"
        raise Refused(f"there is no {argv[0]} on this machine: install {package}") from error
    except subprocess.TimeoutExpired as error:
        raise Refused(f"{argv[0]} did not end within {_WITHIN} seconds") from error
    if done.returncode:
        raise Refused(f"{argv[0]} refused the rules: {' '.join(done.stderr.split())}")
