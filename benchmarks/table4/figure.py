"""Table 4 as a picture: for each experiment and metric the true lift and what the report said of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from twinspire.evaluation.figures import style

if TYPE_CHECKING:
    from pathlib import Path

PANELS = {
    "ucvr": "shoppers who buy (UCVR)",
    "gmv_per_user": "money a shopper (GMV)",
    "qrr": "searches asked anew (QRR)",
}
TRUTH, MEASURED = style.COLOURS[1], style.COLOURS[0]


def draw(figures: dict[str, Any], title: str, path: Path) -> Path:
    """A panel a metric; in it a pair of lines for each experiment: all queries, and those of the long tail."""
    rows = [(name, part) for name, trial in figures["trials"].items() for part in trial["rows"]]
    figure = style.new_figure(1.5 + 0.34 * len(rows))
    axes_of = np.atleast_1d(figure.subplots(1, len(PANELS), sharey=True))
    places = -np.arange(len(rows)) - 0.55 * np.array([list(figures["trials"]).index(name) for name, _ in rows])
    for axes, (metric, heading) in zip(axes_of, PANELS.items(), strict=True):
        for place, (name, part) in zip(places, rows, strict=True):
            cell = figures["trials"][name]["rows"][part].get(metric)
            if cell is not None:
                _pair(axes, place, cell)
        axes.axvline(0, color=style.OTHER, linewidth=0.8, zorder=0)
        axes.set_title(heading, fontsize=style.FONT, loc="left", fontweight="bold", color=style.INK)
        axes.set_xlabel("lift over the control, %", fontsize=style.FONT)
        axes.tick_params(labelsize=style.FONT - 0.5, colors="#555555")
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color="#EEEEEE")
        axes.spines[["top", "right", "left"]].set_visible(False)
    axes_of[0].set_yticks(places, [_label(figures, *row) for row in rows], color=style.INK)
    handles, names = axes_of[0].get_legend_handles_labels()
    shown = dict(zip(names, handles, strict=True))
    figure.legend(
        shown.values(), shown.keys(), loc="outside lower center", ncols=2, frameon=False, fontsize=style.FONT
    )  # fmt: skip
    detail = "Bars: 95 % intervals of the report; of the long tail always valid and corrected for all slices, so wider."
    style.heading(figure, title, detail)
    return style.save_png(figure, path)


def _pair(axes: Any, place: float, cell: dict[str, Any]) -> None:
    measured, true = cell["measured"], cell["true"]
    if measured["lift"] is not None:
        x, low, high = (100 * measured[part] for part in ("lift", "low", "high"))
        axes.errorbar(
            x, place, xerr=[[x - low], [high - x]], color=MEASURED, marker="o", markersize=4.5, linewidth=1.8,
            linestyle="", label="measured over HTTP",
        )  # fmt: skip
    span = [100 * true["low"], 100 * true["high"]]
    axes.plot(span, [place, place], color=TRUTH, linewidth=4, alpha=0.45, solid_capstyle="butt")
    axes.plot(100 * true["lift"], place, color=TRUTH, marker="D", markersize=4.5, linestyle="", label="true")


def _label(figures: dict[str, Any], name: str, part: str) -> str:
    if part != "all":
        return "  long tail"
    trial = figures["trials"][name]
    return f"{trial['control']} → {trial['treatment']}"
