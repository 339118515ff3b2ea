"""A client that may change things and means harm: paths that are something else by the time they are looked at."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kit.daemon import Daemon
from tests.kit.netns import RUN_NETNS, Namespaces
from tests.kit.rpc import RpcClient, RpcError
from tests.rpc.watching import Watch


@contextmanager
def swapped(link: Path, targets: list[Path]) -> Iterator[None]:
    """During the body a symbolic link points at one target after the other, as fast as can be."""
    stop = threading.Event()

    def swap() -> None:
        other = link.with_suffix(".new")
        while not stop.is_set():
            for target in targets:
                other.symlink_to(target)
                other.replace(link)

    link.symlink_to(targets[0])
    thread = threading.Thread(target=swap, name="swap")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_link_that_is_swapped_during_the_call_leads_to_the_namespace_or_to_nothing(
    shared_daemon: Daemon, netns: Namespaces, tmp_path: Path
) -> None:
    """What was looked at is what is opened: nothing but a namespace ever is, whatever the link says by then."""
    red, secret, pipe = netns.make(), tmp_path / "secret", tmp_path / "pipe"
    secret.touch()
    os.mkfifo(pipe)
    heard: set[str] = set()
    with (
        Watch(secret) as secret_watch,
        Watch(pipe) as pipe_watch,
        swapped(tmp_path / "link", [RUN_NETNS / red, secret, pipe, tmp_path / "nothing"]),
        RpcClient(shared_daemon.socket) as client,
    ):
        for _ in range(1000):
            with pytest.raises(RpcError) as refused:
                client.call("link.get", {"ifname": "vth-none", "netns": str(tmp_path / "link")})
            heard.add(refused.value.data["kind"])
        assert not secret_watch.seen()
        assert not pipe_watch.seen()
    assert heard == {"no_such_link", "no_such_netns"}
