"""From readings to rows: medians, spread, ratios to the first link; as a table and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median

from benchmarks.measure import Metric, Reading


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest of several runs."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(median(values), min(values), max(values))


@dataclass(frozen=True)
class Row:
    """One metric on one link.

    runs: the values in the order in which they were measured; None for a run that failed.
    ratio, difference: to the first link, run by run (each run stands right after its own run of the first link), and
        then the spread of those; None for the first link itself, and for a ratio to zero.
    """

    metric: Metric
    link: str
    runs: list[float | None]
    value: Spread
    ratio: Spread | None
    difference: Spread | None


def rows(metrics: Sequence[Metric], readings: Mapping[str, Sequence[Reading | None]]) -> list[Row]:
    """The rows of `metrics`; `readings` are the runs of each link by its name, the link to compare with first.

    A run that failed is None. A link without a single value of a metric has no row there.
    """
    reference = next(iter(readings), None)
    made: list[Row] = []
    for metric in metrics:
        runs = {link: [_value(reading, metric) for reading in of_link] for link, of_link in readings.items()}
        for link, of_link in runs.items():
            values = [run for run in of_link if run is not None]
            if not values:
                continue
            ratio = difference = None
            if link != reference and reference is not None:
                both = [
                    (run, its)
                    for run, its in zip(of_link, runs[reference], strict=True)
                    if run is not None and its is not None
                ]
                if both:
                    difference = Spread.of([run - its for run, its in both])
                    if all(its for _, its in both):
                        ratio = Spread.of([run / its for run, its in both])
            made.append(Row(metric, link, of_link, Spread.of(values), ratio, difference))
    return made


def _value(reading: Reading | None, metric: Metric) -> float | None:
    return None if reading is None else reading.values.get(metric.key)


def table(made: Sequence[Row]) -> str:
    """The rows as text, one line per metric and link."""
    head = ("", "", "link", "median", "min - max", "ratio", "min - max", "difference", "min - max")
    lines = [head]
    above: Metric | None = None
    for row in made:
        first, above = row.metric is not above, row.metric
        lines.append(
            (
                row.metric.title if first else "",
                row.metric.unit if first else "",
                row.link,
                *_cells(row.value),
                *_cells(row.ratio, digits=2),
                *_cells(row.difference if row.metric.is_time else None, signed=True),
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < 3 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def losses(link: str, readings: Sequence[Reading | None]) -> str:
    """Where packets were lost on `link`, summed over its runs; empty when nothing was."""
    total: dict[str, int] = {}
    for reading in filter(None, readings):
        for place, packets in reading.losses.items():
            total[place] = total.get(place, 0) + packets
    return f"  {link}: " + ", ".join(f"{place} {packets}" for place, packets in total.items()) if total else ""


def as_json(row: Row) -> dict[str, object]:
    """A row for the JSON file."""
    return {
        "key": row.metric.key,
        "title": row.metric.title,
        "unit": row.metric.unit,
        "less_is_better": row.metric.less_is_better,
        "link": row.link,
        "runs": row.runs,
        **asdict(row.value),
        "ratio": asdict(row.ratio) if row.ratio else None,
        "difference": asdict(row.difference) if row.difference else None,
    }


def _cells(spread: Spread | None, *, digits: int | None = None, signed: bool = False) -> tuple[str, str]:
    """Median and range of `spread` as text: `digits` decimals, or as many as three significant figures need."""
    if spread is None:
        return "", ""
    if digits is None:
        digits = 0 if abs(spread.median) >= 1000 else 1 if abs(spread.median) >= 10 else 2
    sign = "+" if signed else ""
    low, high = f"{spread.low:{sign}.{digits}f}", f"{spread.high:{sign}.{digits}f}"
    return f"{spread.median:{sign}.{digits}f}", f"{low} - {high}"
