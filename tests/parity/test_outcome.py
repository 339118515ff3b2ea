"""The comparison itself: it must see what differs, and refuse a scenario that is wrong about kernel veth."""

import pytest

from tests.parity.outcome import NOT_SEEN, Outcome, differences


def test_equal_runs_do_not_differ() -> None:
    veth, vethd = Outcome("veth"), Outcome("vethd", Outcome("veth"))
    for outcome in (veth, vethd):
        outcome.see("carrier", True, kernel=True)
    assert differences(veth, vethd) == {}


def test_every_kind_of_difference_is_found() -> None:
    veth = Outcome("veth")
    veth.see("carrier", False, kernel=False)
    veth.see("only here", 1, kernel=1)
    vethd = Outcome("vethd", veth)
    vethd.see("carrier", True, kernel=False)
    vethd.see("only there", 2, kernel=2)
    assert differences(veth, vethd) == {
        "carrier": (False, True),
        "only here": (1, NOT_SEEN),
        "only there": (NOT_SEEN, 2),
    }


def test_a_scenario_wrong_about_the_kernel_fails() -> None:
    with pytest.raises(AssertionError, match="kernel veth shows mtu: 1500, the scenario expects 1400"):
        Outcome("veth").see("mtu", 1500, kernel=1400)


def test_an_item_is_recorded_once() -> None:
    outcome = Outcome("veth")
    outcome.see("mtu", 1500, kernel=1500)
    with pytest.raises(AssertionError, match="twice"):
        outcome.see("mtu", 1500, kernel=1500)


def test_waiting_ends_at_what_the_kernel_showed() -> None:
    veth = Outcome("veth")
    veth.wait("carrier", lambda: True, kernel=True)
    answers = iter([False, False, True])
    vethd = Outcome("vethd", veth)
    vethd.wait("carrier", lambda: next(answers), kernel=True)
    assert differences(veth, vethd) == {}


def test_waiting_gives_up_and_records_what_is_there() -> None:
    veth = Outcome("veth")
    veth.wait("carrier", lambda: True, kernel=True)
    vethd = Outcome("vethd", veth)
    vethd.wait("carrier", lambda: False, kernel=True, within=0.01)
    assert differences(veth, vethd) == {"carrier": (True, False)}
