"""The journal alone: numbers, what is kept of the past, and generations."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.pairs.made_up import paper_pair
from vethd.pairs.journal import HISTORY, Event, Journal
from vethd.pairs.pair import Pair, PairState


def picture(pair: Pair) -> dict[str, object]:
    return {"pair": str(pair.uuid), "generation": pair.generation}


def live_pair() -> Pair:
    pair = paper_pair((0, 1))
    pair.state = PairState.LIVE
    return pair


@given(history=st.integers(1, 20), recorded=st.integers(0, 50), seq=st.integers(-5, 60))
def test_after_gives_all_that_was_missed_or_nothing(history: int, recorded: int, seq: int) -> None:
    journal = Journal(picture, history=history)
    for number in range(recorded):
        journal.record("daemon", "resync", ends=number)
    missed = journal.after(seq)
    if seq > recorded or seq < max(0, recorded - history):
        assert missed is None
    else:
        assert missed is not None
        assert [(event.seq, event.fields["ends"]) for event in missed] == [(n + 1, n) for n in range(seq, recorded)]


@given(events=st.lists(st.sampled_from(["record", "listen", "unlisten"]), max_size=40))
def test_listeners_hear_what_is_recorded_while_they_listen(events: list[str]) -> None:
    journal = Journal(picture)
    heard: dict[int, list[int]] = {}
    expected: dict[int, list[int]] = {}
    listening: dict[int, object] = {}
    for number, event in enumerate(events):
        if event == "listen":
            heard[number], expected[number] = [], []

            def listener(told: Event, to: list[int] = heard[number]) -> None:
                to.append(told.seq)

            listening[number] = listener
            journal.listen(listener)
        elif event == "unlisten" and listening:
            journal.unlisten(listening.pop(min(listening)))  # type: ignore[arg-type]
        elif event == "record":
            journal.record("daemon", "stopping")
            for each in listening:
                expected[each].append(journal.seq)
    assert heard == expected


def test_a_listener_may_leave_while_it_is_told() -> None:
    journal = Journal(picture)
    told: list[str] = []

    def once(_event: Event) -> None:
        told.append("once")
        journal.unlisten(once)

    journal.listen(once)
    journal.listen(lambda _event: told.append("always"))
    journal.record("daemon", "stopping")
    journal.record("daemon", "stopping")
    assert told == ["once", "always", "always"]


def test_an_event_has_its_time_and_what_it_is_about() -> None:
    journal, pair = Journal(picture, clock=lambda: 12.5), live_pair()
    journal.record("carrier", "operstate", pair, "b", operstate="UP")
    assert journal.after(0) == [Event(1, 12.5, "carrier", "operstate", str(pair.uuid), "b", {"operstate": "UP"})]


def test_changes_of_a_pair_are_its_generation_and_what_follows_from_them_is_not() -> None:
    journal, pair, other = Journal(picture), live_pair(), live_pair()
    journal.record("link", "changed", pair, "a", mtu=1400)
    assert (pair.generation, other.generation) == (1, 0)
    journal.record("carrier", "changed", pair, carrier=True)
    journal.record("link", "changed", other, "a", up=True)
    assert (pair.generation, other.generation) == (1, 3)


def test_a_new_pair_is_told_with_the_generation_that_it_has_by_that() -> None:
    journal, pair = Journal(picture, clock=lambda: 12.5), live_pair()
    journal.record("daemon", "stopping")
    journal.added(pair)
    assert journal.after(1) == [Event(2, 12.5, "link", "added", str(pair.uuid), None, picture(pair))]
    assert pair.generation == 2


def test_of_a_pair_that_is_going_only_its_end_is_told() -> None:
    journal, pair = Journal(picture), live_pair()
    pair.state = PairState.DYING
    journal.record("carrier", "changed", pair, carrier=False)
    journal.record("link", "changed", pair, "a", up=False)
    assert (journal.seq, pair.generation) == (0, 0)
    journal.record("link", "deleted", pair, reason="the test wants it")
    assert [event.event for event in journal.after(0) or ()] == ["deleted"]


def test_two_journals_have_different_ids_and_the_past_is_as_long_as_it_is_said() -> None:
    one, two = Journal(picture), Journal(picture)
    assert one.server_id != two.server_id
    for _ in range(HISTORY + 1):
        one.record("daemon", "stopping")
    assert (one.after(0), len(one.after(1) or ())) == (None, HISTORY)
