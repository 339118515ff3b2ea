"""Many listeners, and slow ones: who does not read is told so and disconnected, and nobody else notices."""

import json
from collections.abc import Callable

from tests.kit.daemon import Daemon
from tests.kit.pairs import Pair
from tests.kit.processes import open_files
from tests.kit.waiting import eventually
from tests.rpc.listening import Listening, flood
from tests.rpc.talk import HANG_UP, refused, request, result
from tests.rpc.test_clients import memory
from vethd.errors import ListenerTooSlow, VethdError
from vethd.pairs.journal import HISTORY
from vethd.rpc.connection import Connection
from vethd.rpc.events import MAX_BEHIND, Listener

CHANGES = 1500


def test_who_does_not_read_is_disconnected_with_the_reason_and_skips_nothing(
    hear: Callable[[], Listening], pair: Pair
) -> None:
    slow, quick = hear(), hear()
    for _ in range(16):  # each event 16 times, so that fewer do
        seq = slow.subscribe(topics=["link"])["seq"]
    quick.subscribe(topics=["link"])
    flood(pair.a, CHANGES)
    heard = quick.until("link", "changed", mtu=1500)
    assert [event["seq"] for event in heard] == list(range(seq + 1, seq + 1 + CHANGES))
    heard_slowly: list[tuple[int, int]] = []
    while "error" not in (told := json.loads(slow._line())):
        heard_slowly.append((told["params"]["seq"], told["params"]["subscription"]))
    assert told == refused(
        None,
        "listener_too_slow",
        "4194304 bytes of events were not read",
        hint="read faster, hear of fewer topics, or begin again with `since`",
    )
    assert slow._line() == HANG_UP
    assert heard_slowly == [(seq + 1 + n // 16, 1 + n % 16) for n in range(len(heard_slowly))]
    assert 0 < len(heard_slowly) < 16 * CHANGES


def test_fifty_listeners_hear_the_same_and_leave_nothing_behind(hear: Callable[[], Listening], pair: Pair) -> None:
    daemon = pair.daemon
    fds = len(open_files(daemon.pid))
    ears = [hear() for _ in range(50)]
    seqs = {ear.subscribe()["seq"] for ear in ears}
    flood(pair.a, 20)
    first, *others = [ear.until("link", "changed", mtu=1500) for ear in ears]
    assert len(seqs) == 1
    assert [event["seq"] for event in first] == list(range(max(seqs) + 1, max(seqs) + 21))
    assert all(heard == first for heard in others)
    for ear in ears:
        ear.close()
    eventually(lambda: len(open_files(daemon.pid)), lambda count: count <= fds, "every connection is closed")


def test_listeners_that_come_and_go_cost_nothing(daemon: Daemon) -> None:
    """Of a daemon whose memory nothing else has filled before."""

    def come_and_go(times: int) -> None:
        for _ in range(times):
            ear = Listening(daemon.socket)
            ear.say([request(number, "events.subscribe", topics=["link"]) for number in range(16)])
            ear.hear([result(number) for number in range(16)])
            ear.close()

    come_and_go(100)  # allocators and caches settle
    before, fds = memory(daemon.pid), len(open_files(daemon.pid))
    come_and_go(250)
    assert memory(daemon.pid) - before < 1 << 20
    eventually(lambda: len(open_files(daemon.pid)), lambda count: count <= fds, "every connection is closed")


# -- what counts as slow ----------------------------------------------------------------------------------------------


class Unread(Connection):
    """A connection whose client reads nothing. unsent: what waits, answers included. why: it was disconnected."""

    unsent = 0

    def __init__(self) -> None:
        self.listening = False
        self.why: VethdError | None = None

    def notify(self, text: str) -> None:
        self.unsent += len(text) + 1

    def disconnect(self, error: VethdError) -> None:
        self.why = error


def test_what_is_not_read_of_answers_does_not_count() -> None:
    connection = Unread()
    listener = Listener(connection)
    connection.unsent = 10 * MAX_BEHIND  # the snapshot of a daemon with many pairs
    for _ in range(MAX_BEHIND // 1024):
        listener.send("x" * 1023)
    assert connection.why is None
    listener.send("")
    assert isinstance(connection.why, ListenerTooSlow)


def test_what_was_read_does_not_count() -> None:
    connection = Unread()
    listener = Listener(connection)
    for _ in range(3):
        connection.unsent = 0
        for _ in range(MAX_BEHIND // 1024):
            listener.send("x" * 1023)
    connection.unsent = 1000
    listener.send("")
    assert connection.why is None


def test_who_waits_for_its_answer_is_not_told_more_than_is_kept() -> None:
    connection = Unread()
    subscription = Listener(connection).open(frozenset({"link"}))
    for _ in range(HISTORY):
        subscription.tell(["}"])
    assert (connection.why, connection.unsent) == (None, 0)
    subscription.tell(["}"])
    assert isinstance(connection.why, ListenerTooSlow)
