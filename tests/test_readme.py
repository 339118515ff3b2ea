"""README.md agrees with the tables of the code."""

from __future__ import annotations

from pathlib import Path

from vethd.drops import DROP_TABLE

README = Path(__file__).parents[1] / "README.md"


def table(heading: str) -> list[list[str]]:
    """Cells of the first table under a heading of README.md, without its head and without markup."""
    section = README.read_text().split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip().replace("`", "") for cell in row.strip("|").split("|")] for row in rows[2:]]


def test_drop_points() -> None:
    charged = {(1, 0): "A tx", (0, 1): "B rx", (1, 1): "A tx, B rx"}
    assert table("Where frames are dropped") == [
        [
            str(int(row.point)),
            row.point.name,
            row.where,
            row.condition,
            charged[row.tx_dropped, row.rx_dropped],
        ]
        for row in DROP_TABLE
    ]


def test_every_difference_has_four_cells() -> None:
    rows = table("Where it differs from kernel veth")
    assert rows
    assert all(len(row) == 4 and all(row) for row in rows)
