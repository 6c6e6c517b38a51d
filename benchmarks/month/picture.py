"""The month as a picture: quality by day, and what became of each day's candidate."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import matplotlib.dates as mdates
import numpy as np

from twinspire.evaluation.figures import style

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

METRIC = "recall@10"
PANELS = {"all": "all clicks of the next day", "old items": "of these, on items of the first day"}
LINES = {"champion": "retrained every day", "first": "never retrained"}
MARKS = {"log refused": ("log refused", 4, "D"), "refused": ("candidate refused", 6, "X")}
SMOOTHED_DAYS = 5


def draw(days: Sequence[dict[str, Any]], path: Path) -> Path:
    """A panel for all clicks and one for those on items that both models know; a line for each model."""
    figure = style.new_figure(4.3)
    panels = figure.subplots(1, len(PANELS), sharey=True)
    x = np.array([datetime.fromisoformat(one["date"]) for one in days])
    for axes, (part, name) in zip(panels, PANELS.items(), strict=True):
        for row, (who, label) in enumerate(LINES.items()):
            y = np.array([one["quality"][part][who][METRIC][0] for one in days])
            axes.plot(x, y, ".", color=style.colour(row), markersize=3.5, alpha=0.45)
            axes.plot(x, smoothed(y), color=style.colour(row), linewidth=1.9, label=label)
        _mark(axes, days, x, part)
        axes.set_title(name, fontsize=style.FONT, loc="left", fontweight="bold", color=style.INK)
        axes.xaxis.set_major_locator(mdates.WeekdayLocator())
        axes.xaxis.set_major_formatter(mdates.DateFormatter("%-d %b"))
        axes.tick_params(labelsize=style.FONT - 0.5, colors="#555555")
        axes.grid(axis="y", color="#EEEEEE")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel(METRIC, fontsize=style.FONT)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=style.FONT,
        handlelength=1.6,
    )  # fmt: skip
    style.heading(figure, title(days), detail())
    return style.save_png(figure, path)


def _mark(axes: Any, days: Sequence[dict[str, Any]], x: Any, part: str) -> None:
    """Days on which the champion stayed, on the champion's line."""
    y = smoothed(np.array([one["quality"][part]["champion"][METRIC][0] for one in days]))
    for outcome, (label, number, marker) in MARKS.items():
        hit = np.array([one["outcome"] == outcome for one in days])
        if hit.any():
            axes.plot(
                x[hit], y[hit], marker, color=style.colour(number), markersize=7, markeredgecolor="white", label=label,
                zorder=4,
            )  # fmt: skip


def smoothed(values: np.ndarray) -> np.ndarray:
    """The mean over the days around each, fewer at the ends."""
    reach = SMOOTHED_DAYS // 2
    return np.array([values[max(day - reach, 0) : day + reach + 1].mean() for day in range(len(values))])


def title(days: Sequence[dict[str, Any]]) -> str:
    """The finding, from the last ten days."""
    last = days[-10:]
    gain = np.mean([one["quality"]["all"]["difference"][METRIC][0] for one in last])
    return f"After {len(days)} days, retrained daily: {METRIC} {gain:+.2f} over the model of the first day"


def detail() -> str:
    """How to read the picture."""
    shown = f"Each day's champion on the next day's clicks: dots; lines: means of {SMOOTHED_DAYS} days."
    return f"{shown} In the title: the last ten days."
