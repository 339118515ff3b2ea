"""report.py: ratios, spread and gaps."""

from __future__ import annotations

import json

from benchmarks.measure import Metric, Reading
from benchmarks.report import as_json, losses, rows, table

RATE = Metric("rate", "Rate", "k/s")
TIME = Metric("time", "Time", "us", less_is_better=True, is_time=True)


def readings(*pairs: tuple[float, float] | None) -> list[Reading | None]:
    return [None if pair is None else Reading({"rate": pair[0], "time": pair[1]}) for pair in pairs]


RUNS = {
    "kernel veth": readings((100, 10), (200, 20), (300, 30)),
    "vethd": readings((50, 15), (300, 21), (300, 60)),
}


def test_a_ratio_is_taken_within_a_round() -> None:
    _kernel, vethd, _kernel_time, vethd_time = rows((RATE, TIME), RUNS)
    assert vethd.ratio is not None
    assert (vethd.ratio.median, vethd.ratio.low, vethd.ratio.high) == (1.0, 0.5, 1.5)
    assert vethd_time.difference is not None
    assert (vethd_time.difference.median, vethd_time.difference.low, vethd_time.difference.high) == (5, 1, 30)


def test_a_failed_run_costs_its_round_alone() -> None:
    _kernel, vethd = rows((RATE,), {**RUNS, "vethd": readings((50, 15), None, (600, 60))})
    assert vethd.runs == [50, None, 600]
    assert vethd.ratio is not None
    assert (vethd.ratio.low, vethd.ratio.high) == (0.5, 2.0)


def test_a_link_without_a_value_has_no_row() -> None:
    assert [row.link for row in rows((RATE,), {**RUNS, "vethd": readings(None, None, None)})] == ["kernel veth"]


def test_the_table_has_a_line_for_each_row() -> None:
    made = rows((RATE, TIME), RUNS)
    lines = table(made).splitlines()
    assert len(lines) == 1 + len(made)
    assert lines[2].split() == ["vethd", "300.0", "50.0", "-", "300.0", "1.00", "0.50", "-", "1.50"]
    assert "+5.00" in lines[4]


def test_the_json_says_it_all() -> None:
    _kernel, vethd = rows((RATE,), RUNS)
    said = json.loads(json.dumps(as_json(vethd)))
    assert (said["link"], said["key"], said["runs"]) == ("vethd", "rate", [50, 300, 300])
    assert said["ratio"] == {"median": 1.0, "low": 0.5, "high": 1.5}


def test_losses_are_summed_by_place() -> None:
    runs = [Reading({}, {"sent": 10, "TAP_RING": 3}), None, Reading({}, {"sent": 5})]
    assert losses("vethd", runs) == "  vethd: sent 15, TAP_RING 3"
    assert losses("vethd", [Reading({})]) == ""
