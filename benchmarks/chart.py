"""One picture of a run: a panel per metric, in it a bar per link, as long as its ratio to the first link."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.measure import Metric
from benchmarks.report import Row

COLUMNS: Final = 3
COLOURS: Final = {"vethd": "#1f5fa8", "other": "#9a9a9a"}
#: A panel ends here, in multiples of its longest bar: a single bad run must not make all bars unreadably short.
ROOM: Final = 1.45


def draw(made: Sequence[Row], reference: str, note: str, file: Path) -> None:
    """Write the chart of the rows that have a ratio to `reference` as PNG to `file`; `note` goes under the title.

    ValueError when no row has one.
    """
    charted = [row for row in made if row.metric.is_charted and row.ratio]
    metrics = list(dict.fromkeys(row.metric for row in charted))
    links = list(dict.fromkeys(row.link for row in charted))
    if not metrics:
        raise ValueError(f"nothing was compared with {reference}")
    lines = ceil(len(metrics) / COLUMNS)
    figure = Figure(figsize=(13, 1.3 + lines * (0.75 + 0.27 * len(links))), layout="constrained")
    figure.suptitle(f"Ratio to {reference}: median, and the smallest and largest of the rounds\n{note}", fontsize=12)
    panels = figure.subplots(lines, COLUMNS, squeeze=False, sharey=True)
    for number, panel in enumerate(panels.flat):
        if number < len(metrics):
            metric = metrics[number]
            _panel(panel, metric, links, {row.link: row for row in charted if row.metric == metric})
        else:
            panel.set_visible(False)
    figure.savefig(file, format="png", dpi=110)


def _panel(panel: Axes, metric: Metric, links: Sequence[str], of_metric: dict[str, Row]) -> None:
    """The bars of one metric, the first of `links` on top."""
    longest = 1.0
    for place, link in enumerate(links):
        row = of_metric.get(link)
        if row is None or row.ratio is None:
            panel.text(0.02, place, "not measured", va="center", fontsize=8, color="#777777")
            continue
        ratio = row.ratio
        longest = max(longest, ratio.median)
        panel.barh(place, ratio.median, height=0.66, color=COLOURS["vethd" if link.startswith("vethd") else "other"])
        panel.plot([ratio.low, ratio.high], [place, place], color="black", linewidth=1.3, marker="|", markersize=6)
    for place, link in enumerate(links):
        if (row := of_metric.get(link)) and row.ratio:
            panel.text(
                *(longest * ROOM * 0.985, place, f"{row.ratio.median:.2f}"), va="center", ha="right", fontsize=8.5,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.8},
            )  # fmt: skip
    panel.axvline(1, color="#c23b22", linewidth=1.2, linestyle="--")
    panel.set_xlim(0, longest * ROOM)
    panel.set_ylim(len(links) - 0.5, -0.5)
    panel.set_yticks(range(len(links)), links, fontsize=9)
    panel.tick_params(axis="x", labelsize=8)
    panel.set_title(f"{metric.title}  ({'less' if metric.less_is_better else 'more'} is better)", fontsize=9.5)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
