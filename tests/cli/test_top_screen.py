"""What vethctl top makes of samples, and how it lays it out: without a daemon and without a terminal."""

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from vethd.cli.top.rates import HISTORY, Rates, Sample, si, sparkline
from vethd.cli.top.screen import Screen
from vethd.cli.top.terminal import keys


def pair(number: int, netns: str = "red", **counters: Any) -> dict[str, Any]:
    """A pair whose end a has these counters, and whose end b has none."""
    nothing = dict.fromkeys(("rx_packets", "rx_bytes", "tx_packets", "tx_bytes", "read", "queued"), 0)
    quiet = nothing | {"drops": {"CPU_BACKLOG": 0, "PKT_TOO_BIG": 0}}
    end = {"netns": netns, "netns_inode": 7}
    return {
        "pair": f"uuid{number}",
        "a": {"ifname": f"v{number}", **end},
        "b": {"ifname": f"w{number}", **end},
        "stats": {"a": quiet | counters, "b": quiet},
    }


def sample(time: float, *pairs: dict[str, Any], **softnet: int) -> Sample:
    row = dict.fromkeys(("processed", "dropped", "time_squeeze", "input_queue_len", "process_queue_len"), 0)
    workers = [{"worker": 0, "pid": 42, **row, **softnet}]
    return Sample(time, [(each, letter) for each in pairs for letter in ("a", "b")], workers)


# -- rates ------------------------------------------------------------------------------------------------------------


def test_after_the_first_sample_there_are_no_rates_yet() -> None:
    rates = Rates()
    rates.add(sample(10.0, pair(1, rx_packets=1000)))
    assert rates.seconds is None
    assert (rates.links[0].rx_packets, rates.links[0].drops, rates.links[0].history) == (0.0, {}, ())


def test_rates_are_per_second() -> None:
    rates = Rates()
    rates.add(sample(10.0, pair(1, rx_packets=1000, rx_bytes=5000), processed=100))
    lost = {"CPU_BACKLOG": 8, "PKT_TOO_BIG": 0}
    later = pair(1, queued=7, rx_packets=1100, rx_bytes=6000, tx_packets=2, tx_bytes=100, drops=lost)
    rates.add(sample(12.0, later, processed=300, dropped=4, time_squeeze=2, input_queue_len=3, process_queue_len=4))
    a, b = rates.links
    assert (a.rx_packets, a.tx_packets, a.rx_bits, a.tx_bits) == (50.0, 1.0, 4000.0, 400.0)
    assert (a.drops, a.dropped, a.lost()) == ({"CPU_BACKLOG": 4.0}, 4.0, "4 CPU_BACKLOG")
    assert (a.history, a.queued) == ((4400.0,), 7)
    assert (b.packets, b.bits, b.history) == (0.0, 0.0, (0.0,))
    (worker,) = rates.workers
    assert (worker.backlog, worker.processed, worker.dropped, worker.time_squeeze) == (7, 100.0, 2.0, 1.0)
    assert worker.line() == "worker 0  pid 42  backlog 7  100 frames/s  dropped 2/s  squeezed 1/s"


def test_a_pair_that_was_made_meanwhile_counts_from_its_creation() -> None:
    rates = Rates()
    rates.add(sample(10.0))
    rates.add(sample(11.0, pair(2, rx_packets=5)))
    assert rates.links[0].rx_packets == 5.0


def test_counters_that_began_anew_are_no_negative_rate() -> None:
    rates = Rates()
    rates.add(sample(10.0, pair(1, rx_packets=1000, drops={"CPU_BACKLOG": 9, "PKT_TOO_BIG": 0}), processed=50))
    rates.add(sample(11.0, pair(1, rx_packets=3, drops={"CPU_BACKLOG": 2, "PKT_TOO_BIG": 0}), processed=1))
    assert (rates.links[0].rx_packets, rates.links[0].drops) == (3.0, {"CPU_BACKLOG": 2.0})
    assert rates.workers[0].processed == 1.0


def test_another_daemon_is_compared_with_nothing() -> None:
    rates = Rates()
    rates.add(sample(10.0, pair(1, rx_packets=10)))
    rates.restart()
    rates.add(sample(11.0, pair(1, rx_packets=30)))
    assert rates.seconds is None
    assert rates.links[0].history == ()


def test_the_history_of_what_is_gone_is_forgotten_and_the_rest_is_bounded() -> None:
    rates = Rates()
    for at in range(HISTORY + 10):
        rates.add(sample(float(at), pair(1, rx_bytes=at), pair(2)))
    assert [len(link.history) for link in rates.links] == [HISTORY] * 4
    rates.add(sample(1000.0, pair(2)))
    rates.add(sample(1001.0, pair(1, rx_bytes=1), pair(2)))
    assert [len(link.history) for link in rates.links] == [1, 1, HISTORY, HISTORY]


