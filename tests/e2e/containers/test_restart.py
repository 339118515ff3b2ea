"""vethd's program is replaced while containers talk: neither of them can tell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.e2e.containers.bundle import bridge, oci_container
from tests.e2e.containers.test_oci import ETH0, HOOKS
from tests.kit.containers import Container, talk, talk_by_vethd
from tests.kit.host import ContainerHost
from tests.kit.pairs import End
from tests.kit.traffic import Transfer, looks, silent
from tests.kit.waiting import eventually


@dataclass
class Between:
    """What is between two containers."""

    a: End
    b: End

    def wait_quiet(self, within: float) -> dict[str, object]:
        raise NotImplementedError


def eth0(container: Container) -> End:
    return End(str(container.host.path(f"/proc/{container.pid}/ns/net")), "eth0")


def tentative(container: Container) -> str:
    """Addresses for which the kernel still looks for duplicates."""
    there = ("nsenter", f"--target={container.pid}", "--net")
    return container.host.run(*there, "ip", "-o", "address", "show", "tentative").out


def test_a_connection_between_containers_survives(whole_host: ContainerHost, rootfs: Path) -> None:
    with bridge(whole_host) as name:
        said = [{f"{ETH0}bridge": name, f"{ETH0}addresses": f"10.97.0.{number}/24"} for number in (1, 2)]
        with (
            oci_container(whole_host, "runc", rootfs, "10.97.0.1", annotations=said[0], hooks=HOOKS) as a,
            oci_container(whole_host, "runc", rootfs, "10.97.0.2", annotations=said[1], hooks=HOOKS) as b,
        ):
            talk_by_vethd(a, b)
            for container in (a, b):
                eventually(lambda it=container: tentative(it), lambda text: text == "", "IPv6 is done")  # type: ignore[misc]
            between = Between(eth0(a), eth0(b))
            transfer = Transfer(between)
            seen, listed = looks(between), whole_host.daemon.pairs()
            transfer.goes_on()
            with silent(between):
                whole_host.daemon.reexec()
                transfer.goes_on()
            assert (looks(between), whole_host.daemon.pairs()) == (seen, listed)
            transfer.finish()
            talk(a, b)
