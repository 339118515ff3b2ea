"""README row "who is needed": a veth pair needs nobody, a vethd pair goes with its daemon."""

from tests.kit.daemon import Daemon
from tests.kit.netns import Namespaces
from tests.kit.waiting import eventually
from tests.parity.link import VethdPair


def test_a_crash_of_the_daemon_removes_its_links(netns: Namespaces, daemon: Daemon) -> None:
    link = VethdPair(netns, daemon)
    link.create()
    daemon.kill()
    for end in (link.a, link.b):
        eventually(lambda e=end: e.exists, lambda there: not there, f"{end.name} is gone")  # type: ignore[misc]
    netns.close()  # and nothing keeps the namespaces alive
