"""One picture of a soak: memory, descriptors, frames and drops over time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.soak import Sample, Soak, rates


def draw(soak: Soak, file: Path) -> None:
    """Write four panels as PNG to `file`."""
    samples = soak.samples
    minutes = [sample.at / 60 for sample in samples]
    figure = Figure(figsize=(12, 7), layout="constrained")
    figure.suptitle(f"{minutes[-1]:.0f} minutes at full load\n{soak.about}", fontsize=10)
    (memory, descriptors), (delivered, dropped) = figure.subplots(2, 2, sharex=True)

    def over_time(panel: Axes, title: str, keys: Iterable[str], read: Callable[[Sample, str], float]) -> None:
        for key in keys:
            panel.plot(minutes, [read(sample, key) for sample in samples], label=key)
        _finish(panel, title)

    over_time(
        memory, "Memory, MiB (private, dirty)", samples[0].memory, lambda sample, who: sample.memory.get(who, 0.0)
    )
    over_time(
        descriptors, "File descriptors", samples[0].descriptors, lambda sample, who: sample.descriptors.get(who, 0)
    )
    for title in samples[0].delivered:
        delivered.plot(minutes[1:], [rate / 1e3 for rate in rates(samples, "delivered", title)], label=title)
    _finish(delivered, "Delivered, thousand frames per second")
    for point in [point for point, count in samples[-1].drops.items() if count]:
        dropped.plot(minutes[1:], [rate / 1e3 for rate in rates(samples, "drops", point)], label=point)
    _finish(dropped, "Dropped, thousand frames per second")
    for panel in (delivered, dropped):
        panel.set_xlabel("minutes", fontsize=8)
    figure.savefig(file, format="png", dpi=100)


def _finish(panel: Axes, title: str) -> None:
    panel.set_title(title, fontsize=9.5)
    panel.set_ylim(bottom=0)
    panel.tick_params(labelsize=8)
    panel.legend(fontsize=7.5, frameon=False)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
