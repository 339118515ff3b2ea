"""Two clients want the same names at the same time: exactly one gets them, and nothing of the other's is left."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import pytest

from tests.kit.daemon import Daemon
from tests.kit.links import all_links
from tests.kit.netns import Namespaces
from tests.kit.processes import open_files
from tests.kit.waiting import eventually
from tests.rpc.talk import ANYTHING, Talk, request

#: Per test, of which there are two: a thousand races.
ROUNDS: Final = 500


def ends(netns: str, first: str, second: str) -> dict[str, Any]:
    return {
        "a": {"ifname": first, "netns": netns},
        "b": {"ifname": second, "netns": netns},
        "placement": "inside",
    }


def race(talks: Sequence[Talk], method: str, params: Sequence[dict[str, Any]]) -> list[str]:
    """Ask both at once; what the first and the second heard: `won`, or the kind of the error."""
    for talk, asked in zip(talks, params, strict=True):
        talk.say(request(1, method, **asked))
    answers = [talk.hear(ANYTHING) for talk in talks]
    return [answer["error"]["data"]["kind"] if "error" in answer else "won" for answer in answers]


@pytest.mark.parametrize("swapped", [False, True], ids=["same ends", "ends swapped"])
def test_one_of_two_gets_the_names_and_one_of_two_deletes_them(
    talker: Callable[..., Talk], shared_daemon: Daemon, netns: Namespaces, swapped: bool
) -> None:
    red = netns.make()
    talks = talker(), talker()
    wishes = ends(red, "vtrx", "vtry"), ends(red, "vtry", "vtrx") if swapped else ends(red, "vtrx", "vtry")
    names: Sequence[dict[str, Any]] = {"ifname": "vtrx", "netns": red}, {"ifname": "vtry", "netns": red}
    assert shared_daemon.pairs() == []  # asked on a connection that is kept
    for talk in talks:
        talk.say(request(1, "link.list"))
        talk.hear(ANYTHING)  # so it is accepted, and counted
    before = len(open_files(shared_daemon.pid))
    for n in range(ROUNDS):
        turn = 1 if n % 2 else -1
        assert sorted(race(talks[::turn], "link.add", wishes[::turn])) == ["link_exists", "won"], f"round {n}"
        assert sorted(race(talks[::turn], "link.del", names[::turn])) == ["no_such_link", "won"], f"round {n}"
    assert all_links(red).keys() == {"lo"}
    assert shared_daemon.pairs() == []
    eventually(lambda: len(open_files(shared_daemon.pid)), lambda count: count <= before, "no descriptor is left")
