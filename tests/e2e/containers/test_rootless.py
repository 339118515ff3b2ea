"""What works without root, as docs/containers.md says, and what those are told for whom it does not."""

from __future__ import annotations

from contextlib import ExitStack

from tests.e2e.containers.guide import for_the_other, sections
from tests.e2e.containers.user import HOME, UID, User, tun, user
from tests.kit.commands import Answer
from tests.kit.containers import Container, talk_by_vethd
from tests.kit.host import ContainerHost
from tests.kit.waiting import eventually

GUIDE = sections()["Without root"]
PODMAN, OWN = "podman: hook, rootless", "A vethd of one's own"
WAY_IN = ("unshare", "--map-root-user", "--map-auto", "--net", "--mount", "--")
WORD = "rootfs"


def started(host: ContainerHost, known: set[int]) -> int:
    """The process of a container that was just started."""

    def new() -> list[int]:
        return [pid for pid, name in host.processes().items() if name == "httpd" and pid not in known]

    (pid,) = eventually(new, lambda pids: len(pids) == 1, "the container runs", 20)
    known.add(pid)
    return pid


def test_rootless_podman_and_a_vethd_of_root(whole_host: ContainerHost) -> None:
    start, remove = GUIDE[PODMAN]
    known: set[int] = set()
    with user(whole_host, WORD, member=True) as alice, ExitStack() as stack:
        whole_host.run("ip", "link", "add", "vethd0", "address", "02:00:00:00:88:fe", "up", "type", "bridge")
        stack.callback(whole_host.run, "ip", "link", "del", "vethd0")
        containers = []
        for address, change in (("10.88.0.1", str), ("10.88.0.2", for_the_other)):
            stack.callback(alice.run, change(remove), check=False)
            alice.launch(change(start))
            containers.append(Container(whole_host, started(whole_host, known), WORD, (address,)))
        talk_by_vethd(containers[0], containers[1])
        assert {pair["origin"] for pair in whole_host.daemon.pairs()} == {"oci"}
        whole_host.run("kill", "-KILL", str(containers[0].pid))
        eventually(lambda: len(whole_host.daemon.pairs()), lambda count: count == 1, "the pair went with the container")


def test_root_gives_an_end_to_a_container_of_rootless_podman(whole_host: ContainerHost) -> None:
    with user(whole_host, WORD) as alice, ExitStack() as stack:
        known: set[int] = set()
        for name in ("web", "db"):
            stack.callback(alice.run, f"podman rm --force --time 0 {name}", check=False)
            alice.launch(f"podman run --detach --name {name} --network none --rootfs {HOME}/rootfs httpd -f -h /srv")
            started(whole_host, known)
        red, blue = (
            Container(whole_host, pid, WORD, (address,))
            for pid, address in zip(known, ("10.88.0.1", "10.88.0.2"), strict=True)
        )
        whole_host.daemon.ctl(
            *("link", "add", "eth0", "netns", str(red.pid), "up", "type", "veth"),
            *("peer", "name", "eth0", "netns", str(blue.pid), "up"),
        )
        for container in (red, blue):
            container.run("ip", "address", "add", f"{container.addresses[0]}/24", "dev", "eth0")
        talk_by_vethd(red, blue)


def own_vethd(host: ContainerHost, alice: User) -> tuple[str, ...]:
    """Start the daemon of a user, as the guide says; the command that enters its namespaces."""
    alice.launch(f"{GUIDE[OWN][0]}\nuntil vethctl daemon info; do sleep 0.05; done", prefix=WAY_IN)
    pid = host.run("pgrep", "-o", "-u", str(UID), "-f", "vethd --socket").out.strip()
    return ("nsenter", f"--target={pid}", "--user", "--preserve-credentials", "--net", "--mount", "--")


def test_a_vethd_of_ones_own_once_tun_may_be_opened(whole_host: ContainerHost) -> None:
    _prepare, start, remove = GUIDE[OWN]
    known: set[int] = set()
    with tun(whole_host, "600"), user(whole_host, WORD) as alice, ExitStack() as stack:
        enter = own_vethd(whole_host, alice)

        def vethctl(words: str) -> Answer:
            return alice.run(f"vethctl -S $XDG_RUNTIME_DIR/vethd.sock {words}", check=False, prefix=enter)

        refused = vethctl("link add a0 type veth").err
        assert "/dev/net/tun: Permission denied: its mode is 0600, its owner uid 65534, and this is uid 0" in refused
        assert "chmod 0666 /dev/net/tun" in refused
        whole_host.run("chmod", "666", "/dev/net/tun")
        assert "bpf(BPF_PROG_LOAD): Operation not permitted" in vethctl("link add a0 numqueues 2 type veth").err

        def drop_all(drop: bool) -> None:
            assert vethctl(f"sysctl netdev_max_backlog={0 if drop else 1000}").ok

        containers = []
        for address, change in (("10.88.0.1", str), ("10.88.0.2", for_the_other)):
            stack.callback(alice.run, change(remove), check=False, prefix=enter)
            alice.launch(change(start), prefix=enter)
            containers.append(Container(whole_host, started(whole_host, known), WORD, (address,)))
        talk_by_vethd(containers[0], containers[1], drop_all)


def test_who_is_not_let_in_is_told(whole_host: ContainerHost) -> None:
    with user(whole_host, WORD) as alice:
        unmapped = ("unshare", "--map-root-user", "--net", "--")
        answer = alice.run("vethd --socket $XDG_RUNTIME_DIR/x.sock", check=False, prefix=unmapped)
        assert "workers can't be nobody: uid 65534 or gid 65534 is not in this user namespace (map " in answer.err
        answer = alice.run("vethctl link add a0 type veth", check=False)
        assert (answer.code, f"uid {UID} may not call link.add" in answer.err) == (2, True), answer
