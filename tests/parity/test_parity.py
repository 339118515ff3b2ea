"""Every scenario runs on kernel veth and on vethd; the outcomes are equal but for the listed differences."""

from pathlib import Path

import pytest

from tests.kit.daemon import Daemon
from tests.kit.netns import Namespaces
from tests.parity.differences import DIFFERENCES, PINNED_ELSEWHERE, PLAIN_FACTS
from tests.parity.link import KernelVeth, PairUnderTest, VethdPair
from tests.parity.outcome import Outcome, differences
from tests.parity.scenario import load_all

SCENARIOS = load_all()
README = Path(__file__).parents[2] / "README.md"
HEADING = "\n## Where it differs from kernel veth\n"


def play(name: str, link: PairUnderTest, reference: Outcome | None = None) -> Outcome:
    """Run one scenario on one backend."""
    outcome = Outcome(link.backend, reference)
    SCENARIOS[name](link, outcome)
    return outcome


@pytest.mark.parametrize("name", SCENARIOS)
def test_outcomes_are_equal(name: str, netns: Namespaces, shared_daemon: Daemon) -> None:
    veth = play(name, KernelVeth(netns))
    vethd = play(name, VethdPair(netns, shared_daemon), veth)
    assert veth.items, "a scenario that sees nothing proves nothing"
    listed = {row.item: (row.veth, row.vethd) for row in DIFFERENCES if row.scenario == name}
    assert differences(veth, vethd) == listed


def test_listed_differences_belong_to_scenarios() -> None:
    unknown = [row for row in DIFFERENCES if row.scenario not in SCENARIOS]
    assert not unknown
    keys = [(row.scenario, row.item) for row in DIFFERENCES]
    assert len(keys) == len(set(keys)), "an item is listed twice"
    assert all(row.veth != row.vethd for row in DIFFERENCES)


def readme_rows() -> set[str]:
    """Return the first column of README's table of differences."""
    section = README.read_text().split(HEADING, 2)[-1].split("\n## ", 1)[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return {row.split("|")[1].strip() for row in rows[2:]}


def test_readme_explains_every_difference() -> None:
    missing = {row.title for row in DIFFERENCES} - readme_rows()
    assert not missing, f"README's table has no row for: {sorted(missing)}"


def test_every_row_of_readme_is_pinned() -> None:
    pinned = {row.title for row in DIFFERENCES} | PINNED_ELSEWHERE.keys() | PLAIN_FACTS
    assert readme_rows() <= pinned, f"no test shows these rows: {sorted(readme_rows() - pinned)}"
    absent = [path for path in PINNED_ELSEWHERE.values() if not (README.parent / path).is_file()]
    assert not absent
