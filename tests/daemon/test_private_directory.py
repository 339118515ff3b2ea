"""vethd runs from a directory that only root can read: workers have imported all they need before they give up root."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from tests.kit.daemon import Daemon
from tests.kit.netns import Namespaces
from tests.kit.pairs import make_pair_between_fresh
from tests.pairs.watching import works

CHECKOUT = Path(__file__).parents[2]


def behind_a_closed_door(directory: Path) -> tuple[str, ...]:
    """A command that executes its arguments where `directory` is 0700, in a mount namespace of its own."""
    quoted = shlex.quote(str(directory))
    script = f"""
        mount -t tmpfs vtr /mnt && mkdir /mnt/upper /mnt/work
        mount -t overlay -o lowerdir={quoted},upperdir=/mnt/upper,workdir=/mnt/work vtr {quoted}
        chmod 0700 {quoted} && exec "$@"
    """
    return ("unshare", "--mount", "--propagation", "slave", "sh", "-ec", script, "sh")


def test_frames_pass_when_only_root_can_read_the_program(
    start_daemon: Callable[..., Daemon], netns: Namespaces
) -> None:
    daemon = start_daemon(prefix=behind_a_closed_door(CHECKOUT))
    pair = make_pair_between_fresh(daemon, netns)
    assert works(pair)