def test_sorting() -> None:
    rates = Rates()
    rates.add(sample(0.0, pair(1), pair(2), pair(3)))
    busy = (
        pair(1, tx_packets=9, tx_bytes=100),
        pair(2, rx_packets=2, rx_bytes=900),
        pair(3, drops={"CPU_BACKLOG": 1, "PKT_TOO_BIG": 1}),
    )
    rates.add(sample(1.0, *busy))
    idle = ["w1", "w2", "w3"]
    assert [link.name for link in rates.sorted("bit/s")] == ["v2", "v1", "v3", *idle]
    assert [link.name for link in rates.sorted("packets/s")] == ["v1", "v2", "v3", *idle]
    assert [link.name for link in rates.sorted("drops/s")] == ["v3", "v1", "v2", *idle]
    assert [link.name for link in rates.sorted("name")] == ["v1", "v2", "v3", *idle]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.04, "0"),
        (0.5, "0.5"),
        (3.0, "3"),
        (9.96, "10"),
        (999.4, "999"),
        (999.6, "1.00k"),
        (9994.0, "9.99k"),
        (9996.0, "10.0k"),
        (99960.0, "100k"),
        (12_345_678.0, "12.3M"),
        (40e9, "40.0G"),
        (1e15, "1.00P"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert si(value) == text


@given(st.floats(min_value=0, max_value=9.9e17))
def test_numbers_are_short_and_near(value: float) -> None:
    text = si(value)
    assert len(text) <= 5
    unit = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}.get(text[-1], 1.0)
    assert float(text.rstrip("kMGTP")) * unit == pytest.approx(value, rel=0.06, abs=0.06)


def test_sparklines() -> None:
    assert sparkline((), 10) == ""
    assert sparkline((0.0, 0.0), 10) == "▁▁"
    assert sparkline((0.0, 50.0, 100.0), 10) == "▁▅█"
    assert sparkline((9.0, 1.0, 2.0), 2) == "▅█"


# -- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("q", ["quit"]),
        ("sp", ["sort", "pause"]),
        ("jk\033[A\033OB", ["down", "up", "up", "down"]),
        ("\033[5~\033[6~", ["page up", "page down"]),
        ("xyz\x1a\033", []),
        ("\033[1;5Aq", ["quit"]),
        ("\ufffdq", ["quit"]),
    ],
)
def test_keys(typed: str, meant: list[str]) -> None:
    assert keys(typed) == meant


# -- layout -----------------------------------------------------------------------------------------------------------


def drawn(screen: Screen, width: int, height: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(screen.render(width, height))
    return [line.rstrip() for line in capture.get().splitlines()]


@given(
    width=st.integers(20, 200),
    height=st.integers(6, 60),
    links=st.integers(0, 40),
    workers=st.integers(0, 20),
    scroll=st.integers(-5, 99),
)
def test_it_fits_whatever_the_size(width: int, height: int, links: int, workers: int, scroll: int) -> None:
    rates = Rates()
    for at in (0.0, 1.0):
        taken = sample(at, *(pair(number, drops={"CPU_BACKLOG": int(at)}) for number in range(links)))
        row = taken.workers[0]
        rates.add(
            taken._replace(workers=[row | {"worker": number, "pid": number or None} for number in range(workers)])
        )
    screen = Screen(rates, 1.0)
    screen.scroll = scroll
    lines = drawn(screen, width, height)
    assert len(lines) == height
    assert max(map(len, lines)) <= width
    shown = [line for line in lines if line.startswith(("red/", "re…", "r…", "…"))]
    hidden = 2 * links - len(shown)
    if width >= 60:
        assert (f", {hidden} hidden" in lines[-1]) == (hidden > 0)
    assert len(shown) == min(2 * links, height - 3 - min(workers, max(1, height // 4)))


@pytest.mark.parametrize(
    ("netns", "lost", "label", "drops"),
    [
        ("red", 0, "red/v1", ""),
        ("cni-8f3e0d7c-93ab-4c60", 0, "cni-8f3e0d7c-93ab-4c60/v1", ""),
        ("cni-8f3e0d7c-93ab-4c60-b7cc9", 0, "cni-8f3e0d7c-93ab-4c60-b…/v1", ""),
        ("cni-8f3e0d7c-93ab-4c60", 5, "cni-8f3e0d7c-93ab-…/v1", "5 CPU_BACKLOG"),
        ("cni-8f3e0d7c-93ab-4c60-b7cc9", 1234, "cni-8f3e0d7c-9…/v1", "1.23k CPU_BACKLO…"),
    ],
)
def test_long_namespaces_give_way_to_names_and_drops(netns: str, lost: int, label: str, drops: str) -> None:
    rates = Rates()
    for at, frames in ((0.0, 0), (1.0, lost)):
        rates.add(sample(at, pair(1, netns, drops={"CPU_BACKLOG": frames, "PKT_TOO_BIG": frames // 1000})))
    cells = drawn(Screen(rates, 1.0), 80, 10)[3].split()
    assert (cells[0], " ".join(cells[7:])) == (label, drops)


def test_columns_that_a_narrow_terminal_has_no_room_for() -> None:
    heads = {width: drawn(Screen(Rates(), 1.0), width, 8)[1].split() for width in (80, 70, 60, 50, 40)}
    bits = ["netns/link", "rx", "b/s", "tx", "b/s"]
    rates = ["netns/link", "rx", "p/s", "tx", "p/s", "rx", "b/s", "tx", "b/s"]
    every = [*rates, "queued", "history", "drops/s"]
    assert heads == {80: every, 70: every[:-1], 60: every[:-2], 50: rates, 40: bits}


def test_more_workers_than_there_is_room_for() -> None:
    rates = Rates()
    row = sample(0.0, input_queue_len=2).workers[0]
    rates.add(Sample(0.0, [], [row | {"worker": number} for number in range(8)]))
    lines = drawn(Screen(rates, 1.0), 80, 24)
    assert lines[5].startswith("worker 4  pid 42  backlog 2")
    assert lines[6] == "3 more workers hidden, backlog 6"
    assert lines[-1].startswith("no links")


def test_trouble_takes_the_place_of_the_foot() -> None:
    screen = Screen(Rates(), 0.5)
    screen.trouble = "the daemon is gone, reconnecting"
    assert drawn(screen, 80, 8)[-1] == "the daemon is gone, reconnecting  q quit"
