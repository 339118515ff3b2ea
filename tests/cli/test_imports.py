"""What vethctl imports: its start is most of what a short command costs."""

import sys

import pytest

from tests.kit.commands import run
from tests.kit.daemon import Daemon
from tests.kit.netns import Namespaces
from tests.kit.pairs import make_pair

#: Of ours, for `vethctl link show`; main.py imports all but the last two for any command.
OURS = {
    "vethd",
    "vethd.cli",
    "vethd.cli.commands",
    "vethd.cli.grammar",
    "vethd.cli.main",
    "vethd.cli.options",
    "vethd.cli.output",
    "vethd.cli.request",
    "vethd.cli.session",
    "vethd.rpc",
    "vethd.rpc.client",
    "vethd.rpc.conversation",
    "vethd.rpc.listening",
    "vethd.rpc.namespaces",
    "vethd.rpc.wire",
    "vethd.cli.link",
    "vethd.cli.records",
}
LIST = """
import sys
import array, json, socket, struct, typing  # and what these bring along
before = set(sys.modules)
from vethd.cli.main import run
assert run(sys.argv[1:]) == 0
print(*sorted(set(sys.modules) - before), file=sys.stderr)
"""


@pytest.mark.parametrize("options", [(), ("-j", "-s", "-s", "-d")])
def test_a_short_command_imports_little(shared_daemon: Daemon, netns: Namespaces, options: tuple[str, ...]) -> None:
    make_pair(shared_daemon, netns.make(), netns.make(), up=False, placement="inside")
    words = ("-S", str(shared_daemon.socket), *options, "link", "show")
    assert set(run(sys.executable, "-I", "-c", LIST, *words).err.split()) == OURS
